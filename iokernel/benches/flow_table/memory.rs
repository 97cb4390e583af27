//! Pages: the same for every table, and what they came out as.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;

const HUGE: usize = 2 << 20;

/// The system's allocator that asks for transparent huge pages for large memory: those
/// of hashbrown's tables. Ours and DPDK's ask by themselves.
pub(crate) struct HugePages;

fn aligned(layout: Layout) -> Layout {
    if layout.size() < HUGE {
        return layout;
    }
    layout.align_to(HUGE).expect("less than the address space")
}

// SAFETY: the system's allocator, asked for a larger alignment at most.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let layout = aligned(layout);
        // SAFETY: the caller's promise.
        let at = unsafe { System.alloc(layout) };
        if !at.is_null() && layout.align() >= HUGE {
            // SAFETY: memory just allocated. Small pages will do if it is refused.
            unsafe { libc::madvise(at.cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; alloc() asked for this alignment.
        unsafe { System.dealloc(at, aligned(layout)) }
    }
}

/// From now on this process gets no transparent huge pages.
pub(crate) fn small_pages_only() {
    // SAFETY: changes a setting of this process.
    let done = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    assert_eq!(done, 0, "prctl: {}", std::io::Error::last_os_error());
}

/// How much of the mapping at an address is in huge pages, in words.
pub(crate) fn pages_at(address: usize) -> String {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let (mut inside, mut resident, mut huge) = (false, 0, 0);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (Some(first), second) = (words.next(), words.next()) else {
            continue;
        };
        let kib = || second.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        match (first, first.split_once('-')) {
            (_, Some((from, to))) => {
                let end = |hex| usize::from_str_radix(hex, 16).unwrap_or(0);
                inside = (end(from)..end(to)).contains(&address);
            }
            ("Rss:", _) if inside => resident = kib(),
            ("AnonHugePages:", _) if inside => huge = kib(),
            _ => {}
        }
    }
    format!("{huge} of {resident} KiB in huge pages")
}
