//! The paper's policy: each flow has a home core of its own (`hash_to_core`).
//!
//! One lookup-or-insert in the [`table`](super::table) a packet. With the order guard a
//! second array says where each flow's newest packet was queued ([`Mark`]): one more
//! cache line, and no packet of a flow can overtake another while both kthreads run.
//!
//! *Source:* paper, sections 3 and 4. Where listing 3 differs from the text (it takes
//! the lookup's position for the stored core, begins its round robin at 1, and asks
//! for a core on every packet) the text is followed.

#![allow(unsafe_code, reason = "code for the processor's own vectors")]

use std::io;

use super::ahead::Ahead;
use super::homes::Homes;
use super::order::{Marks, Rxqs};
use super::spec::{Affinity, SteeringSpec};
#[cfg(target_arch = "x86_64")]
use super::table::{Avx2, Avx512};
use super::table::{Baseline, FlowTable, GROUP, Isa, Key, Place, Vectors, mix};
use super::view::{Steered, View};
use crate::ids::{CoreId, KthreadIdx, Micros};
use crate::stats::SteerCounter;

/// The flows of one proc.
#[derive(Debug)]
pub(super) struct FlowSteering {
    table: FlowTable,
    pub(super) homes: Homes,
    /// With the order guard: by place in the table, where the newest packet went.
    marks: Marks,
    /// What was looked up before is no longer so.
    stale: bool,
}

impl FlowSteering {
    pub(super) fn new(spec: &SteeringSpec, mut pause: impl FnMut()) -> io::Result<FlowSteering> {
        let table = FlowTable::new(spec.flow_entries, spec.flow_idle, &mut pause)?;
        let marks = Marks::new(spec.order_guard, table.slots(), &mut pause)?;
        Ok(FlowSteering {
            table,
            homes: Homes::new(spec.affinity == Affinity::Strict),
            marks,
            stale: false,
        })
    }

    pub(super) fn flows(&self) -> usize {
        self.table.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes() + self.marks.bytes()
    }

    /// The home of a flow that has one.
    pub(super) fn home(&self, hash: u32) -> Option<CoreId> {
        // SAFETY: every processor has the baseline.
        let place = unsafe { self.table.find::<Baseline>(self.table.key(hash)) };
        place.map(|place| self.table.core(place))
    }

    #[cfg(test)]
    pub(super) fn use_vectors(&mut self, vectors: Vectors) {
        self.table.use_vectors(vectors);
    }

    pub(super) fn ahead(&self) -> Ahead {
        Ahead::flows(&self.table, &self.marks)
    }

    /// Lets idle flows grow older. The number of those that were forgotten.
    #[inline]
    pub(super) fn sweep(&mut self, now: Micros) -> u32 {
        let mut gone = 0;
        let homes = &mut self.homes;
        self.table.sweep(now, |core| {
            homes.forget(core);
            gone += 1;
        });
        gone
    }

