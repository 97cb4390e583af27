//! The dataplane's clock: the processor's time stamp counter, in microseconds.
//!
//! Reading it costs some 10 ns and no system call. It is calibrated once, at
//! start, against the kernel's monotonic clock.

use std::time::{Duration, Instant};

use crate::ids::Micros;

/// How long the calibration watches both clocks.
const CALIBRATION: Duration = Duration::from_millis(20);

/// Ticks of the time stamp counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

/// A calibrated counter. Time zero is the calibration.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base: u64,
    /// Microseconds per tick, times 2^32.
    scale: u64,
    ticks_per_us: f64,
}

impl Clock {
    /// Watches the counter for [`CALIBRATION`].
    pub fn calibrate() -> Clock {
        let (t0, base) = (Instant::now(), ticks());
        std::thread::sleep(CALIBRATION);
        let (elapsed, end) = (t0.elapsed(), ticks());
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a frequency, to 15 digits"
        )]
        {
            let ticks_per_us =
                (end.saturating_sub(base).max(1)) as f64 / (elapsed.as_nanos() as f64 / 1000.0);
            Clock {
                base,
                scale: (4_294_967_296.0 / ticks_per_us) as u64,
                ticks_per_us,
            }
        }
    }

    /// The counter, unconverted: for intervals.
    #[inline]
    pub fn ticks(&self) -> Ticks {
        Ticks(ticks())
    }

    /// Ticks in a span.
    pub fn span(&self, us: Micros) -> u64 {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a short span"
        )]
        {
            (us.0 as f64 * self.ticks_per_us) as u64
        }
    }

    /// The time at `at`.
    #[inline]
    pub fn at(&self, at: Ticks) -> Micros {
        let since = at.0.saturating_sub(self.base);
        #[allow(clippy::cast_possible_truncation, reason = "58 years fit")]
        Micros(((u128::from(since) * u128::from(self.scale)) >> 32) as u64)
    }

    /// The time now.
    #[inline]
    pub fn now(&self) -> Micros {
        self.at(self.ticks())
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ticks() -> u64 {
    #[allow(unsafe_code, reason = "an instruction that every x86-64 has")]
    // SAFETY: reads a counter.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
}

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the contract with C runtimes is x86-64 only");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_microsecond_is_a_microsecond() {
        let clock = Clock::calibrate();
        let (a, t) = (clock.now(), Instant::now());
        std::thread::sleep(Duration::from_millis(50));
        let (b, real) = (clock.now(), t.elapsed());
        let seen = (b.0 - a.0) as f64;
        let real = real.as_micros() as f64;
        assert!(
            (seen / real - 1.0).abs() < 0.05,
            "{seen} us where {real} us passed"
        );
    }
}
