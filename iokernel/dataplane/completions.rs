//! Completions: telling a runtime that the port is done with its packet.
//!
//! Each accepted packet is completed exactly once. A completion goes to the
//! kthread that sent the packet if that is active, else to whichever has its
//! turn; when the rxq is full it waits on the runtime's overflow list. The list
//! cannot run over: a runtime with [`MAX_UNCOMPLETED`] packets that it was not
//! told about sends no more ([`tx`](super::tx) leaves its queue alone).
//!
//! *Source:* C: `tx_send_completion`, `tx_drain_completions`, iokernel/tx.c.

#![allow(
    unsafe_code,
    reason = "publishes slots that were reserved in this burst"
)]

use super::Dataplane;
use crate::abi::lrpc::Reserved;
use crate::abi::types::{RX_JOIN, RX_NET_COMPLETE};
use crate::ids::{KthreadIdx, ProcId, ProcSlot};
use crate::port::{Port, TxToken};
use crate::proc::MAX_UNCOMPLETED;
use crate::stats::Counter;

/// Completions taken from the port at once.
pub(super) const DONE_BURST_SIZE: usize = 64;
/// Such bursts in one turn of the loop.
const DONE_ROUNDS: usize = 4;
/// Joins and completions that waited, sent in one turn. C: `IOKERNEL_OVERFLOW_BATCH_DRAIN`.
pub(super) const OVERFLOW_BATCH_DRAIN: usize = 64;

/// Reserved places, and what each completes.
pub(super) type Completed = arrayvec::ArrayVec<(Reserved, u64), DONE_BURST_SIZE>;

/// A placeholder for burst arrays.
pub(super) const NO_TOKEN: TxToken = TxToken {
    completion: 0,
    proc: ProcId {
        slot: ProcSlot(0),
        generation: 0,
    },
    kthread: KthreadIdx(0),
};

impl<P: Port> Dataplane<P> {
    /// Passes on what the port is done with. True if there was any.
    pub(super) fn completions(&mut self) -> bool {
        let mut worked = false;
        for _ in 0..DONE_ROUNDS {
            let n = self.port.tx_done(&mut self.done[..]);
            for i in 0..n {
                let token = self.done[i];
                self.complete(token);
            }
            self.publish_completions();
            worked |= n > 0;
            if n < DONE_BURST_SIZE {
                break;
            }
        }
        worked
    }

    /// Reserves the completion's place in its sender's rxq, or finds another.
    #[inline]
    fn complete(&mut self, token: TxToken) {
        let slot = token.proc.slot;
        let proc = self.procs[slot.index()]
            .as_mut()
            .expect("a runtime stays while the port holds its packets");
        debug_assert_eq!(proc.id, token.proc);
        proc.notes.tx_in_flight -= 1;
        if proc.notes.leaving.is_some() {
            return;
        }
        if self.arbiter.is_active(slot, token.kthread) {
            if let Some(place) = proc.kthreads[token.kthread.index()].rxq.reserve() {
                place.prefetch();
                proc.notes.uncompleted -= 1;
                self.completed.push((place, token.completion));
            } else {
                self.overflow(slot, token.completion);
            }
        } else if self.send_to_any(slot, u64::from(RX_NET_COMPLETE), token.completion) {
            self.proc(slot).notes.uncompleted -= 1;
            self.stats.add(Counter::CompletionEnqueued, 1);
        } else {
            self.overflow(slot, token.completion);
        }
    }

    /// Fills the reserved places, last to first, as [`rx`](super::rx) does and
    /// for the same reason.
    #[inline]
    fn publish_completions(&mut self) {
        for (place, completion) in self.completed.iter().rev() {
            // SAFETY: reserved in this burst; no runtime is unmapped while the
            // dataplane holds its Proc, and none is handed back inside a burst.
            unsafe { place.publish(u64::from(RX_NET_COMPLETE), *completion) };
        }
        self.stats
            .add(Counter::CompletionEnqueued, self.completed.len() as u64);
        self.completed.clear();
    }

