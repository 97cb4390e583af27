//! Received frames: from the port into a kthread's rxq.
//!
//! A burst is handled in three passes. The first finds each frame's runtime, and asks
//! the cache for what steering will read; the second steers, runs of frames of one
//! runtime together ([`steer`](super::steer)), and reserves a slot of an rxq for each;
//! the third, from the last frame to the first, writes the headers and publishes the
//! slots. So the slot that a consumer polls is written last, and its cache line changes
//! hands once for a burst and not once for a packet.
//!
//! Cache lines that a packet touches here: its first line and its headroom's
//! last (both prefetched), its flow's line (prefetched), its loan record, the proc's and
//! the kthread's lines (shared by the burst), a quarter of an rxq line.
//!
//! *Source:* C: `rx_burst`, `rx_one_pkt`, iokernel/rx.c.

#![allow(
    unsafe_code,
    reason = "publishes slots that were reserved in this burst"
)]

use super::Dataplane;
use super::steer::Queues;
use crate::abi::lrpc::Reserved;
use crate::abi::types::{
    CHECKSUM_TYPE_NEEDED, CHECKSUM_TYPE_UNNECESSARY, ETH_FRAME_MAX, ETH_FRAME_MAX_VLAN,
    RX_NET_RECV, rx_net_hdr,
};
use crate::ids::{KthreadIdx, Mac, ProcSlot};
use crate::port::{Port, RX_BURST_SIZE, RxFlags, RxFrame};
use crate::proc::Proc;
use crate::stats::Counter;

/// Frames ahead of the one in hand that are asked into the cache.
const PREFETCH_AHEAD: usize = 4;
/// The same for their flows' entries. Which runtime's they are is not known so early: the
/// one's that the frame in hand is for, it is assumed.
const FLOWS_AHEAD: usize = 16;
/// Copies of broadcasts in one burst, the last broadcast whole. Each costs about as much
/// as a packet, and there may be a thousand runtimes: 64 broadcasts to all of them would
/// take milliseconds. A few dozen to a hundred runtimes are nobody's attack, and all pass.
pub(super) const BROADCAST_COPIES: usize = 4096;
/// An Ethernet header.
const ETH_HDR: u32 = 14;

/// Who is to get a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiver {
    /// The runtime that has its destination address.
    Proc(ProcSlot),
    /// All runtimes.
    All,
    /// Nobody: it was dropped.
    Nobody,
}

/// Frames of a burst, one after the other, that go to the same receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    receiver: Receiver,
    start: u8,
    end: u8,
}

impl Run {
    #[inline]
    fn frames(self) -> std::ops::Range<usize> {
        self.start.into()..self.end.into()
    }
}

/// The runs of a burst.
pub(super) type Runs = arrayvec::ArrayVec<Run, RX_BURST_SIZE>;

/// Where each frame of a burst goes: a reserved slot and the loan's tag.
pub(super) type Routes = arrayvec::ArrayVec<(Reserved, u64, u16), RX_BURST_SIZE>;

const BROADCAST: u64 = 0xffff_ffff_ffff;

/// True if a runtime's 2 KiB buffer is meant to take such a frame.
///
/// 1514 bytes, or 1518 with a VLAN tag. The runtime copies without looking, so
/// this is the only check.
#[inline]
fn fits(len: u16, ethertype_is_vlan: impl FnOnce() -> bool) -> bool {
    let len = u32::from(len);
    (ETH_HDR..=ETH_FRAME_MAX).contains(&len)
        || (len > ETH_FRAME_MAX && len <= ETH_FRAME_MAX_VLAN && ethertype_is_vlan())
}

