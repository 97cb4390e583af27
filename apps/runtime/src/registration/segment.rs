//! SysV segments: the runtime's own, and the ingress segment.

#![allow(unsafe_code, reason = "SysV system calls")]

use std::io;

use calisto::abi::ingress::INGRESS_LEN;
use calisto::abi::shm::ShmRegion;
use calisto::abi::types::INGRESS_MBUF_SHM_KEY;

use super::layout::{HUGE_PAGE, Layout};
use crate::config::Pages;
use crate::error::StartError;

/// Keys to try before giving up: each may be somebody's.
const KEYS: u32 = 64;

/// A segment of ours. It loses its name at [`forget`](Segment::forget), or when
/// dropped, and goes with its last user.
#[derive(Debug)]
pub struct Segment {
    shmid: i32,
    /// By which the I/O kernel finds it.
    pub key: i32,
    /// Its bytes.
    pub len: usize,
}

impl Segment {
    /// Makes a segment for a layout, with the pages asked for.
    pub fn create(layout: &Layout, pages: Pages) -> Result<Segment, StartError> {
        let refused = |huge: bool| {
            move |error: io::Error| StartError::Memory {
                bytes: layout.region_len(huge),
                pages: if huge { "2 MiB" } else { "4 KiB" },
                error,
                advice: if huge {
                    "raise vm.nr_hugepages, or take pages of 4 KiB"
                } else {
                    "raise kernel.shmmax and kernel.shmall, or take fewer egress buffers"
                },
            }
        };
        let huge = || Segment::with_pages(layout, true);
        let small = || Segment::with_pages(layout, false).map_err(refused(false));
        match pages {
            Pages::Huge => huge().map_err(refused(true)),
            Pages::Small => small(),
            Pages::Auto => huge().or_else(|_| small()),
        }
    }

    fn with_pages(layout: &Layout, huge: bool) -> io::Result<Segment> {
        let len = layout.region_len(huge);
        let mut flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
        if huge {
            // The kernel may promise pages beyond the free ones and kill us at the first touch.
            if free_huge_pages() < len / HUGE_PAGE {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            flags |= libc::SHM_HUGETLB | (HUGE_PAGE.trailing_zeros().cast_signed() << 26);
        }
        let mut seed = [0; 4];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        let first = u32::from_ne_bytes(seed);
        for key in (0..KEYS).map(|i| first.wrapping_add(i)) {
            // Neither IPC_PRIVATE, which nobody could find, nor the ingress segment's.
            if key == 0 || key == INGRESS_MBUF_SHM_KEY {
                continue;
            }
            let key = key.cast_signed();
            // SAFETY: shmget takes no pointer.
            let shmid = unsafe { libc::shmget(key, len, flags) };
            if shmid >= 0 {
                return Ok(Segment { shmid, key, len });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error);
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Maps it.
    pub fn attach(&self) -> Result<ShmRegion, StartError> {
        ShmRegion::attach(self.shmid, self.len).map_err(|e| StartError::Os("shmat", e))
    }

    /// Takes its name away. Whoever has it mapped keeps it.
    pub fn forget(&self) {
        // SAFETY: IPC_RMID takes no buffer. The segment is ours: it was made with IPC_EXCL. An id
        // that was removed already is refused; it is not given again before 32768 others.
        unsafe { libc::shmctl(self.shmid, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.forget();
    }
}

fn free_huge_pages() -> usize {
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let text = std::fs::read_to_string(path);
    text.ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0)
}

/// Maps the ingress segment, which the I/O kernel has made.
///
/// Not as upstream's runtimes do, which make it if there is none: a runtime
/// that comes first would leave one behind.
pub fn attach_ingress() -> io::Result<ShmRegion> {
    // SAFETY: shmget takes no pointer.
    let shmid = unsafe { libc::shmget(INGRESS_MBUF_SHM_KEY.cast_signed(), INGRESS_LEN, 0) };
    if shmid < 0 {
        return Err(io::Error::last_os_error());
    }
    ShmRegion::attach(shmid, INGRESS_LEN)
}
