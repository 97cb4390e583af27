//! A port that is an Ethernet device of DPDK.
//!
//! ```text
//!   eal     DPDK itself, started once          device  found, configured, started
//!   pool    ingress buffers and their mbufs    tx      frames out, completions
//!   dma     regions made known to the device
//! ```
//!
//! All of it belongs to one thread, the one that starts the EAL and then polls;
//! only the [`mapper`](Dpdk::mapper) is used by the control thread as well.

#![allow(unsafe_code, reason = "calls DPDK")]

mod device;
mod dma;
mod eal;
mod needs;
mod pool;
mod tx;

use std::fmt;
use std::ptr;
use std::sync::Arc;

use dpdk_sys as sys;

pub use eal::{Eal, EalConfig, arguments};

use self::device::{Device, QUEUE};
use self::dma::DpdkDma;
use self::pool::IngressPool;
use self::tx::TxQueue;
use super::dma::{DmaMapper, Mapping};
use super::{Port, PortInfo, PortStats, RX_BURST_SIZE, RxFrame, TxFrame, TxToken};
use crate::abi::shm::ShmRegion;
use crate::ids::BufIdx;
use crate::privileges::PortNeeds;

/// Memory of whichever node has some. C: `SOCKET_ID_ANY`.
const ANY_NODE: i32 = -1;
/// Frames ahead of the one in work whose first bytes are fetched.
const PREFETCH_AHEAD: usize = 4;

/// Which of DPDK's ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortSel {
    /// By DPDK's number. Upstream always takes 0.
    Id(u16),
    /// By the device's name, such as `0000:01:00.0` or `net_tap0`.
    Name(String),
}

impl fmt::Display for PortSel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortSel::Id(id) => id.fmt(f),
            PortSel::Name(name) => name.fmt(f),
        }
    }
}

/// Why the port cannot be used: one line each, with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DpdkError {
    /// An EAL option that contradicts ours.
    #[error("the EAL option {option} cannot be given: {why}")]
    RefusedOption {
        /// The option.
        option: &'static str,
        /// What to do instead.
        why: &'static str,
    },
    /// The EAL did not start.
    #[error("DPDK does not start: {reason}; {hint}")]
    Eal {
        /// What the EAL said.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The port that was asked for does not exist.
    #[error(
        "there is no DPDK port {wanted} (ports: {present}): bind a NIC \
         (`dpdk-devbind.py -b vfio-pci 0000:BB:DD.F`), use a virtual device \
         (`-- --no-pci --vdev=net_af_packet0,iface=IFACE`), or run with --port loopback{said}"
    )]
    NoPort {
        /// The number or name asked for.
        wanted: String,
        /// The ports that there are.
        present: String,
        /// What the EAL complained of when it looked for devices.
        said: String,
    },
    /// The driver refused a step.
    #[error(
        "the DPDK port cannot be used: to {step} failed: {reason}; its driver's messages say more"
    )]
    Device {
        /// The step.
        step: &'static str,
        /// DPDK's reason.
        reason: String,
    },
    /// DPDK has no memory for a pool.
    #[error("DPDK has no memory for {what} ({reason}); {hint}")]
    Memory {
        /// The pool.
        what: &'static str,
        /// DPDK's reason.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The device cannot be given the ingress region.
    #[error("the device cannot use the ingress region: {0}")]
    IngressDma(String),
    /// The ingress region has no addresses for the device.
    #[error(
        "the device cannot be given the ingress region: with --no-huge its pages have no lasting physical \
         addresses (leave that out, or use an IOMMU: `-- --iova-mode=va`); with huge pages, the warning \
         before this says why"
    )]
    IngressScattered,
}

/// What a device is and can do, without touching it. For `--dry-run`.
///
/// # Errors
/// [`DpdkError::NoPort`], or the device does not answer.
pub fn probe(eal: &Eal, sel: &PortSel) -> Result<PortInfo, DpdkError> {
    // Closing a device takes it away from the EAL, so this one is left as it was found.
    let device = std::mem::ManuallyDrop::new(Device::find(eal, sel)?);
    Ok(device.info.clone())
}

/// The DPDK port. Dropping it gives everything back, and ends the EAL.
///
/// Fields are dropped from the first to the last: the device lets go of its mbufs
/// before their pools go, and of the region before it is unmapped; the EAL is last.
#[derive(Debug)]
pub struct Dpdk {
    device: Device,
    tx: TxQueue,
    rx: IngressPool,
    /// Received mbufs, before they are looked at.
    burst: [*mut sys::rte_mbuf; RX_BURST_SIZE],
    /// Frames received and dropped: not one frame in one of our buffers.
    unusable: u64,
    _ingress: Mapping,
    mapper: Mapper,
    eal: Eal,
}

/// Closes the mapper before the EAL ends, whoever else still has it.
#[derive(Debug)]
struct Mapper(Arc<DpdkDma>);

