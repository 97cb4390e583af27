//! Memory that is not DPDK's own, made known to the device.
//!
//! Two steps, where the device needs them: DPDK is told of the memory
//! (`rte_extmem_register`), and the device may access it (`rte_dev_dma_map`: an
//! IOMMU mapping with VFIO, a memory region with mlx5). Virtual devices copy with
//! the CPU and need neither.
//!
//! DPDK has room for about a hundred external regions, and VFIO for 256 mappings.
//! Beyond that, and where addresses are physical and pages are not huge, a runtime
//! is served all the same: no byte of its region gets a
//! device address, so each of its frames is copied.
//!
//! Threads: regions are mapped and unmapped by the control thread while the
//! dataplane polls. DPDK guards both steps with locks that sending and receiving
//! do not take; drivers look mappings up under locks of their own.

#![allow(unsafe_code, reason = "calls DPDK")]

use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use dpdk_sys as sys;

use super::eal::strerror;
use crate::port::dma::{DmaMapper, Iova};

/// Bytes of the smallest page that stays where it is. The kernel moves ordinary
/// pages (compaction, NUMA balancing, swap), and nothing pins them where addresses
/// are physical: a device would go on reading what is no longer the runtime's.
const HUGE_PAGE: usize = 2 << 20;

/// Maps regions for one device, until it is [closed](DpdkDma::close).
#[derive(Debug)]
pub(super) struct DpdkDma {
    state: Mutex<State>,
    /// The device has DMA of its own.
    real: bool,
    /// IOVAs are physical addresses.
    physical: bool,
}

#[derive(Debug)]
struct State {
    /// Null once closed.
    device: *mut sys::rte_device,
    regions: Vec<Region>,
}

/// A region that DPDK was told of.
#[derive(Debug)]
struct Region {
    base: NonNull<u8>,
    len: usize,
    /// What the device may access.
    mapped: Vec<Run>,
}

/// Bytes that are contiguous for the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    offset: usize,
    len: usize,
    iova: u64,
}

// SAFETY: the device's handle and the regions' addresses are process-wide; what DPDK does
// with them is under its locks, and ours keeps the steps of one call together.
unsafe impl Send for DpdkDma {}
// SAFETY: as for Send: all state is behind the mutex.
unsafe impl Sync for DpdkDma {}

/// An answer for memory that the device cannot be given: no byte has an address.
fn nowhere() -> Iova {
    Iova::Physical {
        page_shift: 12,
        pages: Box::new([]),
    }
}

impl DpdkDma {
    /// A mapper for the device behind `device`, which lives until the EAL ends.
    pub(super) fn new(device: *mut sys::rte_device) -> DpdkDma {
        // SAFETY: DPDK's handle of a device that exists; its bus has a name that is constant.
        let real = unsafe {
            let bus = sys::rte_dev_bus(device);
            bus.is_null() || std::ffi::CStr::from_ptr(sys::rte_bus_name(bus)) != c"vdev"
        };
        // SAFETY: the EAL runs.
        let physical = unsafe { sys::rte_eal_iova_mode() } == sys::RTE_IOVA_PA;
        DpdkDma {
            state: Mutex::new(State {
                device,
                regions: Vec::new(),
            }),
            real,
            physical,
        }
    }

    /// Whether the device has DMA of its own, and whether addresses are physical.
    pub(super) fn kind(&self) -> (bool, bool) {
        (self.real, self.physical)
    }

