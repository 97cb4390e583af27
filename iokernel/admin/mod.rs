//! Questions to a running daemon, and orders: the rules, who is attached, counters.
//!
//! A client connects to the abstract Unix socket `@calisto/admin` of the daemon's
//! network namespace, sends one line, reads the answer, and both hang up:
//!
//! ```text
//!   rules                          each rule, as `rule add` takes it
//!   rule add core=5 hash=0x51ccc178
//!   rule add core=5 flow=udp 10.0.0.1:5000 -> 192.168.1.3:80
//!   rule del hash=0x51ccc178       or flow=...
//!   rule clear
//!   runtimes                       each runtime, a JSON object a line
//!   stats                          one JSON object: counters of polling loop, port and control
//!                                  thread, what is held now, and steering's totals
//! ```
//!
//! An answer is any number of lines and then `ok`, or the one line `error: ...`. One
//! without either of them was cut off.
//!
//! Invariants: only root and the daemon's own user are heard; the thread that answers
//! is neither the control thread nor the polling loop, and makes neither of them wait:
//! who keeps it waiting keeps back only others who ask.

pub mod client;
mod conversation;
mod requests;
mod rule_book;
mod server;
#[cfg(test)]
mod tests;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;

pub use requests::Request;
pub use server::{Admin, AdminConfig};

/// The socket's name, behind the NUL that makes it abstract.
const NAME: &[u8] = b"calisto/admin";
/// What a good answer ends with.
const OK: &str = "ok";
/// What a bad one is.
const ERROR: &str = "error: ";

fn address() -> SocketAddr {
    SocketAddr::from_abstract_name(NAME).expect("the name is short")
}
