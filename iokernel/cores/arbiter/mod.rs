//! The arbiter: which proc gets which core, and when.
//!
//! Pure: it is told what happens and answers with [`Decision`]s. It knows no
//! clock, system call, log, lock or randomness, and nothing allocates but
//! [`Arbiter::new`] and [`Arbiter::add`]. The same events give the same
//! decisions.
//!
//! # Terms
//!
//! A kthread is *active* if it runs on a core or waits for one; else *parked*.
//! A core is *held* by one running kthread, or *idle*. A proc is *bursting* with
//! more active kthreads than its guarantee; *congested* when a queue stood still
//! for an interval ([`congestion`](super::congestion)) or its timer is due;
//! *overloaded* while it would take a core that becomes free. To *preempt* is to
//! ask the holder of a core to park, on behalf of a kthread that waits for it. A
//! parked kthread is *left* with messages if some were sent that nobody has read.
//!
//! # Rules
//!
//! Upstream's, in upstream's order (iokernel/cores.c). Up to its guarantee a
//! congested proc gets a core at once, if need be from a bursting proc; above it
//! only idle cores are given. Who gets what is in the module `rules`.
//!
//! Where upstream stops, or loses track:
//! - No core to be had: the proc waits, overloaded. With a guarantee it is tried
//!   again every tick.
//! - A proc that leaves takes its waiting kthreads along: the victims keep what
//!   they were to lose, or it goes to others. The core histories forget it.
//! - Whatever a runtime says about parking, in whatever order, is answered.
//! - Every grant ends a pending timer (upstream: not grants of freed cores).
//! - A kthread is pinned before its first run even on the lowest core.
//! - A freed core goes past overloaded procs that have no parked kthread left.
//! - A kthread that does not give up a core that it must ([`CEDE_PATIENCE`]) is
//!   reported, for its runtime to be detached. (Upstream waits for ever, and with it
//!   the proc to which the core was promised.)
//! - A kthread left with messages is remembered: it is the first to be woken when
//!   its proc gets a core, and until then, or until the proc's other kthreads have
//!   read them, the proc wants one.
//!
//! # Properties
//!
//! Checked in `tests/properties.rs` over random events: no core has two holders;
//! idle and held cores are all cores; at most one kthread waits for a core; a
//! congested proc under its guarantee gets a core if any may be taken; a removed
//! proc is granted nothing; without congestion and due timers nothing moves; no
//! message lies with a parked kthread while a core is idle and no tick will grant
//! it; the same events give the same decisions; no event order panics.

mod core_table;
mod decision;
mod links;
mod proc_state;
mod rules;
mod timers;

#[cfg(test)]
mod tests;

use self::core_table::{CoreTable, Moment, ThreadRef, Waiter};
pub use self::decision::{Cause, Decision, Decisions, MAX_DECISIONS, Park};
use self::links::{IndexList, SlotSet};
use self::proc_state::{Place, ProcState};
use self::timers::Timers;
use super::congestion::Congestion;
pub use super::congestion::QueueObs;
use crate::ids::{CoreId, KthreadIdx, Micros, ProcSlot};

/// Most cores, and most kthreads of one runtime. C: `NCPU`, base/limits.h.
pub const MAX_CORES: usize = 256;

/// How long a kthread may take to give up a core, counted from the tick that asked
/// for it. Thousands of times what a polite one needs on a busy machine.
pub const CEDE_PATIENCE: Micros = Micros(5_000_000);
/// So many ticks must pass as well: time in which the daemon itself stood still is
/// not held against a runtime.
pub const CEDE_TICKS: u64 = 20_000;

/// A core that may run kthreads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeCore {
    /// Its number, below [`MAX_CORES`].
    pub core: CoreId,
    /// The core with which it shares execution units, where that matters.
    pub sibling: Option<CoreId>,
}

/// What the arbiter needs to know of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcSpec {
    /// Its kthreads, 1 to [`MAX_CORES`].
    pub kthreads: u16,
    /// Cores it is given whenever it wants them. The registration keeps the sum
    /// over all procs within the number of cores.
    pub guaranteed: u16,
}