    /// Ends all mapping: the EAL and its devices are about to go.
    pub(super) fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.device = ptr::null_mut();
        state.regions.clear();
    }

    /// The region's bytes as the device sees them.
    fn iova(&self, base: NonNull<u8>, len: usize, page_size: usize) -> Result<Iova, String> {
        if !self.physical {
            return Ok(Iova::Virtual);
        }
        // Pages without memory have no address. The kernel is asked to fill them in, not a read
        // of ours, which would end in SIGBUS where no huge page is left.
        // SAFETY: the region is the caller's, attached and `len` bytes long; reading changes nothing.
        let ret = unsafe { libc::madvise(base.as_ptr().cast(), len, libc::MADV_POPULATE_READ) };
        if ret != 0 {
            let error = std::io::Error::last_os_error();
            return Err(format!("its pages cannot all be had: {error}"));
        }
        let mut pages = Vec::with_capacity(len / page_size);
        for offset in (0..len).step_by(page_size) {
            // SAFETY: only the number of the page is looked up.
            let iova = unsafe { sys::rte_mem_virt2iova(base.as_ptr().add(offset).cast()) };
            if iova == sys::RTE_BAD_IOVA {
                return Err(format!(
                    "no physical address for offset {offset:#x}: it takes root, or --iova-mode=va"
                ));
            }
            pages.push(iova);
        }
        Ok(Iova::Physical {
            page_shift: page_size.trailing_zeros(),
            pages: pages.into(),
        })
    }

    /// Both steps. On failure nothing is left.
    fn register(
        &self,
        state: &mut State,
        region: (NonNull<u8>, usize, usize),
        iova: &Iova,
    ) -> Result<(), String> {
        let (base, len, page_size) = region;
        let count = len / page_size;
        let mut addrs: Vec<u64> = match iova {
            Iova::Virtual => (0..count)
                .map(|n| (base.as_ptr().addr() + n * page_size) as u64)
                .collect(),
            Iova::Physical { pages, .. } => pages.to_vec(),
        };
        let n_pages = u32::try_from(count).map_err(|_| "too many pages".to_owned())?;
        // SAFETY: `n_pages` pages of `page_size` at `base`, all of the attached region, and as
        // many addresses.
        let ret = unsafe {
            sys::rte_extmem_register(
                base.as_ptr().cast(),
                len,
                addrs.as_mut_ptr(),
                n_pages,
                page_size,
            )
        };
        if ret != 0 {
            return Err(format!("rte_extmem_register: {}", last_error()));
        }
        let mut mapped = Vec::new();
        for run in runs(&addrs, page_size) {
            // SAFETY: the run lies in the registered region.
            let ret = unsafe {
                let addr = base.as_ptr().add(run.offset).cast();
                sys::rte_dev_dma_map(state.device, addr, run.iova, run.len)
            };
            // SAFETY: reads the calling thread's error number.
            let errno = unsafe { sys::calisto_errno() };
            if ret == 0 {
                mapped.push(run);
            } else if errno == libc::ENOTSUP {
                // The device takes any address (igb_uio), so there is nothing to map.
                break;
            } else {
                let reason = strerror(errno);
                undo(state.device, &Region { base, len, mapped });
                return Err(format!("rte_dev_dma_map: {reason}"));
            }
        }
        state.regions.push(Region { base, len, mapped });
        Ok(())
    }
}

/// Takes both steps back, the last first.
fn undo(device: *mut sys::rte_device, region: &Region) {
    // SAFETY: exactly what register() did; the region is still attached (Mapping's promise).
    unsafe {
        for run in &region.mapped {
            let addr = region.base.as_ptr().add(run.offset).cast();
            sys::rte_dev_dma_unmap(device, addr, run.iova, run.len);
        }
        sys::rte_extmem_unregister(region.base.as_ptr().cast(), region.len);
    }
}

/// Joins pages whose addresses follow each other: fewer mappings.
fn runs(addrs: &[u64], page_size: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (n, &iova) in addrs.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.iova + run.len as u64 == iova => run.len += page_size,
            _ => runs.push(Run {
                offset: n * page_size,
                len: page_size,
                iova,
            }),
        }
    }
    runs
}

fn last_error() -> String {
    // SAFETY: reads the calling thread's error number.
    strerror(unsafe { sys::calisto_errno() })
}

