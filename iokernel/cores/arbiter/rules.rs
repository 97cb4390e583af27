//! Who gets what: upstream's rules, one function each.

use super::{
    Arbiter, Cause, Congestion, Decision, Decisions, Place, ProcState, Queues, ThreadRef,
    TickStats, Waiter,
};
use crate::ids::{CoreId, KthreadIdx, ProcSlot};

/// Why a proc wants a core, and which of its kthreads is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) cause: Cause,
    /// The kthread whose queue stood still.
    pub(super) from: Option<KthreadIdx>,
}

impl From<Cause> for Want {
    fn from(cause: Cause) -> Want {
        Want { cause, from: None }
    }
}

/// What an active proc wants for the kthread that was left with messages first,
/// unless the active ones have read them meanwhile. One look a tick: the next in
/// line has its turn at the next.
fn left_behind<Q: Queues>(slot: ProcSlot, p: &mut ProcState, queues: &mut Q) -> Option<Want> {
    let kthread = p.first_left()?;
    let obs = queues.observe(slot, kthread);
    if obs.rxq_sent == obs.rxq_consumed {
        p.caught_up(kthread);
        return None;
    }
    Some(Cause::Packet.into())
}

impl Arbiter {
    /// Looks at a watched proc: congested or with a claim, it gets a core up to its
    /// guarantee, and is overloaded beyond.
    ///
    /// *Source:* cores.c, the first loop of `cores_adjust_assignments`, and
    /// `cores_is_proc_congested`.
    pub(super) fn meet_guarantee<Q: Queues>(
        &mut self,
        slot: ProcSlot,
        queues: &mut Q,
        stats: &mut TickStats,
        out: &mut Decisions,
    ) {
        let p = self.procs[slot.index()]
            .as_mut()
            .expect("a proc that left is not watched");
        // Down to nothing by preemption it stays overloaded, so as to be woken again.
        if p.keeps_a_core() {
            self.overloaded.remove(slot.0);
        }

        // All positions are remembered, also behind the first congested kthread.
        let mut found = None;
        for at in 0..p.active().len() {
            let kthread = p.active()[at];
            let obs = queues.observe(slot, kthread);
            let watch = &mut p.kthread_mut(kthread).watch;
            match found {
                None => found = watch.look(obs).map(|queue| (queue, kthread)),
                Some(_) => watch.remember(obs),
            }
        }
        let want = match found {
            Some((queue, kthread)) => Some(Want {
                cause: match queue {
                    Congestion::Runqueue => {
                        stats.runqueue += 1;
                        Cause::Runqueue
                    }
                    Congestion::Rxq => {
                        stats.rxq += 1;
                        Cause::Rxq
                    }
                },
                from: Some(kthread),
            }),
            None => p
                .claim
                .map(Want::from)
                .or_else(|| left_behind(slot, p, queues)),
        };
        let Some(want) = want else { return };

        if p.active().len() < p.guaranteed {
            self.add_core(slot, want, out);
        } else {
            // Overloaded and without a core it stays so until a grant: no claim is needed.
            p.claim = None;
            self.set_overloaded(slot, want);
            self.update_watched(slot);
        }
    }

    /// Gives a proc one more core: an idle one now, or a preempted one when its
    /// holder has parked. Returns the kthread that became active; `None` if all are,
    /// or if no core is to be had (then the proc is overloaded).
    ///
    /// *Source:* cores.c, `cores_add_core`.
    pub(super) fn add_core(
        &mut self,
        slot: ProcSlot,
        want: Want,
        out: &mut Decisions,
    ) -> Option<KthreadIdx> {
        if !self.proc(slot).can_grow() {
            return None;
        }
        let Some(core) = self.choose_core(slot) else {
            self.wait_for_core(slot, want);
            return None;
        };
        let kthread = self.choose_kthread(slot, core)?;
        if self.cores.is_idle(core) {
            self.grant(slot, kthread, core, want, out);
            return Some(kthread);
        }

        let victim = self
            .cores
            .current(core)
            .expect("a core that is not idle has a holder");
        self.reserve_kthread(slot, kthread, core, Place::Waiting);
        self.cores.set_next(
            core,
            Waiter {
                thread: ThreadRef {
                    proc: slot,
                    kthread,
                },
                cause: want.cause,
                since: self.last_tick,
            },
        );
        self.set_overloaded(victim.proc, Cause::Preempted.into());
        self.proc_mut(victim.proc).inflight_preempts += 1;
        out.push(Decision::Preempt {
            victim: victim.proc,
            victim_kthread: victim.kthread,
            core,
            proc: slot,
            kthread,
            cause: want.cause,
            from: want.from,
        });
        Some(kthread)
    }

