//! A port made of queues.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::abi::ingress::{HEADROOM, INGRESS_BUFS, offset_of};
use crate::abi::shm::{ShmPtr, ShmRegion};
use crate::ids::{BufIdx, Mac, ProcId};
use crate::port::{
    Port, PortInfo, PortStats, RX_BURST_SIZE, RxFlags, RxFrame, TX_BURST_SIZE, TxFrame, TxToken,
};

/// Where a sent frame lay.
#[derive(Debug, Clone, Copy)]
pub struct SentFrame {
    /// The address of its first byte.
    pub at: usize,
    /// Its bytes.
    pub len: u16,
    /// Whose it is.
    pub proc: ProcId,
}

/// Frames come from [`FakePort::receive`]; sent ones are remembered, and done
/// when [`FakePort::auto_done`] or [`FakePort::finish`] says so.
#[derive(Debug)]
pub struct FakePort {
    ingress: Arc<ShmRegion>,
    free: Vec<BufIdx>,
    arrived: VecDeque<RxFrame>,
    queued: VecDeque<(TxToken, u16)>,
    device: VecDeque<TxToken>,
    done: VecDeque<TxToken>,
    /// Descriptors for frames: those beyond it find no room.
    pub descriptors: usize,
    /// Frames that the device takes in one flush.
    pub takes: usize,
    /// Sent frames are done at once.
    pub auto_done: bool,
    /// The device gives frames back when asked to.
    pub lazy: bool,
    /// Lengths of the frames sent so far, up to the capacity it was made with.
    pub sent: Vec<u16>,
    /// Where the frames sent so far lay, up to the capacity that the test gives it:
    /// none at first.
    pub places: Vec<SentFrame>,
    info: PortInfo,
}

impl FakePort {
    /// A port with all ingress buffers free.
    pub fn new(ingress: Arc<ShmRegion>) -> FakePort {
        FakePort {
            ingress,
            free: (0..INGRESS_BUFS).rev().map(BufIdx).collect(),
            arrived: VecDeque::with_capacity(1 << 16),
            queued: VecDeque::with_capacity(TX_BURST_SIZE),
            device: VecDeque::with_capacity(1 << 17),
            done: VecDeque::with_capacity(1 << 17),
            descriptors: usize::MAX,
            takes: usize::MAX,
            auto_done: true,
            lazy: false,
            sent: Vec::with_capacity(1 << 17),
            places: Vec::new(),
            info: PortInfo::default(),
        }
    }

    /// A frame arrives. False if no buffer is free.
    ///
    /// # Panics
    /// When the frame is longer than a buffer.
    pub fn receive(&mut self, frame: &[u8], hash: u32) -> bool {
        let Some(buf) = self.free.pop() else {
            return false;
        };
        let data = offset_of(buf) + HEADROOM;
        for (i, byte) in frame.iter().enumerate() {
            self.ingress
                .write(ShmPtr(u64::from(data) + i as u64), *byte)
                .expect("in the ingress region");
        }
        self.arrived.push_back(RxFrame {
            buf,
            data,
            hash,
            len: u16::try_from(frame.len()).expect("a frame"),
            flags: RxFlags::IP_CSUM_GOOD,
        });
        true
    }

    /// A frame to `mac` arrives whose other bytes are whatever its buffer holds: for
    /// benches.
    ///
    /// # Panics
    /// Never: buffers lie in the ingress region.
    pub fn receive_again(&mut self, mac: Mac, hash: u32, len: u16) -> bool {
        let Some(buf) = self.free.pop() else {
            return false;
        };
        let data = offset_of(buf) + HEADROOM;
        for (i, byte) in mac.0.into_iter().enumerate() {
            self.ingress
                .write(ShmPtr(u64::from(data) + i as u64), byte)
                .expect("in the ingress region");
        }
        self.arrived.push_back(RxFrame {
            buf,
            data,
            hash,
            len,
            flags: RxFlags::IP_CSUM_GOOD,
        });
        true
    }

    /// Buffers that hold no frame.
    pub fn free_bufs(&self) -> usize {
        self.free.len()
    }

    /// Takes all free buffers away: whoever has them gives them back by
    /// [`release`](Port::release).
    pub fn drain(&mut self) -> Vec<BufIdx> {
        std::mem::take(&mut self.free)
    }

    /// The device is done with up to `n` frames.
    pub fn finish(&mut self, n: usize) {
        for _ in 0..n {
            self.done.extend(self.device.pop_front());
        }
    }

    /// Frames that the device holds.
    pub fn in_device(&self) -> usize {
        self.device.len()
    }
}

impl Port for FakePort {
    fn rx_burst(&mut self, frames: &mut [RxFrame; RX_BURST_SIZE]) -> usize {
        let n = self.arrived.len().min(RX_BURST_SIZE);
        for (to, from) in frames.iter_mut().zip(self.arrived.drain(..n)) {
            *to = from;
        }
        n
    }

    fn release(&mut self, bufs: &[BufIdx]) {
        self.free.extend_from_slice(bufs);
        assert!(self.free.len() <= INGRESS_BUFS as usize, "freed twice");
    }

    fn tx_room(&self) -> usize {
        let held = self.queued.len() + self.device.len();
        (TX_BURST_SIZE - self.queued.len()).min(self.descriptors.saturating_sub(held))
    }

    fn tx_queued(&self) -> usize {
        self.queued.len()
    }

    fn tx_push(&mut self, frame: &TxFrame) {
        assert!(self.queued.len() < TX_BURST_SIZE, "pushed beyond tx_room");
        self.queued.push_back((frame.token, frame.len));
        if self.places.len() < self.places.capacity() {
            self.places.push(SentFrame {
                at: frame.data.addr().get(),
                len: frame.len,
                proc: frame.token.proc,
            });
        }
    }

    fn tx_flush(&mut self) -> usize {
        let n = self.queued.len().min(self.takes);
        for (token, len) in self.queued.drain(..n) {
            if self.sent.len() < self.sent.capacity() {
                self.sent.push(len);
            }
            if self.auto_done {
                self.done.push_back(token);
            } else {
                self.device.push_back(token);
            }
        }
        n
    }

    fn tx_done(&mut self, done: &mut [TxToken]) -> usize {
        let n = self.done.len().min(done.len());
        for (to, from) in done.iter_mut().zip(self.done.drain(..n)) {
            *to = from;
        }
        n
    }

    fn tx_reap(&mut self) {
        if self.lazy {
            self.finish(self.device.len());
        }
    }

    fn free_buffers(&self) -> u32 {
        u32::try_from(self.free.len()).expect("at most INGRESS_BUFS")
    }

    fn stats(&self) -> PortStats {
        PortStats::default()
    }

    fn info(&self) -> &PortInfo {
        &self.info
    }
}
