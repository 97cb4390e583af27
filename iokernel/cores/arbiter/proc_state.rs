//! One proc as the arbiter sees it: its kthreads, and what it wants.

use super::links::IndexList;
use super::rules::Want;
use super::{Cause, ProcSpec};
use crate::cores::congestion::Watch;
use crate::ids::{CoreId, KthreadIdx, Micros};

/// Where a kthread stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Has no core.
    Parked,
    /// Is active, but its core has not been left by its holder yet.
    Waiting,
    /// Holds its core.
    Running,
}

/// One kthread. C: the scheduling half of `struct thread`.
#[derive(Debug, Clone, Copy)]
pub(super) struct KthreadState {
    pub(super) place: Place,
    /// The core it has, waits for, or had last.
    pub(super) core: CoreId,
    /// The core that its affinity is set to.
    pub(super) pinned: Option<CoreId>,
    /// What its queues looked like last.
    pub(super) watch: Watch,
    /// Its place in [`ProcState::active`], while active.
    active_at: usize,
}

/// One proc. C: the scheduling half of `struct proc`.
#[derive(Debug)]
pub(super) struct ProcState {
    pub(super) guaranteed: usize,
    /// Kthread 0 has not been given a core yet.
    pub(super) unlaunched: bool,
    /// Its cores that others wait for.
    pub(super) inflight_preempts: usize,
    /// Why it is overloaded, if it is.
    pub(super) wanted: Want,
    /// It sleeps without a core and must get one: its timer is due, or no core
    /// was found although it has a guarantee. Cleared by a grant.
    pub(super) claim: Option<Cause>,
    /// The deadline of a `PARKED_LAST` that was seen before another kthread's park:
    /// each has a ring of its own. Set when that one is seen; cleared by a grant.
    pub(super) early_timer: Option<Micros>,
    /// Kthreads with a core, or waiting for theirs. Order as upstream's.
    active: Vec<KthreadIdx>,
    /// Parked kthreads, the most recently parked first.
    idle: IndexList,
    /// Parked kthreads with messages that they have not read, as far as we know;
    /// whoever has waited for longest first.
    left: IndexList,
    kthreads: Box<[KthreadState]>,
}

impl ProcState {
    /// All kthreads parked, kthread 0 to be the first to run.
    ///
    /// *Source:* cores.c, `cores_init_proc`.
    pub(super) fn new(spec: ProcSpec) -> ProcState {
        let count = usize::from(spec.kthreads);
        assert!(count > 0, "a proc has at least one kthread");
        let mut idle = IndexList::new(count);
        for i in 0..spec.kthreads {
            idle.push_back(i);
        }
        ProcState {
            guaranteed: usize::from(spec.guaranteed),
            unlaunched: true,
            inflight_preempts: 0,
            wanted: Cause::Launch.into(),
            claim: None,
            early_timer: None,
            active: Vec::with_capacity(count),
            idle,
            left: IndexList::new(count),
            kthreads: vec![
                KthreadState {
                    place: Place::Parked,
                    core: CoreId(0),
                    pinned: None,
                    watch: Watch::default(),
                    active_at: 0,
                };
                count
            ]
            .into_boxed_slice(),
        }
    }

    /// Lets `home` pass for the core that its kthreads ran on last, as upstream has it.
    pub(super) fn set_home(&mut self, home: CoreId) {
        for kthread in &mut self.kthreads {
            kthread.core = home;
        }
    }

    /// Kthreads with a core, or waiting for theirs.
    #[inline]
    pub(super) fn active(&self) -> &[KthreadIdx] {
        &self.active
    }

    /// The kthread, if there is one of that number.
    #[inline]
    pub(super) fn kthread(&self, kthread: KthreadIdx) -> Option<&KthreadState> {
        self.kthreads.get(kthread.index())
    }

    /// The kthread, for change.
    #[inline]
    pub(super) fn kthread_mut(&mut self, kthread: KthreadIdx) -> &mut KthreadState {
        &mut self.kthreads[kthread.index()]
    }

    /// True if it has more cores than it was guaranteed, so that one may be taken.
    #[inline]
    pub(super) fn is_bursting(&self) -> bool {
        self.active.len() > self.guaranteed
    }

    /// True if one more core would be of use.
    #[inline]
    pub(super) fn can_grow(&self) -> bool {
        self.active.len() < self.kthreads.len()
    }

    /// True if it is active on a core that nobody waits for.
    #[inline]
    pub(super) fn keeps_a_core(&self) -> bool {
        self.active.len() > self.inflight_preempts
    }

    /// The parked kthread that messages have waited on for longest.
    #[inline]
    pub(super) fn first_left(&self) -> Option<KthreadIdx> {
        self.left.first().map(KthreadIdx)
    }

    /// Notes that a parked kthread has unread messages: it comes before others
    /// when one is woken.
    pub(super) fn leave(&mut self, kthread: KthreadIdx) {
        debug_assert_eq!(self.kthreads[kthread.index()].place, Place::Parked);
        if !self.left.contains(kthread.0) {
            self.left.push_back(kthread.0);
        }
    }

    /// Notes that others read a parked kthread's messages.
    pub(super) fn caught_up(&mut self, kthread: KthreadIdx) {
        self.left.remove(kthread.0);
    }

    /// The kthread to go on where the proc stopped: one with unread messages,
    /// else the one that parked last.
    #[inline]
    pub(super) fn next_to_return(&self) -> Option<KthreadIdx> {
        self.left.first().or(self.idle.first()).map(KthreadIdx)
    }

    /// The kthread that has been parked for longest.
    #[inline]
    pub(super) fn least_recently_parked(&self) -> Option<KthreadIdx> {
        self.idle.last().map(KthreadIdx)
    }

    /// Makes a parked kthread active on `core`; `place` says whether it holds the
    /// core or waits for it. *Source:* cores.c, `thread_reserve`.
    pub(super) fn reserve(&mut self, kthread: KthreadIdx, core: CoreId, place: Place) {
        let active_at = self.active.len();
        let k = &mut self.kthreads[kthread.index()];
        assert!(
            k.place == Place::Parked,
            "kthread {} is active already",
            kthread.0
        );
        k.place = place;
        k.core = core;
        k.active_at = active_at;
        k.watch.woken();
        self.active.push(kthread);
        self.idle.remove(kthread.0);
        self.left.remove(kthread.0);
        self.unlaunched = false;
        self.claim = None;
        self.early_timer = None;
    }

    /// Makes an active kthread the most recently parked one.
    ///
    /// *Source:* cores.c, `thread_cede`.
    pub(super) fn cede(&mut self, kthread: KthreadIdx) {
        let k = &mut self.kthreads[kthread.index()];
        assert!(
            k.place != Place::Parked,
            "kthread {} is parked already",
            kthread.0
        );
        k.place = Place::Parked;
        let at = k.active_at;
        self.active.swap_remove(at);
        if let Some(&moved) = self.active.get(at) {
            self.kthreads[moved.index()].active_at = at;
        }
        self.idle.push_front(kthread.0);
    }
}