/// The memory that the arbiter needs for one proc, made and freed outside the
/// polling loop.
#[derive(Debug)]
pub struct Seat(ProcState);

impl Seat {
    /// A seat for a proc of that kind. Allocates.
    ///
    /// # Panics
    /// If the spec has no kthreads.
    pub fn new(spec: ProcSpec) -> Seat {
        Seat(ProcState::new(spec))
    }
}

impl From<ProcSpec> for Seat {
    fn from(spec: ProcSpec) -> Seat {
        Seat::new(spec)
    }
}

/// Where the arbiter reads how far queues have come.
pub trait Queues {
    /// Looks at the queues of an active kthread, or of one left with messages.
    fn observe(&mut self, proc: ProcSlot, kthread: KthreadIdx) -> QueueObs;
}

/// What one tick saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TickStats {
    /// Procs looked at: those with active kthreads, or with a claim to a core.
    pub procs: u32,
    /// Procs congested by a run queue. (C: `RQ_GRANT`.)
    pub runqueue: u32,
    /// Procs congested by an `rxq`. (C: `RX_GRANT`.)
    pub rxq: u32,
    /// Timers that became due.
    pub timers: u32,
    /// A kthread that keeps a core that it was asked for too long ago.
    pub overdue: Option<(ProcSlot, KthreadIdx, CoreId)>,
}

/// Assigns runtime cores to procs.
#[derive(Debug)]
pub struct Arbiter {
    cores: CoreTable,
    /// By slot.
    procs: Box<[Option<ProcState>]>,
    /// Procs that would take a free core, the newest first. (C: `overloaded_procs`.)
    overloaded: IndexList,
    timers: Timers,
    /// Procs that a tick looks at: with active kthreads, or with a claim.
    watched: SlotSet,
    last_tick: Moment,
}

impl Arbiter {
    /// An arbiter of `cores`, all idle, for procs in slots below `max_procs`.
    ///
    /// # Panics
    /// If a core number is [`MAX_CORES`] or more, or `max_procs` above 65,534.
    pub fn new(cores: &[RuntimeCore], max_procs: usize) -> Arbiter {
        Arbiter {
            cores: CoreTable::new(cores),
            procs: std::iter::repeat_with(|| None).take(max_procs).collect(),
            overloaded: IndexList::new(max_procs),
            timers: Timers::new(max_procs),
            watched: SlotSet::new(max_procs),
            last_tick: Moment::default(),
        }
    }

    /// The number of runtime cores.
    #[inline]
    pub fn total_cores(&self) -> usize {
        self.cores.total()
    }

    /// The number of cores that no kthread holds.
    #[inline]
    pub fn idle_cores(&self) -> usize {
        self.cores.idle_count()
    }

    /// True if a tick would look at nothing and decide nothing, whenever it is.
    pub fn is_at_rest(&self) -> bool {
        self.watched.at_or_after(0).is_none()
            && self.overloaded.first().is_none()
            && self.timers.is_empty()
    }

    /// Kthreads of the proc with a core, or waiting for theirs; none for an empty slot.
    #[inline]
    pub fn active(&self, slot: ProcSlot) -> &[KthreadIdx] {
        match self.procs.get(slot.index()) {
            Some(Some(p)) => p.active(),
            _ => &[],
        }
    }

    /// True if the kthread has a core or waits for one.
    #[inline]
    pub fn is_active(&self, slot: ProcSlot, kthread: KthreadIdx) -> bool {
        self.place(slot, kthread)
            .is_some_and(|p| p != Place::Parked)
    }

    /// True if the kthread holds a core.
    #[inline]
    pub fn is_running(&self, slot: ProcSlot, kthread: KthreadIdx) -> bool {
        self.place(slot, kthread) == Some(Place::Running)
    }

