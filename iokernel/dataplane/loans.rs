//! Who holds which ingress buffer.
//!
//! A runtime gets, with each received packet, a *tag*: the buffer's index and
//! the generation of the loan. It gives the tag back when it is done. Tags are
//! never pointers: whatever a runtime returns is looked up here, and a tag that
//! was not lent to it, or was returned before, is its fault and changes nothing.
//!
//! ```text
//!   tag: | 63 .. generation .. 32 | 31 .. buffer .. 0 |
//! ```
//!
//! A broadcast is lent to several runtimes at once: to a *group*, one bit for
//! each slot of the table of runtimes. Every buffer has a group of its own, so
//! broadcasts that runtimes keep can take buffers but not the means to lend more
//! (16 MiB of address space; its pages are touched only by broadcasts).
//!
//! Invariants: a buffer is released exactly once for each loan; a record's
//! generation changes with every loan, so an old tag fits no later one (until
//! 2^32 loans of the same buffer have passed).

use crate::abi::ingress::INGRESS_BUFS;
use crate::ids::{BufIdx, ProcSlot};

/// Runtimes that may be attached. C: `IOKERNEL_MAX_PROC`.
pub const MAX_PROCS: usize = crate::abi::types::IOKERNEL_MAX_PROC as usize;
const WORDS: usize = MAX_PROCS / 64;

/// Who holds a buffer: a slot, or one of these.
const NOBODY: u16 = u16::MAX;
const GROUP: u16 = u16::MAX - 1;

#[derive(Debug, Clone, Copy)]
struct Record {
    generation: u32,
    holder: u16,
    /// Members of the buffer's group.
    members: u16,
}

/// The slots that hold a broadcast; all zeros while none does.
type Group = [u64; WORDS];

/// What became of a returned tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// The last holder returned it: the buffer is free.
    Free(BufIdx),
    /// Others still hold the broadcast.
    Shared,
    /// Not lent to this runtime: its fault.
    Bad,
}

/// The records of all ingress buffers, in private memory.
#[derive(Debug)]
pub struct Loans {
    records: Box<[Record]>,
    groups: Box<[Group]>,
    /// Buffers that are lent, a broadcast counted once.
    lent: u32,
}

impl Default for Loans {
    fn default() -> Self {
        let record = Record {
            generation: 0,
            holder: NOBODY,
            members: 0,
        };
        Loans {
            records: vec![record; INGRESS_BUFS as usize].into_boxed_slice(),
            groups: vec![[0; WORDS]; INGRESS_BUFS as usize].into_boxed_slice(),
            lent: 0,
        }
    }
}

impl Loans {
    /// Asks the cache for a buffer's record.
    #[inline]
    pub fn prefetch(&self, buf: BufIdx) {
        if let Some(r) = self.records.get(buf.index()) {
            crate::hint::prefetch_write(r);
        }
    }

    /// Buffers that are lent to anybody.
    #[inline]
    pub fn lent(&self) -> u32 {
        self.lent
    }

    /// Lends a free buffer to one runtime; returns the tag.
    #[inline]
    pub fn lend(&mut self, buf: BufIdx, slot: ProcSlot) -> u64 {
        self.lent += 1;
        let record = &mut self.records[buf.index()];
        debug_assert_eq!(record.holder, NOBODY, "the port gave out a buffer twice");
        record.generation = record.generation.wrapping_add(1);
        record.holder = slot.0;
        tag(buf, record.generation)
    }

    /// Opens a loan to several runtimes, as yet to none; returns its tag.
    pub fn open_group(&mut self, buf: BufIdx) -> u64 {
        self.lent += 1;
        let record = &mut self.records[buf.index()];
        debug_assert_eq!(record.holder, NOBODY, "the port gave out a buffer twice");
        record.generation = record.generation.wrapping_add(1);
        record.holder = GROUP;
        tag(buf, record.generation)
    }

    /// Adds one runtime to an open group; once for each.
    pub fn join_group(&mut self, buf: BufIdx, slot: ProcSlot) {
        let record = &mut self.records[buf.index()];
        assert_eq!(record.holder, GROUP, "join_group follows open_group");
        self.groups[buf.index()][slot.index() / 64] |= 1 << (slot.index() % 64);
        record.members += 1;
    }

    /// Ends the opening. True if nobody joined: the buffer is free again.
    pub fn close_group(&mut self, buf: BufIdx) -> bool {
        let record = &mut self.records[buf.index()];
        let empty = record.members == 0;
        if empty {
            record.holder = NOBODY;
            self.lent -= 1;
        }
        empty
    }

    /// A runtime returns a tag.
    #[inline]
    pub fn take_back(&mut self, tag: u64, slot: ProcSlot) -> Returned {
        #[allow(clippy::cast_possible_truncation, reason = "the tag's two halves")]
        let (buf, generation) = (BufIdx(tag as u32), (tag >> 32) as u32);
        match self.records.get(buf.index()) {
            Some(record) if record.generation == generation => self.reclaim(buf, slot),
            _ => Returned::Bad,
        }
    }

