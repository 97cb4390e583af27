//! Departures: whatever a runtime held comes back before it is let go.
//!
//! A runtime that leaves gets nothing more at once: its cores go to others, its
//! address leads nowhere. Then, a little in each turn of the loop, packets it
//! had queued are sent (unless it broke the contract), the buffers lent to it
//! return to the port, and the port finishes with its memory. Last, the
//! [`Proc`](crate::proc::Proc) returns to the control thread, which unmaps it.
//!
//! *Source:* C: `dp_clients_remove_client`, iokernel/dp_clients.c, which leaves
//! the lent buffers behind.

use super::Dataplane;
use super::loans::Returned;
use crate::abi::ingress::INGRESS_BUFS;
use crate::control::{DetachReason, Fault, ToControl};
use crate::ids::{BufIdx, ProcSlot};
use crate::port::Port;
use crate::proc::Leaving;
use crate::stats::Counter;

/// Buffers looked at in one turn of the loop, for loans of departed runtimes.
const RECLAIM_BURST_SIZE: u32 = 4096;
/// Departed runtimes looked after in one turn.
const SEE_OFF_BURST_SIZE: usize = 16;
/// Queued packets that are still sent for a runtime that hung up or died: one full
/// `txpktq` of an unmodified runtime.
const DRAIN_MAX: u32 = 4096;
/// Turns that a stopping dataplane waits for the port to finish sending.
const SHUTDOWN_TURNS: u32 = 200_000;

impl<P: Port> Dataplane<P> {
    /// Detaches a runtime that broke the contract.
    #[cold]
    pub(super) fn fault(&mut self, slot: ProcSlot, fault: Fault) {
        if self.proc(slot).notes.leaving.is_none() {
            self.stats.add(Counter::Faults, 1);
            self.stats.add(fault.counter(), 1);
            self.detach(slot, DetachReason::Fault(fault));
        }
    }

    /// Begins a departure.
    #[cold]
    pub(super) fn detach(&mut self, slot: ProcSlot, reason: DetachReason) {
        let drain = match reason {
            DetachReason::HungUp | DetachReason::ThreadGone { .. } => DRAIN_MAX,
            DetachReason::Fault(_) | DetachReason::Shutdown => 0,
        };
        let proc = self.proc(slot);
        proc.overflow.clear();
        proc.joins.clear();
        proc.notes.leaving = Some(Leaving {
            reason,
            drain,
            cursor: 0,
        });
        let mac = proc.mac;
        self.macs.remove(mac, slot);
        self.live.retain(|s| *s != slot);
        self.failed.retain(|(s, _)| *s != slot);
        self.leaving.push(slot);
        let seat = self.arbiter.remove(slot, &mut self.decisions);
        self.proc(slot).seat = seat;
        self.apply();
    }

    /// Moves some departures on a little, others first each turn; hands over what is
    /// finished.
    #[cold]
    pub(super) fn see_off(&mut self) {
        let mut budget = RECLAIM_BURST_SIZE;
        let mut reap = false;
        for _ in 0..self.leaving.len().min(SEE_OFF_BURST_SIZE) {
            if self.leave_turn >= self.leaving.len() {
                self.leave_turn = 0;
            }
            let slot = self.leaving[self.leave_turn];
            budget -= self.reclaim(slot, budget);
            reap |= self.proc(slot).notes.tx_in_flight > 0;
            if self.holds_nothing(slot) {
                self.leaving.swap_remove(self.leave_turn);
                self.hand_over(slot);
            } else {
                self.leave_turn += 1;
            }
        }
        if reap {
            self.port.tx_reap();
        }
        self.give_back();
    }

    /// Takes back loans, looking at `budget` buffers at most; stops at the last loan.
    /// Returns at how many it looked.
    fn reclaim(&mut self, slot: ProcSlot, budget: u32) -> u32 {
        let Some(mut leaving) = self.proc(slot).notes.leaving else {
            return 0;
        };
        let mut lent = self.proc(slot).notes.lent;
        let start = leaving.cursor;
        let end = (start + budget).min(INGRESS_BUFS);
        while lent > 0 && leaving.cursor < end {
            let returned = self.loans.reclaim(BufIdx(leaving.cursor), slot);
            if returned != Returned::Bad {
                lent -= 1;
                self.stats.add(Counter::RxReclaimed, 1);
            }
            if let Returned::Free(buf) = returned {
                self.free_later(buf);
            }
            leaving.cursor += 1;
        }
        let notes = &mut self.proc(slot).notes;
        assert!(
            lent == 0 || leaving.cursor < INGRESS_BUFS,
            "every loan is in the records"
        );
        notes.lent = lent;
        notes.leaving = Some(leaving);
        leaving.cursor - start
    }

    fn holds_nothing(&mut self, slot: ProcSlot) -> bool {
        let proc = self.proc(slot);
        proc.notes.tx_in_flight == 0
            && proc.notes.lent == 0
            && !proc.notes.overflowing
            && !proc.kthreads.iter().any(|k| k.polled)
    }

    fn hand_over(&mut self, slot: ProcSlot) {
        let proc = self.procs[slot.index()]
            .take()
            .expect("departing runtimes keep their slot");
        let reason = proc
            .notes
            .leaving
            .expect("departing runtimes have a reason")
            .reason;
        self.stats.add(Counter::Detached, 1);
        let message = ToControl::Detached { proc, reason };
        assert!(
            self.link.to_control.push(message).is_ok(),
            "the ring holds a message for every slot"
        );
    }

    /// Detaches everybody and waits, for a bounded time, until the port holds
    /// nothing of theirs. A runtime whose packets a device never gives back
    /// stays mapped until the process ends.
    pub(super) fn shut_down(&mut self) {
        while let Some(slot) = self.live.last().copied() {
            self.detach(slot, DetachReason::Shutdown);
        }
        for _ in 0..SHUTDOWN_TURNS {
            if self.leaving.is_empty() {
                return;
            }
            self.completions();
            if !self.overflowing.is_empty() {
                self.drain_overflows();
            }
            self.tx();
            self.see_off();
        }
    }
}
