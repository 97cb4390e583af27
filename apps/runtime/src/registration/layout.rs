//! Where header, rings and buffers lie in the region.
//!
//! ```text
//!   0           control_hdr, thread_spec [kthreads]
//!   next line   per kthread: rxq | txpktq | wb | txcmdq | wb | q_ptrs
//!   next page   egress buffers of 2 KiB
//! ```
//!
//! Words that the I/O kernel writes and words that a kthread writes never share a
//! cache line. No buffer crosses a page of 4 KiB, so none crosses a larger one.

use calisto::abi::shm::ShmPtr;
use calisto::abi::types::{control_hdr, lrpc_msg, queue_spec, thread_spec};

/// Slots of every ring, as in upstream's runtime.
pub const RING_SLOTS: u32 = 4096;
/// Bytes of an egress buffer, the `tx_net_hdr` in it.
pub const EGRESS_BUF_LEN: usize = 2048;
/// Bytes of a huge page.
pub const HUGE_PAGE: usize = 2 << 20;

const SMALL_PAGE: usize = 4096;
const LINE: usize = 64;

/// The plan of a region.
#[derive(Debug, Clone)]
pub struct Layout {
    /// One for each kthread, `tid` and `park_efd` still 0.
    pub specs: Vec<thread_spec>,
    /// Where the egress buffers start.
    pub egress: usize,
    /// How many they are.
    pub egress_bufs: u32,
    /// Bytes that are used; a region is this, rounded up to its pages.
    pub len: usize,
}

impl Layout {
    /// The layout for so many kthreads, and egress buffers for each.
    pub fn new(kthreads: u16, bufs_each: u32) -> Layout {
        let mut at = size_of::<control_hdr>() + usize::from(kthreads) * size_of::<thread_spec>();
        let mut take = |bytes: usize| {
            let start = at.next_multiple_of(LINE);
            at = start + bytes.next_multiple_of(LINE);
            start as u64
        };
        let ring = RING_SLOTS as usize * size_of::<lrpc_msg>();
        let specs = (0..kthreads)
            .map(|_| {
                let mut queue = || queue_spec {
                    msg_count: u64::from(RING_SLOTS),
                    msg_buf: take(ring),
                    wb: take(LINE),
                };
                let (rxq, txpktq, txcmdq) = (queue(), queue(), queue());
                thread_spec {
                    rxq,
                    txpktq,
                    txcmdq,
                    // The rxq's write-back word is the first of q_ptrs.
                    q_ptrs: rxq.wb,
                    ..thread_spec::default()
                }
            })
            .collect();
        let egress = at.next_multiple_of(SMALL_PAGE);
        let egress_bufs = u32::from(kthreads) * bufs_each;
        Layout {
            specs,
            egress,
            egress_bufs,
            len: egress + egress_bufs as usize * EGRESS_BUF_LEN,
        }
    }

    /// Bytes of a region of huge pages, or of small ones.
    pub fn region_len(&self, huge: bool) -> usize {
        let page = if huge { HUGE_PAGE } else { SMALL_PAGE };
        self.len.next_multiple_of(page)
    }

    /// Where an egress buffer lies.
    pub fn egress_buf(&self, buf: u32) -> ShmPtr {
        ShmPtr((self.egress + buf as usize * EGRESS_BUF_LEN) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_parts_overlap_and_all_lie_in_the_region() {
        for kthreads in [1u16, 2, 4, 253] {
            let l = Layout::new(kthreads, 64);
            let ring = u64::from(RING_SLOTS) * 16;
            let mut parts = vec![(0, 48 + u64::from(kthreads) * 88)];
            for s in &l.specs {
                for q in [s.rxq, s.txpktq, s.txcmdq] {
                    parts.push((q.msg_buf, ring));
                    parts.push((q.wb, 64));
                }
                assert_eq!(s.q_ptrs, s.rxq.wb);
            }
            parts.push((l.egress as u64, u64::from(l.egress_bufs) * 2048));
            parts.sort_unstable();
            for pair in parts.windows(2) {
                assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
            }
            let last = parts.last().expect("there are parts");
            assert!(last.0 + last.1 <= l.region_len(false) as u64);
        }
    }

    #[test]
    fn no_egress_buffer_crosses_a_page() {
        let l = Layout::new(3, 100);
        for buf in 0..l.egress_bufs {
            let at = l.egress_buf(buf).0;
            assert_eq!(at / 4096, (at + 2047) / 4096, "buffer {buf}");
        }
    }

    #[test]
    fn four_kthreads_take_nine_mib() {
        // 4 * 3 * 64 KiB of rings, 4 * 1024 buffers of 2 KiB, and some lines.
        let len = Layout::new(4, 1024).region_len(false);
        assert!((8 << 20) + (768 << 10) < len && len < 9 << 20, "{len}");
        assert_eq!(Layout::new(4, 1024).region_len(true) % HUGE_PAGE, 0);
    }
}
