//! The dataplane's clock: the processor's time stamp counter, in microseconds.
//!
//! Reading it costs some 10 ns and no system call. It is calibrated once, at
//! start, against the kernel's monotonic clock.

use std::time::{Duration, Instant};

use crate::ids::Micros;

/// How long the calibration watches both clocks.
const CALIBRATION: Duration = Duration::from_millis(20);
/// Readings of both clocks at each end, of which the tightest counts.
const READINGS: usize = 16;

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
        let (start, base) = both(ticks, Instant::now);
        std::thread::sleep(CALIBRATION);
        let (stop, end) = both(ticks, Instant::now);
        let elapsed = stop.duration_since(start);
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

    /// The counter went back from `last` to `now`, as it may where a machine was suspended or
    /// moved: time goes on from where it was.
    #[cold]
    pub fn set_back(&mut self, last: Ticks, now: Ticks) {
        let by = last.0.saturating_sub(now.0);
        self.base = self.base.wrapping_sub(by);
    }

    /// The clock as it was while its counter was ahead of what it is now.
    #[cfg(test)]
    pub(crate) fn ahead(mut self, by: u64) -> Clock {
        self.base += by;
        self
    }

    /// The time at `at`; zero before the calibration.
    #[inline]
    pub fn at(&self, at: Ticks) -> Micros {
        // The base may lie before the counter's zero (set_back).
        let since =
            at.0.wrapping_sub(self.base)
                .cast_signed()
                .max(0)
                .cast_unsigned();
        #[allow(clippy::cast_possible_truncation, reason = "58 years fit")]
        Micros(((u128::from(since) * u128::from(self.scale)) >> 32) as u64)
    }

    /// The time now.
    #[inline]
    pub fn now(&self) -> Micros {
        self.at(self.ticks())
    }
}

/// Both clocks at one moment, as well as it can be had.
///
/// The thread may be interrupted between the two readings, by milliseconds on a busy
/// machine. So the time is read between two readings of the counter; of several tries
/// the one with the least between them counts, and the moment is their middle.
fn both<T>(mut ticks: impl FnMut() -> u64, mut time: impl FnMut() -> T) -> (T, u64) {
    let mut reading = || {
        let before = ticks();
        let time = time();
        let width = ticks().saturating_sub(before);
        (width, time, before + width / 2)
    };
    let first = reading();
    let (_, time, middle) = (1..READINGS).fold(first, |best, _| {
        let next = reading();
        if next.0 < best.0 { next } else { best }
    });
    (time, middle)
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

    /// Both clocks are one that tells how often it was read, and each try but one is
    /// interrupted: after the counter, or after the time.
    #[test]
    fn an_interruption_between_the_readings_does_not_count() {
        for calm in 0..READINGS as u64 {
            let now = std::cell::Cell::new(0_u64);
            let reads = std::cell::Cell::new(0);
            let read = || {
                let n = reads.replace(reads.get() + 1);
                let (attempt, which) = (n / 3, n % 3);
                // Reads take 10 ticks, interruptions 1000000.
                let late = attempt != calm && which == 1 + attempt % 2;
                now.set(now.get() + if late { 1_000_000 } else { 10 });
                now.get()
            };
            let (time, ticks) = both(read, read);
            assert_eq!(time, ticks, "try {calm} was calm");
            assert_eq!(reads.get(), 3 * READINGS as u64);
        }
    }

    #[test]
    fn time_goes_on_when_the_counter_goes_back() {
        let mut clock = Clock {
            base: 5_000_000,
            // A thousand ticks a microsecond.
            scale: (1 << 32) / 1000,
            ticks_per_us: 1000.0,
        };
        let last = Ticks(9_000_000);
        let before = clock.at(last);
        // To zero, as after a sleep: the base is then negative.
        clock.set_back(last, Ticks(0));
        assert_eq!(clock.at(Ticks(0)), before);
        assert_eq!(clock.at(Ticks(1_000_000)).0, before.0 + 1000);
        // Nothing is before the calibration.
        clock.base = 5_000_000;
        assert_eq!(clock.at(Ticks(7)), Micros(0));
    }

    #[test]
    fn a_microsecond_is_a_microsecond() {
        let clock = Clock::calibrate();
        let both = || both(|| clock.ticks().0, Instant::now);
        let (start, a) = both();
        std::thread::sleep(Duration::from_millis(50));
        let (stop, b) = both();
        let seen = (clock.at(Ticks(b)).0 - clock.at(Ticks(a)).0) as f64;
        let real = stop.duration_since(start).as_micros() as f64;
        // The kernel's clock may be slewed by 1/2000, and a microsecond is 1/50000.
        assert!(
            (seen / real - 1.0).abs() < 0.002,
            "{seen} us where {real} us passed"
        );
    }
}
