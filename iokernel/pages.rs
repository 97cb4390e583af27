//! Large zeroed memory for tables, in huge pages where there are any.
//!
//! Made and freed where it delays nobody (the control thread): every page is there
//! before the memory is used, so that using it never faults.

#![allow(unsafe_code, reason = "maps memory")]

use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// A huge page of x86-64.
const HUGE: usize = 2 << 20;
const SMALL: usize = 4096;
/// Memory from this size on is worth huge pages.
const WORTH_HUGE: usize = HUGE / 4;

/// Types of which all bytes zero is a value.
///
/// # Safety
/// It is, and no larger alignment than a page's is asked for.
pub unsafe trait Zero: Copy {}

// SAFETY: integers.
unsafe impl Zero for u16 {}
// SAFETY: integers.
unsafe impl Zero for u32 {}

/// A slice of its own pages, zeroed at first.
#[derive(Debug)]
pub struct Pages<T> {
    map: NonNull<u8>,
    map_len: usize,
    first: NonNull<T>,
    len: usize,
    of: PhantomData<T>,
}

// SAFETY: owns its memory, as a Box does.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: as for Send; shared access is by `&[T]` only.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T: Zero> Pages<T> {
    /// `len` zeroed values; all pages are there. `pause` is called every few MiB: other
    /// work of the calling thread may be due.
    ///
    /// Transparent huge pages are asked for, which take none of the reserved ones that
    /// runtimes live on; only a machine without them is asked for reserved ones.
    ///
    /// # Errors
    /// What `mmap` or `madvise` reports: no memory, mostly.
    pub fn zeroed(len: usize, mut pause: impl FnMut()) -> io::Result<Pages<T>> {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= SMALL) };
        let bytes = size_of::<T>()
            .checked_mul(len.max(1))
            .and_then(|n| n.checked_next_multiple_of(SMALL))
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let (map, map_len, at) = if bytes < WORTH_HUGE {
            (map(bytes, MapFlags::empty())?, bytes, 0)
        } else {
            map_huge(bytes)?
        };
        // SAFETY: `at` is at most map_len - bytes, by map_huge().
        let first = unsafe { map.add(at) };
        let pages = Pages {
            map,
            map_len,
            first: first.cast(),
            len,
            of: PhantomData,
        };
        populate(first, bytes, &mut pause)?;
        Ok(pages)
    }

    /// Bytes that its values take.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

fn map(bytes: usize, flags: MapFlags) -> io::Result<NonNull<u8>> {
    let bytes = NonZeroUsize::new(bytes).expect("at least a page");
    // SAFETY: no address is asked for, so no existing mapping is replaced.
    let at = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            bytes.get(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | flags,
        )
    }?;
    Ok(NonNull::new(at.cast()).expect("address 0 is never given"))
}

/// Memory for `bytes`, and where in it they begin, so that whole huge pages fit.
fn map_huge(bytes: usize) -> io::Result<(NonNull<u8>, usize, usize)> {
    let whole = bytes
        .checked_next_multiple_of(HUGE)
        .ok_or(io::ErrorKind::OutOfMemory)?;
    if !transparent_huge_pages()
        && let Ok(at) = map(whole, MapFlags::HUGETLB | MapFlags::HUGE_2MB)
    {
        return Ok((at, whole, 0));
    }
    let at = map(whole + HUGE, MapFlags::empty())?;
    let offset = at.addr().get().next_multiple_of(HUGE) - at.addr().get();
    // SAFETY: inside the mapping just made. Small pages will do if it is refused.
    let _ = unsafe { madvise(at.add(offset).as_ptr().cast(), whole, Advice::LinuxHugepage) };
    Ok((at, whole + HUGE, offset))
}

fn transparent_huge_pages() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|text| !text.contains("[never]"))
}

/// Makes every page be there.
fn populate(first: NonNull<u8>, bytes: usize, pause: &mut impl FnMut()) -> io::Result<()> {
    for at in (0..bytes).step_by(2 * HUGE) {
        let len = (bytes - at).min(2 * HUGE);
        // SAFETY: inside the mapping; populating changes no value.
        let done = unsafe {
            madvise(
                first.add(at).as_ptr().cast(),
                len,
                Advice::LinuxPopulateWrite,
            )
        };
        match done {
            Ok(()) => {}
            // Before Linux 5.14: by hand.
            Err(rustix::io::Errno::INVAL) => {
                for page in (at..at + len).step_by(SMALL) {
                    // SAFETY: inside the mapping, which nobody else knows yet.
                    unsafe { first.add(page).write_volatile(0) };
                }
            }
            Err(e) => return Err(e.into()),
        }
        pause();
    }
    Ok(())
}

impl<T> Deref for Pages<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: zeroed() mapped `len` values, which are initialised (Zero) and ours.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Pages<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for deref(); `&mut self` makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has a reference into it any more.
        let _ = unsafe { munmap(self.map.as_ptr().cast(), self.map_len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_memory_is_zeroed_and_writable() {
        for len in [0, 1, 1000, 1 << 18, (3 << 20) + 7] {
            let mut pauses = 0;
            let mut pages = Pages::<u32>::zeroed(len, || pauses += 1).unwrap();
            assert_eq!(pages.len(), len);
            assert!(pages.iter().all(|v| *v == 0));
            if let Some(last) = pages.last_mut() {
                *last = 7;
            }
            assert_eq!(pages.iter().sum::<u32>(), 7 * u32::from(len > 0));
            assert!(pauses >= len * 4 / (4 << 20));
        }
    }

    #[test]
    fn memory_that_no_machine_has_is_refused() {
        assert!(Pages::<u32>::zeroed(1 << 50, || ()).is_err());
        assert!(Pages::<u32>::zeroed(usize::MAX, || ()).is_err());
    }
}
