//! Which kthread has which TCP connection: one table for the process.
//!
//! It is touched when a connection opens or ends, and for segments that their
//! kthread does not know. A connection is entered here before it is in its
//! kthread's stack, and leaves the stack first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A connection's peer, and our port. Our address is always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    pub(crate) peer: SocketAddrV4,
    pub(crate) port: u16,
}

const SHARDS: usize = 64;
/// Local ports of connections that we begin: as IANA has it.
const FIRST_PORT: u16 = 49_152;
const PORTS: u16 = u16::MAX - FIRST_PORT + 1;

/// The table.
#[derive(Debug)]
pub(crate) struct Flows {
    shards: [Mutex<HashMap<Flow, usize>>; SHARDS],
    hasher: std::hash::RandomState,
    next_port: AtomicU16,
}

impl Flows {
    /// An empty table.
    pub(crate) fn new() -> Flows {
        let hasher = std::hash::RandomState::new();
        #[allow(clippy::cast_possible_truncation, reason = "any sixteen bits will do")]
        let start = hasher.hash_one(0) as u16;
        Flows {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher,
            next_port: AtomicU16::new(start),
        }
    }

    fn shard(&self, flow: &Flow) -> MutexGuard<'_, HashMap<Flow, usize>> {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the lower bits are as good"
        )]
        let at = self.hasher.hash_one(flow) as usize % SHARDS;
        self.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The kthread of a connection.
    pub(crate) fn owner(&self, flow: &Flow) -> Option<usize> {
        self.shard(flow).get(flow).copied()
    }

    /// Enters a connection, unless there is one already; true if it did.
    pub(crate) fn enter(&self, flow: Flow, owner: usize) -> bool {
        match self.shard(&flow).entry(flow) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(owner);
                true
            }
        }
    }

    /// A connection goes from one kthread to another; true if it was `from`'s.
    pub(crate) fn hand_over(&self, flow: &Flow, from: usize, to: usize) -> bool {
        match self.shard(flow).get_mut(flow) {
            Some(owner) if *owner == from => {
                *owner = to;
                true
            }
            _ => false,
        }
    }

    /// Takes a connection out.
    pub(crate) fn leave(&self, flow: &Flow) {
        self.shard(flow).remove(flow);
    }

    /// Enters a connection to `peer` from a free local port.
    pub(crate) fn enter_new(&self, peer: SocketAddrV4, owner: usize) -> Option<Flow> {
        for _ in 0..PORTS {
            let port = FIRST_PORT + self.next_port.fetch_add(1, Ordering::Relaxed) % PORTS;
            let flow = Flow { peer, port };
            if self.enter(flow, owner) {
                return Some(flow);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);

    #[test]
    fn a_connection_is_one_kthreads_until_it_leaves() {
        let flows = Flows::new();
        let flow = Flow {
            peer: PEER,
            port: 7,
        };
        assert!(flows.enter(flow, 1));
        assert!(!flows.enter(flow, 2));
        assert_eq!(flows.owner(&flow), Some(1));
        assert!(!flows.hand_over(&flow, 0, 2));
        assert!(flows.hand_over(&flow, 1, 2));
        assert_eq!(flows.owner(&flow), Some(2));
        flows.leave(&flow);
        assert_eq!(flows.owner(&flow), None);
    }

    #[test]
    fn every_local_port_is_used_once_to_a_peer() {
        let flows = Flows::new();
        let mut ports: Vec<_> = std::iter::from_fn(|| flows.enter_new(PEER, 0))
            .map(|flow| flow.port)
            .collect();
        ports.sort_unstable();
        assert_eq!(ports, (FIRST_PORT..=u16::MAX).collect::<Vec<_>>());
        let other = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 81);
        assert!(flows.enter_new(other, 0).is_some());
    }
}
