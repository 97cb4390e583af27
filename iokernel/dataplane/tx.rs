//! Packets of the runtimes: from a kthread's `txpktq` to the port.
//!
//! A burst is collected from the queues first, and its headers are asked into
//! the cache; then each header is read once, checked, and the frame handed to
//! the port where it lies, in the runtime's own memory. The runtime may change
//! the bytes as long as it likes: only the checked copy of the header counts.
//!
//! *Source:* C: `tx_burst`, iokernel/tx.c.

use super::{Dataplane, KthreadRef};
use crate::abi::shm::ShmPtr;
use crate::abi::types::{ETH_FRAME_MAX_VLAN, TXPKT_NET_XMIT, tx_net_hdr};
use crate::control::Fault;
use crate::port::{Port, TX_BURST_SIZE, TxFrame, TxOffloads, TxToken};
use crate::proc::MAX_UNCOMPLETED;
use crate::stats::Counter;

/// Packets of one runtime before others had their turn, where several are polled.
pub(super) const TX_SHARE: usize = TX_BURST_SIZE / 4;
/// Shortest frame that is sent: an Ethernet header.
const FRAME_MIN: u32 = 14;
const HDR: usize = size_of::<tx_net_hdr>();
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(tx_net_hdr, completion_data) == 0);
    assert!(offset_of!(tx_net_hdr, len) == 8 && offset_of!(tx_net_hdr, olflags) == 12);
};

/// A burst in the making: who sent which header.
pub(super) type Pending = arrayvec::ArrayVec<(KthreadRef, u64), TX_BURST_SIZE>;

impl<P: Port> Dataplane<P> {
    /// Sends one burst. True if there was anything to send.
    pub(super) fn tx(&mut self) -> bool {
        let room = self.port.tx_room();
        self.pending.clear();
        self.collect(room);
        if self.pending.is_empty() && self.port.tx_queued() == 0 {
            return false;
        }
        for i in 0..self.pending.len() {
            let (who, offset) = self.pending[i];
            self.push(who, offset);
        }
        let offered = self.port.tx_queued();
        let taken = self.port.tx_flush();
        self.stats.add(Counter::TxPulled, self.pending.len() as u64);
        if taken < offered {
            self.stats
                .add(Counter::TxBackpressure, (offered - taken) as u64);
        }
        !self.pending.is_empty() || taken > 0
    }

    /// Collects up to `room` packets, beginning at another kthread each turn. Each runtime
    /// has its share first; what nobody else wanted goes to those that were cut short.
    #[inline]
    fn collect(&mut self, room: usize) {
        if self.runtimes_polled > 1 {
            self.collect_round(room, TX_SHARE);
        }
        if self.runtimes_polled == 1 || (self.cut && self.pending.len() < room) {
            self.collect_round(room, TX_BURST_SIZE);
        }
    }

    /// One round over the kthreads, in which no runtime comes to more than `share`
    /// packets in this turn.
    #[inline]
    fn collect_round(&mut self, room: usize, share: usize) {
        self.cut = false;
        let mut at = self.tx_turn;
        for _ in 0..self.polled.len() {
            if self.pending.len() >= room {
                break;
            }
            at = if at + 1 < self.polled.len() {
                at + 1
            } else {
                0
            };
            let Some(who) = self.polled.get(at).copied() else {
                break;
            };
            // Nobody is to be kept from anything by the only one.
            let empty = if self.runtimes_polled == 1 {
                self.collect_from(who, room)
            } else {
                self.collect_share(who, room, share)
            };
            if empty && !self.arbiter.is_active(who.slot, who.kthread) {
                // Parked, and nothing left to send. C: unpoll_thread.
                self.polled.swap_remove(at);
                if let Some(proc) = self.procs[who.slot.index()].as_mut() {
                    proc.kthreads[who.kthread.index()].polled = false;
                    proc.notes.polled -= 1;
                    self.runtimes_polled -= usize::from(proc.notes.polled == 0);
                }
            }
        }
        self.tx_turn = at;
    }

    /// Collects from one kthread what is left of its runtime's share.
    #[inline]
    fn collect_share(&mut self, who: KthreadRef, room: usize, share: usize) -> bool {
        let (before, had) = (self.taken(who.slot).packets, self.pending.len());
        let most = room.min(had + share.saturating_sub(before));
        let empty = self.collect_from(who, most);
        let took = self.pending.len() - had;
        self.cut |= had + took == most;
        self.taken(who.slot).packets = before + took;
        empty
    }

