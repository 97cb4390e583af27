//! How many received packets a runtime may keep.
//!
//! A runtime that never returns buffers must not leave others without. A fixed cap for
//! each does not do it: as many hoarders as the cap fits into the whole take it all. So
//! the cap follows what is left (dynamic thresholds, as in shared-memory switches): a
//! runtime is lent more while it has less than a fixed ratio of the buffers that are
//! lent to nobody. Hoarders then stop each other ever earlier, and always leave some.
//!
//! ```text
//!   buffers:  | lent, at each one's pleasure ... | not lent | floors | the port's own |
//!             |<------------------ shared ----------------->|
//!   may have more:  held < FLOOR  or  held < ratio * (shared - lent)
//! ```
//!
//! Properties. A lone hoarder gets the configured share of all buffers, no more. With
//! `n` of them `shared / (1 + n * ratio)` buffers are left, of which the next may have
//! `ratio` again. And whatever all others keep, each of [`IOKERNEL_MAX_PROC`] runtimes gets
//! [`FLOOR`] buffers: beyond its floor nobody takes the last of `shared`.
//!
//! *Source:* Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory
//! packet switches", IEEE/ACM Transactions on Networking 6(2), 1998.

use crate::abi::ingress::INGRESS_BUFS;
use crate::abi::types::IOKERNEL_MAX_PROC;

/// Buffers that each runtime may always have: half a burst.
pub const FLOOR: u32 = 32;
/// Buffers for the port: its receive ring, what its pool keeps at hand, a burst under way.
const PORTS_OWN: u32 = 2048;
/// All floors.
const FLOORS: u32 = FLOOR * IOKERNEL_MAX_PROC;
/// What is lent beyond floors.
const SHARED: u32 = INGRESS_BUFS - FLOORS - PORTS_OWN;

/// Least and greatest share, percent of all buffers.
pub const SHARE_MIN: u32 = 1;
/// See [`SHARE_MIN`]. Two hoarders of this share already stop each other at half of it.
pub const SHARE_MAX: u32 = 50;

/// The rule, with its ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lending {
    /// What a lone hoarder gets.
    alone: u32,
}

impl Default for Lending {
    /// A quarter: full rxqs of eight kthreads.
    fn default() -> Lending {
        Lending::new(25)
    }
}

impl Lending {
    /// Lends one runtime at most `percent` of all buffers, if others have none.
    ///
    /// # Panics
    /// When that is not [`SHARE_MIN`] to [`SHARE_MAX`].
    pub fn new(percent: u32) -> Lending {
        assert!((SHARE_MIN..=SHARE_MAX).contains(&percent), "{percent} %");
        Lending {
            alone: INGRESS_BUFS / 100 * percent + INGRESS_BUFS % 100 * percent / 100,
        }
    }

    /// True if a runtime that has `held` buffers may have another, while `lent` are lent
    /// in all.
    #[inline]
    pub fn allows(self, held: u32, lent: u32) -> bool {
        let left = u64::from(SHARED.saturating_sub(lent));
        // held < ratio * left, with the ratio at which a lone hoarder of `alone` gets no more.
        let ratio = (u64::from(self.alone), u64::from(SHARED - self.alone));
        held < FLOOR || u64::from(held) * ratio.1 < left * ratio.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::loans::MAX_PROCS;

    /// Lets each of `n` take in turn until nobody gets more; what each has.
    fn hoard(rule: Lending, n: usize) -> Vec<u32> {
        let mut held = vec![0_u32; n];
        let mut lent = 0;
        loop {
            let before = lent;
            for one in &mut held {
                // Several a turn, or many hoarders take for ever.
                for _ in 0..16 {
                    if rule.allows(*one, lent) {
                        *one += 1;
                        lent += 1;
                    }
                }
            }
            if lent == before {
                return held;
            }
        }
    }

    /// How many the next one gets, who gives none back either.
    fn newcomer(rule: Lending, lent: u32) -> u32 {
        (0..).find(|&n| !rule.allows(n, lent + n)).unwrap()
    }

    #[test]
    fn a_lone_hoarder_gets_its_share_of_all_buffers() {
        assert_eq!(hoard(Lending::default(), 1), [INGRESS_BUFS / 4]);
        for percent in [SHARE_MIN, 10, SHARE_MAX] {
            let got = hoard(Lending::new(percent), 1)[0];
            assert_eq!(got, share(percent), "{percent} %");
        }
    }

    fn share(percent: u32) -> u32 {
        u32::try_from(u64::from(INGRESS_BUFS) * u64::from(percent) / 100).unwrap()
    }

    #[test]
    fn hoarders_get_the_same_and_leave_the_next_something() {
        for (n, percent) in [(4, 25), (4, 50), (30, 25), (300, 25)] {
            let rule = Lending::new(percent);
            let held = hoard(rule, n);
            let lent: u32 = held.iter().sum();
            let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
            assert!(most - least <= 16, "{n} hoarders: {least} to {most}");
            // The newcomer may have about as many as each of them.
            let (one, got) = (*most, newcomer(rule, lent));
            // The next stops at ratio / (1 + ratio) of what is left to each of them, at 50 %
            // a third.
            assert!(4 * got > one, "{n} hoarders of {one}, {got} for the next");
            assert!(lent + got <= INGRESS_BUFS - PORTS_OWN);
        }
    }

    #[test]
    fn the_last_of_all_runtimes_gets_its_floor() {
        // Whatever the others keep: they stop at their floors when all is lent.
        let held = hoard(Lending::new(SHARE_MAX), MAX_PROCS - 1);
        let lent: u32 = held.iter().sum();
        assert!(lent + FLOOR + PORTS_OWN <= INGRESS_BUFS, "{lent} lent");
        for rule in [Lending::default(), Lending::new(SHARE_MAX)] {
            assert!(newcomer(rule, lent) >= FLOOR);
        }
    }
}