impl<P: Port> Dataplane<P> {
    /// Receives one burst. True if there was any.
    pub(super) fn rx(&mut self) -> bool {
        let n = self.port.rx_burst(&mut self.frames);
        if n == 0 {
            return false;
        }
        self.stats.add(Counter::RxPulled, n as u64);
        for frame in &self.frames[..n.min(PREFETCH_AHEAD)] {
            self.ingress.prefetch(frame.data);
            self.loans.prefetch(frame.buf);
        }
        // Most bursts begin with the runtime that the last one ended with.
        for frame in &self.frames[..n.min(FLOWS_AHEAD)] {
            self.ahead.ask_for(frame.hash);
        }
        self.routes.clear();
        self.runs.clear();
        for i in 0..n {
            if let Some(ahead) = self.frames[..n].get(i + PREFETCH_AHEAD) {
                self.ingress.prefetch(ahead.data);
                self.loans.prefetch(ahead.buf);
            }
            self.burst.hashes[i] = self.frames[i].hash;
            let receiver = self.receiver(i);
            self.add_to_run(i, receiver);
            if let Some(later) = self.frames[..n].get(i + FLOWS_AHEAD) {
                self.ahead.ask_for(later.hash);
            }
        }
        let mut copies = 0;
        for at in 0..self.runs.len() {
            let run = self.runs[at];
            match run.receiver {
                Receiver::Proc(slot) => self.steer_run(slot, run.frames()),
                Receiver::All => {
                    for i in run.frames() {
                        copies += self.broadcast(self.frames[i], copies);
                    }
                }
                Receiver::Nobody => {}
            }
        }
        self.publish();
        self.give_back();
        true
    }

    /// First pass: finds the receiver of frame `i`.
    #[inline]
    fn receiver(&mut self, i: usize) -> Receiver {
        let frame = self.frames[i];
        let dst = self.ingress.dst_mac(frame.data);
        if !fits(frame.len, || self.ingress.is_vlan(frame.data)) {
            self.drop_frame(&frame, Counter::RxBadLength);
            return Receiver::Nobody;
        }
        if dst & 1 != 0 {
            if dst & BROADCAST == Mac::BROADCAST.to_bits() && !self.live.is_empty() {
                return Receiver::All;
            }
            self.drop_frame(&frame, Counter::RxUnhandled);
            return Receiver::Nobody;
        }
        let Some(slot) = self.macs.find(dst) else {
            self.drop_frame(&frame, Counter::RxUnregisteredMac);
            return Receiver::Nobody;
        };
        Receiver::Proc(slot)
    }

    /// Frames that follow each other and have the same receiver are a run.
    #[inline]
    fn add_to_run(&mut self, i: usize, receiver: Receiver) {
        #[allow(clippy::cast_possible_truncation, reason = "below RX_BURST_SIZE")]
        let i = i as u8;
        match self.runs.last_mut() {
            Some(run) if run.receiver == receiver => run.end = i + 1,
            _ => {
                self.runs.push(Run {
                    receiver,
                    start: i,
                    end: i + 1,
                });
                if let Receiver::Proc(slot) = receiver
                    && slot != self.ahead_of
                {
                    self.ahead = self.proc(slot).steering.ahead();
                    self.ahead_of = slot;
                    self.ahead.ask_for(self.burst.hashes[usize::from(i)]);
                }
            }
        }
    }

    /// Reserves slots for packets of one runtime that have been steered.
    #[inline]
    pub(super) fn queue(&mut self, slot: ProcSlot, run: std::ops::Range<usize>) {
        let proc = self.procs[slot.index()]
            .as_mut()
            .expect("packets are steered to attached runtimes");
        for i in run {
            let frame = self.frames[i];
            let kthread = self.burst.kthreads[i];
            // There is room: each frame of a burst is freed once at most.
            if !self.lending.allows(proc.notes.lent, self.loans.lent()) {
                self.stats.add(Counter::RxLentMax, 1);
                self.freed.push(frame.buf);
                continue;
            }
            let Some(place) = proc.kthreads[kthread.index()].rxq.reserve() else {
                self.stats.add(Counter::RxUnicastFail, 1);
                self.freed.push(frame.buf);
                continue;
            };
            place.prefetch();
            proc.notes.lent += 1;
            queued(proc, frame.hash, kthread);
            let tag = self.loans.lend(frame.buf, slot);
            #[allow(clippy::cast_possible_truncation, reason = "below RX_BURST_SIZE")]
            self.routes.push((place, tag, i as u16));
        }
    }

    /// A kthread for a message to a runtime of which none may be active: the
    /// arbiter wakes one if it can.
    #[cold]
    pub(super) fn kthread_of_idle_proc(&mut self, slot: ProcSlot) -> KthreadIdx {
        let kthread = self.arbiter.kthread_for_packet(slot, &mut self.decisions);
        self.apply();
        kthread
    }

