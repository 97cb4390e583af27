//! LRPC: one-way rings of 16-byte messages between two processes.
//!
//! ```text
//!   slot:      0              1                      size-1
//!        +-----+-------+ +-----+-------+       +-----+-------+
//!        | cmd |payload| | cmd |payload|  ...  | cmd |payload|      wb (u32)
//!        +-----+-------+ +-----+-------+       +-----+-------+
//!          ^ bit 63 of cmd is the parity: set on even laps, clear on odd ones
//! ```
//!
//! A message is published by its parity alone; the write-back word is flow
//! control only. Counters are 32 bits wide and wrap. Producer and consumer keep
//! their own counters in private memory: the peer can spoil messages and the
//! write-back word, but not where we read or write.
//!
//! Slots may be published in any order once they are reserved: the consumer
//! stops at the first slot of an older parity. A burst is published from its
//! last slot to its first, so the consumer, polling the first, takes none of
//! the lines before all of them are written.
//!
//! *Source:* C: inc/base/lrpc.h, base/lrpc.c.

#![allow(unsafe_code, reason = "reads and writes shared slots")]

use std::ptr::NonNull;

use super::shm::{ShmError, ShmPtr, ShmRegion};
use super::sync::{AtomicU32, AtomicU64, Ordering};

/// Bit 63 of `cmd`. C: `LRPC_DONE_PARITY`.
pub const DONE_PARITY: u64 = 1 << 63;
/// Most slots that a ring may have. Upstream's rings have 4096.
pub const MAX_SLOTS: u32 = 1 << 20;

/// One slot. Payload is atomic too, so that a peer that breaks the protocol
/// causes a wrong value and not a data race.
#[repr(C)]
#[derive(Debug)]
pub struct Slot {
    cmd: AtomicU64,
    payload: AtomicU64,
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Msg {
    /// The command, bit 63 clear.
    pub cmd: u64,
    /// Its argument.
    pub payload: u64,
}

/// Why a ring was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The number of slots cannot be masked, or is beyond reason.
    #[error("a ring of {0} slots: must be a power of two, at most {MAX_SLOTS}")]
    Slots(u64),
    /// Slots or write-back word lie where they may not.
    #[error(transparent)]
    Shm(#[from] ShmError),
}

/// The write-back word cannot be true: it is ahead of what was sent, or went back.
///
/// The peer is broken. Our own counters are unharmed and the last believable
/// value stands; the caller decides what becomes of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write-back word {wb} where {tail} to {head} is possible")]
pub struct BadWriteBack {
    /// What the peer wrote.
    pub wb: u32,
    /// The last value believed.
    pub tail: u32,
    /// Messages sent.
    pub head: u32,
}

#[inline]
fn parity(counter: u32, mask: u32) -> u64 {
    if counter & (mask + 1) == 0 {
        DONE_PARITY
    } else {
        0
    }
}

/// Checks the place of a ring, and gives slots, mask and write-back word.
fn place(
    region: &ShmRegion,
    slots: u64,
    buf: ShmPtr,
    wb: ShmPtr,
) -> Result<(NonNull<Slot>, u32, NonNull<AtomicU32>), RingError> {
    let count = u32::try_from(slots)
        .ok()
        .filter(|n| n.is_power_of_two() && *n <= MAX_SLOTS)
        .ok_or(RingError::Slots(slots))?;
    let table = region.array::<Slot>(buf, count as usize)?;
    Ok((table, count - 1, region.array::<AtomicU32>(wb, 1)?))
}

/// The producer's side. C: `struct lrpc_chan_out`.
#[derive(Debug)]
pub struct LrpcTx {
    table: NonNull<Slot>,
    wb: NonNull<AtomicU32>,
    mask: u32,
    /// Messages ever reserved. C: `send_head`.
    head: u32,
    /// Messages consumed, as last read from the peer. C: `send_tail`.
    tail: u32,
}

// SAFETY: points into a ShmRegion, which is Send; access is atomic.
unsafe impl Send for LrpcTx {}

impl LrpcTx {
    /// The sending end of a ring that lies in `region`, from counter 0.
    ///
    /// The view must not outlive `region`.
    ///
    /// # Errors
    /// [`RingError`] names what is wrong with the place or the size.
    pub fn new(region: &ShmRegion, slots: u64, buf: ShmPtr, wb: ShmPtr) -> Result<Self, RingError> {
        let (table, mask, wb) = place(region, slots, buf, wb)?;
        // SAFETY: place() checked bounds, alignment and size.
        Ok(unsafe { Self::from_raw(table, mask, wb) })
    }

    /// # Safety
    /// `table` has `mask + 1` slots, a power of two; both outlive the view.
    pub unsafe fn from_raw(table: NonNull<Slot>, mask: u32, wb: NonNull<AtomicU32>) -> Self {
        LrpcTx {
            table,
            wb,
            mask,
            head: 0,
            tail: 0,
        }
    }

    /// Messages ever sent, wrapping. C: `send_head`.
    #[inline]
    pub fn sent(&self) -> u32 {
        self.head
    }

    /// Sends one message; false when the ring is full.
    #[inline]
    pub fn send(&mut self, cmd: u64, payload: u64) -> bool {
        match self.reserve() {
            Some(slot) => {
                // SAFETY: the ring is mapped while `self` lives.
                unsafe { slot.publish(cmd, payload) };
                true
            }
            None => false,
        }
    }

