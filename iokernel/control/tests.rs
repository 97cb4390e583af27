//! Hostile and broken registrations, and the control thread as a whole.

mod bytes;
mod checks;
mod harness;
mod server;
