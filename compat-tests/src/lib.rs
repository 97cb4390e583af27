//! A framework for whole-system tests of the contract, in real processes.
//!
//! Terms: a *host* is a private world for one `iokerneld`: a network and an
//! IPC namespace, so that its control socket and its shared memory collide
//! with nobody's. A *runtime* is one of our C programs attached to it; at its
//! end it gives a *report*, one line of JSON. A *peer* is a network namespace
//! with Linux's own stack in it, at the other end of a veth pair.
//!
//! ```no_run
//! use compat_tests::{Host, Runtime};
//! let Some(mut host) = Host::loopback("udp comes back") else { return };
//! let echo = host.start(Runtime::echo(1));
//! let report = host.start(Runtime::sender(2).to(1).count(1000)).wait();
//! assert_eq!(report.get("replies"), 1000);
//! echo.stop().assert_good();
//! host.finish();
//! ```
//!
//! Invariants: no wait is unbounded (a test fails, it does not hang); whatever
//! a test started dies with it, also when it fails; a finished host has left
//! no segment, no process and no file of huge pages behind.

pub mod c_view;
pub mod child;
pub mod counters;
pub mod cpuset;
pub mod daemon;
pub mod host;
#[path = "../hostile/mod.rs"]
pub mod hostile;
pub mod namespace;
pub mod runtime;
pub mod stopped;
pub mod storm;
pub mod upstream;
pub mod veth;

pub use calisto::testing::skip;
pub use counters::Counters;
pub use host::Host;
pub use runtime::{Report, Running, Runtime};
pub use veth::Peer;
