//! An Ethernet device of DPDK: found, configured for what it can do, started.
//!
//! What upstream demands of a device is here a wish: offloads that it lacks are
//! done in software, and [`PortInfo`] says so.

#![allow(unsafe_code, reason = "calls DPDK")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use dpdk_sys as sys;

use super::eal::{Eal, strerror};
use super::{DpdkError, PortSel};
use crate::ids::Mac;
use crate::port::PortInfo;
use crate::port::hash::RSS_KEY;

/// Descriptors of the receive and of the transmit ring. C: `RX_RING_SIZE`, `TX_RING_SIZE`.
const RING_SIZE: u16 = 256;
/// Descriptors that a driver handles at a time. C: `dpdk_port_init`.
const RING_THRESH: u16 = 64;
/// The one queue of each direction.
pub(super) const QUEUE: u16 = 0;
/// Bytes of an Ethernet header with a VLAN tag: a frame's length beyond the MTU.
const FRAME_OVERHEAD: u16 = 18;

const RX_WANTED: u64 = sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | sys::RTE_ETH_RX_OFFLOAD_RSS_HASH;
const TX_WANTED: u64 = sys::RTE_ETH_TX_OFFLOAD_IPV4_CKSUM
    | sys::RTE_ETH_TX_OFFLOAD_UDP_CKSUM
    | sys::RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
/// Without one of these, both are done in software.
const TX_NEEDED: u64 = sys::RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | sys::RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
const RSS_WANTED: u64 = sys::RTE_ETH_RSS_NONFRAG_IPV4_TCP | sys::RTE_ETH_RSS_NONFRAG_IPV4_UDP;

/// What to enable: wanted and offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offloads {
    rx: u64,
    tx: u64,
    rss: u64,
}

impl Offloads {
    /// MBUF_FAST_FREE is never among them: it would skip what makes a mbuf ready for its pool.
    fn choose(rx_offered: u64, tx_offered: u64, rss_offered: u64) -> Offloads {
        let rss = RSS_WANTED & rss_offered;
        let mut rx = RX_WANTED & rx_offered;
        if rss == 0 {
            rx &= !sys::RTE_ETH_RX_OFFLOAD_RSS_HASH;
        }
        Offloads {
            rx,
            tx: TX_WANTED & tx_offered,
            rss,
        }
    }

    fn hw_tx_csum(&self) -> bool {
        self.tx & TX_NEEDED == TX_NEEDED
    }
}

/// A device. Dropping it stops and closes it, which frees all mbufs that it holds.
#[derive(Debug)]
pub(super) struct Device {
    /// DPDK's number of it.
    pub(super) port: u16,
    /// For the log, and what it can do.
    pub(super) info: PortInfo,
    /// DPDK's handle for DMA; lives until the EAL ends.
    pub(super) handle: *mut sys::rte_device,
    /// The NUMA node for its memory, -1 for any.
    pub(super) socket: c_int,
    /// Longest frame to send, bytes.
    pub(super) max_frame: u16,
    /// Descriptors of the transmit ring.
    pub(super) tx_ring: u16,
    rx_ring: u16,
    /// The key of the hash. Drivers read it where it lies, also when they start.
    rss_key: Box<[u8]>,
    raw: sys::rte_eth_dev_info,
    offloads: Offloads,
    started: bool,
}

impl Device {
    /// Finds a device; changes nothing about it.
    ///
    /// # Errors
    /// There is none of that name or number, or it does not answer.
    pub(super) fn find(eal: &Eal, sel: &PortSel) -> Result<Device, DpdkError> {
        let port = resolve(sel).ok_or_else(|| DpdkError::NoPort {
            wanted: sel.to_string(),
            present: present(),
            said: match eal.complaints.as_str() {
                "" => String::new(),
                said => format!("; DPDK said: {said}"),
            },
        })?;
        let mut raw = sys::rte_eth_dev_info::default();
        // SAFETY: the port is valid (resolve()); `raw` is of the right type.
        check("ask the device what it is", unsafe {
            sys::rte_eth_dev_info_get(port, &mut raw)
        })?;
        let offloads = Offloads::choose(
            raw.rx_offload_capa,
            raw.tx_offload_capa,
            raw.flow_type_rss_offloads,
        );
        let mut addr = sys::rte_ether_addr::default();
        let mut mtu = 0;
        // SAFETY: the port is valid; the results are of the right types.
        let (mac_known, mtu_known, socket) = unsafe {
            (
                sys::rte_eth_macaddr_get(port, &mut addr) == 0,
                sys::rte_eth_dev_get_mtu(port, &mut mtu) == 0,
                sys::rte_eth_dev_socket_id(port),
            )
        };
        // SAFETY: the driver's and the device's names outlive the port.
        let (driver, device) =
            unsafe { (text(raw.driver_name), text(sys::rte_dev_name(raw.device))) };
        Ok(Device {
            port,
            info: PortInfo {
                driver,
                device,
                mac: mac_known.then_some(Mac(addr.addr_bytes)),
                node: u32::try_from(socket).ok(),
                hw_rss: offloads.rss != 0,
                hw_rx_ip_csum: offloads.rx & sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM != 0,
                hw_tx_csum: offloads.hw_tx_csum(),
            },
            handle: raw.device,
            socket,
            max_frame: if mtu_known { mtu } else { 1500 }.saturating_add(FRAME_OVERHEAD),
            tx_ring: RING_SIZE,
            rx_ring: RING_SIZE,
            rss_key: rss_key(raw.hash_key_size),
            raw,
            offloads,
            started: false,
        })
    }

