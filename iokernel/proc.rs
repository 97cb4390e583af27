//! A registered runtime, as the control thread hands it to the dataplane.
//!
//! The control thread makes a [`Proc`] once everything in a registration has
//! been checked, sends it to the dataplane, and gets it back to drop it when
//! the dataplane holds nothing of it any more. So a `Proc` has one owner at any
//! time, and mapping, unmapping and closing never happen in the polling loop.

use std::os::fd::OwnedFd;

use crate::abi::lrpc::{LrpcRx, LrpcTx};
use crate::abi::qptrs::QPtrs;
use crate::abi::shm::ShmRegion;
use crate::cores::arbiter::Seat;
use crate::ids::{Mac, ProcId};
use crate::port::dma::Mapping;
use crate::stats::SteerStats;
use crate::steering::ProcSteering;

/// A runtime that passed every check. C: `struct proc`.
///
/// Views come before the region that they point into, so they are dropped first.
#[derive(Debug)]
pub struct Proc {
    /// Slot and generation, given by the control thread.
    pub id: ProcId,
    /// The peer's process, by `SO_PEERCRED`.
    pub pid: i32,
    /// The peer's user, by `SO_PEERCRED`.
    pub uid: u32,
    /// Its Ethernet address: unicast, not zero, no other runtime's.
    pub mac: Mac,
    /// Cores it is given whenever it wants them.
    pub guaranteed_cores: u16,
    /// Its kthreads, in registration order; 1 to 256.
    pub kthreads: Box<[Kthread]>,
    /// Completions that its rings could not take; empty, with capacity
    /// [`MAX_UNCOMPLETED`], so that it never grows in the polling loop.
    pub overflow: std::collections::VecDeque<u64>,
    /// Joins that its rings could not take, each payload once; empty, with room for
    /// as many as it has kthreads: unmodified runtimes name the parked kthread.
    pub joins: std::collections::VecDeque<u64>,
    /// Which of its kthreads gets a packet.
    pub steering: Box<ProcSteering>,
    /// Its place in the core arbiter, while that has it not.
    pub seat: Option<Seat>,
    /// What is counted of its steering.
    pub steer_stats: SteerStats,
    /// The dataplane's own notes; made by `Default`.
    pub notes: Notes,
    /// Its region as devices see it; unmapped on drop.
    pub mapping: Mapping,
    /// Its shared memory.
    pub region: ShmRegion,
}

/// One kthread's queues and handles. C: `struct thread`.
#[derive(Debug)]
pub struct Kthread {
    /// Packets, completions and joins, to the runtime.
    pub rxq: LrpcTx,
    /// Packets from the runtime.
    pub txpktq: LrpcRx,
    /// Commands from the runtime.
    pub txcmdq: LrpcRx,
    /// How far the run queue has come.
    pub q_ptrs: QPtrs,
    /// The Linux thread id, in our pid namespace; checked to be the peer's.
    pub tid: i32,
    /// Wakes the kthread; checked to be an eventfd.
    pub park_efd: OwnedFd,
    /// A pidfd of the thread itself, where the kernel has them (Linux 6.9).
    pub pidfd: Option<OwnedFd>,
    /// The dataplane polls its queues; false at first.
    pub polled: bool,
    /// Packets ever put into its rxq.
    pub received: u64,
}

/// What the dataplane keeps about a runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct Notes {
    /// Packets accepted from it whose completion it has not been sent.
    pub uncompleted: u32,
    /// Packets of it that the port still holds; its region stays mapped for them.
    pub tx_in_flight: u32,
    /// Received packets lent to it.
    pub lent: u32,
    /// Tags it returned that were not lent to it.
    pub bad_tags: u32,
    /// Turns among its kthreads, for messages that any may take.
    pub round_robin: u32,
    /// Its kthreads whose queues are polled.
    pub polled: u16,
    /// What it took of a turn.
    pub taken: Taken,
    /// It is on the list of those with completions or joins to be sent again.
    pub overflowing: bool,
    /// It could not be woken or preempted, and is about to be detached.
    pub failed: bool,
    /// Set once it leaves.
    pub leaving: Option<Leaving>,
}

/// What a runtime took of one turn of the polling loop.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    /// The turn.
    pub turn: u32,
    /// Commands.
    pub commands: usize,
    /// Packets sent.
    pub packets: usize,
}

/// How far a departure has come.
#[derive(Debug, Clone, Copy)]
pub struct Leaving {
    /// Why it leaves.
    pub reason: crate::control::DetachReason,
    /// Packets that may still be taken from it: those it had queued.
    pub drain: u32,
    /// The next buffer to look at for loans.
    pub cursor: u32,
}

/// Most packets of one runtime that were accepted and whose completion it has
/// not been sent yet. Beyond it the runtime's `txpktq` is left alone.
pub const MAX_UNCOMPLETED: usize = 1 << 16;
