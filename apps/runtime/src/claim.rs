//! Whether our IPv4 address is ours: asked before it is used, as RFC 5227 says.
//!
//! Some *probes* (ARP requests for our own address, from none) are sent one after another;
//! whoever answers has the address. After the last one's time it is *held*: only then
//! does the application see anything, and do others get answers. Times are arguments, in
//! nanoseconds since the start; it sends nothing itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::process::NEVER;

/// Probes; one or two may be lost on the way.
const PROBES: u32 = 3;
/// From one to the next, and from the last until the address is held. RFC 5227 takes
/// seconds, for networks whose switches and hosts do.
const APART: u64 = 50_000_000;
/// An answer to a probe that comes so long after the last one still counts: who has
/// the address may have been without a core.
const LATE: u64 = 2_000_000_000;

/// How far we are.
#[derive(Debug)]
pub(crate) struct Claim {
    /// When the next step is due; [`NEVER`]: the address is held.
    next: AtomicU64,
    sent: Mutex<Sent>,
    /// It is held now, or the runtime ends.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Sent {
    probes: u32,
    last: u64,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing now.
    Wait,
    /// Send a probe.
    Probe,
    /// The address has just become ours.
    Held,
}

impl Claim {
    /// Nothing was asked yet; the first step is due at once.
    pub(crate) fn new() -> Claim {
        Claim {
            next: AtomicU64::new(0),
            sent: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next step is due; [`NEVER`] when the address is held.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// True when the address is ours.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.next() == NEVER
    }

    /// The step that is due, for the caller alone to do.
    pub(crate) fn step(&self, now: u64) -> Step {
        let mut sent = self.sent();
        // Another kthread may have done it.
        if now < self.next() {
            return Step::Wait;
        }
        let (step, next) = if sent.probes < PROBES {
            sent.probes += 1;
            sent.last = now;
            (Step::Probe, now + APART)
        } else {
            (Step::Held, NEVER)
        };
        // Release: pairs with the acquire load in next().
        self.next.store(next, Ordering::Release);
        drop(sent);
        if step == Step::Held {
            self.changed.notify_all();
        }
        step
    }

    /// True if an answer to a probe may be one to ours.
    pub(crate) fn awaits(&self, now: u64) -> bool {
        let sent = self.sent();
        sent.probes > 0 && now.saturating_sub(sent.last) < LATE
    }

    /// Waits until the address is held or `is_over`, at most `patience`.
    pub(crate) fn wait(&self, patience: Duration, is_over: impl Fn() -> bool) {
        let waits = |_: &mut Sent| !self.is_held() && !is_over();
        drop(
            self.changed
                .wait_timeout_while(self.sent(), patience, waits),
        );
    }

    /// Lets whoever waits look whether it is over.
    pub(crate) fn wake(&self) {
        // With the lock, so that it is not between its look and its sleep.
        drop(self.sent());
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_probes_and_the_address_is_held() {
        let claim = Claim::new();
        let mut now = 7;
        for _ in 0..3 {
            assert!(!claim.is_held());
            assert_eq!(claim.step(now), Step::Probe);
            assert_eq!(claim.step(now), Step::Wait);
            assert_eq!(claim.next(), now + APART);
            now += APART;
            assert_eq!(claim.step(now - 1), Step::Wait);
        }
        assert_eq!(claim.step(now), Step::Held);
        assert!(claim.is_held());
        assert_eq!(claim.step(now + LATE), Step::Wait);
    }

    #[test]
    fn time_that_was_lost_shortens_no_wait() {
        let claim = Claim::new();
        assert_eq!(claim.step(0), Step::Probe);
        assert_eq!(claim.step(100 * APART), Step::Probe);
        assert_eq!(claim.step(100 * APART + 1), Step::Wait);
    }

    #[test]
    fn answers_are_awaited_for_a_while_after_the_last_probe() {
        let claim = Claim::new();
        assert!(!claim.awaits(0));
        assert_eq!(claim.step(5), Step::Probe);
        assert!(claim.awaits(5));
        assert!(claim.awaits(4 + LATE));
        assert!(!claim.awaits(5 + LATE));
    }

    #[test]
    fn whoever_waits_is_woken_by_the_end() {
        let claim = Claim::new();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| claim.wait(Duration::MAX, || over.load(Ordering::SeqCst)));
            over.store(true, Ordering::SeqCst);
            claim.wake();
        });
        assert!(!claim.is_held());
    }
}
