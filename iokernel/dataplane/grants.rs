//! Cores: what the arbiter is told, and carrying out what it decides.

use super::{Dataplane, KthreadRef};
use crate::control::{DetachReason, Fault};
use crate::cores::arbiter::{Decision, Queues};
use crate::cores::congestion::QueueObs;
use crate::ids::{CoreId, KthreadIdx, Micros, ProcSlot};
use crate::port::Port;
use crate::proc::Proc;
use crate::stats::Counter;

/// Reads the queues that the arbiter asks for.
struct Observer<'a> {
    procs: &'a mut [Option<Box<Proc>>],
    /// The first impossible word met; one a round is enough.
    fault: Option<(ProcSlot, Fault)>,
}

impl Queues for Observer<'_> {
    #[inline]
    fn observe(&mut self, slot: ProcSlot, kthread: KthreadIdx) -> QueueObs {
        let proc = self.procs[slot.index()]
            .as_mut()
            .expect("the arbiter knows attached runtimes only");
        let k = &mut proc.kthreads[kthread.index()];
        let sent = k.rxq.sent();
        let in_flight = k.rxq.poll_in_flight().unwrap_or_else(|error| {
            self.fault = Some((slot, Fault::BadWriteBack { kthread, error }));
            0
        });
        // Tail before head: a head that is read later is not older (see QPtrs).
        let rq_tail = k.q_ptrs.rq_tail();
        QueueObs {
            rq_head: k.q_ptrs.rq_head(),
            rq_tail,
            rxq_sent: sent,
            rxq_consumed: sent.wrapping_sub(in_flight),
        }
    }
}

impl<P: Port> Dataplane<P> {
    /// One round of the core arbiter. C: `cores_adjust_assignments`, iokernel/cores.c.
    pub(super) fn adjust(&mut self, now: Micros) {
        let mut observer = Observer {
            procs: &mut self.procs,
            fault: None,
        };
        let round = self.arbiter.tick(now, &mut observer, &mut self.decisions);
        let fault = observer.fault;
        self.stats.add(Counter::Adjusts, 1);
        self.stats.add(Counter::RqGrant, u64::from(round.runqueue));
        self.stats.add(Counter::RxGrant, u64::from(round.rxq));
        self.stats.add(Counter::TimerGrant, u64::from(round.timers));
        self.apply();
        if let Some((slot, fault)) = fault {
            self.fault(slot, fault);
        } else if let Some((slot, kthread, core)) = round.overdue {
            self.fault(slot, Fault::CoreKept { kthread, core });
        }
    }

    /// Carries out all pending decisions.
    ///
    /// A runtime on which one fails is noted, and detached at the end of a turn
    /// ([`detach_failed`](Self::detach_failed)): here that would make more decisions,
    /// and change the lists that the callers walk.
    pub(super) fn apply(&mut self) {
        for at in 0..self.decisions.len() {
            let decision = self.decisions[at];
            self.carry_out(&decision);
        }
        self.decisions.clear();
    }

    /// Detaches one of the runtimes that could not be woken or preempted. One a turn:
    /// its cores go to others, of which each may fail in turn.
    #[cold]
    pub(super) fn detach_failed(&mut self) {
        match self.failed.pop() {
            Some((slot, DetachReason::Fault(fault))) => self.fault(slot, fault),
            Some((slot, reason)) => self.detach(slot, reason),
            None => {}
        }
    }

    /// Notes that a runtime is to be detached. Each is noted once, for nothing is
    /// tried on it again; whatever detaches it first takes it off the list.
    #[cold]
    fn fail(&mut self, slot: ProcSlot, reason: DetachReason) {
        self.proc(slot).notes.failed = true;
        self.failed.push((slot, reason));
    }

    fn carry_out(&mut self, decision: &Decision) {
        match *decision {
            Decision::Wake {
                proc,
                kthread,
                core,
                pin,
                handover,
                from,
                ..
            } => {
                self.poll(proc, kthread);
                if !handover {
                    self.activated(proc, kthread, core, from);
                }
                self.wake(proc, kthread, core, pin);
            }
            Decision::Rewake {
                proc,
                kthread,
                core,
            } => self.wake(proc, kthread, core, false),
            Decision::Preempt {
                victim,
                victim_kthread,
                core,
                proc,
                kthread,
                from,
                ..
            } => {
                self.poll(proc, kthread);
                self.activated(proc, kthread, core, from);
                self.preempt(victim, victim_kthread);
            }
        }
    }

    /// Tells steering of a kthread that became active.
    fn activated(
        &mut self,
        slot: ProcSlot,
        kthread: KthreadIdx,
        core: CoreId,
        relieves: Option<KthreadIdx>,
    ) {
        let now = self.now;
        let steering = &mut self.proc(slot).steering;
        steering.activated(kthread, core, relieves, now);
    }

    /// Adds a kthread to those whose queues are polled.
    fn poll(&mut self, slot: ProcSlot, kthread: KthreadIdx) {
        let k = &mut self.proc(slot).kthreads[kthread.index()];
        if !k.polled {
            k.polled = true;
            let polled = &mut self.proc(slot).notes.polled;
            *polled += 1;
            self.runtimes_polled += usize::from(*polled == 1);
            self.polled.push(KthreadRef { slot, kthread });
        }
    }

    fn wake(&mut self, slot: ProcSlot, kthread: KthreadIdx, core: CoreId, pin: bool) {
        let proc = self.procs[slot.index()]
            .as_ref()
            .expect("decisions name attached runtimes");
        // About to be detached.
        if proc.notes.failed {
            return;
        }
        if pin {
            match self.effects.pin(proc, kthread, core) {
                Ok(true) => self.stats.add(Counter::Pins, 1),
                Ok(false) => {
                    self.stats.add(Counter::PinsFailed, 1);
                    self.arbiter.pin_failed(slot, kthread);
                }
                Err(reason) => return self.fail(slot, reason),
            }
        }
        self.stats.add(Counter::Wakes, 1);
        let now = self.clock.now();
        if let Err(reason) = self.effects.wake(proc, kthread, core, now) {
            self.fail(slot, reason);
        }
    }

    fn preempt(&mut self, slot: ProcSlot, kthread: KthreadIdx) {
        let proc = self.procs[slot.index()]
            .as_ref()
            .expect("decisions name attached runtimes");
        if proc.notes.failed {
            return;
        }
        self.stats.add(Counter::Preempts, 1);
        if let Err(reason) = self.effects.preempt(proc, kthread) {
            self.fail(slot, reason);
        }
    }
}
