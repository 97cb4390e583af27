//! Calisto: a drop-in `iokerneld` for Shenango, with flow affinity.
//!
//! ```text
//!   ids, hint <- abi <- proc <- control, dataplane <- main
//!                               control <- admin <- main, calistoctl
//!                steering, cores (pure) <- dataplane
//!                port <- dataplane
//! ```

pub mod abi;
pub mod admin;
pub mod config;
pub mod control;
pub mod cores;
pub mod dataplane;
pub mod hint;
pub mod ids;
pub mod pages;
pub mod port;
pub mod privileges;
pub mod proc;
pub mod stats;
pub mod steering;
pub mod terminal;
#[doc(hidden)]
pub mod testing;
pub mod time;
