//! Frames out: over the runtimes' own memory where the device can, copied where not.
//!
//! ```text
//!                    zero copy                          bounce
//!   TxFrame --> mbuf over the runtime's bytes    mbuf with a copy, checksums finished
//!                |  token in the mbuf             |  token done at once
//!                v                                v
//!               device, which frees the mbuf into its pool
//!                |                                |
//!                v  handler "calisto_done"        v
//!               tx_done: token, mbuf is ready    mbuf is ready
//! ```
//!
//! A frame is copied if it wants checksums that the device cannot do, or if it is
//! not contiguous for the device.
//!
//! Whatever frees an mbuf (the driver while sending, a stop, a cleanup, one by one
//! or in bulk) puts it into its pool, and the pool's handler does nothing but
//! remember it until [`TxQueue::done`]. So no driver needs to know of completions.
//!
//! The mbufs over foreign memory are not marked as external: that would have DPDK
//! detach the memory at each free, and mlx5 look for it among the pool's own. It
//! finds memory that it does not know by address, as mapped by [`super::dma`].
//!
//! Invariant: an mbuf is ready, queued, the device's, or returned; a token is in
//! `done` or in an mbuf that is queued, the device's, or returned, and in one place.

#![allow(unsafe_code, reason = "calls DPDK")]

use std::collections::VecDeque;
use std::ffi::{CStr, c_int, c_void};
use std::mem::size_of;
use std::ptr::{self, NonNull};

use dpdk_sys as sys;

use super::DpdkError;
use super::device::{Device, QUEUE};
use super::pool::no_memory;
use crate::port::{TX_BURST_SIZE, TxFrame, TxOffloads, TxToken, checksum};

/// Mbufs over runtimes' memory. C: `IOKERNEL_NUM_COMPLETIONS` (32767), iokernel/defs.h.
const FRAMES: u32 = 32767;
/// Most tokens of copied frames that wait for `tx_done`.
const DONE_MAX: usize = 1024;
/// Bytes of a copied frame's buffer, behind the headroom.
const BOUNCE_ROOM: u16 = 2048;
/// Shortest frame that is sent: some devices stop at shorter ones (i40e: 17 bytes).
const FRAME_MIN: u16 = 17;
/// Headers as the runtimes make them: Ethernet, IP without options, TCP without options.
const ETHER_HEADER: u64 = 14;
const IPV4_HEADER: u64 = 20;
const IPV6_HEADER: u64 = 40;
const TCP_HEADER: u64 = 20;

/// A pool whose mbufs come back through the handler `calisto_done`.
#[derive(Debug)]
struct DonePool {
    pool: NonNull<sys::rte_mempool>,
    /// Mbufs to be used next, the one returned last first.
    ready: Vec<*mut sys::rte_mbuf>,
}

impl DonePool {
    fn create(
        name: &'static CStr,
        what: &'static str,
        (count, private, room): (u32, usize, u16),
        socket: c_int,
    ) -> Result<DonePool, DpdkError> {
        let private = u16::try_from(private).expect("a few words of private data");
        let mut sizes = sys::rte_pktmbuf_pool_private {
            mbuf_data_room_size: room,
            mbuf_priv_size: private,
            flags: 0,
        };
        let element = size_of::<sys::rte_mbuf>() + usize::from(private) + usize::from(room);
        let element = u32::try_from(element).expect("an mbuf of a few KiB");
        let own = u32::try_from(size_of::<sys::rte_pktmbuf_pool_private>()).expect("a few words");
        // SAFETY: names are constant, the sizes those of an mbuf pool. No per-core cache:
        // it would keep freed mbufs from the handler.
        let pool = unsafe {
            sys::rte_mempool_create_empty(name.as_ptr(), count, element, 0, own, socket, 0)
        };
        let pool = NonNull::new(pool).ok_or_else(|| no_memory(what))?;
        let mut done = DonePool {
            pool,
            ready: Vec::with_capacity(count as usize),
        };
        // SAFETY: the empty pool gets its handler, sizes and memory, in the order that DPDK wants.
        unsafe {
            let ret = sys::rte_mempool_set_ops_byname(
                pool.as_ptr(),
                c"calisto_done".as_ptr(),
                ptr::null_mut(),
            );
            assert_eq!(ret, 0, "the handler was registered before");
            sys::rte_pktmbuf_pool_init(pool.as_ptr(), (&raw mut sizes).cast());
            if sys::rte_mempool_populate_default(pool.as_ptr()) < 0 {
                return Err(no_memory(what));
            }
            sys::rte_mempool_obj_iter(
                pool.as_ptr(),
                Some(sys::rte_pktmbuf_init),
                ptr::null_mut::<c_void>(),
            );
        }
        // Filling the pool returned every mbuf once.
        let mut burst = [ptr::null_mut(); TX_BURST_SIZE];
        while let burst @ [_, ..] = done.take(&mut burst, TX_BURST_SIZE) {
            done.ready.extend_from_slice(burst);
        }
        assert_eq!(done.ready.len(), count as usize, "a new pool is full");
        Ok(done)
    }

