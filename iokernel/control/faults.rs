//! What a runtime did wrong on the data path.

use std::fmt;

use crate::ids::KthreadIdx;

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

/// Why the dataplane gave a runtime up. Made in the polling loop: plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A command that the queue does not have.
    #[error("unknown command {cmd:#x} on {queue}")]
    BadCommand {
        /// Where it came from.
        queue: Queue,
        /// The command, without parity.
        cmd: u64,
    },
    /// A packet that is not inside the runtime's region.
    #[error("packet at {at:#x} lies outside its region of {region:#x} bytes")]
    BadPacketPointer {
        /// The offset as given.
        at: u64,
        /// The region's bytes.
        region: u64,
    },
    /// A frame longer than a frame may be, or than what is left of the region.
    #[error("packet of {len} bytes at {at:#x}")]
    BadLength {
        /// The offset of its header.
        at: u64,
        /// `tx_net_hdr.len`.
        len: u32,
    },
    /// Returned buffers that it did not hold, too often.
    #[error("returned {tag:#x}, a buffer that it does not hold")]
    BadTag {
        /// The last such tag.
        tag: u64,
    },
    /// Parked a kthread that was not running.
    #[error("kthread {} parked while it was parked", .kthread.0)]
    StrayPark {
        /// The kthread.
        kthread: KthreadIdx,
    },
    /// A write-back word that cannot be true.
    #[error("write-back word {wb} on {queue} where {tail} to {head} is possible")]
    BadWriteBack {
        /// The ring.
        queue: Queue,
        /// What it wrote.
        wb: u32,
        /// The last value believed.
        tail: u32,
        /// Messages sent.
        head: u32,
    },
    /// A kthread ended while its runtime stays connected.
    #[error("kthread {} (tid {tid}) has ended", .kthread.0)]
    ThreadGone {
        /// The kthread.
        kthread: KthreadIdx,
        /// Its thread id.
        tid: i32,
    },
    /// A kthread's eventfd takes no wake-up.
    #[error("the eventfd of kthread {} is full", .kthread.0)]
    WakeBlocked {
        /// The kthread.
        kthread: KthreadIdx,
    },
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
