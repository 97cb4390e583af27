//! What the daemon holds now: gauges, not counts. With no runtime attached all of
//! them are what they were at the start, whatever came and went in between.

counters! {
    /// What the polling loop and its port hold, as of the last round of [`GAUGE_INTERVAL`].
    ///
    /// [`GAUGE_INTERVAL`]: crate::dataplane::GAUGE_INTERVAL
    Held {
        /// Ingress buffers that are free: neither the device nor a frame has them.
        BufsFree = "BUFS_FREE",
        /// Received packets lent to runtimes; a broadcast counts for each that has it.
        BufsLent = "BUFS_LENT",
        /// Ethernet addresses that lead to a runtime.
        Addresses = "ADDRESSES",
        /// Runtimes attached, leaving ones not included.
        Runtimes = "RUNTIMES",
        /// Runtimes that are leaving: something of theirs is still under way.
        Leaving = "LEAVING",
        /// Cores that kthreads hold.
        CoresHeld = "CORES_HELD",
        /// Kthreads whose queues are polled.
        KthreadsPolled = "KTHREADS_POLLED",
        /// Packets of runtimes that the port has not finished with.
        TxInFlight = "TX_IN_FLIGHT",
        /// Runtimes with completions or joins for which their rings had no room.
        Overflowing = "OVERFLOWING",
    }
}

counters! {
    /// What the port counted since its start. Zero for what its driver does not tell.
    PortCounter {
        /// Frames received by the device.
        RxPackets = "PORT_RX_PACKETS",
        /// Frames the device dropped because nobody polled fast enough.
        RxMissed = "PORT_RX_MISSED",
        /// Frames the device found broken, or that fit no ingress buffer.
        RxErrors = "PORT_RX_ERRORS",
        /// Times that no ingress buffer was free.
        RxNoBuf = "PORT_RX_NO_BUF",
        /// Frames sent.
        TxPackets = "PORT_TX_PACKETS",
        /// Frames that could not be sent.
        TxErrors = "PORT_TX_ERRORS",
        /// Frames whose hash was computed in software: the device gave none.
        RxSoftHash = "PORT_RX_SOFT_HASH",
        /// Frames whose checksums were filled in in software.
        TxSoftCsum = "PORT_TX_SOFT_CSUM",
        /// Frames that were copied: for such checksums, or because the device cannot reach
        /// the runtime's memory.
        TxCopied = "PORT_TX_COPIED",
    }
}

use super::Counts;

/// What the polling loop publishes besides its counters.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// What is held now.
    pub held: Counts<Held>,
    /// What the port counted.
    pub port: Counts<PortCounter>,
}