    /// The core that the kthread has or waits for; for a parked one the core it
    /// had last, or the lowest runtime core if it never ran.
    ///
    /// # Panics
    /// If there is no such proc or kthread.
    #[inline]
    pub fn core_of(&self, slot: ProcSlot, kthread: KthreadIdx) -> CoreId {
        self.proc(slot)
            .kthread(kthread)
            .expect("the caller names one of the proc's kthreads")
            .core
    }

    /// Takes in a proc, all of whose kthreads are parked, and launches it: kthread
    /// 0 gets a core, or the proc waits for one.
    ///
    /// *Source:* cores.c, `cores_init_proc`.
    ///
    /// # Panics
    /// If the slot is taken or out of range, or the spec has no kthreads.
    pub fn add(&mut self, slot: ProcSlot, seat: impl Into<Seat>, out: &mut Decisions) {
        let Seat(mut state) = seat.into();
        state.set_home(self.cores.lowest().unwrap_or(CoreId(0)));
        let entry = &mut self.procs[slot.index()];
        assert!(entry.is_none(), "slot {} has a proc already", slot.0);
        *entry = Some(state);
        self.add_core(slot, Cause::Launch.into(), out);
    }

    /// Takes out a proc: its cores go to whoever waits for or wants them. An
    /// empty slot is left alone. The seat is to be dropped where freeing memory
    /// delays nobody.
    ///
    /// *Source:* cores.c, `cores_free_proc`.
    pub fn remove(&mut self, slot: ProcSlot, out: &mut Decisions) -> Option<Seat> {
        let gone = self.procs.get_mut(slot.index()).and_then(Option::take)?;
        self.overloaded.remove(slot.0);
        self.timers.cancel(slot);
        self.watched.set(slot, false);
        let states = |place| {
            gone.active()
                .iter()
                .filter_map(|&k| gone.kthread(k))
                .filter(move |k| k.place == place)
                .map(|k| k.core)
        };

        // Waits are cancelled before cores are handed on: a victim that was asked
        // to park will do so, but then keeps its claim to the core.
        for core in states(Place::Waiting) {
            self.cores.take_next(core);
            self.end_preempt(core);
        }
        // No core may come back to the slot by its history, nor count as a lost
        // core of the slot's next tenant.
        self.cores.forget(slot);
        for core in states(Place::Running) {
            self.cores.cede(core);
            self.hand_on(core, out);
        }
        Some(Seat(gone))
    }

    /// A kthread parked. `in_flight`: messages were sent to it that it has not
    /// consumed, so unless somebody waits for its core the park does not stand; and
    /// if it does, the proc wants a core for that kthread until it has one, or its
    /// others have consumed them. (Upstream forgets such messages.)
    ///
    /// *Source:* cores.c, `cores_park_kthread`.
    pub fn park(
        &mut self,
        slot: ProcSlot,
        kthread: KthreadIdx,
        in_flight: bool,
        out: &mut Decisions,
    ) -> Park {
        if !self.is_running(slot, kthread) {
            return Park::NotRunning;
        }
        let core = self.core_of(slot, kthread);
        if in_flight && !self.cores.is_preempted(core) {
            out.push(Decision::Rewake {
                proc: slot,
                kthread,
                core,
            });
            return Park::Refused;
        }
        self.cores.cede(core);
        let p = self.proc_mut(slot);
        p.cede(kthread);
        if p.active().is_empty()
            && let Some(deadline) = p.early_timer.take()
        {
            self.timers.set(slot, deadline);
        }
        let p = self.proc_mut(slot);
        if in_flight {
            p.leave(kthread);
        }
        if p.first_left().is_some() {
            self.wait_for_core(slot, Cause::Packet.into());
        } else {
            self.update_watched(slot);
        }
        self.hand_on(core, out);
        Park::Stands
    }