    /// Sends a message to whichever kthread has its turn. False if its rxq is full.
    ///
    /// *Source:* C: `rx_send_to_runtime` with `next_thread_rr`.
    pub(super) fn send_to_any(&mut self, slot: ProcSlot, cmd: u64, payload: u64) -> bool {
        let notes = &mut self.proc(slot).notes;
        let turn = notes.round_robin;
        notes.round_robin = turn.wrapping_add(1);
        let active = self.arbiter.active(slot);
        let kthread = if active.is_empty() {
            self.kthread_of_idle_proc(slot)
        } else {
            active[turn as usize % active.len()]
        };
        let proc = self.proc(slot);
        proc.kthreads[kthread.index()].rxq.send(cmd, payload)
    }

    #[cold]
    fn overflow(&mut self, slot: ProcSlot, completion: u64) {
        self.stats.add(Counter::TxCompletionOverflow, 1);
        let proc = self.proc(slot);
        assert!(
            proc.overflow.len() < MAX_UNCOMPLETED,
            "tx accepts no packet whose completion has no place"
        );
        proc.overflow.push_back(completion);
        self.try_again(slot);
    }

    /// Lets [`drain_overflows`](Self::drain_overflows) look after a runtime.
    pub(super) fn try_again(&mut self, slot: ProcSlot) {
        let notes = &mut self.proc(slot).notes;
        if !notes.overflowing {
            notes.overflowing = true;
            self.overflowing.push(slot);
        }
    }

    /// Sends joins, and completions from the overflow lists, another runtime first each
    /// turn. True if any could be sent.
    #[cold]
    pub(super) fn drain_overflows(&mut self) -> bool {
        let mut budget = OVERFLOW_BATCH_DRAIN;
        self.overflow_turn = self.overflow_turn.wrapping_add(1);
        let mut at = self.overflow_turn % self.overflowing.len();
        for _ in 0..self.overflowing.len() {
            let Some(slot) = self.overflowing.get(at).copied() else {
                break;
            };
            budget -= self.drain_overflow(slot, budget);
            let proc = self.proc(slot);
            if proc.overflow.is_empty() && proc.joins.is_empty() || proc.notes.leaving.is_some() {
                proc.notes.overflowing = false;
                self.overflowing.swap_remove(at);
            } else {
                at += 1;
            }
            if at >= self.overflowing.len() {
                at = 0;
            }
            if budget == 0 {
                break;
            }
        }
        budget < OVERFLOW_BATCH_DRAIN
    }

    /// Sends up to `budget` of what a runtime waits for; how many it was. Joins first: they
    /// are few, and whole run queues wait for them.
    fn drain_overflow(&mut self, slot: ProcSlot, budget: usize) -> usize {
        let joins = self.drain_joins(slot, budget);
        joins + self.drain_completions(slot, budget - joins)
    }

    fn drain_joins(&mut self, slot: ProcSlot, budget: usize) -> usize {
        for sent in 0..budget {
            let Some(payload) = self.proc(slot).joins.front().copied() else {
                return sent;
            };
            if !self.send_to_any(slot, u64::from(RX_JOIN), payload) {
                return sent;
            }
            self.proc(slot).joins.pop_front();
        }
        budget
    }

    fn drain_completions(&mut self, slot: ProcSlot, budget: usize) -> usize {
        for sent in 0..budget {
            let Some(completion) = self.proc(slot).overflow.front().copied() else {
                return sent;
            };
            if !self.send_to_any(slot, u64::from(RX_NET_COMPLETE), completion) {
                return sent;
            }
            let proc = self.proc(slot);
            proc.overflow.pop_front();
            proc.notes.uncompleted -= 1;
            self.stats.add(Counter::CompletionEnqueued, 1);
            self.stats.add(Counter::CompletionDrained, 1);
        }
        budget
    }
}
