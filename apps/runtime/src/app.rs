//! What an application is made of.

use std::fmt;
use std::net::SocketAddrV4;
use std::time::Instant;

use crate::net::Net;

/// An application. One value is shared by all kthreads; `Local` is one kthread's own.
///
/// # What a callback may and may not do
/// A kthread can lose its core in the middle of a callback, for milliseconds:
/// SIGUSR1 parks it right there. Whatever it holds then, it keeps. So no
/// callback may hold a lock that another kthread waits for, unless that one gives
/// up (`try_lock`); that includes the allocator of a foreign library and
/// the standard library's `stdout`, whose locks are short but locks. Nor may it block:
/// its core is lost to the runtime meanwhile. System calls that are
/// slow may fail with `EINTR`. Calls of [`Net`] are safe: preemption waits
/// for their end. A callback must come back: [`stop`](crate::Running::stop) waits for it.
///
/// Callbacks of a parked kthread may be run by another kthread's thread, one at a
/// time and with the parked one's `Local`; thread-local variables do not follow.
pub trait App: Send + Sync + 'static {
    /// One kthread's own state.
    type Local: Send;

    /// Makes a kthread's state, before any callback.
    fn local(&self, kthread: usize) -> Self::Local;

    /// A datagram for a bound port arrived.
    ///
    /// It runs on the kthread where the datagram arrived, or, when that is
    /// parked, on one that took it over, with the `Local` of the one that runs.
    fn datagram(&self, local: &mut Self::Local, net: &mut Net<'_>, d: &Datagram<'_>) {
        let _ = (local, net, d);
    }

    /// Something happened to a TCP connection of this kthread.
    fn stream(&self, local: &mut Self::Local, net: &mut Net<'_>, s: StreamId, event: StreamEvent) {
        let _ = (local, net, s, event);
    }

    /// Called again and again while the kthread runs, and at the time that the
    /// last call asked for. The first call on kthread 0 comes at the start, before its
    /// first packet: the place to bind and to connect.
    fn poll(&self, local: &mut Self::Local, net: &mut Net<'_>) -> Next;
}

/// What a kthread does after a [`poll`](App::poll).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is more to do: it does not park.
    Busy,
    /// It may park until a packet comes for it.
    Idle,
    /// It may park until then.
    Until(Instant),
    /// The runtime ends.
    Stop,
}

/// A received UDP datagram, in the ingress buffer.
///
/// Every runtime of the machine maps these bytes and could alter them while they
/// are looked at: take out and check a value once, rather than twice.
#[derive(Clone, Copy)]
pub struct Datagram<'a> {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) payload: &'a [u8],
    pub(crate) rss_hash: u32,
    pub(crate) from_mac: [u8; 6],
}

impl fmt::Debug for Datagram<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to, len) = (self.from, self.to, self.payload.len());
        write!(f, "Datagram({from} -> {to}, {len} bytes)")
    }
}

impl<'a> Datagram<'a> {
    /// Who sent it.
    pub fn from(&self) -> SocketAddrV4 {
        self.from
    }

    /// To which address and port of ours.
    pub fn to(&self) -> SocketAddrV4 {
        self.to
    }

    /// Its bytes, in the ingress buffer, good until the callback returns.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The hash of its flow, as the I/O kernel computed it.
    pub fn rss_hash(&self) -> u32 {
        self.rss_hash
    }
}

/// Names a TCP connection in this process; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub(crate) u64);

/// What happened to a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    /// It is open: can be written and will be read. Comes first, and once.
    Opened,
    /// More can be read. Read until there is no more: the next event comes with new data only.
    Readable,
    /// The send buffer was full, and has room again.
    Writable,
    /// The peer sends no more. What it sent can still be read, and it still
    /// reads: write what is left and [`close`](Net::close).
    PeerClosed,
    /// It is over; the last event. The name is of no use any more.
    Closed(CloseReason),
}

/// How a TCP connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides closed it.
    Done,
    /// The peer reset it.
    Reset,
    /// The peer refused it: nobody listens there.
    Refused,
    /// The peer does not answer any more, or never did.
    TimedOut,
}
