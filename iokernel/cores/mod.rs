//! Which runtime gets which core.
//!
//! [`topology`] finds out what the machine has and plans who runs where;
//! [`congestion`] and [`arbiter`] decide, as pure functions of what they are
//! told; [`executor`] carries decisions out with system calls.

pub mod arbiter;
pub mod congestion;
pub mod executor;
pub mod topology;
