//! A port without a device: frames go from one local runtime to another.
//!
//! ```text
//!   sender's memory --copy--> scratch (private) --copy--> ingress buffer -> rx_burst
//!                             checksums, hash
//! ```
//!
//! A frame is read once, into private memory, where its checksums are completed
//! and its hash is made; the sender's memory is done with at once. What is known
//! of the frame is thus known of bytes that nobody could change meanwhile.
//!
//! Invariants: a buffer is free, waiting for `rx_burst`, or the caller's; nothing
//! grows after construction.

#![allow(unsafe_code, reason = "copies between shared regions")]

use std::collections::VecDeque;
use std::sync::Arc;

use super::checksum;
use super::hash::hash_network;
use super::headers::Network;
use super::{
    Port, PortInfo, PortStats, RX_BURST_SIZE, RxFlags, RxFrame, TX_BURST_SIZE, TxFrame, TxToken,
};
use crate::abi::ingress::{BUF_STRIDE, HEADROOM, bufs_in, offset_of};
use crate::abi::shm::ShmRegion;
use crate::ids::BufIdx;

/// Most frames between sender and receiver. Beyond it senders wait.
const WAITING_MAX: usize = 1024;
/// Bytes of a frame that an ingress buffer holds.
const FRAME_ROOM: usize = (BUF_STRIDE - HEADROOM) as usize;

/// The loopback port.
#[derive(Debug)]
pub struct Loopback {
    ingress: Arc<ShmRegion>,
    /// Free buffers; the one freed last, and perhaps still cached, is used first.
    free: Vec<BufIdx>,
    /// All buffers, free or not.
    bufs: usize,
    waiting: VecDeque<RxFrame>,
    done: VecDeque<TxToken>,
    /// Frames pushed since the last flush.
    pushed: usize,
    scratch: Box<[u8; FRAME_ROOM]>,
    stats: PortStats,
    info: PortInfo,
}

impl Loopback {
    /// A port whose buffers are those that fit into `ingress`, at most [`INGRESS_BUFS`].
    pub fn new(ingress: Arc<ShmRegion>) -> Loopback {
        let bufs = bufs_in(ingress.len());
        Loopback {
            ingress,
            free: (0..bufs).rev().map(BufIdx).collect(),
            bufs: bufs as usize,
            waiting: VecDeque::with_capacity(WAITING_MAX),
            done: VecDeque::with_capacity(WAITING_MAX),
            pushed: 0,
            scratch: Box::new([0; FRAME_ROOM]),
            stats: PortStats::default(),
            info: PortInfo {
                driver: "loopback".into(),
                device: "loopback".into(),
                ..PortInfo::default()
            },
        }
    }

    /// Copies a frame into a free buffer, finished; `None` if it cannot be had.
    #[inline]
    fn deliver(&mut self, frame: &TxFrame) -> Option<RxFrame> {
        let Some(copy) = self.scratch.get_mut(..usize::from(frame.len)) else {
            self.stats.tx_errors += 1;
            return None;
        };
        let Some(buf) = self.free.pop() else {
            self.stats.rx_no_buf += 1;
            return None;
        };
        // SAFETY: TxFrame promises `len` mapped bytes; `copy` has as many, and is private.
        // The sender may write meanwhile: any bytes are as good as any frame.
        unsafe {
            frame
                .data
                .as_ptr()
                .copy_to_nonoverlapping(copy.as_mut_ptr(), copy.len());
        }
        checksum::finish(copy, frame.offloads);
        let network = Network::of(copy);
        let mut flags = RxFlags::FROM_LOCAL;
        flags.set(
            RxFlags::IP_CSUM_GOOD,
            checksum::ipv4_header_good(copy, network),
        );
        let data = offset_of(buf) + HEADROOM;
        // SAFETY: `buf` is one of those that new() counted into the region, so the room of
        // FRAME_ROOM bytes from `data` is mapped, and `copy` is no longer than it.
        unsafe {
            self.ingress
                .base()
                .add(data as usize)
                .as_ptr()
                .copy_from_nonoverlapping(copy.as_ptr(), copy.len());
        }
        Some(RxFrame {
            buf,
            data,
            hash: hash_network(copy, network),
            len: frame.len,
            flags,
        })
    }
}

