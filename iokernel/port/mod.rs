//! A port: where frames come from and go to.
//!
//! Terms: an *ingress buffer* ([`BufIdx`]) holds a received frame in the region
//! that all runtimes map; the port owns those that hold no frame of ours. A
//! transmitted frame stays in the runtime's own memory until the port reports
//! it done ([`Port::tx_done`]).
//!
//! Invariants: a buffer handed out by [`Port::rx_burst`] is the caller's until
//! [`Port::release`]; each frame given to [`Port::tx_push`] is reported by
//! `tx_done` exactly once, also if it is never sent.

pub mod checksum;
pub mod dma;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod hash;
pub mod headers;
pub mod loopback;

use std::fmt;
use std::ptr::NonNull;

use crate::ids::{BufIdx, KthreadIdx, ProcId};
use crate::privileges::PortNeeds;

/// Frames received at once. C: `IOKERNEL_RX_BURST_SIZE`.
pub const RX_BURST_SIZE: usize = 64;
/// Frames sent at once. C: `IOKERNEL_TX_BURST_SIZE`.
pub const TX_BURST_SIZE: usize = 64;

bitflags::bitflags! {
    /// What a port knows about a received frame.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct RxFlags: u16 {
        /// The IPv4 header checksum was verified and is right.
        const IP_CSUM_GOOD = 1;
        /// A broadcast of a local runtime: not to be returned to its sender.
        const FROM_LOCAL = 2;
    }
}

/// One received frame in an ingress buffer.
#[derive(Debug, Clone, Copy)]
pub struct RxFrame {
    /// The buffer, now the caller's.
    pub buf: BufIdx,
    /// Offset of the frame's first byte in the ingress region; at least
    /// [`rx_net_hdr`](crate::abi::types::rx_net_hdr) bytes before it are free.
    pub data: u32,
    /// RSS hash of the 5-tuple: the device's, or one made in software.
    pub hash: u32,
    /// Bytes of the frame, without FCS.
    pub len: u16,
    /// What else is known.
    pub flags: RxFlags,
}

impl RxFrame {
    /// A placeholder for burst arrays.
    pub const EMPTY: RxFrame = RxFrame {
        buf: BufIdx(0),
        data: 0,
        hash: 0,
        len: 0,
        flags: RxFlags::empty(),
    };
}

bitflags::bitflags! {
    /// What a runtime asks to be done to a frame. The bits of `tx_net_hdr.olflags`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct TxOffloads: u32 {
        /// Fill in the IPv4 header checksum.
        const IP_CSUM = crate::abi::types::OLFLAG_IP_CHKSUM;
        /// Fill in the TCP checksum; the field holds the pseudo-header's sum.
        const TCP_CSUM = crate::abi::types::OLFLAG_TCP_CHKSUM;
        /// The frame is IPv4.
        const IPV4 = crate::abi::types::OLFLAG_IPV4;
        /// The frame is IPv6.
        const IPV6 = crate::abi::types::OLFLAG_IPV6;
    }
}

/// Whose frame it is, and what to tell its sender when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxToken {
    /// `tx_net_hdr.completion_data`, opaque.
    pub completion: u64,
    /// The sending runtime.
    pub proc: ProcId,
    /// The sending kthread.
    pub kthread: KthreadIdx,
}

/// One frame to send, in the sender's own memory.
#[derive(Debug, Clone, Copy)]
pub struct TxFrame {
    /// The first byte. `len` bytes from it stay mapped until the frame is done;
    /// the runtime may change them at any moment.
    pub data: NonNull<u8>,
    /// The address that a device uses, when all of the frame is contiguous there.
    pub iova: Option<u64>,
    /// Bytes of the frame.
    pub len: u16,
    /// What to fill in.
    pub offloads: TxOffloads,
    /// For [`Port::tx_done`].
    pub token: TxToken,
}

/// What the running port is and can do, for the log and `--dry-run`.
#[derive(Debug, Clone, Default)]
pub struct PortInfo {
    /// Such as `net_af_packet` or `loopback`.
    pub driver: String,
    /// The device's name, such as `0000:01:00.0`.
    pub device: String,
    /// Its own Ethernet address, if it has one.
    pub mac: Option<crate::ids::Mac>,
    /// The NUMA node, if it is on one.
    pub node: Option<u32>,
    /// The device computes the RSS hash.
    pub hw_rss: bool,
    /// The device verifies IPv4 header checksums.
    pub hw_rx_ip_csum: bool,
    /// The device fills in IPv4 header and TCP checksums.
    pub hw_tx_csum: bool,
}

impl fmt::Display for PortInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.device, self.driver)?;
        if let Some(mac) = self.mac {
            write!(f, ", address {mac}")?;
        }
        if let Some(node) = self.node {
            write!(f, ", NUMA node {node}")?;
        }
        let software: Vec<&str> = [
            (self.hw_rss, "RSS hash"),
            (self.hw_rx_ip_csum, "RX IPv4 checksum"),
            (self.hw_tx_csum, "TX IPv4 and TCP checksums"),
        ]
        .into_iter()
        .filter_map(|(hardware, what)| (!hardware).then_some(what))
        .collect();
        if software.is_empty() {
            f.write_str(", all offloads in hardware")
        } else {
            write!(f, ", in software: {}", software.join(", "))
        }
    }
}

/// Counters that a port keeps. All of them only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received by the device.
    pub rx_packets: u64,
    /// Frames the device dropped because nobody polled fast enough.
    pub rx_missed: u64,
    /// Frames the device found broken.
    pub rx_errors: u64,
    /// Times that no ingress buffer was free.
    pub rx_no_buf: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Received frames whose hash was computed in software.
    pub rx_soft_hash: u64,
    /// Sent frames whose checksums were filled in in software.
    pub tx_soft_csum: u64,
    /// Sent frames that were copied.
    pub tx_copied: u64,
}

/// One port, polled by one thread. No call allocates, locks, logs or blocks.
pub trait Port {
    /// Receives up to a burst into `frames`; returns how many.
    fn rx_burst(&mut self, frames: &mut [RxFrame; RX_BURST_SIZE]) -> usize;

    /// Takes back buffers that `rx_burst` gave out.
    fn release(&mut self, bufs: &[BufIdx]);

    /// Frames that [`tx_push`](Self::tx_push) takes now, at most [`TX_BURST_SIZE`].
    fn tx_room(&self) -> usize;

    /// Queues one frame for the next flush.
    ///
    /// # Panics
    /// When called more than `tx_room` times: our own mistake.
    fn tx_push(&mut self, frame: &TxFrame);

    /// Frames pushed that the device has not taken; the next flush offers them.
    fn tx_queued(&self) -> usize;

    /// Offers the queued frames to the device; returns how many it took. The
    /// rest stay queued (back-pressure).
    fn tx_flush(&mut self) -> usize;

    /// Frames whose memory the port no longer needs; fills `done` from its
    /// start and returns how many.
    fn tx_done(&mut self, done: &mut [TxToken]) -> usize;

    /// Asks the device to give back frames that it has sent but not reported, for when a
    /// runtime leaves or nothing else is sent. May do nothing.
    fn tx_reap(&mut self);

    /// Ingress buffers that are free: neither the device's nor given out. Not for every
    /// iteration.
    fn free_buffers(&self) -> u32;

    /// Counters since the start. Not for every iteration: a driver may make a system call.
    fn stats(&self) -> PortStats;

    /// What the port is.
    fn info(&self) -> &PortInfo;

    /// What it goes on to need of the system.
    fn needs(&self) -> PortNeeds {
        PortNeeds::NONE
    }
}
