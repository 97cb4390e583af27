//! Ports that the process takes packets for: one bit each, for all kthreads.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

/// A set of ports. Looking takes no lock.
#[derive(Debug)]
pub(crate) struct PortSet(Box<[AtomicU64; 1024]>);

impl PortSet {
    /// No port.
    pub(crate) fn new() -> PortSet {
        PortSet(Box::new([const { AtomicU64::new(0) }; 1024]))
    }

    /// Adds ports.
    pub(crate) fn add(&self, ports: RangeInclusive<u16>) {
        for port in ports {
            let (word, bit) = place(port);
            // Relaxed: the word alone is the message; nothing is published by it.
            self.0[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// True if the port was added.
    #[inline]
    pub(crate) fn has(&self, port: u16) -> bool {
        let (word, bit) = place(port);
        self.0[word].load(Ordering::Relaxed) & bit != 0
    }
}

fn place(port: u16) -> (usize, u64) {
    (usize::from(port / 64), 1 << (port % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_ports_of_a_range_are_in() {
        let ports = PortSet::new();
        ports.add(63..=129);
        ports.add(u16::MAX..=u16::MAX);
        for port in 0..=u16::MAX {
            let wanted = (63..=129).contains(&port) || port == u16::MAX;
            assert_eq!(ports.has(port), wanted, "{port}");
        }
    }
}