impl Port for Loopback {
    fn rx_burst(&mut self, frames: &mut [RxFrame; RX_BURST_SIZE]) -> usize {
        let n = self.waiting.len().min(RX_BURST_SIZE);
        for (slot, frame) in frames.iter_mut().zip(self.waiting.drain(..n)) {
            *slot = frame;
        }
        self.stats.rx_packets += n as u64;
        n
    }

    fn release(&mut self, bufs: &[BufIdx]) {
        assert!(
            self.free.len() + bufs.len() <= self.bufs,
            "more ingress buffers came back than there are"
        );
        self.free.extend_from_slice(bufs);
    }

    fn tx_room(&self) -> usize {
        (TX_BURST_SIZE - self.pushed)
            .min(WAITING_MAX - self.waiting.len())
            .min(WAITING_MAX - self.done.len())
    }

    fn tx_queued(&self) -> usize {
        self.pushed
    }

    fn tx_push(&mut self, frame: &TxFrame) {
        assert!(self.tx_room() > 0, "a frame was pushed without room");
        if let Some(frame) = self.deliver(frame) {
            self.waiting.push_back(frame);
            self.stats.tx_packets += 1;
        }
        self.done.push_back(frame.token);
        self.pushed += 1;
    }

    fn tx_flush(&mut self) -> usize {
        std::mem::take(&mut self.pushed)
    }

    fn tx_done(&mut self, done: &mut [TxToken]) -> usize {
        let n = self.done.len().min(done.len());
        for (slot, token) in done.iter_mut().zip(self.done.drain(..n)) {
            *slot = token;
        }
        n
    }

    fn tx_reap(&mut self) {}

    fn free_buffers(&self) -> u32 {
        u32::try_from(self.free.len()).expect("at most INGRESS_BUFS")
    }

    fn stats(&self) -> PortStats {
        self.stats
    }

