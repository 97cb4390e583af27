//! Log lines that a peer can cause are limited: a token bucket per call site.

use std::fmt;
use std::time::{Duration, Instant};

/// Allows a burst, then one event per interval.
#[derive(Debug)]
pub struct TokenBucket {
    tokens: u32,
    burst: u32,
    interval: Duration,
    filled: Instant,
    suppressed: u64,
}

impl TokenBucket {
    /// A bucket of `burst` tokens that gains one every `interval`.
    pub fn new(burst: u32, interval: Duration, now: Instant) -> TokenBucket {
        TokenBucket {
            tokens: burst,
            burst,
            interval,
            filled: now,
            suppressed: 0,
        }
    }

    /// Takes a token: `Some(n)` when the event may be logged, with the number
    /// of events that were suppressed since the last one.
    pub fn take(&mut self, now: Instant) -> Option<u64> {
        let elapsed = now.saturating_duration_since(self.filled);
        let gained = elapsed.as_nanos() / self.interval.as_nanos().max(1);
        if let Ok(gained @ 1..) = u32::try_from(gained.min(u128::from(self.burst))) {
            self.tokens = self.burst.min(self.tokens.saturating_add(gained));
            self.filled = now;
        }
        if self.tokens == 0 {
            self.suppressed += 1;
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Ends a line: how many lines were not written, if any.
#[derive(Debug)]
pub struct Suppressed(pub u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " ({n} similar lines were suppressed)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_per_interval() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut bucket = TokenBucket::new(2, second, start);
        assert_eq!(bucket.take(start), Some(0));
        assert_eq!(bucket.take(start), Some(0));
        assert_eq!(bucket.take(start), None);
        assert_eq!(bucket.take(start), None);
        // One token after a second; two events were swallowed meanwhile.
        assert_eq!(bucket.take(start + second), Some(2));
        assert_eq!(bucket.take(start + second), None);
    }

    #[test]
    fn a_long_pause_refills_no_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(2, Duration::from_secs(1), start);
        let later = start + Duration::from_secs(1_000_000);
        assert_eq!(bucket.take(later), Some(0));
        assert_eq!(bucket.take(later), Some(0));
        assert_eq!(bucket.take(later), None);
    }
}
