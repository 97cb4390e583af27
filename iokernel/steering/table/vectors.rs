//! Finding an entry in a line, with whatever vectors the processor has.
//!
//! All sixteen entries are compared at once: one comparison with AVX-512, two with AVX2,
//! four with SSE2. In bursts, eight lines are looked at together.

#![allow(unsafe_code, reason = "vector intrinsics")]

use super::line::{CORE_MASK, CORE_SHIFT, Line, Wanted};
#[cfg(not(target_arch = "x86_64"))]
use super::line::{VALID, WAYS, WHOSE};
use crate::ids::CoreId;

/// Keys whose entries are looked for together in a burst.
pub(in crate::steering) const GROUP: usize = 8;

/// In which bits the wanted entry of a new flow differs from the most alike entry of its
/// line. If that is the flow's own they are core and age; else one above them is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::steering) struct Apart(u32);

impl Apart {
    /// Of an empty line.
    pub(super) const FAR: Apart = Apart(!0);

    /// Zero if the entry is the flow's own, and young.
    #[inline(always)]
    pub(super) fn flaws(self) -> u32 {
        self.0 & !CORE_MASK
    }

    /// The core in the entry.
    #[inline(always)]
    pub(super) fn core(self) -> CoreId {
        // Not by way of a u8: sixteen bits are what vectors write in the end.
        #[allow(clippy::cast_possible_truncation, reason = "masked to 8 bits")]
        CoreId(((self.0 & CORE_MASK) >> CORE_SHIFT) as u16)
    }
}

/// Vectors to compare with.
///
/// # Safety
/// [`find`](Isa::find) may be called only on a processor that has them.
pub(in crate::steering) unsafe trait Isa {
    /// Bits for each entry in what the functions return, the first entry's lowest: as
    /// many as come out of the comparison, whose squeezing to one would cost more.
    const BITS: u32;

    /// All bits of the entry that is `want`ed. None, or one entry.
    ///
    /// # Safety
    /// The processor has this instruction set.
    unsafe fn find(line: &Line, want: Wanted) -> u32;

    /// All bits of each empty entry.
    ///
    /// # Safety
    /// As for [`find`](Isa::find).
    unsafe fn empty(line: &Line) -> u32;

    /// How far the most alike entry is from the wanted one, for each of a group.
    ///
    /// # Safety
    /// As for [`find`](Isa::find).
    #[inline(always)]
    unsafe fn nearest(lines: [&Line; GROUP], wants: &[Wanted; GROUP]) -> [Apart; GROUP] {
        std::array::from_fn(|i| {
            // SAFETY: the caller's promise.
            let found = unsafe { Self::find(lines[i], wants[i]) };
            if found == 0 {
                return Apart::FAR;
            }
            Apart(lines[i].entry(Self::first(found) as usize).0 ^ wants[i].0)
        })
    }

