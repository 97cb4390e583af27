//! A kthread's progress words, written by the runtime.

#![allow(unsafe_code, reason = "reads shared words")]

use std::ptr::NonNull;

use super::shm::{ShmError, ShmPtr, ShmRegion};
use super::sync::{AtomicU32, Ordering};

/// View of one `q_ptrs`: three words of which the runtime is the only writer.
#[derive(Debug)]
pub struct QPtrs {
    words: NonNull<[AtomicU32; 3]>,
}

// SAFETY: points into a ShmRegion, which is Send; access is atomic.
unsafe impl Send for QPtrs {}

impl QPtrs {
    /// The view at `at`. It must not outlive `region`.
    ///
    /// # Errors
    /// [`ShmError`] when it would leave the region or is unaligned.
    pub fn new(region: &ShmRegion, at: ShmPtr) -> Result<QPtrs, ShmError> {
        Ok(QPtrs {
            words: region.array(at, 1)?,
        })
    }

    /// Uthreads ever queued to run. May be stale by the time it is used.
    #[inline]
    pub fn rq_head(&self) -> u32 {
        self.word(1).load(Ordering::Relaxed)
    }

    /// Uthreads ever taken off the run queue.
    ///
    /// Acquire: pairs with the release store in the runtime's scheduler
    /// (C: runtime/sched.c), so that a head read later is not older.
    #[inline]
    pub fn rq_tail(&self) -> u32 {
        self.word(2).load(Ordering::Acquire)
    }

    #[inline]
    fn word(&self, i: usize) -> &AtomicU32 {
        // SAFETY: new() checked bounds and alignment; shared words are only ever atomics.
        unsafe { &self.words.as_ref()[i] }
    }
}
