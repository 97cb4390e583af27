//! Egress buffers: who has which.
//!
//! A buffer is free (in the pool, or in a kthread's cache), in a kthread's hands,
//! or under way. Each way has a *tag*, its `completion_data`: a generation and the
//! buffer's number. A completion that names no way of now is the I/O kernel's
//! fault; it is counted and nothing is freed by it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buffers that go between the pool and a cache at once.
const BATCH: usize = 32;

/// All buffers of the process.
#[derive(Debug)]
pub(crate) struct Egress {
    /// By buffer: the tag of its way, 0 when it is not under way.
    ways: Box<[AtomicU64]>,
    pool: Mutex<Vec<u32>>,
}

/// A kthread's own free buffers, and the generation of the next way.
#[derive(Debug)]
pub(crate) struct Cache {
    free: Vec<u32>,
    generation: u32,
}

impl Egress {
    /// `count` buffers, all free.
    pub(crate) fn new(count: u32) -> Egress {
        Egress {
            ways: (0..count).map(|_| AtomicU64::new(0)).collect(),
            pool: Mutex::new((0..count).rev().collect()),
        }
    }

    fn pool(&self) -> MutexGuard<'_, Vec<u32>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a free buffer.
    #[inline]
    pub(crate) fn take(&self, cache: &mut Cache) -> Option<u32> {
        if cache.free.is_empty() {
            let mut pool = self.pool();
            let from = pool.len().saturating_sub(BATCH);
            cache.free.extend(pool.drain(from..));
        }
        cache.free.pop()
    }

    /// Gives a buffer back that is in the caller's hands.
    #[inline]
    pub(crate) fn give(&self, cache: &mut Cache, buf: u32) {
        cache.free.push(buf);
        if cache.free.len() >= 2 * BATCH {
            self.pool().extend(cache.free.drain(..BATCH));
        }
    }

    /// Gives a whole cache back, so that others are not short of it.
    pub(crate) fn empty(&self, cache: &mut Cache) {
        if !cache.free.is_empty() {
            self.pool().append(&mut cache.free);
        }
    }

    /// Puts a buffer under way; returns the tag.
    #[inline]
    pub(crate) fn depart(&self, cache: &mut Cache, buf: u32) -> u64 {
        cache.generation = cache.generation.wrapping_add(1).max(1);
        let tag = u64::from(cache.generation) << 32 | u64::from(buf);
        // Relaxed: the completion can only follow the message, which is sent with release order.
        self.ways[buf as usize].store(tag, Ordering::Relaxed);
        tag
    }

    /// A way that did not come about: the buffer is in the caller's hands again.
    pub(crate) fn stay(&self, buf: u32) {
        self.ways[buf as usize].store(0, Ordering::Relaxed);
    }

    /// A completion: the buffer, if the tag is one of now.
    #[inline]
    pub(crate) fn arrive(&self, tag: u64) -> Option<u32> {
        #[allow(clippy::cast_possible_truncation, reason = "the lower half of a tag")]
        let buf = tag as u32;
        let way = self.ways.get(buf as usize)?;
        // Relaxed: one winner is all that is asked for. What was written to the buffer is the
        // sender's, and it is written anew before it is sent again.
        way.compare_exchange(tag, 0, Ordering::Relaxed, Ordering::Relaxed)
            .ok()
            .filter(|&was| was != 0)
            .map(|_| buf)
    }

    /// Buffers under way.
    #[cfg(test)]
    fn under_way(&self) -> usize {
        let ways = self.ways.iter();
        ways.filter(|way| way.load(Ordering::Relaxed) != 0).count()
    }
}

impl Cache {
    /// An empty cache. Generations of different kthreads need not differ: a buffer
    /// under way is one kthread's.
    pub(crate) fn new() -> Cache {
        Cache {
            free: Vec::with_capacity(2 * BATCH + 1),
            generation: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_is_taken_once_and_comes_back() {
        let e = Egress::new(100);
        let mut c = Cache::new();
        let mut all: Vec<_> = std::iter::from_fn(|| e.take(&mut c)).collect();
        let tags: Vec<_> = all.iter().map(|&buf| e.depart(&mut c, buf)).collect();
        assert_eq!(e.under_way(), 100);
        for (tag, buf) in tags.iter().zip(&all) {
            assert_eq!(e.arrive(*tag), Some(*buf));
            e.give(&mut c, *buf);
        }
        assert_eq!(e.under_way(), 0);
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        e.empty(&mut c);
        assert_eq!(e.pool().len(), 100);
    }

    #[test]
    fn a_completion_counts_once_and_only_for_this_way() {
        let e = Egress::new(2);
        let mut c = Cache::new();
        let buf = e.take(&mut c).unwrap();
        let first = e.depart(&mut c, buf);
        assert_eq!(e.arrive(first + 1), None, "another buffer");
        assert_eq!(e.arrive(first), Some(buf));
        assert_eq!(e.arrive(first), None, "twice");
        let second = e.depart(&mut c, buf);
        assert_eq!(e.arrive(first), None, "of an earlier way");
        for tag in [0, u64::MAX, 7] {
            assert_eq!(e.arrive(tag), None, "{tag:#x}");
        }
        assert_eq!(e.arrive(second), Some(buf));
    }
}