    /// Takes the next slot without filling it; `None` when the ring is full.
    ///
    /// Every reserved slot must be published: the consumer waits at the first
    /// that is not.
    #[inline]
    pub fn reserve(&mut self) -> Option<Reserved> {
        if self.head.wrapping_sub(self.tail) > self.mask && !self.refresh() {
            return None;
        }
        let counter = self.head;
        self.head = counter.wrapping_add(1);
        Some(Reserved {
            // SAFETY: masked to the table's size, which new() checked.
            slot: unsafe { self.table.add((counter & self.mask) as usize) },
            parity: parity(counter, self.mask),
        })
    }

    /// Messages sent and, by the peer's word, not yet consumed.
    ///
    /// Takes the peer's cache line. Stale as soon as it is read: good for "was
    /// behind at this moment", not for "is empty now".
    ///
    /// # Errors
    /// [`BadWriteBack`] when the peer's word is impossible.
    #[inline]
    pub fn poll_in_flight(&mut self) -> Result<u32, BadWriteBack> {
        // SAFETY: new() checked bounds and alignment of the word.
        // Acquire: pairs with the consumer's release store of the word; the slots up to it are ours again.
        let wb = unsafe { self.wb.as_ref() }.load(Ordering::Acquire);
        let in_flight = self.head.wrapping_sub(wb);
        if in_flight > self.head.wrapping_sub(self.tail) {
            return Err(BadWriteBack {
                wb,
                tail: self.tail,
                head: self.head,
            });
        }
        self.tail = wb;
        Ok(in_flight)
    }

    #[cold]
    fn refresh(&mut self) -> bool {
        // An impossible word frees no slot here; the congestion tick reads it again and reports it.
        matches!(self.poll_in_flight(), Ok(n) if n <= self.mask)
    }
}

/// A slot taken from a ring and not yet published.
#[derive(Debug, Clone, Copy)]
pub struct Reserved {
    slot: NonNull<Slot>,
    parity: u64,
}

impl Reserved {
    /// Asks the cache for the slot.
    #[inline]
    pub fn prefetch(self) {
        crate::hint::prefetch_write(self.slot.as_ptr());
    }

    /// Fills the slot: payload first, then the command with its parity.
    ///
    /// # Safety
    /// The ring that the slot was reserved from is still mapped.
    #[inline]
    pub unsafe fn publish(self, cmd: u64, payload: u64) {
        debug_assert_eq!(cmd & DONE_PARITY, 0);
        // SAFETY: in bounds (reserve() masked it) and mapped (the caller's promise).
        let slot = unsafe { self.slot.as_ref() };
        slot.payload.store(payload, Ordering::Relaxed);
        // Release: pairs with the acquire load in lrpc_recv (base/lrpc.h), after which the payload is read.
        slot.cmd.store(cmd | self.parity, Ordering::Release);
    }
}

/// The consumer's side. C: `struct lrpc_chan_in`.
#[derive(Debug)]
pub struct LrpcRx {
    table: NonNull<Slot>,
    wb: NonNull<AtomicU32>,
    mask: u32,
    /// Messages ever received. C: `recv_head`.
    head: u32,
    /// What the peer was last told.
    told: u32,
}

// SAFETY: points into a ShmRegion, which is Send; access is atomic.
unsafe impl Send for LrpcRx {}

impl LrpcRx {
    /// The receiving end of a ring that lies in `region`, from counter 0.
    ///
    /// The view must not outlive `region`.
    ///
    /// # Errors
    /// [`RingError`] names what is wrong with the place or the size.
    pub fn new(region: &ShmRegion, slots: u64, buf: ShmPtr, wb: ShmPtr) -> Result<Self, RingError> {
        let (table, mask, wb) = place(region, slots, buf, wb)?;
        // SAFETY: place() checked bounds, alignment and size.
        Ok(unsafe { Self::from_raw(table, mask, wb) })
    }

    /// # Safety
    /// `table` has `mask + 1` slots, a power of two; both outlive the view.
    pub unsafe fn from_raw(table: NonNull<Slot>, mask: u32, wb: NonNull<AtomicU32>) -> Self {
        LrpcRx {
            table,
            wb,
            mask,
            head: 0,
            told: 0,
        }
    }

    /// Takes the next message, if there is one.
    ///
    /// The slot is not given back before [`write_back`](Self::write_back).
    #[inline]
    pub fn recv(&mut self) -> Option<Msg> {
        // A peer that ignores flow control must not make us run ahead of what it was told.
        if self.head.wrapping_sub(self.told) > self.mask {
            return None;
        }
        // SAFETY: masked to the table's size, which new() checked.
        let slot = unsafe { self.table.add((self.head & self.mask) as usize).as_ref() };
        // Acquire: pairs with the release store in lrpc_send (base/lrpc.h).
        let cmd = slot.cmd.load(Ordering::Acquire);
        if cmd & DONE_PARITY != parity(self.head, self.mask) {
            return None;
        }
        let payload = slot.payload.load(Ordering::Relaxed);
        self.head = self.head.wrapping_add(1);
        Some(Msg {
            cmd: cmd & !DONE_PARITY,
            payload,
        })
    }

    /// Gives the slots of all received messages back to the producer.
    #[inline]
    pub fn write_back(&mut self) {
        if self.told != self.head {
            self.told = self.head;
            // SAFETY: new() checked bounds and alignment of the word.
            // Release: pairs with the acquire load of the word in lrpc_poll_send_tail (base/lrpc.h);
            // our reads of the slots come before it.
            unsafe { self.wb.as_ref() }.store(self.head, Ordering::Release);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
