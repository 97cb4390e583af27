//! Lending a core to a kthread that was parked in the middle of a callback.
//!
//! Such a kthread holds what it works on. The I/O kernel gives it a core when there is one
//! more for the runtime, which may take long; and which of a runtime's kthreads gets one is
//! not for us to say. So a kthread that has a core and nothing to do lends it:
//!
//! ```text
//!   lender                                    borrower (stuck, in its handler)
//!   takes `stuck` back, sets `lent_by`
//!   moves it to its CPU, writes LENT -------> goes on with its callback; what it sends goes
//!   waits for `back`                          through the lender's queues
//!                  <------------------------- at the callback's end, or by SIGUSR1: `lent_by`
//!   goes on                                   cleared, `back` written, parked as before
//! ```
//!
//! The I/O kernel sees the lender active and the borrower parked throughout. A lender whose core is
//! wanted passes the signal on and parks when it has its core back. A borrower that is given a core of
//! its own meanwhile finds that in its eventfd after it has given back.

#![allow(unsafe_code, reason = "sends a signal to a thread")]

use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

use crate::park::Seat;
use crate::process::{Kthread, NOBODY};

/// Written to the eventfd of a borrower: far above all core numbers.
pub(crate) const LENT: u64 = 1 << 32;
/// How often a lender looks whether its own core is wanted, in nanoseconds: a signal just
/// before it waits does not interrupt the wait.
const LOOK: i64 = 1_000_000;

impl Seat<'_> {
    /// Lends the core to a kthread that was parked in a callback, until that has an end. True
    /// if there was one.
    pub(crate) fn lend(self) -> bool {
        if self.process.stuck.load(Ordering::Acquire) == 0 || self.kthread().must_leave() {
            return false;
        }
        // SeqCst: of several lenders and the kthread itself, one takes it back (park.rs).
        let stuck = |k: &&Kthread| k.stuck.swap(false, Ordering::SeqCst);
        let Some(borrower) = self.process.kthreads.iter().find(stuck) else {
            return false;
        };
        self.kthread().counters.lends.inc();
        borrower.lent_by.store(self.index, Ordering::SeqCst);
        let moved = Moved::here(borrower);
        let _ = rustix::io::write(&borrower.eventfd, &LENT.to_ne_bytes());
        self.wait_back(borrower);
        drop(moved);
        true
    }

    /// Gives a lent core back.
    pub(crate) fn give_back(self) {
        let lender = self.kthread().lent_by.swap(NOBODY, Ordering::SeqCst);
        if let Some(lender) = self.process.kthreads.get(lender) {
            let _ = rustix::io::write(&lender.back, &1u64.to_ne_bytes());
        }
    }

    fn wait_back(self, borrower: &Kthread) {
        let own = self.kthread();
        let mut recalled = false;
        let look = Timespec {
            tv_sec: 0,
            tv_nsec: LOOK,
        };
        while !self.process.is_ending() {
            if !recalled && own.preempted.load(Ordering::SeqCst) {
                recalled = true;
                signal(borrower.tid.load(Ordering::Relaxed));
            }
            let mut back = [PollFd::new(&own.back, PollFlags::IN)];
            // Interrupted or not, what counts is whether it can be read.
            let _ = rustix::event::poll(&mut back, Some(&look));
            if !back[0].revents().is_empty() {
                let _ = rustix::io::read(&own.back, &mut [0; 8]);
                return;
            }
        }
    }
}

fn signal(tid: i32) {
    // SAFETY: takes no pointer. The thread is one of ours, and runs until the runtime ends.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, libc::SIGUSR1) };
}

/// A kthread's thread on our CPU for a while; back where it was when dropped.
struct Moved {
    who: Option<Pid>,
    was: CpuSet,
    here: CpuSet,
}

impl Moved {
    /// Where affinity cannot be asked for or set, it stays as it is.
    fn here(kthread: &Kthread) -> Option<Moved> {
        let who = Pid::from_raw(kthread.tid.load(Ordering::Relaxed));
        let (was, here) = (sched_getaffinity(who).ok()?, sched_getaffinity(None).ok()?);
        sched_setaffinity(who, &here).ok()?;
        Some(Moved { who, was, here })
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        // Unless the I/O kernel has pinned it elsewhere meanwhile: it remembers where.
        if sched_getaffinity(self.who).is_ok_and(|now| now == self.here) {
            let _ = sched_setaffinity(self.who, &self.was);
        }
    }
}
