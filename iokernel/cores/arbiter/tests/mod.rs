//! What the scenarios and the properties share: cores, and queues to order.

#![allow(
    clippy::tests_outside_test_module,
    reason = "these files are the test module"
)]

mod left;
mod model;
mod overdue;
mod properties;
mod scenarios;

use std::collections::BTreeSet;

use super::*;

/// Cores `0..count` without siblings.
fn plain_cores(count: u16) -> Vec<RuntimeCore> {
    (0..count)
        .map(|core| RuntimeCore {
            core: CoreId(core),
            sibling: None,
        })
        .collect()
}

/// The runtime cores of a machine with four cores of two hyperthreads, `i` and
/// `i + 4`, whose cores 1 and 5 are the I/O kernel's: 0+4, 2+6, 3+7.
fn one_by_four_by_two() -> Vec<RuntimeCore> {
    [0, 2, 3, 4, 6, 7]
        .map(|core| RuntimeCore {
            core: CoreId(core),
            sibling: Some(CoreId(core ^ 4)),
        })
        .to_vec()
}

/// Run queues that stand still for some kthreads, rxqs with a message that nobody
/// has read, and empty queues for all others.
#[derive(Debug, Default)]
struct Queued {
    behind: BTreeSet<(ProcSlot, KthreadIdx)>,
    unread: BTreeSet<(ProcSlot, KthreadIdx)>,
}

impl Queues for Queued {
    fn observe(&mut self, proc: ProcSlot, kthread: KthreadIdx) -> QueueObs {
        // The heads are at 100 at every look; the tails are there, or one behind.
        let thread = (proc, kthread);
        let tail = |behind| if behind { 99 } else { 100 };
        QueueObs {
            rq_head: 100,
            rq_tail: tail(self.behind.contains(&thread)),
            rxq_sent: 100,
            rxq_consumed: tail(self.unread.contains(&thread)),
        }
    }
}

impl Arbiter {
    /// Checks everything that must hold between any two events.
    fn check(&self) {
        let held = self.cores.iter().filter(|&c| !self.cores.is_idle(c));
        let held: Vec<CoreId> = held.collect();
        assert_eq!(held.len() + self.idle_cores(), self.total_cores());
        for core in self.cores.iter() {
            let past = [self.cores.current(core), self.cores.prev(core)];
            for thread in past.into_iter().flatten() {
                assert!(
                    self.place(thread.proc, thread.kthread).is_some(),
                    "core {core} remembers a proc that left"
                );
            }
            if self.cores.is_idle(core) {
                assert!(!self.cores.is_preempted(core));
            }
        }

        let mut running = 0;
        for (at, p) in self.procs.iter().enumerate() {
            let slot = ProcSlot(u16::try_from(at).unwrap());
            let Some(p) = p else {
                assert!(!self.overloaded.contains(slot.0));
                continue;
            };
            let mut lost = 0;
            for &kthread in p.active() {
                let core = self.core_of(slot, kthread);
                assert!(!self.cores.is_idle(core));
                if self.is_running(slot, kthread) {
                    running += 1;
                    let holder = ThreadRef {
                        proc: slot,
                        kthread,
                    };
                    assert_eq!(self.cores.current(core), Some(holder));
                    lost += usize::from(self.cores.is_preempted(core));
                } else {
                    assert!(self.cores.is_preempted(core));
                }
            }
            assert_eq!(p.inflight_preempts, lost);
            if let Some(left) = p.first_left() {
                assert_eq!(self.place(slot, left), Some(Place::Parked));
                assert!(
                    !p.active().is_empty() || self.overloaded.contains(slot.0),
                    "proc {at} sleeps on a message"
                );
            }
            assert!(
                p.claim.is_none() || (p.active().is_empty() && p.guaranteed > 0),
                "proc {at} has a claim that congestion or overload would do for"
            );
            let watched = !p.active().is_empty() || p.claim.is_some();
            assert_eq!(self.watched.at_or_after(at) == Some(slot), watched);
        }
        assert_eq!(running, held.len(), "every held core has its holder");
    }
    /// Checks what must hold after a tick besides: nobody lacks a core that is idle.
    fn check_after_tick(&self) {
        let overloaded =
            std::iter::successors(self.overloaded.first(), |&at| self.overloaded.next(at));
        for slot in overloaded.map(ProcSlot) {
            assert!(
                self.idle_cores() == 0 || !self.proc(slot).can_grow(),
                "proc {} would take a core and one is idle",
                slot.0
            );
        }
    }
}