    /// Up to `max` mbufs that were freed; the caller makes them ready.
    #[inline]
    fn take<'a>(
        &self,
        burst: &'a mut [*mut sys::rte_mbuf; TX_BURST_SIZE],
        max: usize,
    ) -> &'a [*mut sys::rte_mbuf] {
        #[allow(clippy::cast_possible_truncation, reason = "at most a burst")]
        let max = max.min(TX_BURST_SIZE) as u32;
        // SAFETY: room for `max` pointers; the pool lives as long as self.
        let n = unsafe { sys::calisto_done_take(self.pool.as_ptr(), burst.as_mut_ptr(), max) };
        &burst[..n as usize]
    }
}

impl Drop for DonePool {
    fn drop(&mut self) {
        // SAFETY: the device is closed (Dpdk's field order), so nobody uses the pool.
        unsafe { sys::rte_mempool_free(self.pool.as_ptr()) };
    }
}

/// Header lengths for the device, for each IP version.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    v4: u64,
    v6: u64,
}

/// The transmit side of the port.
#[derive(Debug)]
pub(super) struct TxQueue {
    port: u16,
    frames: DonePool,
    bounce: DonePool,
    /// Mbufs that the device has not taken yet, in order.
    queue: [*mut sys::rte_mbuf; TX_BURST_SIZE],
    queued: usize,
    /// Tokens of frames that were copied or dropped.
    done: VecDeque<TxToken>,
    hw_csum: bool,
    lengths: Lengths,
    max_frame: u16,
    /// Frames that no device would take.
    pub(super) dropped: u64,
    /// Frames that were copied.
    pub(super) copied: u64,
    /// Of these: checksums were filled in.
    pub(super) soft_csum: u64,
}

impl TxQueue {
    /// Pools for a configured device.
    ///
    /// # Errors
    /// [`DpdkError::Memory`].
    pub(super) fn create(device: &Device) -> Result<TxQueue, DpdkError> {
        // SAFETY: only registers a constant table; once per process, as the EAL.
        let handler = unsafe { sys::calisto_done_register() };
        assert!(handler >= 0, "DPDK has room for a mempool handler");
        let frames = (FRAMES, size_of::<TxToken>(), 0);
        // Twice what the ring can hold, so that copying does not wait for a lazy driver.
        let copies = 2 * u32::from(device.tx_ring) + 4 * u32::from(RING_SLACK);
        let headroom = u16::try_from(sys::RTE_PKTMBUF_HEADROOM).expect("128 bytes");
        let room = BOUNCE_ROOM + headroom;
        // SAFETY: arithmetic.
        let lengths = unsafe {
            Lengths {
                v4: sys::calisto_tx_offload(ETHER_HEADER, IPV4_HEADER, TCP_HEADER),
                v6: sys::calisto_tx_offload(ETHER_HEADER, IPV6_HEADER, TCP_HEADER),
            }
        };
        Ok(TxQueue {
            port: device.port,
            frames: DonePool::create(c"calisto_tx", "transmit mbufs", frames, device.socket)?,
            bounce: DonePool::create(
                c"calisto_bounce",
                "buffers for copied frames",
                (copies, 0, room),
                device.socket,
            )?,
            queue: [ptr::null_mut(); TX_BURST_SIZE],
            queued: 0,
            done: VecDeque::with_capacity(DONE_MAX),
            hw_csum: device.info.hw_tx_csum,
            lengths,
            max_frame: device.max_frame.min(BOUNCE_ROOM),
            dropped: 0,
            copied: 0,
            soft_csum: 0,
        })
    }

    /// Frames that [`push`](Self::push) takes now, whichever way they go.
    #[inline]
    pub(super) fn room(&self) -> usize {
        (TX_BURST_SIZE - self.queued)
            .min(self.frames.ready.len())
            .min(self.bounce.ready.len())
            .min(DONE_MAX - self.done.len())
    }

    /// Frames that the next flush offers.
    #[inline]
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Queues one frame.
    #[inline]
    pub(super) fn push(&mut self, frame: &TxFrame) {
        if !(FRAME_MIN..=self.max_frame).contains(&frame.len) {
            self.dropped += 1;
            self.done_with(frame.token);
            return;
        }
        let wants = wants_checksums(frame.offloads);
        let mbuf = match frame.iova {
            Some(iova) if self.hw_csum || !wants => self.attach(frame, iova),
            _ => self.copy(frame),
        };
        // Behind its end the array panics: more frames were pushed than room() allowed.
        self.queue[self.queued] = mbuf;
        self.queued += 1;
    }

