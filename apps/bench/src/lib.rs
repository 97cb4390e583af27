//! Measuring tools: the smallest runtime that an I/O kernel can serve, and the
//! table of results.
//!
//! ```text
//!   shared <- runtime (registers) <- sink (serves the kthreads) <- bin/sink
//!             flows (what moved)  <-
//!   report (pure)  <- bin/bench_report
//! ```
//!
//! The NIC emulator beside them (`nicgen/`) is C: it is loaded into any DPDK
//! process, ours or not, and uses DPDK's inline functions.

pub mod flows;
pub mod report;
pub mod runtime;
pub mod shared;
pub mod sink;
