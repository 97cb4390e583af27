//! Hints to the processor.

#![allow(unsafe_code, reason = "prefetch intrinsics")]

/// Asks for the line at `p` to be read soon.
#[inline(always)]
pub fn prefetch_read<T>(p: *const T) {
    // SAFETY: a prefetch does not fault, whatever the address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Asks for the line at `p` to be written soon.
#[inline(always)]
pub fn prefetch_write<T>(p: *const T) {
    // SAFETY: a prefetch does not fault, whatever the address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_ET0>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}
