//! Hostile and broken registrations, and the control thread as a whole.

mod bytes;
mod checks;
mod departures;
pub(super) mod harness;
mod layout;
mod server;
