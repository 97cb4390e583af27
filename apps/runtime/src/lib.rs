//! The runtime side of Shenango's contract, as a small library.
//!
//! An application implements [`App`] and gives it to [`start`]. It attaches to
//! any iokerneld that keeps the contract: this repository's, or upstream's.
//!
//! ```text
//!   wire, ports, layout, egress, neighbours, claim, tcp::flows (pure)
//!        ^
//!   process (what all share) <- park (SIGUSR1, eventfds) <- worker (sends) <- tcp
//!        ^                                                                     ^
//!   running (start, end) -> run (a kthread's loop), input, takeover -> net -> app
//! ```
//!
//! # Terms
//! A *kthread* is a thread that has a core while it runs. It *parks* for want of work, or
//! because the I/O kernel *preempts* it. Others *take over* what a parked one left. A
//! connection's *owner* is the kthread whose callbacks it has; a segment is *foreign* where
//! it arrives on another one.
//!
//! # Steering
//! TCP is right under every policy of the I/O kernel. It is share-nothing only where flows keep
//! their kthread: under `modulo` many segments are foreign, and each takes its owner's lock
//! ([`Stats::foreign_segments`]). UDP is handled wherever it arrives.

mod app;
mod claim;
mod config;
mod egress;
mod error;
mod ingress;
mod input;
mod lend;
mod neighbours;
mod net;
mod park;
mod ports;
mod process;
pub mod registration;
mod run;
mod running;
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
