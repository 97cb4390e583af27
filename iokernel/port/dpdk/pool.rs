//! The ingress buffers as DPDK sees them.
//!
//! ```text
//!   private memory (DPDK's)             ingress region (shared)
//!   mbuf[0] --buf_addr--------------->  buffer 0: headroom, frame
//!   mbuf[1] --buf_addr--------------->  buffer 1
//! ```
//!
//! Every runtime can write the ingress region, so it holds packet bytes only; the
//! mbufs, with addresses and links in them, are DPDK's alone and what a driver
//! leaves in them is trusted. (Upstream keeps both in the region.)
//!
//! Invariant: mbuf and buffer belong together for good, one to one.

#![allow(unsafe_code, reason = "calls DPDK")]

use std::ffi::{c_uint, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use dpdk_sys as sys;

use super::DpdkError;
use super::eal::{huge_page_hint, strerror};
use crate::abi::ingress::{
    BUF_FIRST, BUF_STRIDE, BUFS_PER_PAGE, HEADROOM, INGRESS_PAGE, buf_at, bufs_in, offset_of,
};
use crate::abi::shm::ShmRegion;
use crate::abi::types::rx_net_hdr;
use crate::hint::prefetch_read;
use crate::ids::BufIdx;
use crate::port::dma::Iova;
use crate::port::headers::{Found, HEADERS_MAX};
use crate::port::{RX_BURST_SIZE, RxFlags, RxFrame};

const _: () = assert!(HEADROOM == sys::RTE_PKTMBUF_HEADROOM);
const _: () = assert!(BUF_STRIDE == sys::RTE_MBUF_DEFAULT_BUF_SIZE);

/// Earliest and latest start of a frame in its buffer: room for the header that
/// goes in front of it, and for the bytes that [`Found::at`] may read.
const DATA_OFF_MIN: usize = size_of::<rx_net_hdr>();
const DATA_OFF_MAX: usize = BUF_STRIDE as usize - HEADERS_MAX;

/// The pool that the device receives into.
#[derive(Debug)]
pub(super) struct IngressPool {
    pool: NonNull<sys::rte_mempool>,
    /// The mbuf of each buffer.
    mbufs: Box<[*mut sys::rte_mbuf]>,
    ingress: Arc<ShmRegion>,
    /// Bytes from the region's start that hold buffers.
    len: usize,
    /// Frames whose hash the device did not give.
    pub(super) soft_hash: u64,
}

impl IngressPool {
    /// A pool over all buffers of `ingress`, which the device addresses as `iova` says.
    ///
    /// # Errors
    /// [`DpdkError::Memory`], most often for want of huge pages.
    pub(super) fn create(
        ingress: Arc<ShmRegion>,
        iova: &Iova,
        socket: i32,
    ) -> Result<IngressPool, DpdkError> {
        let bufs = bufs_in(ingress.len());
        let pages = bufs.div_ceil(BUFS_PER_PAGE);
        let extmem = (0..pages)
            .map(|page| {
                let at = (page * INGRESS_PAGE) as usize;
                let first = BUF_FIRST as usize;
                // SAFETY: bufs_in() counted whole pages of the attached region.
                let buf_ptr = unsafe { ingress.base().add(at + first) }.as_ptr().cast();
                Some(sys::rte_pktmbuf_extmem {
                    buf_ptr,
                    buf_iova: iova.of(ingress.base(), at, INGRESS_PAGE as usize)?
                        + u64::from(BUF_FIRST),
                    buf_len: (BUFS_PER_PAGE * BUF_STRIDE) as usize,
                    elt_size: stride(),
                })
            })
            .collect::<Option<Vec<_>>>()
            .ok_or(DpdkError::IngressScattered)?;
        // Last in, first out: a buffer that was just used is still cached. An option
        // (--mbuf-pool-ops-name) goes before this; a refusal leaves DPDK's default.
        // SAFETY: a constant string, copied by DPDK.
        unsafe { sys::rte_mbuf_set_platform_mempool_ops(c"stack".as_ptr()) };
        let cache = (bufs / 4).min(sys::RTE_MEMPOOL_CACHE_MAX_SIZE);
        // SAFETY: the areas lie in the region, which the pool keeps attached.
        let pool = unsafe {
            sys::rte_pktmbuf_pool_create_extbuf(
                c"calisto_ingress".as_ptr(),
                bufs,
                cache,
                0,
                stride(),
                socket,
                extmem.as_ptr(),
                pages,
            )
        };
        let Some(pool) = NonNull::new(pool) else {
            return Err(no_memory("mbufs of the ingress buffers"));
        };
        let mut pool = IngressPool {
            pool,
            mbufs: vec![ptr::null_mut(); bufs as usize].into(),
            ingress,
            len: (pages * INGRESS_PAGE) as usize,
            soft_hash: 0,
        };
        pool.pair_up();
        Ok(pool)
    }

    /// Notes the mbuf of each buffer.
    fn pair_up(&mut self) {
        let mut all: Vec<*mut sys::rte_mbuf> = Vec::with_capacity(self.mbufs.len());
        // SAFETY: the callback gets the vector that it expects, and each object of the pool.
        unsafe {
            sys::rte_mempool_obj_iter(
                self.pool.as_ptr(),
                Some(collect),
                (&raw mut all).cast::<c_void>(),
            );
        }
        for mbuf in all {
            // SAFETY: an initialised mbuf of the new pool.
            let at = unsafe { self.offset((*mbuf).buf_addr) };
            let buf = at
                .filter(|at| (BUF_FIRST as usize..self.len).contains(at))
                .map(|at| {
                    // `len` is at most 512 MiB.
                    let at = u32::try_from(at).unwrap_or(u32::MAX);
                    (buf_at(at), at)
                });
            let Some((buf, at)) = buf else {
                panic!("DPDK put a buffer outside the ingress region");
            };
            assert_eq!(offset_of(buf), at, "DPDK laid the buffers out otherwise");
            let slot = &mut self.mbufs[buf.index()];
            assert!(slot.is_null(), "two mbufs share an ingress buffer");
            *slot = mbuf;
        }
        assert!(
            self.mbufs.iter().all(|mbuf| !mbuf.is_null()),
            "an ingress buffer has no mbuf"
        );
    }

    /// For the device to receive into.
    pub(super) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.pool.as_ptr()
    }

    /// Buffers that are free: in no frame, and not in the device's ring.
    pub(super) fn available(&self) -> u32 {
        // SAFETY: the pool lives as long as self.
        unsafe { sys::rte_mempool_avail_count(self.pool.as_ptr()) }
    }

    /// Distance from the region's start; addresses before it come out far behind its end.
    #[inline]
    fn offset(&self, addr: *const c_void) -> Option<usize> {
        Some(
            addr.addr()
                .wrapping_sub(self.ingress.base().as_ptr().addr()),
        )
    }

    /// Asks the cache for a received frame's first bytes.
    #[inline]
    pub(super) fn prefetch(mbuf: *const sys::rte_mbuf) {
        // SAFETY: the driver handed the mbuf over; nothing is read at the address made.
        let data = unsafe {
            (*mbuf)
                .buf_addr
                .wrapping_byte_add(usize::from((*mbuf).data_off))
        };
        prefetch_read(data);
    }

    /// What is to be known of a received frame.
    ///
    /// `None` for what is not one frame in one buffer of ours: several segments, or a
    /// buffer that the driver brought itself.
    #[inline]
    pub(super) fn frame(&mut self, mbuf: *const sys::rte_mbuf) -> Option<RxFrame> {
        // SAFETY: the driver handed the mbuf over, so nobody else has it.
        let m = unsafe { &*mbuf };
        let start = self.offset(m.buf_addr)?;
        let off = usize::from(m.data_off);
        if start.wrapping_sub(BUF_FIRST as usize) >= self.len
            || m.nb_segs != 1
            || !(DATA_OFF_MIN..=DATA_OFF_MAX).contains(&off)
        {
            return None;
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "below `len`, at most 512 MiB"
        )]
        let (buf, data) = (buf_at(start as u32), (start + off) as u32);
        let mut flags = RxFlags::empty();
        let checked = m.ol_flags & sys::RTE_MBUF_F_RX_IP_CKSUM_MASK;
        flags.set(
            RxFlags::IP_CSUM_GOOD,
            checked == sys::RTE_MBUF_F_RX_IP_CKSUM_GOOD,
        );
        let hash = if m.ol_flags & sys::RTE_MBUF_F_RX_RSS_HASH != 0 {
            // SAFETY: the flag says that this member of the union was written; all are integers.
            unsafe { m.__bindgen_anon_2.hash.rss }
        } else {
            self.soft_hash += 1;
            // SAFETY: HEADERS_MAX bytes from the frame's start lie in the buffer (DATA_OFF_MAX),
            // the buffer in the region (`start`).
            let found = unsafe {
                let at = self.ingress.base().add(data as usize);
                Found::at(at, usize::from(m.data_len))
            };
            // Zero is "unknown": the device did not look.
            if checked == 0 {
                flags.set(RxFlags::IP_CSUM_GOOD, found.ip_csum_good);
            }
            found.hash
        };
        Some(RxFrame {
            buf,
            data,
            hash,
            len: m.data_len,
            flags,
        })
    }

    /// Gives buffers back to the pool.
    ///
    /// The mbufs are not touched: the driver handed them over as the pool wants them
    /// (one reference, one segment, no next), and nobody has changed them since.
    #[inline]
    pub(super) fn release(&self, bufs: &[BufIdx]) {
        let mut burst = [ptr::null_mut(); RX_BURST_SIZE];
        for bufs in bufs.chunks(RX_BURST_SIZE) {
            for (slot, buf) in burst.iter_mut().zip(bufs) {
                *slot = self.mbufs[buf.index()];
            }
            #[allow(clippy::cast_possible_truncation, reason = "at most a burst")]
            let n = bufs.len() as u32;
            // SAFETY: `n` mbufs of this pool, each the caller's (Port's invariant) and returned once.
            unsafe { sys::calisto_mempool_put_bulk(self.pool.as_ptr(), burst.as_ptr(), n) };
        }
    }
}

impl Drop for IngressPool {
    fn drop(&mut self) {
        // SAFETY: the device is closed (Dpdk's field order), so nobody uses the pool.
        unsafe { sys::rte_mempool_free(self.pool.as_ptr()) };
    }
}

fn stride() -> u16 {
    const STRIDE: u16 = 2176;
    const _: () = assert!(STRIDE as u32 == BUF_STRIDE);
    STRIDE
}

unsafe extern "C" fn collect(
    _: *mut sys::rte_mempool,
    all: *mut c_void,
    mbuf: *mut c_void,
    _: c_uint,
) {
    // SAFETY: pair_up() passes its vector, which nobody else touches meanwhile.
    unsafe { (*all.cast::<Vec<*mut sys::rte_mbuf>>()).push(mbuf.cast()) };
}

/// The error for a pool that DPDK did not make.
pub(super) fn no_memory(what: &'static str) -> DpdkError {
    // SAFETY: reads the calling thread's error number.
    let reason = strerror(unsafe { sys::calisto_errno() });
    DpdkError::Memory {
        what,
        reason,
        hint: huge_page_hint(),
    }
}
