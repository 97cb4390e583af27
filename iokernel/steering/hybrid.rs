//! Buckets, and exact entries for the exceptions.
//!
//! A packet's kthread is found, in this order, by
//!
//! 1. a rule of the operator (the paper's "policy installed beforehand"): while the proc
//!    has the rule's core the flow becomes an exception there; with strict affinity the
//!    core is asked for. A rule that ends leaves its flow where it is;
//! 2. an exception: a flow that a rule placed, or a heavy one that was moved alone. Only
//!    buckets that are marked for it are looked up; all others cost what they cost
//!    without exceptions;
//! 3. the flow's bucket.
//!
//! When a core is added to relieve another one on which a flow is heavy, and moving
//! that flow makes the two more even, it is moved and the buckets stay; else some of
//! the buckets move. An exception is forgotten like a flow of the flow table; its flow
//! is then at home where its bucket is.

#![allow(unsafe_code, reason = "the table's lookup")]

use std::io;

use super::buckets::{Buckets, bucket};
use super::core_set::{CoreSet, Tenancy};
use super::heavy::Sample;
use super::homes::RELIEF_SPAN;
use super::order::{Mark, Marks, Rxqs};
use super::spec::Affinity;
use super::spec::SteeringSpec;
use super::table::{Baseline, FlowTable, Place};
use super::view::{Steered, View};
use crate::ids::{CoreId, KthreadIdx, Micros};
use crate::stats::SteerCounter;

/// A heavy flow that is to move with its next packet.
#[derive(Debug, Clone, Copy)]
struct Moving {
    hash: u32,
    from: CoreId,
    to: CoreId,
    until: Micros,
}

/// The buckets and exceptions of one proc.
#[derive(Debug)]
pub(super) struct Hybrid {
    pub(super) buckets: Buckets,
    exceptions: FlowTable,
    /// With the order guard: by place among the exceptions.
    marks: Marks,
    sample: Sample,
    moving: Option<Moving>,
    strict: bool,
}

impl Hybrid {
    pub(super) fn new(spec: &SteeringSpec, mut pause: impl FnMut()) -> io::Result<Hybrid> {
        // The smallest table there is: exceptions are few.
        let exceptions = FlowTable::new(1, spec.flow_idle, &mut pause)?;
        let marks = Marks::new(spec.order_guard, exceptions.slots(), &mut pause)?;
        Ok(Hybrid {
            buckets: Buckets::new(spec, &mut pause)?,
            exceptions,
            marks,
            sample: Sample::default(),
            moving: None,
            strict: spec.affinity == Affinity::Strict,
        })
    }

    pub(super) fn exceptions(&self) -> usize {
        self.exceptions.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.buckets.bytes() + self.exceptions.bytes() + self.marks.bytes()
    }

    /// Lets idle exceptions grow older. The number of those that were forgotten.
    pub(super) fn sweep(&mut self, now: Micros) -> u32 {
        let mut gone = 0;
        self.exceptions.sweep(now, |_| gone += 1);
        if self.moving.is_some_and(|m| now > m.until) {
            self.moving = None;
        }
        gone
    }

    #[inline(always)]
    pub(super) fn steer_burst<R: Rxqs>(
        &mut self,
        hashes: &[u32],
        view: &mut View<'_, R>,
        out: &mut [KthreadIdx],
    ) -> Steered {
        // The usual case, known for the whole burst.
        let no_rules = view.rules.is_empty() && self.moving.is_none();
        for (i, (&hash, out)) in hashes.iter().zip(&mut *out).enumerate() {
            let at = bucket(hash);
            let steered = if no_rules && !self.buckets.has_exceptions(at) {
                self.buckets.steer(at, view)
            } else {
                self.steer_exactly(hash, at, view)
            };
            match steered {
                Ok(kthread) => *out = kthread,
                Err(core) => return Steered::Wants { steered: i, core },
            }
        }
        if let (Some(&hash), Some(&kthread)) = (hashes.first(), out.first()) {
            self.sample.note(hash, view.cores.core_of(kthread));
        }
        Steered::All
    }

    fn steer_exactly<R: Rxqs>(
        &mut self,
        hash: u32,
        at: usize,
        view: &mut View<'_, R>,
    ) -> Result<KthreadIdx, CoreId> {
        if let Some(core) = view.rules.core(hash) {
            self.obey(core, hash, at, view)?;
        }
        if self.moving.is_some_and(|m| m.hash == hash) {
            self.move_heavy(hash, at, view);
        }
        if self.buckets.has_exceptions(at)
            && let Some(place) = self.find(hash)
        {
            let kthread = self.by_exception(place, at, view)?;
            self.marks.set_next(place.index(), kthread, view.rxqs);
            return Ok(kthread);
        }
        self.buckets.steer(at, view)
    }

    fn find(&self, hash: u32) -> Option<Place> {
        let key = self.exceptions.key(hash);
        // SAFETY: every processor has the baseline.
        unsafe { self.exceptions.find::<Baseline>(key) }
    }

    /// Where the flow's newest packet went: exactly for an exception, else the bucket's.
    fn mark(&self, place: Option<Place>, at: usize) -> Option<Mark> {
        match place {
            Some(place) => self.marks.get(place.index()),
            None => self.buckets.mark(at),
        }
    }

    /// Where the flow is at home without a rule.
    fn home(&self, place: Option<Place>, at: usize) -> Option<CoreId> {
        match place {
            Some(place) => Some(self.exceptions.core(place)),
            None => self.buckets.home(at),
        }
    }

