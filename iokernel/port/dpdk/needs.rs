//! What a driver goes on to need when its device is started.
//!
//! Tried with `net_af_packet`, `net_tap`, `net_null` and `net_ring`, and on emulated machines
//! with `net_e1000_igb`, `net_e1000_em`, `net_vmxnet3` and `net_virtio` under
//! `uio_pci_generic`, and the first under `vfio-pci`; what the others need is from their guides (DPDK, "Network Interface Controller Drivers") and from
//! the kernel's rules for what they ask of it. `--keep-caps` adds what is missing.

use crate::privileges::{CapabilitySet, PortNeeds};

/// A device, as far as its privileges go.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kind<'a> {
    /// Its driver's name.
    pub(super) driver: &'a str,
    /// It has DMA of its own.
    pub(super) real: bool,
    /// It is given physical addresses.
    pub(super) physical: bool,
    /// DPDK's memory is shared between processes.
    pub(super) shared: bool,
}

impl Kind<'_> {
    /// Its needs.
    pub(super) fn needs(self) -> PortNeeds {
        // Their device is an interface of the kernel's as well, which they set up, and take
        // down when they stop.
        let verbs = self.driver.contains("mlx");
        let kernels = verbs || ["net_tap", "net_af_xdp"].contains(&self.driver);
        let mut capabilities = CapabilitySet::empty();
        if kernels {
            capabilities |= CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
        }
        if self.real {
            // Runtimes' regions are pinned for the device, beyond any RLIMIT_MEMLOCK.
            capabilities |= CapabilitySet::IPC_LOCK;
        }
        if self.real && self.physical {
            // /proc/self/pagemap says nothing without.
            capabilities |= CapabilitySet::SYS_ADMIN;
        }
        PortNeeds {
            capabilities,
            devices: true,
            sockets: kernels,
            files: self.shared || verbs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(kind: Kind<'_>) -> CapabilitySet {
        kind.needs().capabilities
    }

    #[test]
    fn a_packet_socket_needs_nothing_once_it_is_open() {
        let packet = Kind {
            driver: "net_af_packet",
            ..Kind::default()
        };
        assert_eq!(capabilities(packet), CapabilitySet::empty());
        assert!(!packet.needs().sockets && !packet.needs().files);
    }

    #[test]
    fn an_interface_of_the_kernels_is_taken_down_in_the_end() {
        let tap = Kind {
            driver: "net_tap",
            ..Kind::default()
        };
        assert!(capabilities(tap).contains(CapabilitySet::NET_ADMIN));
        assert!(tap.needs().sockets);
    }

    #[test]
    fn the_right_to_everything_is_kept_for_physical_addresses_only() {
        let nic = Kind {
            driver: "net_ixgbe",
            real: true,
            ..Kind::default()
        };
        assert_eq!(capabilities(nic), CapabilitySet::IPC_LOCK);
        let physical = Kind {
            physical: true,
            ..nic
        };
        assert!(capabilities(physical).contains(CapabilitySet::SYS_ADMIN));
        // Virtual devices copy: how addresses look is nothing to them.
        let virtual_device = Kind {
            real: false,
            ..physical
        };
        assert_eq!(capabilities(virtual_device), CapabilitySet::empty());
    }

    #[test]
    fn files_are_made_where_memory_is_shared() {
        let shared = Kind {
            shared: true,
            ..Kind::default()
        };
        assert!(shared.needs().files && !Kind::default().needs().files);
    }
}
