//! Where the buffers lie in the ingress region, and how a buffer is named.
//!
//! ```text
//!   2 MiB page                                              (times 137)
//!   +--+--------+--------+--------+-- ... --+--------+------+
//!   |24| buf 0  | buf 1  | buf 2  |         | buf 962| rest |
//!   +--+--------+--------+--------+-- ... --+--------+------+
//!   buffer: 128 B headroom (its last 24 become the rx_net_hdr), 2048 B frame
//! ```
//!
//! No buffer crosses a 2 MiB page, so each is physically contiguous. The stride
//! is 17 * 128 bytes: whole cache lines, and no power of two, so that the
//! headers of successive buffers fall into different cache sets.

#![allow(
    unsafe_code,
    reason = "reads and writes packet bytes that runtimes share"
)]

use std::ptr::NonNull;
use std::sync::Arc;

use crate::abi::shm::ShmRegion;
use crate::abi::types;
use crate::ids::BufIdx;

/// Buffers in the ingress region. C: `IOKERNEL_NUM_MBUFS`, iokernel/defs.h.
pub const INGRESS_BUFS: u32 = 8192 * 16;
/// Bytes in front of a frame. DPDK: `RTE_PKTMBUF_HEADROOM`.
pub const HEADROOM: u32 = 128;
/// Bytes of a page in front of its first buffer.
///
/// With it the rx_net_hdr, which ends where the frame begins, begins a cache
/// line: header and the frame's first 40 bytes (Ethernet, IPv4, ports) come to
/// the runtime's core in one line instead of two.
pub const BUF_FIRST: u32 = 24;
/// Bytes from one buffer to the next. DPDK: `RTE_MBUF_DEFAULT_BUF_SIZE`.
pub const BUF_STRIDE: u32 = HEADROOM + 2048;
/// Bytes of the pages that buffers do not cross.
pub const INGRESS_PAGE: u32 = 2 << 20;
/// Buffers in one page.
pub const BUFS_PER_PAGE: u32 = (INGRESS_PAGE - BUF_FIRST) / BUF_STRIDE;
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
    (buf.0 / BUFS_PER_PAGE) * INGRESS_PAGE + BUF_FIRST + (buf.0 % BUFS_PER_PAGE) * BUF_STRIDE
}

/// The buffer that an offset lies in.
///
/// `offset` must lie within a buffer (not in front of a page's first, nor in its rest); the caller got it
/// from the port, which hands out nothing else.
#[inline]
pub fn buf_at(offset: u32) -> BufIdx {
    let page = offset / INGRESS_PAGE;
    BufIdx(page * BUFS_PER_PAGE + (offset % INGRESS_PAGE - BUF_FIRST) / BUF_STRIDE)
}

/// Bytes that the rx_net_hdr takes in front of a frame.
const RX_HDR: u32 = 24;
const _: () = assert!(RX_HDR as usize == size_of::<types::rx_net_hdr>());

/// The ingress region's bytes, for writing headers and reading addresses.
///
/// Every runtime maps these bytes too: what is read here may be a lie, and is
/// good for choosing a receiver, nothing else.
#[derive(Debug)]
pub struct Ingress {
    base: NonNull<u8>,
    region: Arc<ShmRegion>,
}

// SAFETY: `base` belongs to `region`, which is Send and Sync.
unsafe impl Send for Ingress {}

impl Ingress {
    /// Views an attached ingress segment.
    ///
    /// # Panics
    /// When the segment is shorter than [`INGRESS_LEN`]: it was made wrong.
    pub fn new(region: Arc<ShmRegion>) -> Ingress {
        assert!(region.len() >= INGRESS_LEN, "the ingress segment is short");
        Ingress {
            base: region.base(),
            region,
        }
    }

    /// The segment itself, for the port.
    pub fn region(&self) -> &Arc<ShmRegion> {
        &self.region
    }

    /// Asks the cache for the frame at `data` and the header in front of it.
    #[inline]
    pub fn prefetch(&self, data: u32) {
        let frame = self.base.as_ptr().wrapping_add(data as usize);
        crate::hint::prefetch_read(frame);
        crate::hint::prefetch_write(frame.wrapping_sub(RX_HDR as usize));
    }

    /// The frame's first eight bytes: destination address, and two of the source.
    #[inline]
    pub fn dst_mac(&self, data: u32) -> u64 {
        // SAFETY: at() checks that the bytes lie in the region.
        unsafe { self.at(data).cast::<Word>().as_ptr().read_volatile().0 }
    }

    /// The frame's source address.
    #[inline]
    pub fn src_mac(&self, data: u32) -> u64 {
        // SAFETY: at() checks that the bytes lie in the region.
        let word = unsafe { self.at(data + 6).cast::<Word>().as_ptr().read_volatile().0 };
        word & 0xffff_ffff_ffff
    }

    /// True if the frame carries a VLAN tag (802.1Q).
    #[inline]
    pub fn is_vlan(&self, data: u32) -> bool {
        // SAFETY: at() checks that the bytes lie in the region.
        let word = unsafe { self.at(data + 6).cast::<Word>().as_ptr().read_volatile().0 };
        // Source address, then the type in network order.
        word >> 48 == u64::from(0x8100_u16.to_be())
    }

    /// Writes the header in front of the frame at `data`; returns its offset.
    #[inline]
    pub fn write_rx_hdr(&self, data: u32, hdr: &types::rx_net_hdr) -> u64 {
        let at = data - RX_HDR;
        let words = [
            hdr.completion_data,
            u64::from(hdr.rss_hash) << 32 | u64::from(hdr.len),
            u64::from(hdr.csum) << 32 | u64::from(hdr.csum_type),
        ];
        let to = self.at(at).cast::<Word>();
        // Word by word: the array as a whole would be built on the stack first.
        for (i, word) in words.into_iter().enumerate() {
            // SAFETY: at() checks that the bytes lie in the region. The runtime reads
            // them after the message's release store (LrpcTx).
            unsafe { to.add(i).as_ptr().write_volatile(Word(word)) };
        }
        u64::from(at)
    }

    #[inline]
    fn at(&self, offset: u32) -> NonNull<u8> {
        assert!(
            (RX_HDR..INGRESS_PAGES * INGRESS_PAGE).contains(&(offset + RX_HDR)),
            "the port named an offset outside the ingress region"
        );
        // SAFETY: below INGRESS_LEN by the assertion, and new() checked the length.
        unsafe { self.base.add(offset as usize) }
    }
}

/// A word at any alignment.
#[repr(C, packed)]
struct Word(u64);

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
    fn header_and_frame_begin_share_a_cache_line() {
        for i in 0..INGRESS_BUFS {
            assert_eq!((offset_of(BufIdx(i)) + HEADROOM - RX_HDR) % 64, 0);
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
