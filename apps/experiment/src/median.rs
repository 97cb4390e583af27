//! Many runs made one number: the median, with the least and the greatest.

use serde::Serialize;

/// A median of several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Median {
    /// The middle one; of an even number, the lower middle.
    pub(crate) middle: f64,
    /// The least.
    pub(crate) least: f64,
    /// The greatest.
    pub(crate) greatest: f64,
}

impl Median {
    /// Of finite values; `None` if there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Median> {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Some(Median {
            middle: *values.get(values.len().saturating_sub(1) / 2)?,
            least: *values.first()?,
            greatest: *values.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_of_the_values() {
        let median = Median::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(
            (median.least, median.middle, median.greatest),
            (1.0, 2.0, 4.0)
        );
    }

    #[test]
    fn what_is_not_finite_is_left_out() {
        assert_eq!(Median::of([f64::NAN, f64::INFINITY]), None);
        assert_eq!(Median::of([f64::NAN, 5.0]).unwrap().middle, 5.0);
    }
}