    fn info(&self) -> &PortInfo {
        &self.info
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::ingress::INGRESS_PAGE;
    use crate::abi::shm::ShmPtr;
    use crate::ids::{KthreadIdx, ProcId, ProcSlot};
    use crate::port::TxOffloads;
    use crate::port::hash::hash_frame;
    use std::ptr::NonNull;

    /// A private segment of ordinary pages, gone when detached.
    fn region(pages: usize) -> Arc<ShmRegion> {
        let len = pages * INGRESS_PAGE as usize;
        // SAFETY: no memory is touched; a private segment collides with nobody.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, len, 0o600) };
        assert!(id >= 0, "shmget: {}", std::io::Error::last_os_error());
        let region = ShmRegion::attach(id, len).unwrap();
        // SAFETY: removes the id; the attached memory stays until detached.
        unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        Arc::new(region)
    }

    fn token(n: u64) -> TxToken {
        TxToken {
            completion: n,
            proc: ProcId {
                slot: ProcSlot(3),
                generation: 7,
            },
            kthread: KthreadIdx(1),
        }
    }

    fn push(port: &mut Loopback, frame: &mut [u8], offloads: TxOffloads, n: u64) {
        port.tx_push(&TxFrame {
            data: NonNull::new(frame.as_mut_ptr()).unwrap(),
            iova: None,
            len: u16::try_from(frame.len()).unwrap(),
            offloads,
            token: token(n),
        });
    }

    /// A UDP packet as a runtime sends it: IPv4 checksum zero.
    fn udp() -> Vec<u8> {
        let mut f = vec![2; 12];
        f.extend([8, 0, 0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0]);
        f.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 7, 0, 8, 0, 12, 0, 0]);
        f.extend(*b"ping");
        f
    }

    fn bytes(region: &ShmRegion, frame: &RxFrame) -> Vec<u8> {
        (0..u64::from(frame.len))
            .map(|i| region.read(ShmPtr(u64::from(frame.data) + i)).unwrap())
            .collect()
    }

    #[test]
    fn a_frame_arrives_finished_and_hashed() {
        let ingress = region(1);
        let mut port = Loopback::new(Arc::clone(&ingress));
        let mut sent = udp();
        let offloads = TxOffloads::IP_CSUM | TxOffloads::IPV4;
        push(&mut port, &mut sent, offloads, 1);
        assert_eq!(port.tx_flush(), 1);
        let mut frames = [RxFrame::EMPTY; RX_BURST_SIZE];
        assert_eq!(port.rx_burst(&mut frames), 1);
        let got = frames[0];
        let mut expected = sent.clone();
        checksum::finish(&mut expected, offloads);
        assert_ne!(expected, sent, "the sender's own bytes stay as they were");
        assert_eq!(bytes(&ingress, &got), expected);
        assert_eq!(got.hash, hash_frame(&sent));
        assert_eq!(got.data, offset_of(got.buf) + HEADROOM);
        assert_eq!(got.flags, RxFlags::FROM_LOCAL | RxFlags::IP_CSUM_GOOD);
    }

    #[test]
    fn a_wrong_header_checksum_is_not_called_good() {
        let mut port = Loopback::new(region(1));
        push(&mut port, &mut udp(), TxOffloads::empty(), 1);
        let mut frames = [RxFrame::EMPTY; RX_BURST_SIZE];
        assert_eq!(port.rx_burst(&mut frames), 1);
        assert_eq!(frames[0].flags, RxFlags::FROM_LOCAL);
    }

    #[test]
    fn every_token_comes_back_once_and_in_order() {
        let mut port = Loopback::new(region(1));
        for n in 0..5 {
            push(&mut port, &mut udp(), TxOffloads::empty(), n);
        }
        let mut done = [token(99); 3];
        assert_eq!(port.tx_done(&mut done), 3);
        assert_eq!(done, [token(0), token(1), token(2)]);
        assert_eq!(port.tx_done(&mut done), 2);
        assert_eq!(done[..2], [token(3), token(4)]);
        assert_eq!(port.tx_done(&mut done), 0);
    }

    /// One page holds 963 buffers; a burst is 64, so 15 bursts and 3 frames fill it.
    #[test]
    fn without_a_free_buffer_frames_are_dropped_counted_and_done() {
        let mut port = Loopback::new(region(1));
        let mut frames = [RxFrame::EMPTY; RX_BURST_SIZE];
        let mut done = [token(0); RX_BURST_SIZE];
        let mut held = Vec::new();
        let mut completed = 0;
        for n in 0..965 {
            push(&mut port, &mut udp(), TxOffloads::empty(), n);
            port.tx_flush();
            let got = port.rx_burst(&mut frames);
            held.extend(frames[..got].iter().map(|f| f.buf));
            completed += port.tx_done(&mut done);
        }
        assert_eq!((held.len(), completed), (963, 965));
        assert_eq!(port.stats().rx_no_buf, 2);
        held.sort();
        assert!(held.iter().map(|b| b.0).eq(0..963), "each buffer once");
        port.release(&held);
        push(&mut port, &mut udp(), TxOffloads::empty(), 1);
        assert_eq!(port.rx_burst(&mut frames), 1);
    }

    #[test]
    fn room_shrinks_until_frames_are_taken() {
        let mut port = Loopback::new(region(2));
        let mut done = [token(0); RX_BURST_SIZE];
        let mut pushed = 0;
        while port.tx_room() > 0 {
            for _ in 0..port.tx_room() {
                push(&mut port, &mut udp(), TxOffloads::empty(), 0);
                pushed += 1;
            }
            port.tx_flush();
            port.tx_done(&mut done);
        }
        assert_eq!(pushed, WAITING_MAX);
        port.rx_burst(&mut [RxFrame::EMPTY; RX_BURST_SIZE]);
        assert_eq!(port.tx_room(), RX_BURST_SIZE);
    }

    #[test]
    fn a_frame_larger_than_a_buffer_is_dropped_and_done() {
        let mut port = Loopback::new(region(1));
        push(&mut port, &mut [0; 2049], TxOffloads::all(), 4);
        push(&mut port, &mut [0; 2048], TxOffloads::all(), 5);
        push(&mut port, &mut [], TxOffloads::all(), 6);
        let mut done = [token(0); 4];
        assert_eq!(port.tx_done(&mut done), 3);
        let mut frames = [RxFrame::EMPTY; RX_BURST_SIZE];
        assert_eq!(port.rx_burst(&mut frames), 2);
        assert_eq!((frames[0].len, frames[1].len), (2048, 0));
        assert_eq!(port.stats().tx_errors, 1);
    }

    #[test]
    #[should_panic(expected = "more ingress buffers came back")]
    fn a_buffer_released_twice_is_noticed() {
        Loopback::new(region(1)).release(&[BufIdx(0)]);
    }
}
