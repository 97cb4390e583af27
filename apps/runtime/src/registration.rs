//! The steps of a registration, for programs that serve the rings themselves.
//!
//! ```text
//!   attach_ingress()                          the I/O kernel's segment
//!   Layout::new() -> Segment::create() -> attach() -> write_header()
//!   connect() -> send()                       key, length, eventfds; there is no answer
//! ```
//!
//! [`start`](crate::start) goes through them in this order; an I/O kernel may wait for the
//! rest of a registration and do nothing else, so everything is there before `connect()`.

mod layout;
mod segment;
mod send;

pub use layout::{EGRESS_BUF_LEN, HUGE_PAGE, Layout, RING_SLOTS};
pub use segment::{Segment, attach_ingress};
pub use send::{connect, patiently, send, write_header};
