//! Which of a runtime's kthreads gets a packet. Pure: no clock, no I/O.
//!
//! # Terms
//!
//! A *flow* is known by its RSS hash alone. Its *home* is a core, not a kthread: what a
//! core's caches hold of a flow stays there when another kthread of the proc runs on
//! it. A flow *moves* when it gets another home. A core is *lost* while the proc does
//! not have it, and *relieved* when another was added because its kthread's queue stood
//! still. A packet could *overtake* an earlier one of its flow if that lies, not yet
//! taken, with another kthread.
//!
//! # How it is used
//!
//! ```text
//!   arbiter --activated, parked--> ProcSteering <--steer_burst-- rx
//! ```
//!
//! One [`ProcSteering`] a proc, made and dropped by the control thread. Frames that have
//! no 5-tuple have a flow too: all fragments of a datagram, and packets without ports,
//! hash their addresses alone; what is not IP hashes to 0, and so does all of it
//! together make one flow ([`port::hash`](crate::port::hash)). Broadcasts are steered
//! like other packets. Completions and joins are not packets: no policy sees them.
//!
//! # Properties
//!
//! Checked in `tests/`, over random packets and core events, for each policy for which
//! they hold: only active kthreads of the proc are named; growth moves no flow without
//! relief; shrinking moves only flows of the lost core; homes of new flows differ by one
//! at most between changes of the active set; with the order guard no packet overtakes
//! another of its flow while their kthreads run; capacity is never passed; the same
//! input gives the same output.

mod ahead;
mod buckets;
mod core_set;
mod flow_table;
mod heavy;
mod homes;
mod hybrid;
mod imbalance;
mod kthread_table;
mod modulo;
mod order;
mod proc;
pub mod rules;
pub mod spec;
pub mod table;
#[cfg(test)]
mod tests;
mod view;
mod watch;

pub use ahead::Ahead;
pub use homes::RELIEF_SPAN;
pub use imbalance::IMBALANCE_INTERVAL;
pub use order::Rxqs;
pub use proc::{ProcSteering, Surroundings};
pub use spec::{Affinity, Policy, SteeringSpec};
pub use view::Steered;
