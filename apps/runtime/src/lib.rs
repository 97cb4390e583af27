//! The runtime side of Shenango's contract, as a small library.
//!
//! An application implements [`App`] and gives it to [`start`]. It attaches to
//! any iokerneld that keeps the contract: this repository's, or upstream's.

mod app;
mod config;
mod error;
mod net;
mod running;
mod stats;

pub use app::{App, CloseReason, Datagram, Next, StreamEvent, StreamId};
pub use config::{Config, MAX_KTHREADS, Pages};
pub use error::{ConfigError, ConnectError, RuntimeError, SendError, StartError};
pub use net::Net;
pub use running::{Running, start};
pub use stats::Stats;

/// Bytes of the longest datagram: a frame of 1514 less Ethernet, IPv4 and UDP headers.
pub const MAX_UDP: usize = 1514 - 14 - 20 - 8;
