//! A load generator and a server that spend time on purpose, in the vocabulary of
//! upstream's `synthetic`, on Linux sockets or on a runtime of `iokerneld`.
//!
//! Terms: a *request* is 16 bytes, how much work to do and a number to send back. A
//! *flow* is a 5-tuple. A *source* is what the client sends flows from: a UDP port, or
//! a TCP connection. A *lane* is a share of the sources with its own schedule, for one
//! sending thread. A *sample* is one load held for some time, and one row of the table.
//!
//! The client is an open loop: all requests have their times before the first is sent,
//! and no answer, or the want of one, changes them. One core, [`run::Run`], holds a
//! sample's schedule and its stamps; what sends and receives ([`linux`], [`runtime`]) only asks it
//! what is due and tells it what came back.

pub mod calibrate;
pub mod cli;
pub mod client;
pub mod distribution;
pub mod error;
pub mod fakework;
pub mod flows;
pub mod json;
pub mod linux;
pub mod num;
pub mod output;
pub mod payload;
pub mod run;
pub mod runtime;
pub mod sample;
pub mod schedule;
pub mod server;
