//! A runtime and a port in the test's own process, for tests and benches.
//!
//! [`Peer`] is the runtime's side of a region, rings and all; [`FakePort`] hands
//! out the frames that it is given and keeps those that are sent. With them the
//! real polling loop runs without NIC, root, huge pages or a second process.

mod peer;
mod port;
#[cfg(feature = "dpdk")]
pub mod rte_hash;
pub mod skip;
mod world;

pub use peer::{Peer, PeerKthread, PeerSpec};
pub use port::{FakePort, SentFrame};
pub use skip::skip;
pub use world::{World, mac, udp_frame};
