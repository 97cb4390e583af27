//! Shared pages that are taken away.
//!
//! A process that maps a segment may punch holes into it (`MADV_REMOVE`), or
//! make a segment of huge pages without reserving any (`SHM_NORESERVE`). If no
//! huge page is free when we touch such a page, the kernel sends SIGBUS. That
//! must be the end of the runtime whose memory it is, and of nobody else: a
//! handler puts a private page of zeros in its place and takes a note, so that
//! the polling loop goes on and the control thread can dismiss the runtime.
//!
//! ```text
//!   |  segment  |  segment  | private zeros |  segment  |
//!                             ^ was touched, could not be had
//! ```
//!
//! Invariant: a [`Guard`] is dropped before its mapping is.

#![allow(unsafe_code, reason = "a signal handler, and mappings")]

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::messages::MAX_PROCS;
use super::server::MAX_PENDING;

/// The ingress segment, runtimes, candidates; and some for tests.
const MAX_RANGES: usize = 16 + MAX_PROCS + MAX_PENDING;

/// One guarded mapping. Read by the handler, so atomics only.
#[derive(Debug)]
struct Range {
    /// First address; 0: free; [`CLAIMED`]: about to be filled in.
    start: AtomicUsize,
    len: AtomicUsize,
    page_size: AtomicUsize,
    hit: AtomicBool,
}

const CLAIMED: usize = 1;

static RANGES: [Range; MAX_RANGES] = [const {
    Range {
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        page_size: AtomicUsize::new(0),
        hit: AtomicBool::new(false),
    }
}; MAX_RANGES];

/// What becomes of a mapping in which pages were replaced, when its guard goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// The whole mapping goes with the guard: nobody uses it any more.
    Unmap,
    /// It stays, for those who still use it; the replaced pages stay until the process ends.
    Keep,
}

/// A mapping whose missing pages are replaced, until this is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    range: &'static Range,
    leftovers: Leftovers,
}

impl Guard {
    /// Guards a mapping of `len` bytes at `start`, in pages of `page_size`.
    ///
    /// `None` when all places are taken, which as many runtimes as may attach
    /// and register at once do not bring about.
    ///
    /// # Safety
    /// The mapping is the caller's until the guard is dropped and, with
    /// [`Leftovers::Unmap`], is not used after that.
    pub(super) unsafe fn new(
        start: usize,
        len: usize,
        page_size: usize,
        leftovers: Leftovers,
    ) -> Option<Guard> {
        install();
        let free = |range: &&Range| {
            let claim = (Ordering::Relaxed, Ordering::Relaxed);
            range
                .start
                .compare_exchange(0, CLAIMED, claim.0, claim.1)
                .is_ok()
        };
        let range = RANGES.iter().find(free)?;
        range
            .len
            .store(len.next_multiple_of(page_size), Ordering::Relaxed);
        range.page_size.store(page_size, Ordering::Relaxed);
        range.hit.store(false, Ordering::Relaxed);
        // Release: pairs with the acquire load in the handler, which then reads the rest.
        range.start.store(start, Ordering::Release);
        Some(Guard { range, leftovers })
    }

    /// True once a page was missing.
    pub(super) fn hit(&self) -> bool {
        self.range.hit.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let start = self.range.start.load(Ordering::Relaxed);
        let len = self.range.len.load(Ordering::Relaxed);
        if self.hit() && self.leftovers == Leftovers::Unmap {
            // SAFETY: new()'s caller gave the mapping up. Its own unmapping finds no segment
            // there any more: only the control thread attaches any, and it does nothing between.
            unsafe { libc::munmap(std::ptr::without_provenance_mut(start), len) };
        }
        self.range.start.store(0, Ordering::Release);
    }
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all-zero bytes are a valid sigaction: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = handle;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler does only what a signal handler may: atomics, and system calls.
        let ret = unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
        assert_eq!(ret, 0, "SIGBUS can be handled");
    });
}

extern "C" fn handle(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a siginfo_t, and SIGBUS has an address.
    let address = unsafe { (*info).si_addr() }.addr();
    for range in &RANGES {
        // Acquire: pairs with the release store in new().
        let start = range.start.load(Ordering::Acquire);
        let len = range.len.load(Ordering::Relaxed);
        if start <= CLAIMED || address < start || address - start >= len {
            continue;
        }
        let page_size = range.page_size.load(Ordering::Relaxed);
        let page = start + (address - start) / page_size * page_size;
        // SAFETY: the page lies in a mapping that new()'s caller owns, which consists of such pages.
        let mapped = unsafe {
            libc::mmap(
                std::ptr::without_provenance_mut(page),
                page_size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if mapped != libc::MAP_FAILED {
            range.hit.store(true, Ordering::Relaxed);
            return;
        }
    }
    // Not ours to mend: the access is repeated, and ends the process as it would have.
    // SAFETY: sets the default action.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// Two pages of a file that was cut to one afterwards.
    fn cut_mapping() -> *mut u8 {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let file = rustix::fs::memfd_create("cut", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 8192).unwrap();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let null = std::ptr::null_mut();
        // SAFETY: no address is asked for.
        let base =
            unsafe { mmap(null, 8192, protection, MapFlags::SHARED, file.as_fd(), 0) }.unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        base.cast()
    }

    #[test]
    fn a_missing_page_reads_as_zeros_and_is_noted() {
        let base = cut_mapping();
        // SAFETY: the mapping is this test's own.
        let guard = unsafe { Guard::new(base.addr(), 8192, 4096, Leftovers::Unmap) }.unwrap();
        // SAFETY: in the mapping.
        unsafe { base.write_volatile(7) };
        assert!(!guard.hit(), "the first page is there");
        // SAFETY: in the mapping; what is missing is replaced.
        let (byte, word) = unsafe {
            base.add(4096 + 16).write_volatile(9);
            (
                base.add(4096 + 16).read_volatile(),
                base.add(8000).read_volatile(),
            )
        };
        assert_eq!((byte, word), (9, 0));
        assert!(guard.hit());
        // SAFETY: in the mapping.
        let first = unsafe { base.read_volatile() };
        assert_eq!(first, 7, "other pages are the segment's still");
    }

    #[test]
    fn a_fault_elsewhere_still_ends_the_process() {
        use std::os::unix::process::ExitStatusExt;
        const MARK: &str = "CALISTO_TEST_SIGBUS";
        if std::env::var_os(MARK).is_some() {
            install();
            let base = cut_mapping();
            // SAFETY: in the mapping; SIGBUS is what is wanted.
            unsafe { base.add(4096).read_volatile() };
            unreachable!("the page does not exist");
        }
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "control::sigbus::tests::a_fault_elsewhere_still_ends_the_process",
                "--exact",
            ])
            .env(MARK, "1")
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), Some(libc::SIGBUS));
    }
}