    /// Second pass: writes headers and publishes, last frame first.
    #[inline]
    fn publish(&mut self) {
        for (place, tag, i) in self.routes.iter().rev() {
            let frame = &self.frames[usize::from(*i)];
            let hdr = self.ingress.write_rx_hdr(frame.data, &rx_hdr(frame, *tag));
            // SAFETY: reserved in this burst; no runtime is unmapped while the
            // dataplane holds its Proc, and none is handed back inside a burst.
            unsafe { place.publish(u64::from(RX_NET_RECV), hdr) };
        }
        self.stats
            .add(Counter::RxDelivered, self.routes.len() as u64);
    }

    /// A frame to everybody, in a burst that has had `copies` already. How many copies
    /// were tried.
    #[cold]
    fn broadcast(&mut self, frame: RxFrame, copies: usize) -> usize {
        if copies >= BROADCAST_COPIES {
            let missed = self.live.len() as u64;
            self.stats.add(Counter::RxBroadcastFail, missed);
            self.free_later(frame.buf);
            return 0;
        }
        let sender = frame
            .flags
            .contains(RxFlags::FROM_LOCAL)
            .then(|| self.macs.find(self.ingress.src_mac(frame.data)))
            .flatten();
        let tag = self.loans.open_group(frame.buf);
        let hdr = self.ingress.write_rx_hdr(frame.data, &rx_hdr(&frame, tag));
        let (lending, lent) = (self.lending, self.loans.lent());
        // By index: steering may wake kthreads. It detaches nobody.
        for at in 0..self.live.len() {
            let slot = self.live[at];
            if Some(slot) == sender {
                continue;
            }
            let kthread = self.steer_one(slot, frame.hash);
            let proc = self.proc(slot);
            if lending.allows(proc.notes.lent, lent)
                && proc.kthreads[kthread.index()]
                    .rxq
                    .send(u64::from(RX_NET_RECV), hdr)
            {
                proc.notes.lent += 1;
                queued(proc, frame.hash, kthread);
                self.loans.join_group(frame.buf, slot);
                self.stats.add(Counter::RxDelivered, 1);
            } else {
                self.stats.add(Counter::RxBroadcastFail, 1);
            }
        }
        if self.loans.close_group(frame.buf) {
            self.free_later(frame.buf);
        }
        self.live.len()
    }

    #[cold]
    fn drop_frame(&mut self, frame: &RxFrame, why: Counter) {
        self.stats.add(why, 1);
        self.free_later(frame.buf);
    }

    /// Puts a buffer on the list of those that [`give_back`](Self::give_back) returns.
    #[inline]
    pub(super) fn free_later(&mut self, buf: crate::ids::BufIdx) {
        if self.freed.is_full() {
            self.give_back();
        }
        self.freed.push(buf);
    }

    /// Returns freed buffers to the port.
    #[inline]
    pub(super) fn give_back(&mut self) {
        if !self.freed.is_empty() {
            self.port.release(&self.freed);
            self.freed.clear();
        }
    }
}

/// A packet got a slot in a kthread's rxq.
#[inline]
fn queued(proc: &mut Proc, hash: u32, kthread: KthreadIdx) {
    proc.kthreads[kthread.index()].received += 1;
    let Proc {
        steering, kthreads, ..
    } = proc;
    steering.queued(hash, kthread, &mut Queues(kthreads));
}

/// The header of a received frame. C: `rx_prepend_rx_preamble`, iokernel/rx.c.
#[inline]
fn rx_hdr(frame: &RxFrame, tag: u64) -> rx_net_hdr {
    rx_net_hdr {
        completion_data: tag,
        len: u32::from(frame.len),
        rss_hash: frame.hash,
        csum_type: if frame.flags.contains(RxFlags::IP_CSUM_GOOD) {
            CHECKSUM_TYPE_UNNECESSARY
        } else {
            CHECKSUM_TYPE_NEEDED
        },
        csum: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn standard_frames_fit_and_longer_ones_only_with_a_tag() {
        assert!(fits(14, || false) && fits(1514, || false));
        assert!(!fits(13, || true) && !fits(0, || true));
        assert!(fits(1518, || true) && !fits(1515, || false));
        assert!(!fits(1519, || true) && !fits(u16::MAX, || true));
    }
}
