//! Numbers between floating point and whole ones.

/// The whole part; 0 for what is negative or no number, the greatest `u64` for more.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
pub fn whole(x: f64) -> u64 {
    x as u64
}

/// Nanoseconds of `duration`, at most the greatest `u64` (584 years).
pub fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A `u64` as `usize`, at most the greatest.
pub fn size(x: u64) -> usize {
    usize::try_from(x).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_parts_saturate() {
        assert_eq!(whole(2.9), 2);
        assert_eq!(whole(-1.0), 0);
        assert_eq!(whole(f64::NAN), 0);
        assert_eq!(whole(f64::INFINITY), u64::MAX);
    }
}
