//! Attached segments, and checked pointers into them.
//!
//! [`ShmRegion`] is one attached SysV segment; dropping it detaches. Peers may
//! write its bytes at any moment, so it hands out copies ([`ShmRegion::read`])
//! and, to the ring views, raw pointers that were checked against its bounds.

#![allow(unsafe_code, reason = "attached segments are raw memory")]

use std::io;
use std::mem::{align_of, size_of};
use std::ptr::NonNull;

/// An offset into a region, as a peer sent it: an allegation until checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShmPtr(pub u64);

/// Why an offset was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShmError {
    /// The bytes are not all inside the region.
    #[error("offset {offset:#x} with {len} bytes lies outside the region of {region:#x} bytes")]
    OutOfRange {
        /// The offset as given.
        offset: u64,
        /// The bytes wanted there.
        len: u64,
        /// The region's length.
        region: u64,
    },
    /// The offset has not the alignment that its type needs.
    #[error("offset {offset:#x} is not aligned to {align} bytes")]
    Unaligned {
        /// The offset as given.
        offset: u64,
        /// The alignment wanted.
        align: u64,
    },
}

impl ShmPtr {
    /// The null pointer: all ones. C: `SHMPTR_NULL`.
    pub const NULL: ShmPtr = ShmPtr(u64::MAX);

    /// The offset, if `len` bytes from it lie in a region of `region` bytes.
    ///
    /// # Errors
    /// [`ShmError::OutOfRange`], for the null pointer too.
    #[inline]
    pub fn check(self, len: usize, region: usize) -> Result<usize, ShmError> {
        // Written without an addition that could wrap.
        if len <= region && self.0 <= (region - len) as u64 {
            #[allow(clippy::cast_possible_truncation, reason = "at most region, a usize")]
            return Ok(self.0 as usize);
        }
        Err(ShmError::OutOfRange {
            offset: self.0,
            len: len as u64,
            region: region as u64,
        })
    }
}

/// One attached SysV segment, detached on drop.
#[derive(Debug)]
pub struct ShmRegion {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; all access goes
// through raw copies, for which the peers' concurrent writes must be expected anyway.
unsafe impl Send for ShmRegion {}
// SAFETY: as for Send; `&ShmRegion` gives copies and raw pointers only.
unsafe impl Sync for ShmRegion {}

impl ShmRegion {
    /// Attaches the segment `shmid`, which has at least `len` bytes.
    ///
    /// The caller has checked the segment's size (`IPC_STAT`); only the first
    /// `len` bytes are ever touched.
    ///
    /// # Errors
    /// What `shmat` reports.
    pub fn attach(shmid: i32, len: usize) -> io::Result<ShmRegion> {
        // SAFETY: no address is asked for, so no existing mapping is replaced.
        let base = unsafe { libc::shmat(shmid, std::ptr::null(), 0) };
        if base.addr() == usize::MAX {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::Other)?;
        Ok(ShmRegion { base, len })
    }

    /// A new segment of `len` bytes that no other process can find. It is
    /// removed with its last mapping. For tests and benches.
    ///
    /// # Errors
    /// What `shmget` or `shmat` reports.
    pub fn private(len: usize) -> io::Result<ShmRegion> {
        let [region, _] = ShmRegion::private_pair(len)?;
        Ok(region)
    }

    /// Like [`private`](Self::private), mapped twice: once for either side.
    ///
    /// # Errors
    /// What `shmget` or `shmat` reports.
    pub fn private_pair(len: usize) -> io::Result<[ShmRegion; 2]> {
        // SAFETY: makes a new segment, touches no memory.
        let shmid = unsafe { libc::shmget(libc::IPC_PRIVATE, len, libc::IPC_CREAT | 0o600) };
        if shmid < 0 {
            return Err(io::Error::last_os_error());
        }
        let pair = [ShmRegion::attach(shmid, len), ShmRegion::attach(shmid, len)];
        // SAFETY: marks the segment just made; no buffer is passed.
        unsafe { libc::shmctl(shmid, libc::IPC_RMID, std::ptr::null_mut()) };
        let [a, b] = pair;
        Ok([a?, b?])
    }

