//! One cache line of sixteen entries, and finding an entry in it.
//!
//! ```text
//!   line:   | entry 0 | entry 1 | ... | entry 15 |          64 bytes
//!   entry:  | tag 31..12 | valid 11 | core 10..3 | age 2..0 |
//! ```
//!
//! The tag is what of the mixed key the line's number does not tell. An empty entry
//! is zero. All sixteen are compared at once, with whatever vectors the processor
//! has: one comparison with AVX-512, two with AVX2, four with SSE2.

#![allow(unsafe_code, reason = "vector intrinsics")]

use crate::pages::Zero;

/// Entries in a line.
pub(super) const WAYS: usize = 16;

/// Bits of an entry's tag.
pub(super) const TAG_BITS: u32 = 20;
const TAG_SHIFT: u32 = 12;
const VALID: u32 = 1 << 11;
const CORE_SHIFT: u32 = 3;
const CORE_MASK: u32 = 0xff << CORE_SHIFT;
const AGE_MASK: u32 = 0x7;
/// What of an entry says whose it is.
const WHOSE: u32 = !(CORE_MASK | AGE_MASK);
/// The greatest age.
pub(super) const AGE_MAX: u32 = AGE_MASK;

/// One entry: a flow's tag, its home core, and how long it has been idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u32);

/// A tag in its place, with the valid bit: what [`find`](Isa::find) looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::steering) struct Wanted(u32);

impl Wanted {
    #[inline(always)]
    pub(super) fn new(tag: u32) -> Wanted {
        Wanted(tag << TAG_SHIFT | VALID)
    }

    /// The fresh entry of that flow.
    #[inline(always)]
    pub(super) fn entry(self, core: u8) -> Entry {
        Entry(self.0 | u32::from(core) << CORE_SHIFT)
    }
}

impl Entry {
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
    #[inline(always)]
    pub(super) fn entry(&self, way: usize) -> Entry {
        Entry(self.0[way % WAYS])
    }

    #[inline(always)]
    pub(super) fn set(&mut self, way: usize, entry: Entry) {
        self.0[way % WAYS] = entry.0;
    }
}

/// Vectors to compare with.
///
/// # Safety
/// [`find`](Isa::find) may be called only on a processor that has them.
pub(in crate::steering) unsafe trait Isa {
    /// A bit for each entry that is `want`ed: none, or one.
    ///
    /// # Safety
    /// The processor has this instruction set.
    unsafe fn find(line: &Line, want: Wanted) -> u32;

    /// A bit for each empty entry.
    ///
    /// # Safety
    /// As for [`find`](Isa::find).
    unsafe fn empty(line: &Line) -> u32;
}

/// What every x86-64 processor has; on others, plain code.
#[derive(Debug)]
pub(in crate::steering) struct Baseline;
/// 32-byte vectors.
#[cfg(target_arch = "x86_64")]
#[derive(Debug)]
pub(in crate::steering) struct Avx2;
/// 64-byte vectors.
#[cfg(target_arch = "x86_64")]
#[derive(Debug)]
pub(in crate::steering) struct Avx512;

#[cfg(not(target_arch = "x86_64"))]
fn compare(line: &Line, mask: u32, want: u32) -> u32 {
    (0..WAYS).fold(0, |bits, way| {
        bits | u32::from(line.0[way] & mask == want) << way
    })
}

// SAFETY: no requirement.
#[cfg(not(target_arch = "x86_64"))]
unsafe impl Isa for Baseline {
    #[inline(always)]
    unsafe fn find(line: &Line, want: Wanted) -> u32 {
        compare(line, WHOSE, want.0)
    }

    #[inline(always)]
    unsafe fn empty(line: &Line) -> u32 {
        compare(line, VALID, 0)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Avx2, Avx512, Baseline, Isa, Line, VALID, WHOSE, Wanted};
    use std::arch::x86_64::*;

    #[allow(clippy::cast_possible_wrap, reason = "the same bits")]
    #[inline(always)]
    fn bits(v: u32) -> i32 {
        v as i32
    }

    #[allow(clippy::cast_sign_loss, reason = "a mask of bits")]
    #[inline(always)]
    fn mask(v: i32) -> u32 {
        v as u32
    }

