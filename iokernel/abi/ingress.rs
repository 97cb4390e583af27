//! Where the buffers lie in the ingress region, and how a buffer is named.
//!
//! ```text
//!   2 MiB page                                              (times 137)
//!   +--------+--------+--------+-- ... --+--------+------+
//!   | buf 0  | buf 1  | buf 2  |         | buf 962| rest |
//!   +--------+--------+--------+-- ... --+--------+------+
//!   buffer: 128 B headroom (its last 24 become the rx_net_hdr), 2048 B frame
//! ```
//!
//! No buffer crosses a 2 MiB page, so each is physically contiguous. The stride
//! is 17 * 128 bytes: whole cache lines, and no power of two, so that the
//! headers of successive buffers fall into different cache sets.

use crate::abi::types;
use crate::ids::BufIdx;

/// Buffers in the ingress region. C: `IOKERNEL_NUM_MBUFS`, iokernel/defs.h.
pub const INGRESS_BUFS: u32 = 8192 * 16;
/// Bytes in front of a frame. DPDK: `RTE_PKTMBUF_HEADROOM`.
pub const HEADROOM: u32 = 128;
/// Bytes from one buffer to the next. DPDK: `RTE_MBUF_DEFAULT_BUF_SIZE`.
pub const BUF_STRIDE: u32 = HEADROOM + 2048;
/// Bytes of the pages that buffers do not cross.
pub const INGRESS_PAGE: u32 = 2 << 20;
/// Buffers in one page.
pub const BUFS_PER_PAGE: u32 = INGRESS_PAGE / BUF_STRIDE;
/// Bytes of the ingress region. C: `INGRESS_MBUF_SHM_SIZE`.
pub const INGRESS_LEN: usize = types::INGRESS_MBUF_SHM_SIZE as usize;
/// Pages that hold buffers.
pub const INGRESS_PAGES: u32 = INGRESS_BUFS.div_ceil(BUFS_PER_PAGE);

const _: () = assert!((INGRESS_PAGES as usize) * (INGRESS_PAGE as usize) <= INGRESS_LEN);
// A runtime accepts a header only if 2048 bytes from it lie in the region.
const _: () = assert!(
    (INGRESS_PAGES as usize) * (INGRESS_PAGE as usize) + types::MBUF_DEFAULT_LEN as usize
        <= INGRESS_LEN
);

/// Offset of a buffer's first byte (its headroom) in the ingress region.
#[inline]
pub fn offset_of(buf: BufIdx) -> u32 {
    (buf.0 / BUFS_PER_PAGE) * INGRESS_PAGE + (buf.0 % BUFS_PER_PAGE) * BUF_STRIDE
}

/// The buffer that an offset lies in.
///
/// `offset` must lie within a buffer (not in a page's rest); the caller got it
/// from the port, which hands out nothing else.
#[inline]
pub fn buf_at(offset: u32) -> BufIdx {
    let page = offset / INGRESS_PAGE;
    BufIdx(page * BUFS_PER_PAGE + (offset % INGRESS_PAGE) / BUF_STRIDE)
}

/// Buffers that lie in a region of `len` bytes: all of them, or, for a smaller
/// region (tests), those of its whole pages.
pub fn bufs_in(len: usize) -> u32 {
    let pages = u32::try_from(len / INGRESS_PAGE as usize).unwrap_or(u32::MAX);
    pages.saturating_mul(BUFS_PER_PAGE).min(INGRESS_BUFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_is_found_from_its_first_and_last_byte() {
        for i in 0..INGRESS_BUFS {
            let at = offset_of(BufIdx(i));
            assert_eq!(buf_at(at), BufIdx(i));
            assert_eq!(buf_at(at + BUF_STRIDE - 1), BufIdx(i));
            assert_eq!(at / INGRESS_PAGE, (at + BUF_STRIDE - 1) / INGRESS_PAGE);
        }
    }

    #[test]
    fn the_last_buffer_lies_in_the_region() {
        let end = offset_of(BufIdx(INGRESS_BUFS - 1)) + BUF_STRIDE;
        assert!(end as usize + types::MBUF_DEFAULT_LEN as usize <= INGRESS_LEN);
    }

    #[test]
    fn a_full_region_holds_all_buffers_and_less_than_a_page_none() {
        assert_eq!(bufs_in(INGRESS_LEN), INGRESS_BUFS);
        assert_eq!(bufs_in(INGRESS_PAGE as usize - 1), 0);
        assert_eq!(bufs_in(INGRESS_PAGE as usize), BUFS_PER_PAGE);
    }
}
