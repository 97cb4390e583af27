//! A simulator of a host under Calisto, in simulated time.
//!
//! The decisions are the daemon's own: [`calisto::steering`] finds the kthread of each packet
//! and [`calisto::cores::arbiter`] gives cores, driven in the order, bursts and intervals of
//! the dataplane. Simulated are the things around them: the polling core, runtimes with
//! upstream's work stealing, the kernel's wakes and signals, and caches that hold flows' state.
//!
//! ```text
//!   arrivals -> engine::dispatcher -- steering, arbiter --> engine::runtime -> meter -> Report
//!                                                               cache
//! ```
//!
//! ```
//! let scenario = calisto_sim::Scenario { packets: 1000, ..Default::default() };
//! let report = calisto_sim::run(&scenario)?;
//! assert_eq!(report.procs[0].ends.answered, 1000);
//! # Ok::<(), calisto_sim::SimError>(())
//! ```

mod arrivals;
pub mod beside;
mod cache;
pub mod charts;
mod check;
mod engine;
mod error;
mod machine;
mod many;
mod report;
mod scenario;
pub mod sweep;
pub mod table;

pub use engine::run;
pub use error::SimError;
pub use machine::{Cache, Dispatcher, Kernel, Machine, Runtime, SteerCosts, Topology};
pub use many::run_all;
pub use report::{Ends, Grants, Latency, Moves, ProcReport, Report, Steals, Time, Touches};
pub use scenario::{
    Arrivals, Batch, Load, MAX_CORES, MAX_FLOWS, MAX_PACKETS, Popularity, Proc, Scenario, Service,
    Steering,
};