    #[inline(always)]
    fn sse2(line: &Line, of: u32, want: u32) -> u32 {
        // SAFETY: SSE2 is part of x86-64; a line is 64 bytes, aligned to 64.
        unsafe {
            let at = line.0.as_ptr().cast::<__m128i>();
            let (of, want) = (_mm_set1_epi32(bits(of)), _mm_set1_epi32(bits(want)));
            let quarter = |i| _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(at.add(i)), of), want);
            // Sixteen comparisons of 32 bits, narrowed to bytes: one bit each.
            let low = _mm_packs_epi32(quarter(0), quarter(1));
            let high = _mm_packs_epi32(quarter(2), quarter(3));
            mask(_mm_movemask_epi8(_mm_packs_epi16(low, high)))
        }
    }

    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn avx2(line: &Line, of: u32, want: u32) -> u32 {
        // SAFETY: the caller's promise; a line is 64 bytes, aligned to 64.
        unsafe {
            let at = line.0.as_ptr().cast::<__m256i>();
            let (of, want) = (_mm256_set1_epi32(bits(of)), _mm256_set1_epi32(bits(want)));
            let half = |i| {
                let v = _mm256_and_si256(_mm256_load_si256(at.add(i)), of);
                let equal = _mm256_castsi256_ps(_mm256_cmpeq_epi32(v, want));
                mask(_mm256_movemask_ps(equal))
            };
            half(0) | half(1) << 8
        }
    }

    /// # Safety
    /// The processor has AVX-512F.
    #[inline(always)]
    unsafe fn avx512(line: &Line, of: u32, want: u32) -> u32 {
        // SAFETY: the caller's promise; a line is 64 bytes, aligned to 64.
        unsafe {
            let v = _mm512_load_si512(line.0.as_ptr().cast());
            let v = _mm512_and_si512(v, _mm512_set1_epi32(bits(of)));
            u32::from(_mm512_cmpeq_epi32_mask(v, _mm512_set1_epi32(bits(want))))
        }
    }

    // SAFETY: no requirement beyond x86-64.
    unsafe impl Isa for Baseline {
        #[inline(always)]
        unsafe fn find(line: &Line, want: Wanted) -> u32 {
            sse2(line, WHOSE, want.0)
        }

        #[inline(always)]
        unsafe fn empty(line: &Line) -> u32 {
            sse2(line, VALID, 0)
        }
    }

    // SAFETY: AVX2, as the methods say.
    unsafe impl Isa for Avx2 {
        #[inline(always)]
        unsafe fn find(line: &Line, want: Wanted) -> u32 {
            // SAFETY: the caller's promise.
            unsafe { avx2(line, WHOSE, want.0) }
        }

        #[inline(always)]
        unsafe fn empty(line: &Line) -> u32 {
            // SAFETY: the caller's promise.
            unsafe { avx2(line, VALID, 0) }
        }
    }

    // SAFETY: AVX-512F, as the methods say.
    unsafe impl Isa for Avx512 {
        #[inline(always)]
        unsafe fn find(line: &Line, want: Wanted) -> u32 {
            // SAFETY: the caller's promise.
            unsafe { avx512(line, WHOSE, want.0) }
        }

        #[inline(always)]
        unsafe fn empty(line: &Line) -> u32 {
            // SAFETY: the caller's promise.
            unsafe { avx512(line, VALID, 0) }
        }
    }
}

/// The vectors that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vectors {
    /// SSE2 on x86-64; plain code elsewhere.
    Baseline,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512F.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Vectors {
    /// All of this processor's, the widest last.
    pub fn available() -> Vec<Vectors> {
        let mut all = vec![Vectors::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                all.push(Vectors::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                all.push(Vectors::Avx512);
            }
        }
        all
    }

    /// The widest of this processor's.
    pub fn widest() -> Vectors {
        Vectors::available().pop().unwrap_or(Vectors::Baseline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::skip;
    use proptest::prelude::*;

    fn found(vectors: Vectors, line: &Line, want: Wanted) -> (u32, u32) {
        // SAFETY: called with available() vectors only.
        unsafe {
            match vectors {
                Vectors::Baseline => (Baseline::find(line, want), Baseline::empty(line)),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx2 => (Avx2::find(line, want), Avx2::empty(line)),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx512 => (Avx512::find(line, want), Avx512::empty(line)),
            }
        }
    }

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

    #[test]
    fn the_widest_vectors_are_tried_too() {
        let all = Vectors::available();
        println!("vectors: {all:?}");
        #[cfg(target_arch = "x86_64")]
        for (vectors, name) in [(Vectors::Avx2, "AVX2"), (Vectors::Avx512, "AVX-512F")] {
            if !all.contains(&vectors) {
                skip(name, "this processor has it not");
            }
        }
    }

    proptest! {
        #[test]
        fn all_vectors_find_what_a_loop_finds(
            mut words: [u32; WAYS], tag in 0..1_u32 << TAG_BITS, at in 0..WAYS, there: bool,
            age in 0..=AGE_MAX, core: u8, holes: u16,
        ) {
            for (way, word) in words.iter_mut().enumerate() {
                if holes >> way & 1 == 1 {
                    *word = 0;
                }
            }
            let want = Wanted::new(tag);
            if there {
                words[at] = want.entry(core).0 | age;
            }
            let line = Line(words);
            let by_loop = |f: &dyn Fn(Entry) -> bool| {
                (0..WAYS).fold(0, |bits, way| bits | u32::from(f(line.entry(way))) << way)
            };
            let expected = (
                by_loop(&|e| e.0 & WHOSE == want.0),
                by_loop(&Entry::is_empty),
            );
            for vectors in Vectors::available() {
                prop_assert_eq!(found(vectors, &line, want), expected, "{:?}", vectors);
            }
        }
    }
}
