//! What anyone outside can know of an arbiter: the events it was told and the
//! decisions it made. The model follows both, and objects to what may not be.

use std::collections::BTreeMap;

use super::*;

/// A proc, by what was decided about it.
#[derive(Debug, Clone)]
pub(super) struct ModelProc {
    pub(super) spec: ProcSpec,
    pub(super) active: Vec<KthreadIdx>,
    /// Woken, and not yet looked at.
    passes: BTreeSet<KthreadIdx>,
    pinned: BTreeMap<KthreadIdx, CoreId>,
    launched: bool,
    /// A message was queued on this parked kthread, so it must be the next to run.
    promised: Option<KthreadIdx>,
}

type Thread = (ProcSlot, KthreadIdx);

/// Holders, waiters and procs.
#[derive(Debug, Clone)]
pub(super) struct Model {
    holders: BTreeMap<CoreId, Option<Thread>>,
    waiters: BTreeMap<CoreId, Thread>,
    pub(super) procs: BTreeMap<ProcSlot, ModelProc>,
    timers: BTreeMap<ProcSlot, Micros>,
    /// Timers set before the last kthread's park.
    early_timers: BTreeMap<ProcSlot, Micros>,
}

impl Model {
    pub(super) fn new(cores: &[RuntimeCore]) -> Model {
        Model {
            holders: cores.iter().map(|c| (c.core, None)).collect(),
            waiters: BTreeMap::new(),
            procs: BTreeMap::new(),
            timers: BTreeMap::new(),
            early_timers: BTreeMap::new(),
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.holders.values().filter(|h| h.is_none()).count()
    }

    pub(super) fn running(&self, thread: Thread) -> bool {
        self.holders.values().any(|&h| h == Some(thread))
    }

    /// True if `slot` could be given a core: an idle one, or one that another proc
    /// has beyond its guarantee and nobody else waits for.
    pub(super) fn core_to_be_had(&self, slot: ProcSlot) -> bool {
        self.holders.iter().any(|(core, holder)| match holder {
            None => true,
            Some((owner, _)) => {
                *owner != slot && self.bursting(*owner) && !self.waiters.contains_key(core)
            }
        })
    }

    fn bursting(&self, slot: ProcSlot) -> bool {
        let p = &self.procs[&slot];
        p.active.len() > usize::from(p.spec.guaranteed)
    }

    pub(super) fn added(&mut self, slot: ProcSlot, spec: ProcSpec) {
        let proc = ModelProc {
            spec,
            active: Vec::new(),
            passes: BTreeSet::new(),
            pinned: BTreeMap::new(),
            launched: false,
            promised: None,
        };
        assert!(self.procs.insert(slot, proc).is_none());
    }

    pub(super) fn removed(&mut self, slot: ProcSlot) {
        self.procs.remove(&slot);
        self.timers.remove(&slot);
        self.early_timers.remove(&slot);
        self.waiters.retain(|_, waiter| waiter.0 != slot);
        for holder in self.holders.values_mut() {
            if holder.is_some_and(|h| h.0 == slot) {
                *holder = None;
            }
        }
    }

    pub(super) fn parked(&mut self, thread: Thread) {
        let held = self.holders.values_mut().find(|h| **h == Some(thread));
        *held.expect("only the holder of a core can park") = None;
        let p = self.procs.get_mut(&thread.0).unwrap();
        let at = p.active.iter().position(|&k| k == thread.1).unwrap();
        p.active.swap_remove(at);
        if p.active.is_empty()
            && let Some(deadline) = self.early_timers.remove(&thread.0)
        {
            self.timers.insert(thread.0, deadline);
        }
    }

    pub(super) fn timer_set(&mut self, slot: ProcSlot, deadline: Micros) {
        if self.procs.get(&slot).is_some_and(|p| p.active.is_empty()) {
            self.timers.insert(slot, deadline);
        } else {
            self.early_timers.insert(slot, deadline);
        }
    }

    pub(super) fn promised(&mut self, slot: ProcSlot, kthread: KthreadIdx) {
        let p = self.procs.get_mut(&slot).unwrap();
        if p.active.is_empty() {
            p.promised = Some(kthread);
        } else {
            assert!(p.active.contains(&kthread));
        }
    }

    pub(super) fn pin_failed(&mut self, thread: Thread) {
        if let Some(p) = self.procs.get_mut(&thread.0) {
            p.pinned.remove(&thread.1);
        }
    }

    /// The procs that a tick at `now` must find in want of a core. Uses up passes
    /// and due timers.
    pub(super) fn looked_at(&mut self, now: Micros, queued: &Queued) -> BTreeSet<ProcSlot> {
        let mut wanting = BTreeSet::new();
        for (&slot, p) in &mut self.procs {
            for kthread in &p.active {
                if wanting.contains(&slot) {
                    break;
                }
                let thread = (slot, *kthread);
                let behind = queued.behind.contains(&thread) || queued.unread.contains(&thread);
                if !p.passes.remove(kthread) && behind {
                    wanting.insert(slot);
                }
            }
        }
        self.timers.retain(|&slot, &mut deadline| {
            let due = deadline <= now;
            if due {
                wanting.insert(slot);
            }
            !due
        });
        wanting
    }

    /// Follows decisions, in order, and objects to any that may not be.
    pub(super) fn apply(&mut self, decisions: &[Decision]) {
        for &decision in decisions {
            match decision {
                Decision::Wake {
                    proc,
                    kthread,
                    core,
                    pin,
                    handover,
                    from,
                    ..
                } => {
                    assert_eq!(self.holders[&core], None, "{decision:?}: the core is held");
                    if handover {
                        assert_eq!(self.waiters.remove(&core), Some((proc, kthread)));
                        assert_eq!(from, None);
                    } else {
                        assert!(!self.waiters.contains_key(&core));
                        self.activate(decision, (proc, kthread), from);
                    }
                    self.holders.insert(core, Some((proc, kthread)));
                    let p = self
                        .procs
                        .get_mut(&proc)
                        .expect("granted to a removed proc");
                    let before = p.pinned.insert(kthread, core);
                    assert_eq!(pin, before != Some(core), "{decision:?}");
                }
                Decision::Preempt {
                    victim,
                    victim_kthread,
                    core,
                    proc,
                    kthread,
                    from,
                    ..
                } => {
                    assert_eq!(self.idle(), 0, "{decision:?}: a core is idle");
                    assert_eq!(self.holders[&core], Some((victim, victim_kthread)));
                    assert!(self.bursting(victim) && victim != proc, "{decision:?}");
                    self.activate(decision, (proc, kthread), from);
                    let before = self.waiters.insert(core, (proc, kthread));
                    assert_eq!(before, None, "{decision:?}: somebody waits already");
                }
                Decision::Rewake {
                    proc,
                    kthread,
                    core,
                } => assert_eq!(self.holders[&core], Some((proc, kthread))),
            }
        }
    }

    fn activate(&mut self, decision: Decision, thread: Thread, from: Option<KthreadIdx>) {
        let (slot, kthread) = thread;
        let p = self
            .procs
            .get_mut(&slot)
            .expect("granted to a removed proc");
        assert!(kthread.0 < p.spec.kthreads);
        assert!(!p.active.contains(&kthread), "{decision:?}: active already");
        assert!(from.is_none_or(|k| p.active.contains(&k)), "{decision:?}");
        assert!(p.launched || kthread == KthreadIdx(0), "{decision:?}");
        if let Some(promised) = p.promised.take() {
            assert_eq!(kthread, promised, "{decision:?}");
        }
        p.launched = true;
        p.active.push(kthread);
        p.passes.insert(kthread);
        self.timers.remove(&slot);
        self.early_timers.remove(&slot);
    }

    /// Compares what the arbiter says with what the model knows.
    pub(super) fn compare(&self, arbiter: &Arbiter) {
        assert_eq!(arbiter.idle_cores(), self.idle());
        for (&slot, p) in &self.procs {
            assert_eq!(arbiter.active(slot), p.active);
            for kthread in (0..p.spec.kthreads).map(KthreadIdx) {
                let active = p.active.contains(&kthread);
                assert_eq!(arbiter.is_active(slot, kthread), active);
                let running = self.running((slot, kthread));
                assert_eq!(arbiter.is_running(slot, kthread), running);
                if running {
                    let core = arbiter.core_of(slot, kthread);
                    assert_eq!(self.holders[&core], Some((slot, kthread)));
                }
            }
        }
    }
}
