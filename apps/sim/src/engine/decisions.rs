//! The arbiter's decisions, carried out as the daemon does (iokernel/dataplane/grants.rs).
//!
//! The dispatcher makes its system calls one after the other; each takes effect when it is
//! done. [`lag`](super::dispatcher::Dispatcher::lag) is how far the dispatcher is behind
//! the event that is being handled.

use calisto::cores::arbiter::{Cause, Decision, Park, Queues};
use calisto::cores::congestion::QueueObs;
use calisto::ids::{CoreId, KthreadIdx, Micros, ProcSlot};

use super::events::Event;
use super::kthread::Message;
use super::proc::{ProcSim, index};
use super::{Sim, span};

/// Queues as the arbiter looks at them.
struct Observer<'a>(&'a [ProcSim]);

impl Queues for Observer<'_> {
    fn observe(&mut self, proc: ProcSlot, kthread: KthreadIdx) -> QueueObs {
        let k = &self.0[proc.index()].kthreads[kthread.index()];
        QueueObs {
            rq_head: k.rq_head,
            rq_tail: k.rq_tail,
            rxq_sent: k.sent,
            rxq_consumed: k.consumed,
        }
    }
}

impl Sim {
    /// A round of the arbiter.
    pub(super) fn tick(&mut self, now: Micros) {
        let mut observer = Observer(&self.procs);
        let _ = self.arbiter.tick(now, &mut observer, &mut self.decisions);
        self.apply();
    }

    /// Carries out all pending decisions.
    pub(super) fn apply(&mut self) {
        for at in 0..self.decisions.len() {
            let decision = self.decisions[at];
            self.carry_out(&decision);
        }
        if !self.decisions.is_empty() {
            self.touch_queues();
            self.decisions.clear();
            self.count_active();
        }
    }

    fn count_active(&mut self) {
        for (at, proc) in self.procs.iter_mut().enumerate() {
            let active = self.arbiter.active(Sim::slot(at)).len();
            proc.meter.active(active, self.now);
        }
        if self.arbiter.idle_cores() == 0 {
            self.window.idle_since = None;
        } else if self.window.idle_since.is_none() {
            self.window.idle_since = Some(self.now);
        }
    }

    fn carry_out(&mut self, decision: &Decision) {
        let d = self.machine.dispatcher;
        match *decision {
            Decision::Wake {
                proc,
                kthread,
                core,
                pin,
                handover,
                cause,
                from,
            } => {
                if !handover {
                    self.activated(proc, kthread, core, cause, from);
                }
                let mut latency = self.machine.kernel.wake_latency_ns;
                if pin {
                    self.dispatcher.lag += d.pin_ns;
                    latency += self.machine.kernel.move_latency_ns;
                    self.procs[proc.index()].meter.counts.grants.pins += 1;
                }
                self.wake_after(proc, kthread, core, latency);
            }
            Decision::Rewake {
                proc,
                kthread,
                core,
            } => {
                let latency = self.machine.kernel.wake_latency_ns;
                self.wake_after(proc, kthread, core, latency);
            }
            Decision::Preempt {
                victim,
                victim_kthread,
                core,
                proc,
                kthread,
                cause,
                from,
            } => {
                self.activated(proc, kthread, core, cause, from);
                self.procs[proc.index()].meter.counts.grants.preempting += 1;
                self.procs[victim.index()].meter.counts.grants.preempted += 1;
                self.dispatcher.lag += d.signal_ns;
                let latency = self.machine.kernel.signal_latency_ns;
                let at = self.now + span(self.dispatcher.lag + latency);
                let event = Event::Signal {
                    proc: index(victim.index()),
                    kthread: index(victim_kthread.index()),
                };
                self.events.plan_rare(at, event);
            }
        }
    }

    /// Writes the eventfd.
    fn wake_after(&mut self, proc: ProcSlot, kthread: KthreadIdx, core: CoreId, latency: f64) {
        self.dispatcher.lag += self.machine.dispatcher.wake_ns;
        let at = self.now + span(self.dispatcher.lag + latency);
        self.wake(proc.index(), kthread.index(), core, at);
    }

    /// Tells steering of a kthread that became active.
    fn activated(
        &mut self,
        slot: ProcSlot,
        kthread: KthreadIdx,
        core: CoreId,
        cause: Cause,
        relieves: Option<KthreadIdx>,
    ) {
        let now = self.dispatcher.clock;
        let proc = &mut self.procs[slot.index()];
        proc.steering.activated(kthread, core, relieves, now);
        let grants = &mut proc.meter.counts.grants;
        *match cause {
            Cause::Packet => &mut grants.packet,
            Cause::Runqueue => &mut grants.runqueue,
            Cause::Rxq => &mut grants.rxq,
            Cause::Affinity => &mut grants.affinity,
            Cause::Launch | Cause::Timer | Cause::Preempted => &mut grants.other,
        } += 1;
    }

    /// A kthread parked (iokernel/dataplane/commands.rs).
    pub(super) fn parked(&mut self, p: usize, k: usize, join: bool) {
        let (slot, kthread) = (Sim::slot(p), KthreadIdx(index(k)));
        let state = &mut self.procs[p].kthreads[k];
        state.park_seen = true;
        let in_flight = !state.rxq.is_empty();
        let park = self
            .arbiter
            .park(slot, kthread, in_flight, &mut self.decisions);
        let proc = &mut self.procs[p];
        match park {
            Park::Stands => {
                self.dispatcher.left += u32::from(in_flight);
                proc.meter.counts.grants.parks += 1;
                // Before decisions are applied: the core may have gone to another of its kthreads.
                proc.steering.parked(kthread);
            }
            Park::Refused => proc.meter.counts.grants.parks_refused += 1,
            Park::NotRunning => unreachable!("simulated runtimes park when they run"),
        }
        self.touch_queues();
        self.apply();
        self.count_active();
        if park == Park::Stands && join {
            self.send_to_any(p, Message::Join(index(k)));
        }
    }

    /// Sends a message to whichever kthread has its turn (iokernel/dataplane/completions.rs).
    pub(super) fn send_to_any(&mut self, p: usize, message: Message) {
        let proc = &mut self.procs[p];
        let turn = proc.round_robin;
        proc.round_robin = turn.wrapping_add(1);
        let active = self.arbiter.active(Sim::slot(p));
        let kthread = if active.is_empty() {
            self.kthread_of_idle_proc(p)
        } else {
            active[turn as usize % active.len()]
        };
        self.send(p, kthread.index(), message);
    }

    /// A kthread for a message to a runtime of which none is active.
    pub(super) fn kthread_of_idle_proc(&mut self, p: usize) -> KthreadIdx {
        let kthread = self
            .arbiter
            .kthread_for_packet(Sim::slot(p), &mut self.decisions);
        self.apply();
        if !self.arbiter.is_active(Sim::slot(p), kthread) {
            self.dispatcher.left += 1;
        }
        kthread
    }

    /// Puts a message into an rxq.
    pub(super) fn send(&mut self, p: usize, k: usize, message: Message) {
        let proc = &mut self.procs[p];
        proc.kthreads[k].send(message, self.now);
        proc.waiting += 1;
        self.announce(p);
    }
}