    /// Notes that a frame's memory is free, though it was never the device's.
    #[inline]
    fn done_with(&mut self, token: TxToken) {
        assert!(
            self.done.len() < DONE_MAX,
            "a frame was pushed without room"
        );
        self.done.push_back(token);
    }

    /// An mbuf over the frame where it lies.
    #[inline]
    fn attach(&mut self, frame: &TxFrame, iova: u64) -> *mut sys::rte_mbuf {
        let mbuf = self.frames.ready.pop().expect("room() counted it");
        let (flags, lengths) = self.offloads(frame);
        // SAFETY: a ready mbuf is ours alone; freeing left it with one reference, one segment
        // and no next. Behind it is private data for a token (create()).
        unsafe {
            // Field by field: a wide load of what was just stored in parts would wait for it.
            let token = token_of(mbuf);
            (&raw mut (*token).completion).write(frame.token.completion);
            (&raw mut (*token).proc).write(frame.token.proc);
            (&raw mut (*token).kthread).write(frame.token.kthread);
            let m = &mut *mbuf;
            m.buf_addr = frame.data.as_ptr().cast();
            m.buf_iova = iova;
            m.data_off = 0;
            m.buf_len = frame.len;
            m.data_len = frame.len;
            m.pkt_len = u32::from(frame.len);
            m.ol_flags = flags;
            m.__bindgen_anon_3.tx_offload = lengths;
        }
        mbuf
    }

    /// An mbuf with a copy of the frame, checksums filled in if the device cannot.
    #[inline]
    fn copy(&mut self, frame: &TxFrame) -> *mut sys::rte_mbuf {
        let mbuf = self.bounce.ready.pop().expect("room() counted it");
        self.copied += 1;
        let (flags, lengths) = if self.hw_csum {
            self.offloads(frame)
        } else {
            (0, 0)
        };
        let headroom = sys::RTE_PKTMBUF_HEADROOM;
        // SAFETY: a ready mbuf is ours alone, and so is its buffer, whose room behind the
        // headroom is BOUNCE_ROOM, at least `len` (push()). TxFrame promises `len` mapped
        // bytes; the runtime may write meanwhile, and any bytes are as good as any frame.
        unsafe {
            let m = &mut *mbuf;
            let copy = m.buf_addr.byte_add(headroom as usize).cast::<u8>();
            let len = usize::from(frame.len);
            frame.data.as_ptr().copy_to_nonoverlapping(copy, len);
            if !self.hw_csum && wants_checksums(frame.offloads) {
                self.soft_csum += 1;
                checksum::finish(std::slice::from_raw_parts_mut(copy, len), frame.offloads);
            }
            #[allow(clippy::cast_possible_truncation, reason = "128")]
            let headroom = headroom as u16;
            m.data_off = headroom;
            m.data_len = frame.len;
            m.pkt_len = u32::from(frame.len);
            m.ol_flags = flags;
            m.__bindgen_anon_3.tx_offload = lengths;
        }
        self.done_with(frame.token);
        mbuf
    }

    /// What to ask the device for: only what makes sense for a frame of that length.
    ///
    /// The flags come from the runtime, and a combination without meaning can stop a
    /// device's queue, for all. Such a frame goes out as it is.
    #[inline]
    fn offloads(&self, frame: &TxFrame) -> (u64, u64) {
        offload_flags(frame.offloads, frame.len, self.lengths)
    }

    /// Offers the queued frames to the device; what it does not take stays, in order.
    #[inline]
    pub(super) fn flush(&mut self) -> usize {
        if self.queued == 0 {
            return 0;
        }
        #[allow(clippy::cast_possible_truncation, reason = "at most a burst")]
        let n = self.queued as u16;
        // SAFETY: `n` complete mbufs; the port is started, and its queue polled by this thread only.
        let sent = unsafe { sys::calisto_tx_burst(self.port, QUEUE, self.queue.as_mut_ptr(), n) };
        let sent = usize::from(sent);
        self.queue.copy_within(sent..self.queued, 0);
        self.queued -= sent;
        sent
    }

