//! Why something was not done; each a line for the user.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use calisto::ids::Mac;

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line that is not understood, or has an impossible value.
    #[error("{}:{line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it, and what is expected.
        what: String,
    },
    /// Values that do not go together, or one that is missing.
    #[error("{0}")]
    Value(String),
}

/// Why a runtime did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is impossible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no I/O kernel, also after the patience that was given.
    #[error("no iokerneld after {patience:?} ({what}): start it first")]
    NoIokernel {
        /// How long was waited.
        patience: Duration,
        /// What was missing.
        what: String,
    },
    /// Another runtime of this process is running.
    #[error("this process has a runtime already: one at a time")]
    Twice,
    /// The region cannot be had.
    #[error("no shared memory of {bytes} bytes in {pages} pages: {error}; {advice}")]
    Memory {
        /// Bytes of the region.
        bytes: usize,
        /// What pages were asked for.
        pages: &'static str,
        /// What the system said.
        error: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// The I/O kernel closed the connection during registration.
    #[error("iokerneld closed the connection: its log says why")]
    Refused,
    /// It ended while it started.
    #[error(transparent)]
    Ended(#[from] RuntimeError),
    /// A system call was refused.
    #[error("{0}: {1}")]
    Os(&'static str, io::Error),
}

/// Why a runtime ended that nobody had asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The I/O kernel ended.
    #[error("iokerneld hung up: it has ended or detached this runtime, see its log")]
    HungUp,
    /// The I/O kernel refused the registration.
    #[error("iokerneld refused this runtime: its log says why")]
    Refused,
    /// Somebody on the network has our address.
    #[error("{addr} is in use by {}: give another address", Mac(*mac))]
    AddressInUse {
        /// The address.
        addr: Ipv4Addr,
        /// Whose Ethernet address answered, or asked for it at the same time.
        mac: [u8; 6],
    },
    /// The application panicked.
    #[error("the application panicked on kthread {0}")]
    Panicked(usize),
}

/// Why a datagram was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Every egress buffer is under way. They come back soon: try again.
    #[error("every egress buffer is under way")]
    NoBuffer,
    /// The txpktq is full. The I/O kernel empties it all the time: try again.
    #[error("the packet queue is full")]
    QueueFull,
    /// The destination is not of this network, and there is no gateway; or its
    /// Ethernet address is being asked for and too many packets wait for that.
    #[error("no route to the destination")]
    NoRoute,
    /// Longer than [`MAX_UDP`](crate::MAX_UDP).
    #[error("longer than a datagram may be")]
    TooLong,
}

/// Why a TCP connection was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The destination is not of this network, and there is no gateway.
    #[error("no route to the destination")]
    NoRoute,
    /// Every local port has a connection to this destination.
    #[error("no free local port")]
    NoPort,
    /// This kthread has [`Config::tcp_connections`](crate::Config) of them.
    #[error("too many connections")]
    TooMany,
}