impl DmaMapper for DpdkDma {
    fn map(&self, base: NonNull<u8>, len: usize, page_size: usize) -> Result<Iova, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.device.is_null() {
            return Err("the port is closed".to_owned());
        }
        if !self.real {
            // Virtual devices copy from the virtual address, whatever the IOVA mode.
            return Ok(Iova::Virtual);
        }
        if !page_size.is_power_of_two() || len == 0 || !len.is_multiple_of(page_size) {
            return Err(format!("{len} bytes are not whole pages of {page_size}"));
        }
        if self.physical && page_size < HUGE_PAGE {
            return Ok(nowhere());
        }
        let iova = self.iova(base, len, page_size)?;
        match self.register(&mut state, (base, len, page_size), &iova) {
            Ok(()) => Ok(iova),
            Err(reason) => {
                log::warn!(
                    "a region of {len} bytes cannot be given to the device ({reason}): its frames are copied"
                );
                Ok(nowhere())
            }
        }
    }

    fn unmap(&self, base: NonNull<u8>, len: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = state
            .regions
            .iter()
            .position(|r| r.base == base && r.len == len);
        if let Some(at) = found {
            let region = state.regions.swap_remove(at);
            undo(state.device, &region);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_pages_are_mapped_as_one() {
        let run = |offset, len, iova| Run { offset, len, iova };
        assert_eq!(
            runs(&[0x1000, 0x2000, 0x9000, 0x8000], 4096),
            [
                run(0, 0x2000, 0x1000),
                run(0x2000, 0x1000, 0x9000),
                run(0x3000, 0x1000, 0x8000)
            ]
        );
        assert!(runs(&[], 4096).is_empty());
    }

    #[test]
    fn nothing_of_an_unmapped_region_has_an_address() {
        assert_eq!(nowhere().of(NonNull::dangling(), 0, 1), None);
        assert_eq!(nowhere().of(NonNull::dangling(), 4096, 64), None);
    }

    /// The EAL starts once per process, so the test runs itself again as a child.
    #[test]
    fn regions_are_registered_with_dpdk_and_taken_back() {
        const CHILD: &str = "CALISTO_DMA_CHILD";
        if std::env::var_os(CHILD).is_some() {
            return registered_and_taken_back();
        }
        let name = "port::dpdk::dma::tests::regions_are_registered_with_dpdk_and_taken_back";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
    }

    fn registered_and_taken_back() {
        use crate::port::dpdk::{Eal, EalConfig, PortSel, device::Device};
        const LEN: usize = 2 << 20;
        const PAGE: usize = 4096;
        let config = EalConfig {
            no_huge: true,
            args: ["--no-pci", "--no-telemetry", "--vdev=net_null0"]
                .map(str::to_owned)
                .into(),
            ..EalConfig::default()
        };
        let eal = Eal::init(&config).unwrap();
        let device = Device::find(&eal, &PortSel::Id(0)).unwrap();
        // SAFETY: new memory wherever the kernel likes, never unmapped.
        let base = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(ptr::null_mut(), 200 * LEN, access, kind, -1, 0)
        };
        let base = NonNull::new(base.cast::<u8>()).unwrap();
        // SAFETY: within the 200 regions.
        let at = |n: usize| unsafe { base.add(n * LEN) };
        let count = |dma: &DpdkDma| dma.state.lock().unwrap().regions.len();

        let mut dma = DpdkDma::new(device.handle);
        assert!(!dma.real, "a virtual device has no DMA");
        assert_eq!(dma.map(at(0), LEN, PAGE), Ok(Iova::Virtual));
        assert_eq!(dma.map(at(0), LEN + 1, PAGE), Ok(Iova::Virtual));
        assert_eq!(count(&dma), 0);

        // As if it had: DPDK registers the memory, and the bus has nothing to map.
        dma.real = true;
        assert!(dma.map(at(0), LEN + 1, PAGE).is_err(), "not whole pages");
        assert_eq!(dma.map(at(0), LEN, PAGE), Ok(Iova::Virtual));
        assert_eq!(
            dma.map(at(0), LEN, PAGE),
            Ok(nowhere()),
            "registered already"
        );
        dma.unmap(at(0), LEN);
        assert_eq!(
            dma.map(at(0), LEN, PAGE),
            Ok(Iova::Virtual),
            "taken back before"
        );
        dma.unmap(at(0), LEN);
        assert_eq!(count(&dma), 0);

        // Beyond what DPDK has room for, frames are copied.
        let got: Vec<Iova> = (0..200)
            .map(|n| dma.map(at(n), LEN, PAGE).unwrap())
            .collect();
        let fits = got.iter().filter(|iova| **iova == Iova::Virtual).count();
        assert!((50..200).contains(&fits), "{fits} regions fit");
        assert_eq!(count(&dma), fits);
        (0..200).for_each(|n| dma.unmap(at(n), LEN));
        assert_eq!(count(&dma), 0);

        // The EAL runs with virtual addresses, so those stand in for physical ones.
        dma.physical = true;
        let iova = dma.iova(at(3), LEN, PAGE).unwrap();
        assert_eq!(
            iova.of(at(3), 5000, 1500),
            Some(at(3).as_ptr().addr() as u64 + 5000)
        );
        // Ordinary pages move, so a device is given none of them.
        assert_eq!(dma.map(at(3), LEN, PAGE), Ok(nowhere()));
        assert_eq!(count(&dma), 0);

        dma.close();
        assert!(dma.map(at(0), LEN, PAGE).is_err(), "closed");
        dma.unmap(at(0), LEN);
    }
}