    /// Gives a core that has just become idle to the kthread that waits for it, or
    /// to an overloaded proc, or to nobody.
    ///
    /// *Source:* cores.c, the end of `cores_park_kthread`.
    pub(super) fn hand_on(&mut self, core: CoreId, out: &mut Decisions) {
        if let Some(Waiter { thread, cause, .. }) = self.cores.take_next(core) {
            self.end_preempt(core);
            self.cores.reserve(core, thread);
            self.proc_mut(thread.proc).kthread_mut(thread.kthread).place = Place::Running;
            self.wake(thread, core, true, cause.into(), out);
            return;
        }
        if let Some(slot) = self.choose_proc(core)
            && let Some(kthread) = self.choose_kthread(slot, core)
        {
            let want = self.proc(slot).wanted;
            self.grant(slot, kthread, core, want, out);
        }
    }

    /// The core's holder will not lose it any more, or has lost it.
    pub(super) fn end_preempt(&mut self, core: CoreId) {
        // A holder that left the arbiter is in no history, and has no count.
        if let Some(holder) = self.cores.current(core) {
            self.proc_mut(holder.proc).inflight_preempts -= 1;
        }
    }

    /// The core to add to a proc, idle or to be preempted; `None` if there is none.
    ///
    /// 1. The sibling of a core the proc has: idle, or, when no core is idle, held
    ///    by another proc that is bursting.
    /// 2. Likewise the core of its most recently parked kthread, or of one left with
    ///    messages.
    /// 3. The lowest idle core.
    /// 4. The lowest core of a bursting proc.
    ///
    /// *Source:* cores.c, `pick_core_for_proc`.
    fn choose_core(&self, slot: ProcSlot) -> Option<CoreId> {
        let p = self.proc(slot);
        let suits = |core: CoreId| self.cores.is_idle(core) || self.may_preempt(core, slot);

        let sibling = p
            .active()
            .iter()
            .filter_map(|&k| self.cores.sibling(self.core_of(slot, k)))
            .find(|&core| suits(core));
        if sibling.is_some() {
            return sibling;
        }
        let last = p
            .next_to_return()
            .map(|k| self.core_of(slot, k))
            .filter(|&core| suits(core));
        if last.is_some() {
            return last;
        }
        self.cores
            .lowest_idle()
            .or_else(|| self.cores.iter().find(|&core| self.may_preempt(core, slot)))
    }

    /// True if `slot` may take `core` from its holder: no core is idle, the holder
    /// is another proc above its guarantee, and nobody waits for the core yet.
    fn may_preempt(&self, core: CoreId, slot: ProcSlot) -> bool {
        self.cores.idle_count() == 0
            && !self.cores.is_preempted(core)
            && self
                .cores
                .current(core)
                .is_some_and(|holder| holder.proc != slot && self.proc(holder.proc).is_bursting())
    }

    /// The parked kthread to run on `core`; `None` if all are active.
    ///
    /// 1. At launch kthread 0: the runtime's main function lies on its queue.
    /// 2. The one that was left with messages first.
    /// 3. Overloaded and down to nothing, the most recently parked one: it has the
    ///    queued uthreads.
    /// 4. The one that ran on this core last, or the one before.
    /// 5. The least recently parked one.
    ///
    /// *Source:* cores.c, `pick_thread_for_proc`.
    pub(super) fn choose_kthread(&self, slot: ProcSlot, core: CoreId) -> Option<KthreadIdx> {
        let p = self.proc(slot);
        let overloaded = self.overloaded.contains(slot.0);
        if p.unlaunched || p.first_left().is_some() || (overloaded && p.active().is_empty()) {
            return p.next_to_return();
        }
        [self.cores.current(core), self.cores.prev(core)]
            .into_iter()
            .flatten()
            .find(|past| past.proc == slot && !self.is_active(slot, past.kthread))
            .map(|past| past.kthread)
            .or_else(|| p.least_recently_parked())
    }