    /// Tokens of frames whose memory is free again; see [`Port::tx_done`](crate::port::Port::tx_done).
    #[inline]
    pub(super) fn done(&mut self, out: &mut [TxToken]) -> usize {
        let mut burst = [ptr::null_mut(); TX_BURST_SIZE];
        let copied = self.bounce.take(&mut burst, TX_BURST_SIZE);
        self.bounce.ready.extend_from_slice(copied);

        let mut n = self.done.len().min(out.len());
        for (slot, token) in out.iter_mut().zip(self.done.drain(..n)) {
            *slot = token;
        }
        while n < out.len() {
            let freed = self.frames.take(&mut burst, out.len() - n);
            if freed.is_empty() {
                break;
            }
            for &mbuf in freed {
                // SAFETY: a freed mbuf of the pool is ours; attach() wrote its token.
                out[n] = unsafe { token_of(mbuf).read() };
                n += 1;
            }
            self.frames.ready.extend_from_slice(freed);
        }
        n
    }

    /// Asks the driver for frames that it has sent and not freed.
    pub(super) fn reap(&mut self) {
        // SAFETY: the queue is polled by this thread only. Drivers that cannot say so.
        unsafe { sys::rte_eth_tx_done_cleanup(self.port, QUEUE, 0) };
    }
}

/// Mbufs beyond the ring that may be on their way: a queued burst, a returned one.
const RING_SLACK: u16 = 64;

/// Where the token of an mbuf of the pool `frames` lies: right behind it.
///
/// # Safety
/// `mbuf` is of that pool.
#[inline]
unsafe fn token_of(mbuf: *mut sys::rte_mbuf) -> *mut TxToken {
    // SAFETY: create() gave each mbuf private data of a token's size; mbufs are aligned to 64.
    unsafe { mbuf.add(1).cast() }
}

/// A checksum of the frame is left to us or to the device.
#[inline]
fn wants_checksums(offloads: TxOffloads) -> bool {
    offloads.intersects(TxOffloads::IP_CSUM | TxOffloads::TCP_CSUM)
}

/// Device flags and header lengths for what a runtime asks; zero if that makes no sense.
#[inline]
fn offload_flags(asked: TxOffloads, len: u16, lengths: Lengths) -> (u64, u64) {
    let (mut flags, network, lengths) = match (
        asked.contains(TxOffloads::IPV4),
        asked.contains(TxOffloads::IPV6),
    ) {
        (true, false) => (sys::RTE_MBUF_F_TX_IPV4, IPV4_HEADER, lengths.v4),
        (false, true) => (sys::RTE_MBUF_F_TX_IPV6, IPV6_HEADER, lengths.v6),
        _ => return (0, 0),
    };
    let mut needs = ETHER_HEADER + network;
    if asked.contains(TxOffloads::IP_CSUM) {
        if !asked.contains(TxOffloads::IPV4) {
            return (0, 0);
        }
        flags |= sys::RTE_MBUF_F_TX_IP_CKSUM;
    }
    if asked.contains(TxOffloads::TCP_CSUM) {
        flags |= sys::RTE_MBUF_F_TX_TCP_CKSUM;
        needs += TCP_HEADER;
    }
    if u64::from(len) < needs {
        return (0, 0);
    }
    (flags, lengths)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: Lengths = Lengths { v4: 4, v6: 6 };

    fn flags(asked: TxOffloads, len: u16) -> (u64, u64) {
        offload_flags(asked, len, LENGTHS)
    }

    #[test]
    fn what_upstreams_runtime_asks_becomes_the_same_flags() {
        let ip = TxOffloads::IP_CSUM | TxOffloads::IPV4;
        let expected = sys::RTE_MBUF_F_TX_IP_CKSUM | sys::RTE_MBUF_F_TX_IPV4;
        assert_eq!(flags(ip, 60), (expected, 4));
        assert_eq!(
            flags(ip | TxOffloads::TCP_CSUM, 54),
            (expected | sys::RTE_MBUF_F_TX_TCP_CKSUM, 4)
        );
    }

    #[test]
    fn flags_without_meaning_are_dropped() {
        assert_eq!(flags(TxOffloads::all(), 1000), (0, 0), "both versions");
        assert_eq!(flags(TxOffloads::TCP_CSUM, 1000), (0, 0), "no version");
        let v6_header = TxOffloads::IP_CSUM | TxOffloads::IPV6;
        assert_eq!(
            flags(v6_header, 1000),
            (0, 0),
            "IPv6 has no header checksum"
        );
    }

    #[test]
    fn frames_too_short_for_their_headers_get_no_flags() {
        // 14 + 20 + 20 = 54; 14 + 40 + 20 = 74.
        let v4 = TxOffloads::TCP_CSUM | TxOffloads::IPV4;
        assert_eq!(flags(v4, 53), (0, 0));
        let v6 = TxOffloads::TCP_CSUM | TxOffloads::IPV6;
        assert_eq!(flags(v6, 73), (0, 0));
        assert_eq!(flags(v6, 74).1, 6);
    }
}