    /// Configures one queue each way; the ring sizes are then the device's.
    ///
    /// # Errors
    /// The step that the driver refused.
    pub(super) fn configure(&mut self) -> Result<(), DpdkError> {
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.offloads = self.offloads.rx;
        conf.rxmode.mq_mode = if self.offloads.rss == 0 {
            sys::RTE_ETH_MQ_RX_NONE
        } else {
            sys::RTE_ETH_MQ_RX_RSS
        };
        conf.rx_adv_conf.rss_conf.rss_hf = self.offloads.rss;
        conf.txmode.offloads = self.offloads.tx;
        if self.offloads.rss != 0 && !self.rss_key.is_empty() {
            let key = &mut conf.rx_adv_conf.rss_conf;
            key.rss_key = self.rss_key.as_mut_ptr();
            key.rss_key_len = self.raw.hash_key_size;
        }
        let mut ret = self.try_configure(&conf);
        if ret != 0 && !conf.rx_adv_conf.rss_conf.rss_key.is_null() {
            // Steering does with any key; only rules that name a flow do not.
            conf.rx_adv_conf.rss_conf.rss_key = ptr::null_mut();
            conf.rx_adv_conf.rss_conf.rss_key_len = 0;
            let refusal = std::mem::replace(&mut ret, self.try_configure(&conf));
            if ret == 0 {
                log::warn!(
                    "{}: takes no RSS key ({}): rules must name hashes, not flows",
                    self.info.device,
                    strerror(-refusal)
                );
            }
        }
        check("configure the device", ret)?;
        // SAFETY: the port is configured; two numbers are adjusted in place.
        check("size its rings", unsafe {
            sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.port, &mut self.rx_ring, &mut self.tx_ring)
        })
    }

    fn try_configure(&mut self, conf: &sys::rte_eth_conf) -> c_int {
        // SAFETY: the port is valid for as long as self; DPDK copies the configuration, and
        // not the key, which lives as long as the device.
        unsafe { sys::rte_eth_dev_configure(self.port, 1, 1, conf) }
    }

    /// Sets the queues up, receiving into `pool`, and starts the device.
    ///
    /// # Errors
    /// The step that the driver refused.
    pub(super) fn start(&mut self, pool: *mut sys::rte_mempool) -> Result<(), DpdkError> {
        let mut rx = self.raw.default_rxconf;
        rx.offloads = 0;
        rx.rx_free_thresh = RING_THRESH;
        let mut tx = self.raw.default_txconf;
        tx.offloads = 0;
        tx.tx_rs_thresh = RING_THRESH;
        tx.tx_free_thresh = RING_THRESH;
        // Thresholds that do not suit a driver are its own to choose (null).
        for conf in [&rx, ptr::null()] {
            // SAFETY: the port is configured; DPDK copies the configuration; `pool` outlives
            // the device (Dpdk's field order).
            let ret = unsafe {
                sys::rte_eth_rx_queue_setup(
                    self.port,
                    QUEUE,
                    self.rx_ring,
                    self.socket.cast_unsigned(),
                    conf,
                    pool,
                )
            };
            if ret == 0 || conf.is_null() {
                check("set its receive queue up", ret)?;
                break;
            }
        }
        for conf in [&tx, ptr::null()] {
            // SAFETY: the port is configured; DPDK copies the configuration.
            let ret = unsafe {
                sys::rte_eth_tx_queue_setup(
                    self.port,
                    QUEUE,
                    self.tx_ring,
                    self.socket.cast_unsigned(),
                    conf,
                )
            };
            if ret == 0 || conf.is_null() {
                check("set its transmit queue up", ret)?;
                break;
            }
        }
        // SAFETY: both queues are set up.
        check("start it", unsafe { sys::rte_eth_dev_start(self.port) })?;
        self.started = true;
        // SAFETY: the port is started. Runtimes have addresses of their own, not the device's.
        let ret = unsafe { sys::rte_eth_promiscuous_enable(self.port) };
        if ret != 0 {
            log::warn!(
                "{}: no promiscuous mode ({}): runtimes get only what the device passes on",
                self.info.device,
                strerror(-ret)
            );
        }
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the port was found and is closed once, here; nobody polls it any more, as
        // the polling thread is the one that drops.
        unsafe {
            if self.started {
                sys::rte_eth_dev_stop(self.port);
            }
            sys::rte_eth_dev_close(self.port);
        }
    }
}

