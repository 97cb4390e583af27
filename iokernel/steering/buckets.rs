//! 65,536 buckets of flows, each with a home core: an indirection table.
//!
//! ```text
//!   hash --mix--> upper 16 bits --> | 15 settled | 8 exceptions | 7 .. core .. 0 |
//! ```
//!
//! 128 KiB that stay in the second-level cache, and no insert: a bucket is there from
//! the start, and settles on a core with its first packet, each on the next in turn. A
//! core that is lost moves its own buckets only, a core that is added none, unless to
//! relieve another. Flows of a bucket move together.

use std::io;

use super::homes::Homes;
use super::order::{Mark, Marks, Rxqs};
use super::spec::{Affinity, SteeringSpec};
use super::table::mix;
use super::view::{Steered, View};
use crate::ids::{CoreId, KthreadIdx};
use crate::pages::Pages;

/// Buckets of a proc.
pub(super) const BUCKETS: usize = 1 << 16;
const SETTLED: u16 = 1 << 15;
const EXCEPTIONS: u16 = 1 << 8;
const CORE: u16 = 0xff;

/// The buckets of one proc.
#[derive(Debug)]
pub(super) struct Buckets {
    home: Pages<u16>,
    pub(super) homes: Homes,
    /// With the order guard: by bucket, where its newest packet went.
    marks: Marks,
}

/// The bucket of a hash.
#[inline(always)]
pub(super) fn bucket(hash: u32) -> usize {
    (mix(hash) >> 16) as usize
}

impl Buckets {
    pub(super) fn new(spec: &SteeringSpec, mut pause: impl FnMut()) -> io::Result<Buckets> {
        Ok(Buckets {
            home: Pages::zeroed(BUCKETS, &mut pause)?,
            homes: Homes::new(spec.affinity == Affinity::Strict),
            marks: Marks::new(spec.order_guard, BUCKETS, &mut pause)?,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.home.bytes() + self.marks.bytes()
    }

    /// The home of a bucket that has settled.
    #[inline]
    pub(super) fn home(&self, bucket: usize) -> Option<CoreId> {
        let word = self.home[bucket];
        (word & SETTLED != 0).then_some(CoreId(word & CORE))
    }

    /// Some flows of the bucket may have homes of their own.
    #[inline(always)]
    pub(super) fn has_exceptions(&self, bucket: usize) -> bool {
        self.home[bucket] & EXCEPTIONS != 0
    }

    /// A flow of the bucket gets a home of its own.
    pub(super) fn set_exceptions(&mut self, bucket: usize) {
        self.home[bucket] |= EXCEPTIONS;
    }

    /// Where the bucket's newest packet went; with the order guard.
    pub(super) fn mark(&self, bucket: usize) -> Option<Mark> {
        self.marks.get(bucket)
    }

    #[inline(always)]
    pub(super) fn steer_burst<R: Rxqs>(
        &mut self,
        hashes: &[u32],
        view: &mut View<'_, R>,
        out: &mut [KthreadIdx],
    ) -> Steered {
        for (i, (&hash, out)) in hashes.iter().zip(out).enumerate() {
            match self.steer(bucket(hash), view) {
                Ok(kthread) => *out = kthread,
                Err(core) => return Steered::Wants { steered: i, core },
            }
        }
        Steered::All
    }

    /// The kthread of a bucket; `Err` is a core to be woken.
    #[inline(always)]
    pub(super) fn steer<R: Rxqs>(
        &mut self,
        bucket: usize,
        view: &mut View<'_, R>,
    ) -> Result<KthreadIdx, CoreId> {
        let word = self.home[bucket];
        let plain = if word & SETTLED != 0 {
            view.cores.runs(CoreId(word & CORE))
        } else {
            None
        };
        let kthread = match plain {
            Some(kthread) => kthread,
            None => self.reconsider(bucket, view)?,
        };
        self.marks.set_next(bucket, kthread, view.rxqs);
        Ok(kthread)
    }

    #[cold]
    fn reconsider<R: Rxqs>(
        &mut self,
        bucket: usize,
        view: &mut View<'_, R>,
    ) -> Result<KthreadIdx, CoreId> {
        let Some(home) = self.home(bucket) else {
            let (core, kthread) = self.homes.settle(view.cores);
            self.set_home(bucket, core);
            return Ok(kthread);
        };
        let mark = self.mark(bucket);
        #[allow(clippy::cast_possible_truncation, reason = "below 65,536")]
        let key = bucket as u32;
        let verdict = view.judge(&mut self.homes, home, key, mark);
        view.carry_out(verdict, mark, |to| {
            self.homes.moved(home, to);
            self.set_home(bucket, to);
        })
    }

    fn set_home(&mut self, bucket: usize, core: CoreId) {
        let word = &mut self.home[bucket];
        *word = *word & EXCEPTIONS | SETTLED | core.0 & CORE;
    }
}