    /// Where a flow is at home without a rule.
    pub(super) fn home_of(&self, hash: u32) -> Option<CoreId> {
        self.home(self.find(hash), bucket(hash))
    }

    /// Makes the flow an exception on its rule's core, unless it is one, the proc has not
    /// the core, or the order guard forbids it. `Err`: the core is to be woken.
    fn obey<R: Rxqs>(
        &mut self,
        core: CoreId,
        hash: u32,
        at: usize,
        view: &mut View<'_, R>,
    ) -> Result<(), CoreId> {
        let place = self.find(hash);
        if place.is_some_and(|place| self.exceptions.core(place) == core) {
            return Ok(());
        }
        let Some(kthread) = view.cores.tenancy(core).runs() else {
            return if self.strict && view.may_wake {
                Err(core)
            } else {
                Ok(())
            };
        };
        let mark = self.mark(place, at);
        if mark.is_some_and(|m| m.kthread() != kthread && m.is_pending(view.rxqs)) {
            view.counts.add(SteerCounter::GuardWaits, 1);
            return Ok(());
        }
        if let Some(before) = self.home(place, at).filter(|before| *before != core) {
            let from = view.cores.tenancy(before).kthread();
            view.count_move(SteerCounter::MovedRule, mark, from, kthread);
        }
        match place {
            Some(place) => self.exceptions.set_core(place, core),
            None => self.add_exception(hash, at, core, view),
        }
        Ok(())
    }

    fn cause_of_loss(&self) -> SteerCounter {
        if self.strict {
            SteerCounter::MovedStrict
        } else {
            SteerCounter::MovedCoreLost
        }
    }

    /// The kthread on an exception's core; without the core, on its bucket's, which it
    /// keeps.
    fn by_exception<R: Rxqs>(
        &mut self,
        place: Place,
        at: usize,
        view: &mut View<'_, R>,
    ) -> Result<KthreadIdx, CoreId> {
        let core = self.exceptions.core(place);
        let kthread = match view.cores.tenancy(core) {
            Tenancy::Runs(kthread) | Tenancy::Relieved(kthread) => kthread,
            Tenancy::Free(_) if self.strict && view.may_wake => return Err(core),
            Tenancy::Free(from) => {
                let mark = self.mark(Some(place), at);
                let moved = view.counts.rare[SteerCounter::ChangedCore as usize];
                let kthread = self.buckets.steer(at, view)?;
                self.exceptions.set_core(place, view.cores.core_of(kthread));
                // Unless the bucket has just moved with this packet, which was counted.
                if moved == view.counts.rare[SteerCounter::ChangedCore as usize] {
                    view.count_move(self.cause_of_loss(), mark, from, kthread);
                }
                kthread
            }
        };
        self.exceptions.touch(place);
        view.counts.hits += 1;
        Ok(kthread)
    }

    /// The flow that was chosen to relieve its core sent a packet: it moves, unless
    /// that is not possible any more or the order guard forbids it.
    #[cold]
    fn move_heavy<R: Rxqs>(&mut self, hash: u32, at: usize, view: &mut View<'_, R>) {
        let Some(moving) = self.moving else { return };
        let place = self.find(hash);
        let (Some(from), Some(to)) = (
            view.cores.tenancy(moving.from).runs(),
            view.cores.tenancy(moving.to).runs(),
        ) else {
            self.moving = None;
            return;
        };
        if view.now > moving.until || self.home(place, at) != Some(moving.from) {
            self.moving = None;
            return;
        }
        let mark = self.mark(place, at);
        if mark.is_some_and(|m| m.is_pending(view.rxqs)) {
            view.counts.add(SteerCounter::GuardWaits, 1);
            return;
        }
        self.moving = None;
        match place {
            Some(place) => self.exceptions.set_core(place, moving.to),
            None => self.add_exception(hash, at, moving.to, view),
        }
        view.count_move(SteerCounter::MovedRelief, mark, Some(from), to);
    }

    fn add_exception<R: Rxqs>(
        &mut self,
        hash: u32,
        at: usize,
        core: CoreId,
        view: &mut View<'_, R>,
    ) {
        let key = self.exceptions.key(hash);
        let (marks, rxqs) = (&self.marks, std::cell::RefCell::new(&mut *view.rxqs));
        let busy = |place: Place| marks.is_pending(place.index(), *rxqs.borrow_mut());
        // SAFETY: every processor has the baseline.
        let inserted = unsafe { self.exceptions.insert::<Baseline>(key, core, busy) };
        view.counts.add(SteerCounter::Inserts, 1);
        if inserted.evicted.is_some() {
            view.counts.add(SteerCounter::Evictions, 1);
        }
        self.buckets.set_exceptions(at);
    }

    /// A core is gone.
    pub(super) fn lost(&mut self, cores: &mut CoreSet, core: CoreId) {
        self.buckets.homes.lost(cores, core);
        if self.moving.is_some_and(|m| m.from == core || m.to == core) {
            self.moving = None;
        }
    }

    /// A core was added because another stood still.
    pub(super) fn relieve(&mut self, cores: &mut CoreSet, from: CoreId, to: CoreId, now: Micros) {
        match self.sample.to_move(from, to, |hash| self.home_of(hash)) {
            Some(hash) => {
                self.moving = Some(Moving {
                    hash,
                    from,
                    to,
                    until: Micros(now.0 + RELIEF_SPAN.0),
                });
            }
            None => self.buckets.homes.relieve(cores, from, to, now),
        }
    }
}
