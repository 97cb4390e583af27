//! Which of a runtime's kthreads gets a packet. Pure: no clock, no I/O.
//!
//! A policy sees the packet's RSS hash and the kthreads that are active now,
//! and names one of them. Completions and joins are not packets and are not
//! steered by a policy.

pub mod modulo;
pub mod rules;
pub mod spec;
pub mod table;

pub use spec::{Affinity, Policy, SteeringSpec};