    /// Collects from one kthread until there are `room` pending. True if its queue is
    /// empty, or to be treated so.
    #[inline]
    fn collect_from(&mut self, who: KthreadRef, room: usize) -> bool {
        let Some(proc) = self.procs[who.slot.index()].as_mut() else {
            return true;
        };
        let notes = &mut proc.notes;
        if notes.uncompleted as usize + TX_BURST_SIZE > MAX_UNCOMPLETED {
            self.stats.add(Counter::TxThrottled, 1);
            return notes.leaving.is_some();
        }
        let queue = &mut proc.kthreads[who.kthread.index()].txpktq;
        let mut bad = None;
        let mut empty = false;
        while self.pending.len() < room {
            if let Some(leaving) = &mut notes.leaving {
                // It may still be alive and sending: only what it can have had queued.
                if leaving.drain == 0 {
                    empty = true;
                    break;
                }
                leaving.drain -= 1;
            }
            let Some(msg) = queue.recv() else {
                empty = true;
                break;
            };
            if msg.cmd != u64::from(TXPKT_NET_XMIT) {
                bad = Some(Fault::BadCommand {
                    kthread: who.kthread,
                    cmd: msg.cmd,
                });
                break;
            }
            let Ok(hdr) = ShmPtr(msg.payload).check(HDR, proc.region.len()) else {
                bad = Some(Fault::BadPacketPointer {
                    kthread: who.kthread,
                    offset: msg.payload,
                });
                break;
            };
            crate::hint::prefetch_read(proc.region.base().as_ptr().wrapping_add(hdr));
            // Counted here, so that the check above holds for the next kthread too.
            notes.uncompleted += 1;
            self.pending.push((who, msg.payload));
        }
        queue.write_back();
        if let Some(fault) = bad {
            self.fault(who.slot, fault);
            return true;
        }
        empty
    }

    /// Reads one header, checks the copy, and hands the frame to the port.
    #[inline]
    fn push(&mut self, who: KthreadRef, offset: u64) {
        let Some(proc) = self.procs[who.slot.index()].as_mut() else {
            return;
        };
        let checked = frame(proc, who, offset);
        match checked {
            Ok(frame) => {
                proc.notes.tx_in_flight += 1;
                self.port.tx_push(&frame);
            }
            Err(fault) => {
                proc.notes.uncompleted -= 1;
                self.fault(who.slot, fault);
            }
        }
    }
}

/// The frame behind the header at `offset`, if it is one.
#[inline(always)]
fn frame(proc: &crate::proc::Proc, who: KthreadRef, offset: u64) -> Result<TxFrame, Fault> {
    let kthread = who.kthread;
    // Word by word: a copy of the packed struct goes through the stack, and its
    // fields, loaded from stores of other widths, would each wait for those.
    let word = |at| {
        proc.region
            .read::<u64>(ShmPtr(offset.wrapping_add(at)))
            .map_err(|_| Fault::BadPacketPointer { kthread, offset })
    };
    let (completion, rest) = (word(0)?, word(8)?);
    #[allow(clippy::cast_possible_truncation, reason = "the word's two halves")]
    let (len, olflags) = (rest as u32, (rest >> 32) as u32);
    let bad = Fault::BadPacketLength {
        kthread,
        offset,
        len,
    };
    if !(FRAME_MIN..=ETH_FRAME_MAX_VLAN).contains(&len) {
        return Err(bad);
    }
    let at = ShmPtr(offset)
        .check(HDR + len as usize, proc.region.len())
        .map_err(|_| bad)?
        + HDR;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "at most ETH_FRAME_MAX_VLAN"
    )]
    let bytes = len as u16;
    Ok(TxFrame {
        data: proc.region.at(at, len as usize),
        iova: proc.mapping.iova().of(proc.region.base(), at, len as usize),
        len: bytes,
        offloads: TxOffloads::from_bits_truncate(olflags),
        token: TxToken {
            completion,
            proc: proc.id,
            kthread,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{KthreadIdx, ProcSlot};
    use crate::testing::World;

    /// Every header near the end of the region with every length near what is left, and
    /// the lengths at the ends of what is a frame; against arithmetic in 128 bits.
    #[test]
    fn a_frame_is_good_exactly_if_it_is_one_and_inside() {
        let (_peer, proc) = World::peer(0, 1, 1);
        let end = proc.region.len() as u64;
        let who = KthreadRef {
            slot: ProcSlot(0),
            kthread: KthreadIdx(0),
        };
        let near = |n: u64| n.saturating_sub(3)..=n.saturating_add(3);
        let offsets = (end - 1600..=end + 20).chain([0, 1, u64::MAX - 17, u64::MAX]);
        for offset in offsets {
            let left = end.saturating_sub(offset).saturating_sub(HDR as u64);
            let lens = near(left).chain(near(14)).chain(near(1518));
            for len in lens.chain([1 << 31, u64::from(u32::MAX)]) {
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                let header = tx_net_hdr {
                    completion_data: 7,
                    len,
                    olflags: 0,
                    pad: 0,
                };
                // What does not fit is not written: then the offset alone must be refused.
                let there = proc.region.write(ShmPtr(offset), header).is_ok();
                let last = u128::from(offset) + HDR as u128 + u128::from(len);
                let good = there && (14..=1518).contains(&len) && last <= u128::from(end);
                let frame = frame(&proc, who, offset);
                assert_eq!(frame.is_ok(), good, "{len} bytes at {offset} of {end}");
                if let Ok(frame) = frame {
                    let from = frame.data.addr().get() - proc.region.base().addr().get();
                    assert_eq!(from as u64, offset + HDR as u64);
                    assert_eq!(u32::from(frame.len), len);
                    assert_eq!(frame.token.completion, 7);
                }
            }
        }
    }
}