    /// Wakes the proc at `deadline`, unless it gets a core before; for a
    /// `PARKED_LAST` that stands.
    ///
    /// The runtime knows which of its kthreads parks last; but their parks come on
    /// rings of their own, and another one's may be seen only after this. So while a
    /// kthread is active the deadline is kept, and set when the last one parks
    /// without any being woken in between. (Upstream forgets it: then the runtime
    /// may sleep for ever.)
    ///
    /// *Source:* commands.c, `commands_drain_queue`.
    pub fn set_timer(&mut self, slot: ProcSlot, deadline: Micros) {
        let Some(Some(p)) = self.procs.get_mut(slot.index()) else {
            return;
        };
        if p.active().is_empty() {
            self.timers.set(slot, deadline);
        } else {
            p.early_timer = Some(deadline);
        }
    }

    /// A kthread to send a message to: an active one; else one that is woken for
    /// it, if the proc has a guarantee or a core is idle; else the one that parked
    /// last, or one that has unread messages already, and the proc is overloaded.
    /// That one is the next to be woken.
    ///
    /// *Source:* rx.c, `rx_send_to_runtime`.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn kthread_for_packet(&mut self, slot: ProcSlot, out: &mut Decisions) -> KthreadIdx {
        let p = self.proc(slot);
        if let Some(&kthread) = p.active().first() {
            return kthread;
        }
        // A proc with a claim was refused a core since the last tick: the next one
        // asks again, so that packets do not each search all cores in vain.
        let may_have_one = self.cores.idle_count() > 0 || (p.guaranteed > 0 && p.claim.is_none());
        if may_have_one && let Some(kthread) = self.add_core(slot, Cause::Packet.into(), out) {
            return kthread;
        }
        self.set_overloaded(slot, Cause::Packet.into());
        let p = self.proc_mut(slot);
        let kthread = p
            .next_to_return()
            .expect("without active kthreads all are parked");
        p.leave(kthread);
        kthread
    }

    /// Gives the proc a certain core, if that is idle and the proc may grow; the kthread
    /// that is woken there.
    ///
    /// *Source:* the paper's listing 3.
    pub fn wake_on(
        &mut self,
        slot: ProcSlot,
        core: CoreId,
        out: &mut Decisions,
    ) -> Option<KthreadIdx> {
        if !self.cores.is_idle(core) || !self.proc(slot).can_grow() {
            return None;
        }
        let kthread = self.choose_kthread(slot, core)?;
        self.grant(slot, kthread, core, Cause::Affinity.into(), out);
        Some(kthread)
    }

    /// The kthread could not be pinned; it is pinned again at its next wake.
    pub fn pin_failed(&mut self, slot: ProcSlot, kthread: KthreadIdx) {
        if self.place(slot, kthread).is_some() {
            self.proc_mut(slot).kthread_mut(kthread).pinned = None;
        }
    }

    /// Looks for congestion and grants cores. Called every 5 us; its work does not
    /// grow with the number of sleeping procs.
    ///
    /// *Source:* cores.c, `cores_adjust_assignments`.
    pub fn tick<Q: Queues>(
        &mut self,
        now: Micros,
        queues: &mut Q,
        out: &mut Decisions,
    ) -> TickStats {
        let mut stats = TickStats::default();
        self.last_tick = Moment {
            time: now,
            tick: self.last_tick.tick + 1,
        };
        let overdue = self
            .cores
            .overdue(self.last_tick, CEDE_PATIENCE, CEDE_TICKS);
        stats.overdue = overdue.map(|(core, holder)| (holder.proc, holder.kthread, core));
        while let Some(slot) = self.timers.pop_due(now) {
            self.proc_mut(slot).claim = Some(Cause::Timer);
            self.watched.set(slot, true);
            stats.timers += 1;
        }

        // Guarantees first.
        let mut from = 0;
        while let Some(slot) = self.watched.at_or_after(from) {
            from = slot.index() + 1;
            stats.procs += 1;
            self.meet_guarantee(slot, queues, &mut stats, out);
        }

        // Then whoever wants more, as long as cores are idle.
        let mut next = self.overloaded.first();
        while let Some(at) = next {
            if self.cores.idle_count() == 0 {
                break;
            }
            next = self.overloaded.next(at);
            let slot = ProcSlot(at);
            let want = self.proc(slot).wanted;
            self.add_core(slot, want, out);
        }
        stats
    }
}
