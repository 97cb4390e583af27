//! The runtime cores: who holds them, who held them, who waits for them.

use super::links::CoreSet;
use super::{Cause, MAX_CORES, RuntimeCore};
use crate::ids::{CoreId, KthreadIdx, Micros, ProcSlot};

/// A kthread of some proc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ThreadRef {
    pub(super) proc: ProcSlot,
    pub(super) kthread: KthreadIdx,
}

/// The kthread that preempted a core and is woken when its holder parks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) thread: ThreadRef,
    pub(super) cause: Cause,
    /// When it began to wait.
    pub(super) since: Moment,
}

/// A tick, by its time and by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Moment {
    pub(super) time: Micros,
    pub(super) tick: u64,
}

impl Moment {
    /// True if both passed since `earlier`: so much time, and so many ticks. (After a
    /// pause of the whole machine much time has passed, in which nobody could act.)
    fn is_later_by(self, earlier: Moment, time: Micros, ticks: u64) -> bool {
        self.time.0.saturating_sub(earlier.time.0) >= time.0 && self.tick - earlier.tick >= ticks
    }
}

/// One core's assignments. C: `struct core`.
#[derive(Debug, Clone, Copy, Default)]
struct Core {
    /// A runtime core that shares its execution units.
    sibling: Option<CoreId>,
    /// The holder; on an idle core the last one.
    current: Option<ThreadRef>,
    /// The holder before `current`.
    prev: Option<ThreadRef>,
    /// Set only while the core is held.
    next: Option<Waiter>,
}

/// All runtime cores. Invariant: a core is idle, or held by `current`.
#[derive(Debug)]
pub(super) struct CoreTable {
    cores: Box<[Core]>,
    online: CoreSet,
    idle: CoreSet,
    idle_count: usize,
    total: usize,
    /// Cores that somebody waits for.
    waiters: usize,
}

impl CoreTable {
    /// All of `cores` idle. A sibling that is not among them is ignored.
    pub(super) fn new(cores: &[RuntimeCore]) -> CoreTable {
        let mut online = CoreSet::default();
        for c in cores {
            assert!(
                c.core.index() < MAX_CORES,
                "core numbers are below {MAX_CORES}, {} is not",
                c.core
            );
            online.insert(c.core);
        }
        let mut table = vec![Core::default(); MAX_CORES].into_boxed_slice();
        for c in cores {
            table[c.core.index()].sibling = c
                .sibling
                .filter(|s| *s != c.core && s.index() < MAX_CORES && online.contains(*s));
        }
        CoreTable {
            cores: table,
            online,
            idle: online,
            idle_count: online.len(),
            total: online.len(),
            waiters: 0,
        }
    }

    /// The number of runtime cores.
    #[inline]
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// The number of cores that nobody holds.
    #[inline]
    pub(super) fn idle_count(&self) -> usize {
        self.idle_count
    }

    /// The runtime core with the lowest number.
    pub(super) fn lowest(&self) -> Option<CoreId> {
        self.online.iter().next()
    }

    /// The idle core with the lowest number.
    pub(super) fn lowest_idle(&self) -> Option<CoreId> {
        self.idle.iter().next()
    }

    /// The runtime cores, lowest number first.
    pub(super) fn iter(&self) -> impl Iterator<Item = CoreId> + use<> {
        self.online.iter()
    }

    /// True if nobody holds `core`.
    #[inline]
    pub(super) fn is_idle(&self, core: CoreId) -> bool {
        self.idle.contains(core)
    }

    /// The runtime core that shares execution units with `core`.
    #[inline]
    pub(super) fn sibling(&self, core: CoreId) -> Option<CoreId> {
        self.cores[core.index()].sibling
    }

    /// The holder of `core`, or its last holder.
    #[inline]
    pub(super) fn current(&self, core: CoreId) -> Option<ThreadRef> {
        self.cores[core.index()].current
    }

    /// The holder of `core` before [`current`](CoreTable::current).
    #[inline]
    pub(super) fn prev(&self, core: CoreId) -> Option<ThreadRef> {
        self.cores[core.index()].prev
    }

    /// True if somebody waits for `core`.
    #[inline]
    pub(super) fn is_preempted(&self, core: CoreId) -> bool {
        self.cores[core.index()].next.is_some()
    }

    /// Lets `waiter` wait for `core`, which is held and nobody waits for.
    pub(super) fn set_next(&mut self, core: CoreId, waiter: Waiter) {
        assert!(
            !self.is_idle(core) && !self.is_preempted(core),
            "core {core} cannot be preempted: idle, or preempted already"
        );
        self.cores[core.index()].next = Some(waiter);
        self.waiters += 1;
    }

    /// Takes out who waits for `core`.
    pub(super) fn take_next(&mut self, core: CoreId) -> Option<Waiter> {
        let next = self.cores[core.index()].next.take();
        self.waiters -= usize::from(next.is_some());
        next
    }

    /// A core whose holder has been asked for it so long ago, and that holder.
    pub(super) fn overdue(
        &self,
        now: Moment,
        time: Micros,
        ticks: u64,
    ) -> Option<(CoreId, ThreadRef)> {
        if self.waiters == 0 {
            return None;
        }
        self.online.iter().find_map(|core| {
            let entry = &self.cores[core.index()];
            let waiter = entry.next?;
            let is_overdue = now.is_later_by(waiter.since, time, ticks);
            entry
                .current
                .filter(|_| is_overdue)
                .map(|holder| (core, holder))
        })
    }

    /// Gives idle `core` to `thread`. *Source:* cores.c, `core_reserve`.
    pub(super) fn reserve(&mut self, core: CoreId, thread: ThreadRef) {
        assert!(self.is_idle(core), "core {core} has a holder already");
        self.idle.remove(core);
        self.idle_count -= 1;
        let entry = &mut self.cores[core.index()];
        if entry.current.is_some() {
            entry.prev = entry.current;
        }
        entry.current = Some(thread);
    }

    /// Makes `core` idle. *Source:* cores.c, `core_cede`.
    pub(super) fn cede(&mut self, core: CoreId) {
        assert!(!self.is_idle(core), "core {core} has no holder");
        self.idle.insert(core);
        self.idle_count += 1;
    }

    /// Forgets that `proc` ever held a core, so that its slot's next tenant does
    /// not inherit a history.
    pub(super) fn forget(&mut self, proc: ProcSlot) {
        for core in &mut self.cores {
            for past in [&mut core.current, &mut core.prev] {
                if past.is_some_and(|t| t.proc == proc) {
                    *past = None;
                }
            }
        }
    }
}