    #[inline]
    pub(super) fn steer_burst<R: Rxqs>(
        &mut self,
        hashes: &[u32],
        view: &mut View<'_, R>,
        out: &mut [KthreadIdx],
    ) -> Steered {
        match self.table.vectors() {
            // SAFETY: every processor has the baseline.
            Vectors::Baseline => unsafe { self.steer::<Baseline, R>(hashes, view, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the table uses available vectors only.
            Vectors::Avx2 => unsafe { self.steer_avx2(hashes, view, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the table uses available vectors only.
            Vectors::Avx512 => unsafe { self.steer_avx512(hashes, view, out) },
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn steer_avx2<R: Rxqs>(
        &mut self,
        hashes: &[u32],
        view: &mut View<'_, R>,
        out: &mut [KthreadIdx],
    ) -> Steered {
        // SAFETY: the feature is enabled here.
        unsafe { self.steer::<Avx2, R>(hashes, view, out) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn steer_avx512<R: Rxqs>(
        &mut self,
        hashes: &[u32],
        view: &mut View<'_, R>,
        out: &mut [KthreadIdx],
    ) -> Steered {
        // SAFETY: the feature is enabled here.
        unsafe { self.steer::<Avx512, R>(hashes, view, out) }
    }

    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn steer<I: Isa, R: Rxqs>(
        &mut self,
        hashes: &[u32],
        view: &mut View<'_, R>,
        out: &mut [KthreadIdx],
    ) -> Steered {
        let (groups, _) = hashes.as_chunks();
        let mut at = 0;
        // With the order guard each packet changes something: none is looked up ahead.
        if !self.marks.are_kept() {
            for (group, out) in groups.iter().zip(out.as_chunks_mut().0) {
                // SAFETY: the caller's promise.
                if let Err((i, core)) = unsafe { self.steer_group::<I, R>(group, view, out) } {
                    let steered = at + i;
                    return Steered::Wants { steered, core };
                }
                at += GROUP;
            }
        }
        for (i, (&hash, out)) in hashes.iter().zip(out).enumerate().skip(at) {
            let key = self.table.key(hash);
            // SAFETY: the caller's promise.
            match unsafe { self.steer_one::<I, R>(hash, key, view) } {
                Ok(kthread) => *out = kthread,
                Err(core) => return Steered::Wants { steered: i, core },
            }
        }
        Steered::All
    }

    /// Several packets: all are looked up first, and what is plain is done then. A flow
    /// that moves or is forgotten makes what was looked up stale: packets behind it are
    /// looked up again, one by one.
    ///
    /// # Errors
    /// The packet, and the core to be woken for it.
    ///
    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn steer_group<I: Isa, R: Rxqs>(
        &mut self,
        hashes: &[u32; GROUP],
        view: &mut View<'_, R>,
        out: &mut [KthreadIdx; GROUP],
    ) -> Result<(), (usize, CoreId)> {
        // SAFETY: the caller's promise.
        let group = unsafe { self.table.group::<I>(hashes) };
        if group.is_plain()
            && let Some(kthreads) = view.cores.run_all(group.cores())
        {
            *out = kthreads;
            #[allow(clippy::cast_possible_truncation, reason = "eight")]
            let hits = GROUP as u32;
            view.counts.hits += hits;
            return Ok(());
        }
        self.stale = false;
        for (i, (&hash, out)) in hashes.iter().zip(out).enumerate() {
            let core = group.core(i).filter(|_| !self.stale);
            if let Some(kthread) = core.and_then(|core| view.cores.runs(core)) {
                *out = kthread;
                view.counts.hits += 1;
                continue;
            }
            // SAFETY: the caller's promise.
            *out = unsafe { self.steer_one::<I, R>(hash, group.keys[i], view) }
                .map_err(|core| (i, core))?;
        }
        Ok(())
    }

    /// One packet; `Err` is a core to be woken for it.
    ///
    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn steer_one<I: Isa, R: Rxqs>(
        &mut self,
        hash: u32,
        key: Key,
        view: &mut View<'_, R>,
    ) -> Result<KthreadIdx, CoreId> {
        // SAFETY: the caller's promise.
        let (place, kthread) = if let Some(place) = unsafe { self.table.find::<I>(key) } {
            self.table.touch(place);
            let kthread = match view.cores.runs(self.table.core(place)) {
                Some(kthread) => kthread,
                None => self.reconsider(hash, place, view)?,
            };
            view.counts.hits += 1;
            (place, kthread)
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.welcome::<I, R>(key, view) }
        };
        self.marks.set_next(place.index(), kthread, view.rxqs);
        Ok(kthread)
    }

    /// A new flow, or one that was forgotten.
    ///
    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn welcome<I: Isa, R: Rxqs>(
        &mut self,
        key: Key,
        view: &mut View<'_, R>,
    ) -> (Place, KthreadIdx) {
        let (core, kthread) = self.homes.settle(view.cores);
        let rxqs = std::cell::RefCell::new(&mut *view.rxqs);
        let marks = &self.marks;
        let busy = |place: Place| marks.is_pending(place.index(), *rxqs.borrow_mut());
        // SAFETY: the caller's promise.
        let inserted = unsafe { self.table.insert::<I>(key, core, busy) };
        if let Some(evicted) = inserted.evicted {
            self.stale = true;
            self.homes.forget(evicted);
            view.counts.add(SteerCounter::Evictions, 1);
        }
        view.counts.add(SteerCounter::Inserts, 1);
        (inserted.place, kthread)
    }

    /// The flow's home is not plainly there.
    #[cold]
    fn reconsider<R: Rxqs>(
        &mut self,
        hash: u32,
        place: Place,
        view: &mut View<'_, R>,
    ) -> Result<KthreadIdx, CoreId> {
        let home = self.table.core(place);
        let mark = self.marks.get(place.index());
        let verdict = view.judge(&mut self.homes, home, mix(hash), mark);
        view.carry_out(verdict, mark, |to| {
            self.stale = true;
            self.homes.moved(home, to);
            self.table.set_core(place, to);
        })
    }
}
