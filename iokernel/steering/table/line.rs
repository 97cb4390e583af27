//! One cache line of sixteen entries.
//!
//! ```text
//!   line:   | entry 0 | entry 1 | ... | entry 15 |          64 bytes
//!   entry:  | tag 31..13 | guest 12 | valid 11 | core 10..3 | age 2..0 |
//! ```
//!
//! The tag is what of the mixed key the line's number does not tell. A *guest* is at home
//! in another line, which was full. An entry that is not in use is not valid, and zero if
//! it never was. The first free one is taken, so a line that ends with a zero was never
//! full.

#![allow(unsafe_code, reason = "says what zeroed memory is")]

use crate::pages::Zero;

/// Entries in a line.
pub(super) const WAYS: usize = LINE as usize;
/// The same, where bits and places are counted.
pub(super) const LINE: u32 = 16;

/// Bits of an entry's tag.
pub(super) const TAG_BITS: u32 = 19;
const TAG_SHIFT: u32 = 13;
const GUEST: u32 = 1 << 12;
pub(super) const VALID: u32 = 1 << 11;
pub(super) const CORE_SHIFT: u32 = 3;
pub(super) const CORE_MASK: u32 = 0xff << CORE_SHIFT;
const AGE_MASK: u32 = 0x7;
/// What of an entry says whose it is.
pub(super) const WHOSE: u32 = !(CORE_MASK | AGE_MASK);
/// The greatest age.
pub(super) const AGE_MAX: u32 = AGE_MASK;

/// One entry: a flow's tag, its home core, and how long it has been idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u32);

/// A tag in its place, with the valid bit: what [`find`](super::vectors::Isa::find) looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::steering) struct Wanted(pub(super) u32);

impl Wanted {
    #[inline(always)]
    pub(super) fn new(tag: u32) -> Wanted {
        Wanted(tag << TAG_SHIFT | VALID)
    }

    /// The same flow as a guest of another line.
    #[inline(always)]
    pub(super) fn as_guest(self) -> Wanted {
        Wanted(self.0 | GUEST)
    }

    /// The tag.
    #[inline(always)]
    pub(super) fn tag(self) -> u32 {
        self.0 >> TAG_SHIFT
    }

    /// The fresh entry of that flow.
    #[inline(always)]
    pub(super) fn entry(self, core: u8) -> Entry {
        Entry(self.0 | u32::from(core) << CORE_SHIFT)
    }
}

impl Entry {
    /// Never used.
    pub(super) const NEW: Entry = Entry(0);
    /// Used before.
    pub(super) const FREED: Entry = Entry(1);

    #[inline(always)]
    pub(super) fn is_guest(self) -> bool {
        self.0 & GUEST != 0
    }

    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.0 & VALID == 0
    }

    #[inline(always)]
    pub(super) fn core(self) -> u8 {
        #[allow(clippy::cast_possible_truncation, reason = "masked to 8 bits")]
        let core = ((self.0 & CORE_MASK) >> CORE_SHIFT) as u8;
        core
    }

    #[inline(always)]
    pub(super) fn age(self) -> u32 {
        self.0 & AGE_MASK
    }

    pub(super) fn with_core(self, core: u8) -> Entry {
        Entry(self.0 & !CORE_MASK | u32::from(core) << CORE_SHIFT)
    }

    #[inline(always)]
    pub(super) fn fresh(self) -> Entry {
        Entry(self.0 & !AGE_MASK)
    }

    /// One step older, up to `limit`.
    #[inline(always)]
    pub(super) fn older(self, limit: u32) -> Entry {
        Entry(self.0 + u32::from(self.age() < limit))
    }
}

/// Sixteen entries.
#[repr(align(64))]
#[derive(Debug, Clone, Copy)]
pub(in crate::steering) struct Line(pub(super) [u32; WAYS]);

// SAFETY: an array of integers, aligned to less than a page.
unsafe impl Zero for Line {}

impl Line {
    /// True if it may once have been full. The last entry is taken only when all others
    /// are in use.
    #[inline(always)]
    pub(super) fn was_full(&self) -> bool {
        self.0[WAYS - 1] != Entry::NEW.0
    }

    #[inline(always)]
    pub(super) fn entry(&self, way: usize) -> Entry {
        Entry(self.0[way % WAYS])
    }

    #[inline(always)]
    pub(super) fn set(&mut self, way: usize, entry: Entry) {
        self.0[way % WAYS] = entry.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_its_parts_apart() {
        let want = Wanted::new((1 << TAG_BITS) - 1);
        let entry = want.entry(0xa5);
        assert!(!entry.is_empty() && Entry(0).is_empty());
        assert_eq!((entry.core(), entry.age()), (0xa5, 0));
        let old = (0..9).fold(entry, |e, _| e.older(AGE_MAX));
        assert_eq!((old.core(), old.age()), (0xa5, AGE_MAX));
        assert_eq!(old.older(3).age(), AGE_MAX, "never younger");
        assert_eq!(old.fresh(), entry);
        assert_eq!(old.with_core(7).core(), 7);
        assert_eq!(old.with_core(7).with_core(0xa5), old);
    }
}
