//! Steering in the loop: a run of packets of one runtime, to its kthreads.
//!
//! The policy decides over what it is shown and asks for a core at most; here is what
//! goes on around it. Packets of a burst that follow each other and are of one runtime
//! are steered together, after their flows' cache lines were asked for all at once.
//! The policy sees the active kthreads as the arbiter has them: every decision that
//! makes a kthread active, and every park that stands, is passed on at once.

use std::ops::Range;

use super::Dataplane;
use crate::ids::{CoreId, KthreadIdx, Micros, ProcSlot};
use crate::port::{Port, RX_BURST_SIZE};
use crate::proc::{Kthread, Proc};
use crate::steering::rules::RuleSet;
use crate::steering::{ProcSteering, Rxqs, Steered, Surroundings};

/// The rxqs of one runtime, as steering sees them.
#[derive(Debug)]
pub(super) struct Queues<'a>(pub(super) &'a mut [Kthread]);

impl Rxqs for Queues<'_> {
    #[inline]
    fn sent(&self, kthread: KthreadIdx) -> u32 {
        self.0[kthread.index()].rxq.sent()
    }

    fn consumed(&mut self, kthread: KthreadIdx) -> u32 {
        let rxq = &mut self.0[kthread.index()].rxq;
        // A word that cannot be true says nothing; the arbiter's next look reports it.
        let under_way = rxq.poll_in_flight().unwrap_or(rxq.sent());
        rxq.sent().wrapping_sub(under_way)
    }
}

/// Packets of a burst by their place in it: hashes, and the kthreads found.
#[derive(Debug)]
pub(super) struct Burst {
    pub(super) hashes: [u32; RX_BURST_SIZE],
    pub(super) kthreads: [KthreadIdx; RX_BURST_SIZE],
}

impl Default for Burst {
    fn default() -> Burst {
        Burst {
            hashes: [0; RX_BURST_SIZE],
            kthreads: [KthreadIdx(0); RX_BURST_SIZE],
        }
    }
}

/// Lets a runtime's steering decide, with its rxqs and all else before its eyes.
#[inline(always)]
fn decide<T>(
    proc: &mut Proc,
    rules: &RuleSet,
    now: Micros,
    how: impl FnOnce(&mut ProcSteering, &mut Surroundings<'_, Queues<'_>>) -> T,
) -> T {
    let Proc {
        steering, kthreads, ..
    } = proc;
    let rxqs = &mut Queues(kthreads);
    how(steering, &mut Surroundings { rxqs, rules, now })
}

impl<P: Port> Dataplane<P> {
    /// Steers a run of packets to one runtime, and queues them.
    #[inline]
    pub(super) fn steer_run(&mut self, slot: ProcSlot, run: Range<usize>) {
        let mut at = run.start;
        if self.proc(slot).steering.active().is_empty()
            && let Some(kthread) = self.wake_for(slot, self.burst.hashes[at])
        {
            // None is to be had: all wait with the kthread that will run first.
            self.burst.kthreads[run.clone()].fill(kthread);
            return self.queue(slot, run);
        }
        // Each round queues a packet at least, or wakes a core, of which each is woken once.
        while at < run.end {
            let proc = self.procs[slot.index()]
                .as_mut()
                .expect("packets are steered to attached runtimes");
            debug_assert_eq!(proc.steering.active(), self.arbiter.active(slot));
            let end = if proc.steering.one_by_one() {
                at + 1
            } else {
                run.end
            };
            let Burst { hashes, kthreads } = &mut *self.burst;
            let (hashes, out) = (&hashes[at..end], &mut kthreads[at..end]);
            let steered = decide(proc, &self.rules, self.now, |steering, around| {
                steering.steer_burst(hashes, around, out)
            });
            match steered {
                Steered::All => {
                    self.queue(slot, at..end);
                    at = end;
                }
                Steered::Wants { steered, core } => {
                    self.queue(slot, at..at + steered);
                    at += steered;
                    at += self.wake_home(slot, core, at);
                }
            }
        }
        let proc = self.procs[slot.index()]
            .as_mut()
            .expect("nobody is handed back inside a burst");
        proc.steering.flush(&proc.steer_stats);
    }

    /// Tries to wake the home of packet `at`. If that cannot be, the packet is queued
    /// elsewhere, and 1 returned: it is done.
    #[cold]
    fn wake_home(&mut self, slot: ProcSlot, core: CoreId, at: usize) -> usize {
        let woken = self.arbiter.wake_on(slot, core, &mut self.decisions);
        if woken.is_some() {
            self.apply();
            self.proc(slot).steering.woken_for_flow();
            return 0;
        }
        let proc = self.procs[slot.index()]
            .as_mut()
            .expect("packets are steered to attached runtimes");
        let Burst { hashes, kthreads } = &mut *self.burst;
        let (hash, out) = (hashes[at], &mut kthreads[at..=at]);
        decide(proc, &self.rules, self.now, |steering, around| {
            steering.steer_refused(hash, around, out);
        });
        self.queue(slot, at..at + 1);
        1
    }

    /// Steers a packet by itself, and wakes no further core for its home: a broadcast, of
    /// which every runtime gets one.
    pub(super) fn steer_one(&mut self, slot: ProcSlot, hash: u32) -> KthreadIdx {
        if self.proc(slot).steering.active().is_empty()
            && let Some(kthread) = self.wake_for(slot, hash)
        {
            return kthread;
        }
        let proc = self.procs[slot.index()]
            .as_mut()
            .expect("packets are steered to attached runtimes");
        let mut kthread = [KthreadIdx(0)];
        decide(proc, &self.rules, self.now, |steering, around| {
            steering.steer_refused(hash, around, &mut kthread);
        });
        proc.steering.flush(&proc.steer_stats);
        kthread[0]
    }

    /// Wakes a kthread of a runtime that has none active. If none can be woken, the
    /// parked one that the packet is to wait with.
    #[cold]
    pub(super) fn wake_for(&mut self, slot: ProcSlot, hash: u32) -> Option<KthreadIdx> {
        let proc = self.procs[slot.index()].as_ref();
        let steering = &proc
            .expect("packets are steered to attached runtimes")
            .steering;
        if let Some(core) = steering.core_to_wake(hash, &self.rules)
            && self
                .arbiter
                .wake_on(slot, core, &mut self.decisions)
                .is_some()
        {
            self.apply();
            self.proc(slot).steering.woken_for_flow();
            return None;
        }
        let kthread = self.kthread_of_idle_proc(slot);
        self.proc(slot)
            .steering
            .active()
            .is_empty()
            .then_some(kthread)
    }

    /// A little of what need not be done at once, for one runtime, another each time.
    pub(super) fn housekeep(&mut self, now: Micros) {
        self.now = now;
        self.house_turn += 1;
        if self.house_turn >= self.live.len() {
            self.house_turn = 0;
        }
        let Some(slot) = self.live.get(self.house_turn).copied() else {
            return;
        };
        let proc = self.procs[slot.index()]
            .as_mut()
            .expect("live runtimes are attached");
        let Proc {
            steering,
            kthreads,
            steer_stats,
            ..
        } = &mut **proc;
        steering.housekeep(now, steer_stats, |k| kthreads[k.index()].received);
        steering.flush(steer_stats);
    }
}
