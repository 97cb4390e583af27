//! The control thread: it admits runtimes, hands them to the dataplane, and
//! clears up after them.
//!
//! ```text
//!   connect   key, length, fds        checks              free slot
//!  ---------> socket -> registration -------> Candidate ---------> table --Attach--> dataplane
//!                           |                     |                  ^                  |
//!                           v refused             v refused          +---- Detached ----+
//!                        closed                closed
//! ```
//!
//! Terms: a *registration* is what arrives on one connection before anything of
//! it is believed; a *candidate* passed every check that concerns it alone; it
//! is *attached* while a slot of the table is its own, and *leaving* from its
//! hang-up until the dataplane returned its [`Proc`](crate::proc::Proc).
//!
//! Invariants: nothing here waits for a peer; departures are handled before
//! arrivals; whatever a refused registration brought (fds, mapping, guaranteed
//! cores) is given back by drop.

pub mod admission;
pub mod checks;
pub mod directory;
pub mod error;
pub mod faults;
pub mod fd_limit;
pub mod ingress_segment;
pub mod kthreads;
pub mod layout;
pub mod messages;
mod penalties;
pub mod rate_limit;
pub mod registration;
pub mod rules_link;
pub mod server;
mod sigbus;
pub mod socket;
mod sysv;
pub mod table;
#[cfg(test)]
pub(crate) mod test_runtime;
#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use directory::Directory;
pub use error::RegistrationError;
pub use faults::Fault;
pub use messages::{ControlEnd, DataplaneEnd, DetachReason, ToControl, ToDataplane, channel};
pub use rules_link::{RulesEnd, RulesLink, rules_link};
pub use server::{ControlStats, Server, ServerConfig};
