//! Server and client on Linux's own sockets.

pub mod client;
mod lane;
mod ready;
pub mod server;
mod tcp_lane;
mod tcp_server;
mod udp_lane;
mod udp_server;