impl Drop for Mapper {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Dpdk {
    /// Starts a port that receives into `ingress`, whose pages have `page_size` bytes.
    ///
    /// Call it on the thread that polls.
    ///
    /// # Errors
    /// [`DpdkError`] names the step, and what to do.
    pub fn start(
        eal: Eal,
        sel: &PortSel,
        ingress: Arc<ShmRegion>,
        page_size: usize,
    ) -> Result<Dpdk, DpdkError> {
        let mut device = Device::find(&eal, sel)?;
        device.configure()?;
        let mapper = Mapper(Arc::new(DpdkDma::new(device.handle)));
        let shared: Arc<dyn DmaMapper> = mapper.0.clone();
        let mapping = Mapping::new(shared, ingress.base(), ingress.len(), page_size)
            .map_err(DpdkError::IngressDma)?;
        let pool = |socket| IngressPool::create(Arc::clone(&ingress), mapping.iova(), socket);
        let rx = match pool(device.socket) {
            Err(DpdkError::Memory { .. }) if device.socket != ANY_NODE => {
                log::warn!(
                    "{}: too few huge pages are free on its NUMA node {}: DPDK's memory is on another; \
                     reserve 64 on that node beside the ingress region",
                    device.info.device,
                    device.socket
                );
                device.socket = ANY_NODE;
                pool(ANY_NODE)
            }
            result => result,
        }?;
        let tx = TxQueue::create(&device)?;
        let mut port = Dpdk {
            device,
            tx,
            rx,
            burst: [ptr::null_mut(); RX_BURST_SIZE],
            unusable: 0,
            _ingress: mapping,
            mapper,
            eal,
        };
        port.device.start(port.rx.as_ptr())?;
        Ok(port)
    }

    /// Makes runtimes' regions known to the device. For the control thread.
    pub fn mapper(&self) -> Arc<dyn DmaMapper> {
        self.mapper.0.clone()
    }

    /// Drops a received mbuf of which no frame can be made.
    #[cold]
    fn drop_unusable(&mut self, mbuf: *mut sys::rte_mbuf) {
        self.unusable += 1;
        // SAFETY: the driver handed the mbuf over; all its segments go back to their pools.
        unsafe { sys::calisto_pktmbuf_free(mbuf) };
    }
}

impl Port for Dpdk {
    #[inline]
    fn rx_burst(&mut self, frames: &mut [RxFrame; RX_BURST_SIZE]) -> usize {
        #[allow(clippy::cast_possible_truncation, reason = "64")]
        let max = RX_BURST_SIZE as u16;
        // SAFETY: room for `max` pointers; the port is started, and its queue polled by this
        // thread only (Dpdk is not Send).
        let n =
            unsafe { sys::calisto_rx_burst(self.device.port, QUEUE, self.burst.as_mut_ptr(), max) };
        let n = usize::from(n);
        for &mbuf in &self.burst[..n.min(PREFETCH_AHEAD)] {
            IngressPool::prefetch(mbuf);
        }
        let mut kept = 0;
        for i in 0..n {
            if i + PREFETCH_AHEAD < n {
                IngressPool::prefetch(self.burst[i + PREFETCH_AHEAD]);
            }
            match self.rx.frame(self.burst[i]) {
                Some(frame) => {
                    frames[kept] = frame;
                    kept += 1;
                }
                None => self.drop_unusable(self.burst[i]),
            }
        }
        kept
    }

    #[inline]
    fn release(&mut self, bufs: &[BufIdx]) {
        self.rx.release(bufs);
    }

    #[inline]
    fn tx_room(&self) -> usize {
        self.tx.room()
    }

    #[inline]
    fn tx_queued(&self) -> usize {
        self.tx.queued()
    }

    #[inline]
    fn tx_push(&mut self, frame: &TxFrame) {
        self.tx.push(frame);
    }

    #[inline]
    fn tx_flush(&mut self) -> usize {
        self.tx.flush()
    }

    #[inline]
    fn tx_done(&mut self, done: &mut [TxToken]) -> usize {
        self.tx.done(done)
    }

    fn tx_reap(&mut self) {
        self.tx.reap();
    }

    fn free_buffers(&self) -> u32 {
        self.rx.available()
    }

    fn stats(&self) -> PortStats {
        let mut raw = sys::rte_eth_stats::default();
        // SAFETY: the port is started; `raw` is of the right type, and stays zero on failure.
        unsafe { sys::rte_eth_stats_get(self.device.port, &mut raw) };
        PortStats {
            rx_packets: raw.ipackets,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors + self.unusable,
            rx_no_buf: raw.rx_nombuf,
            tx_packets: raw.opackets,
            tx_errors: raw.oerrors + self.tx.dropped,
            rx_soft_hash: self.rx.soft_hash,
            tx_soft_csum: self.tx.soft_csum,
            tx_copied: self.tx.copied,
        }
    }

    fn info(&self) -> &PortInfo {
        &self.device.info
    }

    fn needs(&self) -> PortNeeds {
        let (real, physical) = self.mapper.0.kind();
        needs::Kind {
            driver: &self.device.info.driver,
            real,
            physical,
            shared: self.eal.shares_memory,
        }
        .needs()
    }
}
