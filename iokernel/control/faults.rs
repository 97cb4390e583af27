//! What a runtime did wrong on the data path.

use std::fmt;

use crate::ids::{CoreId, KthreadIdx};
use crate::stats::Counter;

/// A runtime's ring, for messages about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// I/O kernel to runtime.
    Rxq,
    /// Packets from the runtime.
    Txpktq,
    /// Commands from the runtime.
    Txcmdq,
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Queue::Rxq => "rxq",
            Queue::Txpktq => "txpktq",
            Queue::Txcmdq => "txcmdq",
        })
    }
}

/// Why the dataplane gave a runtime up. Made in the polling loop: plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A command that does not exist, on `txcmdq` or `txpktq`.
    #[error("kthread {} sent the unknown command {cmd:#x}", kthread.0)]
    BadCommand {
        /// The kthread.
        kthread: KthreadIdx,
        /// The command.
        cmd: u64,
    },
    /// A packet header that does not lie in the runtime's region.
    #[error("kthread {} sent a packet at {offset:#x}, outside its region", kthread.0)]
    BadPacketPointer {
        /// The kthread.
        kthread: KthreadIdx,
        /// The offset as sent.
        offset: u64,
    },
    /// A packet too short, too long, or reaching over the region's end.
    #[error("kthread {} sent a packet of {len} bytes at {offset:#x}", kthread.0)]
    BadPacketLength {
        /// The kthread.
        kthread: KthreadIdx,
        /// The header's offset.
        offset: u64,
        /// The length as read.
        len: u32,
    },
    /// Returned packets that were not lent to it, again and again.
    #[error("kthread {} returned packets that were not lent to it, last {tag:#x}", kthread.0)]
    BadTags {
        /// The kthread.
        kthread: KthreadIdx,
        /// The last bad tag.
        tag: u64,
    },
    /// A park from a kthread that runs on no core.
    #[error("kthread {} parked although it was not running", kthread.0)]
    StrayPark {
        /// The kthread.
        kthread: KthreadIdx,
    },
    /// A write-back word that cannot be true.
    #[error("kthread {}: {error}", kthread.0)]
    BadWriteBack {
        /// The kthread.
        kthread: KthreadIdx,
        /// What was read, and what was possible.
        error: crate::abi::lrpc::BadWriteBack,
    },
    /// An eventfd that takes no more wakes.
    #[error("kthread {}: its eventfd blocks", kthread.0)]
    WakeBlocked {
        /// The kthread.
        kthread: KthreadIdx,
    },
    /// A core above its guarantee, which another has a right to, and which it keeps.
    #[error("kthread {} did not give up core {core} when asked", kthread.0)]
    CoreKept {
        /// The kthread.
        kthread: KthreadIdx,
        /// The core.
        core: CoreId,
    },
    /// A system call on a kthread failed.
    #[error("kthread {}: {what} failed: {}", kthread.0, std::io::Error::from_raw_os_error(*errno))]
    Os {
        /// The kthread.
        kthread: KthreadIdx,
        /// What was tried.
        what: &'static str,
        /// The error.
        errno: i32,
    },
}

impl Fault {
    /// The counter of its kind.
    pub fn counter(&self) -> Counter {
        match self {
            Fault::BadCommand { .. } => Counter::FaultCommand,
            Fault::BadPacketPointer { .. } => Counter::FaultPointer,
            Fault::BadPacketLength { .. } => Counter::FaultLength,
            Fault::BadTags { .. } => Counter::FaultTags,
            Fault::StrayPark { .. } => Counter::FaultPark,
            Fault::BadWriteBack { .. } => Counter::FaultWriteBack,
            Fault::WakeBlocked { .. } => Counter::FaultWake,
            Fault::CoreKept { .. } => Counter::FaultCore,
            Fault::Os { .. } => Counter::FaultOs,
        }
    }
}
