//! The shared-memory contract with unmodified Shenango runtimes.
//!
//! Terms: a *region* is a runtime's own SysV segment; the *ingress region* is
//! the segment that received packets lie in; a *shmptr* is an offset into one
//! of them. Everything here may be rewritten by a peer at any moment, so no
//! Rust reference to shared bytes ever exists: the views copy words out, or
//! store words, and nothing else.
//!
//! ```text
//!   runtime's region                                   ingress region
//!   +--------------------+                             +---------------------+
//!   | control_hdr        |   RX_NET_RECV: shmptr  -->  | .. rx_net_hdr frame |
//!   | thread_spec[n]     |                             | .. rx_net_hdr frame |
//!   | rings, q_ptrs      |                             +---------------------+
//!   | egress buffers:    |
//!   |  tx_net_hdr frame  | <-- TXPKT_NET_XMIT: shmptr
//!   +--------------------+
//! ```
//!
//! Invariant: offsets and sizes that come from a peer are checked once, where a
//! view is made; a view that exists is in bounds for as long as its segment is
//! mapped.

#[cfg(all(test, not(loom)))]
mod exhaustive;
pub mod ingress;
pub mod lrpc;
pub mod qptrs;
pub mod shm;
mod sync;
pub mod types;