    /// Takes back what `slot` holds of buffer `buf`, whatever the tag: for a
    /// departure, and for a tag that was checked.
    #[inline]
    pub fn reclaim(&mut self, buf: BufIdx, slot: ProcSlot) -> Returned {
        let record = &mut self.records[buf.index()];
        if record.holder == slot.0 {
            record.holder = NOBODY;
            self.lent -= 1;
            return Returned::Free(buf);
        }
        if record.holder == GROUP {
            return self.leave_group(buf, slot);
        }
        Returned::Bad
    }

    #[cold]
    fn leave_group(&mut self, buf: BufIdx, slot: ProcSlot) -> Returned {
        let record = &mut self.records[buf.index()];
        let group = &mut self.groups[buf.index()];
        let (word, bit) = (slot.index() / 64, 1_u64 << (slot.index() % 64));
        if group[word] & bit == 0 {
            return Returned::Bad;
        }
        group[word] &= !bit;
        record.members -= 1;
        if record.members > 0 {
            return Returned::Shared;
        }
        record.holder = NOBODY;
        self.lent -= 1;
        Returned::Free(buf)
    }
}

#[inline]
fn tag(buf: BufIdx, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(buf.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProcSlot = ProcSlot(3);
    const B: ProcSlot = ProcSlot(1000);
    const BUF: BufIdx = BufIdx(77);

    #[test]
    fn a_tag_is_good_once_and_for_its_borrower() {
        let mut loans = Loans::default();
        let tag = loans.lend(BUF, A);
        assert_eq!(loans.take_back(tag, B), Returned::Bad);
        assert_eq!(loans.take_back(tag, A), Returned::Free(BUF));
        assert_eq!(loans.take_back(tag, A), Returned::Bad);
    }

    #[test]
    fn an_old_tag_does_not_fit_a_later_loan() {
        let mut loans = Loans::default();
        let old = loans.lend(BUF, A);
        assert_eq!(loans.take_back(old, A), Returned::Free(BUF));
        let new = loans.lend(BUF, A);
        assert_eq!(loans.take_back(old, A), Returned::Bad);
        assert_eq!(loans.take_back(new, A), Returned::Free(BUF));
    }

    #[test]
    fn made_up_tags_are_bad() {
        let mut loans = Loans::default();
        for tag in [
            0,
            1,
            u64::MAX,
            u64::from(INGRESS_BUFS),
            0x7f00_dead_beef_0000,
        ] {
            assert_eq!(loans.take_back(tag, A), Returned::Bad, "{tag:#x}");
        }
    }

    #[test]
    fn a_broadcast_is_free_when_its_last_holder_returns_it() {
        let mut loans = Loans::default();
        let tag = loans.open_group(BUF);
        loans.join_group(BUF, A);
        loans.join_group(BUF, B);
        assert!(!loans.close_group(BUF));
        assert_eq!(loans.take_back(tag, A), Returned::Shared);
        assert_eq!(loans.take_back(tag, A), Returned::Bad);
        assert_eq!(loans.take_back(tag, B), Returned::Free(BUF));
        loans.lend(BUF, A);
    }

    #[test]
    fn a_broadcast_that_nobody_took_is_free_at_once() {
        let mut loans = Loans::default();
        loans.open_group(BUF);
        assert!(loans.close_group(BUF));
        assert_eq!(loans.lent(), 0);
        loans.lend(BUF, A);
    }

    #[test]
    fn every_buffer_can_be_a_broadcast_at_the_same_time() {
        let mut loans = Loans::default();
        for buf in (0..INGRESS_BUFS).map(BufIdx) {
            loans.open_group(buf);
            loans.join_group(buf, A);
        }
        for buf in (0..INGRESS_BUFS).map(BufIdx) {
            assert_eq!(loans.reclaim(buf, B), Returned::Bad);
            assert_eq!(loans.reclaim(buf, A), Returned::Free(buf));
        }
    }

    #[test]
    fn departure_takes_back_only_what_the_departed_held() {
        let mut loans = Loans::default();
        loans.lend(BufIdx(1), A);
        let kept = loans.lend(BufIdx(2), B);
        let shared = loans.open_group(BufIdx(3));
        loans.join_group(BufIdx(3), A);
        loans.join_group(BufIdx(3), B);
        assert_eq!(loans.lent(), 3);
        let freed: Vec<_> = (0..INGRESS_BUFS)
            .filter(|i| loans.reclaim(BufIdx(*i), A) == Returned::Free(BufIdx(*i)))
            .collect();
        assert_eq!(freed, [1]);
        assert_eq!(loans.take_back(kept, B), Returned::Free(BufIdx(2)));
        assert_eq!(loans.take_back(shared, B), Returned::Free(BufIdx(3)));
        assert_eq!(loans.lent(), 0);
    }
}