/// The published key, in the length that a device takes: a flow's hash must be the one
/// that [`hash_flow`](crate::port::hash::hash_flow) says, or no rule would match it. Only
/// the first 40 bytes count for the longest input. Empty: the device takes no key.
fn rss_key(len: u8) -> Box<[u8]> {
    RSS_KEY.iter().copied().cycle().take(len.into()).collect()
}

/// The number of the selected port, if there is one.
fn resolve(sel: &PortSel) -> Option<u16> {
    match sel {
        PortSel::Id(id) => {
            // SAFETY: any number may be asked about.
            (unsafe { sys::rte_eth_dev_is_valid_port(*id) } != 0).then_some(*id)
        }
        PortSel::Name(name) => CString::new(name.as_str()).ok().and_then(|name| {
            let mut id = 0;
            // SAFETY: a string that ends, and a number of the right type.
            let ret = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
            (ret == 0).then_some(id)
        }),
    }
}

/// The ports that there are, for the message that one is not.
fn present() -> String {
    let mut names = Vec::new();
    // SAFETY: any number may be asked about.
    let mut id = unsafe { sys::rte_eth_find_next(0) };
    while id < sys::RTE_MAX_ETHPORTS {
        let mut name = [0; sys::RTE_ETH_NAME_MAX_LEN as usize];
        // SAFETY: the array has the length that DPDK documents for it.
        if unsafe { sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr()) } == 0 {
            // SAFETY: DPDK ended the string within the array.
            names.push(format!("{id} ({})", unsafe { text(name.as_ptr()) }));
        }
        // SAFETY: any number may be asked about.
        id = unsafe { sys::rte_eth_find_next(id + 1) };
    }
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// # Safety
/// `s` is null or a string that ends.
unsafe fn text(s: *const c_char) -> String {
    if s.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned()
}

fn check(step: &'static str, ret: c_int) -> Result<(), DpdkError> {
    if ret == 0 {
        return Ok(());
    }
    Err(DpdkError::Device {
        step,
        reason: strerror(-ret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_offloads_gets_none() {
        let none = Offloads::choose(0, 0, 0);
        assert_eq!((none.rx, none.tx, none.rss), (0, 0, 0));
        assert!(!none.hw_tx_csum());
    }

    #[test]
    fn nothing_is_enabled_that_is_not_wanted() {
        let all = Offloads::choose(u64::MAX, u64::MAX, u64::MAX);
        assert_eq!(
            (all.rx, all.tx, all.rss),
            (RX_WANTED, TX_WANTED, RSS_WANTED)
        );
        assert_eq!(all.tx & sys::RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE, 0);
        assert!(all.hw_tx_csum());
    }

    #[test]
    fn half_of_the_checksums_is_as_good_as_none() {
        let ip = sys::RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
        assert!(!Offloads::choose(0, ip, 0).hw_tx_csum());
        let tcp = sys::RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
        assert!(Offloads::choose(0, ip | tcp, 0).hw_tx_csum());
    }

    #[test]
    fn the_published_key_fits_every_length() {
        assert!(rss_key(0).is_empty());
        assert_eq!(*rss_key(40), RSS_KEY);
        let long = rss_key(52);
        assert_eq!((&long[..40], &long[40..]), (&RSS_KEY[..], &RSS_KEY[..12]));
    }

    #[test]
    fn a_hash_is_asked_for_only_where_something_is_hashed() {
        let all = Offloads::choose(u64::MAX, 0, 0);
        assert_eq!(all.rx, sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM);
    }
}
