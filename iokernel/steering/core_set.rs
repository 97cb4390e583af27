//! The cores that a proc has, and which kthread runs on each.
//!
//! ```text
//!   by_core:   | 15 FREE | 14 RELIEVED | 13 .. 8 | 7 .. kthread .. 0 |    one u16 a core
//! ```
//!
//! A plain number below 256 is the whole answer for nearly every packet: the kthread
//! that runs there. Whatever needs a second thought is larger: a core that the proc
//! does not have (the kthread is the last one that it had there), or one from which
//! flows are being moved away.
//!
//! Invariants: no core has two active kthreads of a proc; `active` is in the order of
//! the arbiter's list, which is upstream's.

use crate::ids::{CoreId, KthreadIdx};

/// Most cores, and most kthreads of a proc.
const CORES: usize = 256;
const FREE: u16 = 1 << 15;
const RELIEVED: u16 = 1 << 14;
/// Free, and no kthread ever ran there.
const UNUSED: u16 = FREE | 1 << 13;
const KTHREAD: u16 = 0xff;

/// What there is to know about a core of which the answer is not plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tenancy {
    /// The kthread runs there, or waits for the core.
    Runs(KthreadIdx),
    /// The same, and flows are being moved away from it.
    Relieved(KthreadIdx),
    /// Not the proc's. The kthread was the last of it there.
    Free(Option<KthreadIdx>),
}

impl Tenancy {
    /// The kthread that runs there, or waits for the core.
    pub(super) fn runs(self) -> Option<KthreadIdx> {
        match self {
            Tenancy::Runs(kthread) | Tenancy::Relieved(kthread) => Some(kthread),
            Tenancy::Free(_) => None,
        }
    }

    /// The kthread that runs there, or was the last to.
    pub(super) fn kthread(self) -> Option<KthreadIdx> {
        match self {
            Tenancy::Runs(kthread) | Tenancy::Relieved(kthread) => Some(kthread),
            Tenancy::Free(last) => last,
        }
    }
}

/// The cores of one proc.
#[derive(Debug)]
pub(super) struct CoreSet {
    by_core: [u16; CORES],
    active: Vec<KthreadIdx>,
    /// By kthread: its core, while active; and its place in `active`.
    core: Box<[CoreId]>,
    at: Box<[usize]>,
}

impl CoreSet {
    /// No core, for a proc of so many kthreads.
    pub(super) fn new(kthreads: u16) -> CoreSet {
        CoreSet {
            by_core: [UNUSED; CORES],
            active: Vec::with_capacity(kthreads.into()),
            core: vec![CoreId(0); kthreads.into()].into(),
            at: vec![0; kthreads.into()].into(),
        }
    }

    /// The active kthreads, in the arbiter's order.
    #[inline(always)]
    pub(super) fn active(&self) -> &[KthreadIdx] {
        &self.active
    }

    /// The core of an active kthread; of a parked one, the last it had.
    #[inline]
    pub(super) fn core_of(&self, kthread: KthreadIdx) -> CoreId {
        self.core[kthread.index()]
    }

    /// The kthread that runs on `core`, if there is nothing else to be thought of.
    #[inline(always)]
    pub(super) fn runs(&self, core: CoreId) -> Option<KthreadIdx> {
        let kthread = self.by_core[core.index() % CORES];
        (kthread <= KTHREAD).then_some(KthreadIdx(kthread))
    }

    /// The kthreads that run on these cores, if there is nothing else to be thought of
    /// about any.
    #[inline(always)]
    pub(super) fn run_all<const N: usize>(&self, cores: [CoreId; N]) -> Option<[KthreadIdx; N]> {
        let words = cores.map(|core| self.by_core[core.index() % CORES]);
        let all = words.iter().fold(0, |all, word| all | word);
        (all <= KTHREAD).then(|| words.map(KthreadIdx))
    }

    /// All about a core.
    pub(super) fn tenancy(&self, core: CoreId) -> Tenancy {
        let word = self.by_core[core.index() % CORES];
        let kthread = KthreadIdx(word & KTHREAD);
        if word == UNUSED {
            Tenancy::Free(None)
        } else if word & FREE != 0 {
            Tenancy::Free(Some(kthread))
        } else if word & RELIEVED != 0 {
            Tenancy::Relieved(kthread)
        } else {
            Tenancy::Runs(kthread)
        }
    }

    /// True if a kthread of the proc runs on the core, or waits for it.
    #[inline]
    pub(super) fn has(&self, core: CoreId) -> bool {
        self.by_core[core.index() % CORES] & FREE == 0
    }

    /// A kthread became active.
    ///
    /// # Panics
    /// If it is active, or the proc has another kthread on that core.
    pub(super) fn activated(&mut self, kthread: KthreadIdx, core: CoreId) {
        assert!(
            !self.has(core),
            "two kthreads of a proc on core {core}: {} is the second",
            kthread.0
        );
        debug_assert!(!self.active.contains(&kthread));
        self.by_core[core.index()] = kthread.0;
        self.core[kthread.index()] = core;
        self.at[kthread.index()] = self.active.len();
        self.active.push(kthread);
    }

    /// An active kthread parked.
    ///
    /// # Panics
    /// If it is not active.
    pub(super) fn parked(&mut self, kthread: KthreadIdx) -> CoreId {
        let at = self.at[kthread.index()];
        assert!(
            self.active.get(at) == Some(&kthread),
            "kthread {} parked twice",
            kthread.0
        );
        self.active.swap_remove(at);
        if let Some(moved) = self.active.get(at) {
            self.at[moved.index()] = at;
        }
        let core = self.core[kthread.index()];
        self.by_core[core.index()] = FREE | kthread.0;
        core
    }

    /// Says whether flows are being moved away from a core that the proc has.
    pub(super) fn set_relieved(&mut self, core: CoreId, relieved: bool) {
        let word = &mut self.by_core[core.index()];
        if *word & FREE == 0 {
            *word = *word & KTHREAD | if relieved { RELIEVED } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_answers_plainly_only_while_there_is_nothing_to_think_about() {
        let mut cores = CoreSet::new(256);
        let (k, core) = (KthreadIdx(255), CoreId(255));
        assert_eq!(cores.tenancy(core), Tenancy::Free(None));
        cores.activated(k, core);
        assert_eq!(cores.runs(core), Some(k));
        cores.set_relieved(core, true);
        assert_eq!(cores.runs(core), None);
        assert_eq!(cores.tenancy(core), Tenancy::Relieved(k));
        cores.set_relieved(core, false);
        assert_eq!(cores.runs(core), Some(k));
        cores.set_relieved(core, true);
        assert_eq!(cores.parked(k), core);
        assert_eq!(cores.tenancy(core), Tenancy::Free(Some(k)));
        cores.set_relieved(core, true);
        assert_eq!(cores.tenancy(core), Tenancy::Free(Some(k)));
        assert!(cores.active().is_empty() && !cores.has(core));
    }

    #[test]
    fn active_kthreads_are_in_upstreams_order() {
        let mut cores = CoreSet::new(4);
        for n in 0..4 {
            cores.activated(KthreadIdx(n), CoreId(n + 7));
        }
        cores.parked(KthreadIdx(1));
        // The last takes the gap.
        assert_eq!(cores.active(), [0, 3, 2].map(KthreadIdx));
        cores.parked(KthreadIdx(2));
        cores.activated(KthreadIdx(1), CoreId(9));
        assert_eq!(cores.active(), [0, 3, 1].map(KthreadIdx));
        assert_eq!(cores.core_of(KthreadIdx(1)), CoreId(9));
    }
}