    /// The overloaded proc to be given an idle `core` that nobody waits for: its
    /// last user, the sibling's user, its user before the last, or the newest.
    ///
    /// *Source:* cores.c, `pick_thread_for_core`.
    fn choose_proc(&self, core: CoreId) -> Option<ProcSlot> {
        let first = self.overloaded.first()?;
        let sibling = self.cores.sibling(core);
        [
            self.cores.current(core),
            sibling.and_then(|s| self.cores.current(s)),
            self.cores.prev(core),
        ]
        .into_iter()
        .flatten()
        .map(|past| past.proc)
        .find(|&slot| self.overloaded.contains(slot.0) && self.proc(slot).can_grow())
        .or_else(|| {
            std::iter::successors(Some(first), |&at| self.overloaded.next(at))
                .map(ProcSlot)
                .find(|&slot| self.proc(slot).can_grow())
        })
    }

    /// Puts a parked kthread on an idle core and wakes it.
    pub(super) fn grant(
        &mut self,
        slot: ProcSlot,
        kthread: KthreadIdx,
        core: CoreId,
        want: Want,
        out: &mut Decisions,
    ) {
        // An overloaded proc's congested kthread may have parked since.
        let want = Want {
            from: want.from.filter(|&k| self.is_active(slot, k)),
            ..want
        };
        let thread = ThreadRef {
            proc: slot,
            kthread,
        };
        self.cores.reserve(core, thread);
        self.reserve_kthread(slot, kthread, core, Place::Running);
        self.wake(thread, core, false, want, out);
    }

    /// Decides the wake of a kthread that holds `core` as of now.
    fn wake(
        &mut self,
        thread: ThreadRef,
        core: CoreId,
        handover: bool,
        want: Want,
        out: &mut Decisions,
    ) {
        let k = self.proc_mut(thread.proc).kthread_mut(thread.kthread);
        let pin = k.pinned != Some(core);
        k.pinned = Some(core);
        out.push(Decision::Wake {
            proc: thread.proc,
            kthread: thread.kthread,
            core,
            pin,
            handover,
            cause: want.cause,
            from: want.from,
        });
    }

    /// Makes a kthread active, which satisfies whatever its proc was waiting for.
    fn reserve_kthread(&mut self, slot: ProcSlot, kthread: KthreadIdx, core: CoreId, place: Place) {
        self.proc_mut(slot).reserve(kthread, core, place);
        self.overloaded.remove(slot.0);
        self.timers.cancel(slot);
        self.watched.set(slot, true);
    }

    /// No core is given now: the proc is overloaded; with a guarantee and nothing
    /// active, which no congestion can bring back to mind, it keeps a claim.
    pub(super) fn wait_for_core(&mut self, slot: ProcSlot, want: Want) {
        self.set_overloaded(slot, want);
        let p = self.proc_mut(slot);
        if p.active().is_empty() && p.guaranteed > 0 {
            p.claim = Some(want.cause);
        }
        self.update_watched(slot);
    }

    /// Lists a proc as one that takes a free core. The first reason stays.
    ///
    /// *Source:* cores.c, `proc_set_overloaded`.
    pub(super) fn set_overloaded(&mut self, slot: ProcSlot, want: Want) {
        if !self.overloaded.contains(slot.0) {
            self.overloaded.push_front(slot.0);
            self.proc_mut(slot).wanted = want;
        }
    }

    /// Lets ticks look at the proc if there is anything to see.
    pub(super) fn update_watched(&mut self, slot: ProcSlot) {
        let p = self.proc(slot);
        let watch = !p.active().is_empty() || p.claim.is_some();
        self.watched.set(slot, watch);
    }

    #[inline]
    pub(super) fn place(&self, slot: ProcSlot, kthread: KthreadIdx) -> Option<Place> {
        let p = self.procs.get(slot.index())?.as_ref()?;
        Some(p.kthread(kthread)?.place)
    }

    #[inline]
    pub(super) fn proc(&self, slot: ProcSlot) -> &ProcState {
        self.procs[slot.index()]
            .as_ref()
            .expect("the slot has a proc")
    }

    #[inline]
    pub(super) fn proc_mut(&mut self, slot: ProcSlot) -> &mut ProcState {
        self.procs[slot.index()]
            .as_mut()
            .expect("the slot has a proc")
    }
}