    /// Bytes that may be used.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a region of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first byte.
    #[inline]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// A pointer to `len` bytes at `offset`, which [`ShmPtr::check`] gave.
    ///
    /// # Panics
    /// When the bytes leave the region: the caller did not check.
    #[inline]
    pub fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(
            len <= self.len && offset <= self.len - len,
            "offsets are checked before use"
        );
        // SAFETY: asserted: inside the mapping.
        unsafe { self.base.add(offset) }
    }

    /// A pointer to `count` values of `T` at `at`, in bounds and aligned.
    ///
    /// # Errors
    /// [`ShmError`] when the values would leave the region or be unaligned.
    pub fn array<T>(&self, at: ShmPtr, count: usize) -> Result<NonNull<T>, ShmError> {
        let bytes = count
            .checked_mul(size_of::<T>())
            .ok_or(ShmError::OutOfRange {
                offset: at.0,
                len: u64::MAX,
                region: self.len as u64,
            })?;
        let offset = at.check(bytes, self.len)?;
        // Segments start on a page, so an aligned offset is an aligned address.
        if offset % align_of::<T>() != 0 {
            return Err(ShmError::Unaligned {
                offset: at.0,
                align: align_of::<T>() as u64,
            });
        }
        // SAFETY: check() above: offset + bytes <= len, all of it mapped.
        Ok(unsafe { self.base.add(offset) }.cast())
    }

    /// Copies a plain value out, once; the copy is what to check and use.
    ///
    /// # Errors
    /// [`ShmError::OutOfRange`]. `T` may lie unaligned.
    #[inline]
    pub fn read<T: Plain>(&self, at: ShmPtr) -> Result<T, ShmError> {
        let offset = at.check(size_of::<T>(), self.len)?;
        // SAFETY: check() above: the bytes are mapped. `T: Plain` holds for any bytes.
        // Volatile, through a packed wrapper: read once, at any alignment.
        let Unaligned(value) = unsafe {
            self.base
                .add(offset)
                .cast::<Unaligned<T>>()
                .as_ptr()
                .read_volatile()
        };
        Ok(value)
    }

    /// Copies a plain value in. For tests and for the runtime's side.
    ///
    /// # Errors
    /// [`ShmError::OutOfRange`]. `T` may lie unaligned.
    pub fn write<T: Plain>(&self, at: ShmPtr, value: T) -> Result<(), ShmError> {
        let offset = at.check(size_of::<T>(), self.len)?;
        // SAFETY: check() above: the bytes are mapped; a peer's race is its own.
        unsafe {
            self.base
                .add(offset)
                .cast::<Unaligned<T>>()
                .as_ptr()
                .write_volatile(Unaligned(value));
        }
        Ok(())
    }
}

impl Drop for ShmRegion {
    fn drop(&mut self) {
        // SAFETY: `base` came from shmat in attach(); views end before their region (Proc's field order).
        unsafe { libc::shmdt(self.base.as_ptr().cast()) };
    }
}

#[repr(C, packed)]
struct Unaligned<T>(T);

/// Types for which every pattern of bits is a value.
///
/// # Safety
/// No invalid patterns, no padding that matters, no references.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($t:ty),*) => { $(
        // SAFETY: integers and arrays of them, in a C struct.
        unsafe impl Plain for $t {}
    )* };
}
use super::types::{control_hdr, q_ptrs, rx_net_hdr, thread_spec, tx_net_hdr};
plain!(
    u8,
    u16,
    u32,
    u64,
    control_hdr,
    q_ptrs,
    thread_spec,
    rx_net_hdr,
    tx_net_hdr
);
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_outside_every_region() {
        assert!(ShmPtr::NULL.check(0, usize::MAX - 1).is_err());
        assert!(ShmPtr::NULL.check(1, usize::MAX).is_err());
    }

    #[test]
    fn the_last_byte_is_inside_and_the_next_is_not() {
        assert_eq!(ShmPtr(4095).check(1, 4096), Ok(4095));
        assert!(ShmPtr(4096).check(1, 4096).is_err());
        assert_eq!(ShmPtr(4096).check(0, 4096), Ok(4096));
    }

    #[test]
    fn a_length_near_the_top_does_not_wrap() {
        assert!(ShmPtr(16).check(usize::MAX - 8, 4096).is_err());
        assert!(ShmPtr(u64::MAX - 3).check(8, 4096).is_err());
    }
}
