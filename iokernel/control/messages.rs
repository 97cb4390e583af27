//! What control thread and dataplane tell each other.
//!
//! Two rings of messages, one each way. Neither side ever waits for the other:
//! both rings hold all that can be under way, so a full ring is our own bug.
//!
//! ```text
//!   one tenant of a slot:   --Attach-->   [ --Detach--> ]   <--Detached--
//! ```
//!
//! The dataplane may detach on its own (a fault), so a `Detach` may name a
//! tenant that it no longer has; the generation tells, and it ignores it.

use std::fmt;

use crate::abi::types;
use crate::ids::{KthreadIdx, ProcId};
use crate::proc::Proc;

use super::faults::Fault;

/// Most runtimes attached at once.
pub const MAX_PROCS: usize = types::IOKERNEL_MAX_PROC as usize;

/// Control thread to dataplane.
#[derive(Debug)]
pub enum ToDataplane {
    /// A new runtime; its slot is free in the dataplane's table.
    Attach(Box<Proc>),
    /// Its peer hung up: let go of everything, and return it. To be ignored
    /// when that tenant has been returned already.
    Detach(ProcId),
}

/// Dataplane to control thread.
#[derive(Debug)]
pub enum ToControl {
    /// The dataplane holds nothing of this runtime any more.
    Detached {
        /// What `Attach` brought.
        proc: Box<Proc>,
        /// Why.
        reason: DetachReason,
    },
}

/// Why a runtime was detached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetachReason {
    /// It hung up: the answer to [`ToDataplane::Detach`].
    HungUp,
    /// A kthread exited: mostly the process is dying, and its end was noticed before
    /// the connection's. (A kthread that exits alone breaks the contract; the two
    /// cannot be told apart at that moment.)
    ThreadGone {
        /// The kthread.
        kthread: KthreadIdx,
        /// Its thread id.
        tid: i32,
    },
    /// It broke the contract.
    Fault(Fault),
    /// The daemon ends.
    Shutdown,
}

impl fmt::Display for DetachReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DetachReason::HungUp => f.write_str("it hung up"),
            DetachReason::ThreadGone { kthread, tid } => {
                write!(f, "kthread {} (tid {tid}) is gone", kthread.0)
            }
            DetachReason::Fault(fault) => write!(f, "it broke the contract: {fault}"),
            DetachReason::Shutdown => f.write_str("the I/O kernel is stopping"),
        }
    }
}

/// The control thread's ends of the rings.
#[derive(Debug)]
pub struct ControlEnd {
    /// Arrivals and departures.
    pub to_dataplane: rtrb::Producer<ToDataplane>,
    /// Returned runtimes.
    pub from_dataplane: rtrb::Consumer<ToControl>,
}

/// The dataplane's ends of the rings.
#[derive(Debug)]
pub struct DataplaneEnd {
    /// Arrivals and departures.
    pub from_control: rtrb::Consumer<ToDataplane>,
    /// Returned runtimes. Never full: one message per slot at most.
    pub to_control: rtrb::Producer<ToControl>,
}

/// Makes both rings.
pub fn channel() -> (ControlEnd, DataplaneEnd) {
    // For a slot at most: the Detach of a tenant that was returned already, then
    // its successor's Attach and Detach. The successor exists only once its
    // predecessor's Attach was taken, so nothing older is left.
    let (to_dataplane, from_control) = rtrb::RingBuffer::new(3 * MAX_PROCS);
    let (to_control, from_dataplane) = rtrb::RingBuffer::new(MAX_PROCS);
    (
        ControlEnd {
            to_dataplane,
            from_dataplane,
        },
        DataplaneEnd {
            from_control,
            to_control,
        },
    )
}