    /// The first entry of some.
    #[inline(always)]
    fn first(found: u32) -> u32 {
        found.trailing_zeros() / Self::BITS
    }
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
    const BITS: u32 = 1;

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
    use super::super::line::{Line, VALID, WHOSE, Wanted};
    use super::{Apart, Avx2, Avx512, Baseline, GROUP, Isa};
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
            let half =
                |i| _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_load_si256(at.add(i)), of), want);
            // Packing goes by quarters: 0 2 1 3. Two bits of each entry's bytes come out.
            let all =
                _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(half(0), half(1)));
            mask(_mm256_movemask_epi8(all))
        }
    }

    /// The differences of all entries of eight lines, of which the least is wanted: as
    /// numbers, an entry of another flow is farther than any of the same. All stay in
    /// vectors, where the leasts of eight lines take little more than those of one.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn nearest8(lines: [&Line; GROUP], wants: &[Wanted; GROUP]) -> [Apart; GROUP] {
        let mut out = [Apart::FAR; GROUP];
        // SAFETY: the caller's promise; a line is 64 bytes, aligned to 64; eight numbers
        // fit in what is written to.
        unsafe {
            // Of one line: eight numbers, the least of all is among them.
            let line = |i: usize| {
                let at = lines[i].0.as_ptr().cast::<__m256i>();
                let want = _mm256_set1_epi32(bits(wants[i].0));
                _mm256_min_epu32(
                    _mm256_xor_si256(_mm256_load_si256(at), want),
                    _mm256_xor_si256(_mm256_load_si256(at.add(1)), want),
                )
            };
            // Of two lines, by turns: four numbers each. Then of four, and of all.
            let two = |a: __m256i, b: __m256i| {
                _mm256_min_epu32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b))
            };
            let four = |a: __m256i, b: __m256i| {
                _mm256_min_epu32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
            };
            let low = four(two(line(0), line(1)), two(line(2), line(3)));
            let high = four(two(line(4), line(5)), two(line(6), line(7)));
            let all = _mm256_min_epu32(
                _mm256_permute2x128_si256::<0x20>(low, high),
                _mm256_permute2x128_si256::<0x31>(low, high),
            );
            _mm256_storeu_si256(out.as_mut_ptr().cast(), all);
        }
        out
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
        const BITS: u32 = 1;

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
        const BITS: u32 = 2;

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

        #[inline(always)]
        unsafe fn nearest(lines: [&Line; GROUP], wants: &[Wanted; GROUP]) -> [Apart; GROUP] {
            // SAFETY: the caller's promise.
            unsafe { nearest8(lines, wants) }
        }
    }

    // SAFETY: AVX-512F, as the methods say.
    unsafe impl Isa for Avx512 {
        const BITS: u32 = 1;

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

        #[inline(always)]
        unsafe fn nearest(lines: [&Line; GROUP], wants: &[Wanted; GROUP]) -> [Apart; GROUP] {
            // SAFETY: the caller's promise; AVX-512F comes with AVX2.
            unsafe { nearest8(lines, wants) }
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
    use super::super::line::{AGE_MAX, Entry, LINE, TAG_BITS, VALID, WAYS, WHOSE};
    use super::*;
    use crate::testing::skip;
    use proptest::prelude::*;

    fn found(vectors: Vectors, line: &Line, want: Wanted) -> (u32, u32) {
        match vectors {
            Vectors::Baseline => bits::<Baseline>(line, want),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2 => bits::<Avx2>(line, want),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512 => bits::<Avx512>(line, want),
        }
    }

    /// One bit for each entry; that all of an entry's are the same is seen on the way.
    fn bits<I: Isa>(line: &Line, want: Wanted) -> (u32, u32) {
        let squeezed = |found: u32| {
            (0..LINE).fold(0, |bits, way| {
                let all = (1 << I::BITS) - 1;
                let own = found >> (way * I::BITS) & all;
                assert!(own == 0 || own == all);
                assert!(found == 0 || found >> (I::first(found) * I::BITS) & all == all);
                bits | u32::from(own != 0) << way
            })
        };
        // SAFETY: called with available() vectors only.
        let (found, empty) = unsafe { (I::find(line, want), I::empty(line)) };
        (squeezed(found), squeezed(empty))
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

    fn nearest(vectors: Vectors, lines: [&Line; GROUP], wants: &[Wanted; GROUP]) -> [Apart; GROUP] {
        // SAFETY: called with available() vectors only.
        unsafe {
            match vectors {
                Vectors::Baseline => Baseline::nearest(lines, wants),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx2 => Avx2::nearest(lines, wants),
                #[cfg(target_arch = "x86_64")]
                Vectors::Avx512 => Avx512::nearest(lines, wants),
            }
        }
    }

    proptest! {
        #[test]
        fn the_nearest_entry_is_the_flows_own_or_none_is(
            words: [[u32; WAYS]; GROUP], tags: [u32; GROUP], ways: [u8; GROUP], there: u8,
            old: u8, cores: [u8; GROUP], empty: u8,
        ) {
            let mut lines = words.map(Line);
            let wants = tags.map(|tag| Wanted::new(tag % (1 << TAG_BITS)));
            for i in 0..GROUP {
                if empty >> i & 1 == 1 {
                    lines[i] = Line([0; WAYS]);
                }
                if there >> i & 1 == 1 {
                    let age = u32::from(old >> i & 1) * AGE_MAX;
                    lines[i].0[usize::from(ways[i]) % WAYS] = wants[i].entry(cores[i]).0 | age;
                }
            }
            for vectors in Vectors::available() {
                let all = nearest(vectors, lines.each_ref(), &wants);
                for (i, apart) in all.into_iter().enumerate() {
                    let own = lines[i].0.iter().find(|e| **e & WHOSE == wants[i].0);
                    prop_assert_eq!(apart.0 < VALID, own.is_some(), "{:?} {}", vectors, i);
                    if let Some(&own) = own {
                        prop_assert_eq!(apart.core(), CoreId(Entry(own).core().into()));
                        prop_assert_eq!(apart.flaws(), Entry(own).age());
                    } else {
                        prop_assert!(apart.flaws() != 0);
                    }
                }
            }
        }

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
