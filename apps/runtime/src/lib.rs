//! The runtime side of Shenango's contract, as a small library.
//!
//! An application implements [`App`] and gives it to [`start`]. It attaches to
//! any iokerneld that keeps the contract: this repository's, or upstream's.

mod app;
mod config;
mod egress;
mod error;
mod ingress;
mod input;
mod layout;
mod neighbours;
mod net;
mod park;
mod ports;
mod process;
mod register;
mod run;
mod running;
mod segment;
mod stats;
mod takeover;
mod tcp;
mod wire;
mod worker;

pub use app::{App, CloseReason, Datagram, Next, StreamEvent, StreamId};
pub use config::{Config, MAX_KTHREADS, Pages};
pub use error::{ConfigError, ConnectError, RuntimeError, SendError, StartError};
pub use net::Net;
pub use running::{Running, start};
pub use stats::Stats;

/// Bytes of the longest datagram: a frame of 1514 less Ethernet, IPv4 and UDP headers.
pub const MAX_UDP: usize = 1514 - 14 - 20 - 8;
