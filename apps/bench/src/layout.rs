//! Where the sink's header, rings and buffers lie in its region.
//!
//! ```text
//!   0            control_hdr
//!   48           thread_spec [kthreads]
//!   next line    per kthread: rxq | txpktq | wb | txcmdq | wb | q_ptrs
//!   next 2 MiB   egress buffers of 2 KiB
//! ```
//!
//! Words that the I/O kernel writes (the write-back words of txpktq and txcmdq)
//! and those that the kthread writes (`q_ptrs`) never share a cache line.

use calisto::abi::shm::ShmPtr;
use calisto::abi::types::{control_hdr, lrpc_msg, queue_spec, thread_spec};

/// Slots of every ring, as in upstream's runtime.
pub const RING_SLOTS: u32 = 4096;
/// Egress buffers for each kthread: a full txpktq, and as many on their way out.
pub const EGRESS_BUFS_PER_KTHREAD: u32 = 2 * RING_SLOTS;
/// Bytes of one egress buffer. It crosses no 2 MiB page.
pub const EGRESS_BUF_LEN: usize = 2048;

const PAGE: usize = 2 << 20;
const LINE: usize = 64;

/// The plan of one region.
#[derive(Debug)]
pub struct Layout {
    /// One for each kthread, `tid` and `park_efd` still 0.
    pub specs: Vec<thread_spec>,
    /// Where the egress buffers start.
    pub egress: usize,
    /// How many they are.
    pub egress_bufs: u32,
    /// Bytes of the region, whole 2 MiB pages.
    pub len: usize,
}

impl Layout {
    /// The layout for so many kthreads.
    pub fn new(kthreads: u16) -> Layout {
        let mut at = size_of::<control_hdr>() + usize::from(kthreads) * size_of::<thread_spec>();
        let mut take = |bytes: usize| {
            let start = at.next_multiple_of(LINE);
            at = start + bytes;
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
        let egress = at.next_multiple_of(PAGE);
        let egress_bufs = u32::from(kthreads) * EGRESS_BUFS_PER_KTHREAD;
        Layout {
            specs,
            egress,
            egress_bufs,
            len: (egress + egress_bufs as usize * EGRESS_BUF_LEN).next_multiple_of(PAGE),
        }
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
    fn no_two_parts_overlap() {
        for kthreads in [1u16, 2, 10, 255] {
            let l = Layout::new(kthreads);
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
            assert!(last.0 + last.1 <= l.len as u64);
            assert_eq!(l.len % (2 << 20), 0);
        }
    }

    #[test]
    fn one_kthread_takes_one_control_page_and_sixteen_mib_of_buffers() {
        // 48 + 88 + 3 * (64 KiB + 64) < 2 MiB; 8192 * 2 KiB = 16 MiB.
        let l = Layout::new(1);
        assert_eq!(l.egress, 2 << 20);
        assert_eq!(l.len, 18 << 20);
    }
}
