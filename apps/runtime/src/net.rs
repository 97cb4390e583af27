//! What a callback can do: send, bind, connect, read, write.

use std::marker::PhantomData;
use std::net::SocketAddrV4;
use std::ops::RangeInclusive;
use std::time::Instant;

use crate::app::{Datagram, StreamId};
use crate::error::{ConnectError, SendError};

/// The network, as a callback sees it.
#[derive(Debug)]
pub struct Net<'a> {
    _later: PhantomData<&'a mut ()>,
}

impl Net<'_> {
    /// The kthread whose `Local` the callback has.
    pub fn kthread(&self) -> usize {
        unimplemented!()
    }

    /// How many kthreads the runtime has.
    pub fn kthreads(&self) -> usize {
        unimplemented!()
    }

    /// The time, read anew at each call.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// The runtime's own address.
    pub fn addr(&self) -> std::net::Ipv4Addr {
        unimplemented!()
    }

    /// Says that this kthread has more to do than it can, or no longer: the I/O
    /// kernel gives the runtime another core if it can. Packets that wait say so by themselves.
    pub fn want_core(&mut self, wanted: bool) {
        let _ = wanted;
        unimplemented!()
    }

    /// Sends a datagram, by one copy into an egress buffer.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent then.
    pub fn udp_send(
        &mut self,
        from_port: u16,
        to: SocketAddrV4,
        payload: &[u8],
    ) -> Result<(), SendError> {
        self.udp_send_with(from_port, to, payload.len(), |buf| buf.copy_from_slice(payload))
    }

    /// Sends a datagram of `len` bytes that `fill` writes into the egress buffer
    /// itself. Preemption waits for `fill`: it should be short.
    ///
    /// # Errors
    /// [`SendError`]; `fill` was not called then, but for `QueueFull`.
    pub fn udp_send_with(
        &mut self,
        from_port: u16,
        to: SocketAddrV4,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        let _ = (from_port, to, len, fill);
        unimplemented!()
    }

    /// Answers a datagram: from the port it came to, to where it came from.
    ///
    /// # Errors
    /// [`SendError`], but for `NoRoute`: the way back is known.
    pub fn reply(&mut self, d: &Datagram<'_>, payload: &[u8]) -> Result<(), SendError> {
        self.reply_with(d, payload.len(), |buf| buf.copy_from_slice(payload))
    }

    /// As [`reply`](Self::reply), written in place as with [`udp_send_with`](Self::udp_send_with).
    ///
    /// # Errors
    /// As of [`reply`](Self::reply).
    pub fn reply_with(
        &mut self,
        d: &Datagram<'_>,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        let _ = (d, len, fill);
        unimplemented!()
    }

    /// Takes datagrams for `port` from now on, on every kthread.
    pub fn udp_bind(&mut self, port: u16) {
        self.udp_bind_range(port..=port);
    }

    /// The same for many ports.
    pub fn udp_bind_range(&mut self, ports: RangeInclusive<u16>) {
        let _ = ports;
        unimplemented!()
    }

    /// Takes TCP connections to `port` from now on, on every kthread: each is
    /// the kthread's where its first segment arrives.
    pub fn tcp_listen(&mut self, port: u16) {
        let _ = port;
        unimplemented!()
    }

    /// Begins a TCP connection.
    ///
    /// It becomes the kthread's where the peer's answer arrives, since the rest of
    /// the flow will arrive there too; which one that is, the I/O kernel decides. So
    /// `Opened` may come **on another kthread** than this: keep what belongs to the
    /// connection in the `Local` of the kthread that got `Opened`, and take the id
    /// for no more than a name until then. Where it fails, `Closed` comes without `Opened`.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub fn tcp_connect(&mut self, to: SocketAddrV4) -> Result<StreamId, ConnectError> {
        let _ = to;
        unimplemented!()
    }

    /// Reads what has arrived, at most `buf`; 0 when there is nothing now, or no such
    /// connection of this kthread.
    pub fn read(&mut self, s: StreamId, buf: &mut [u8]) -> usize {
        let _ = (s, buf);
        unimplemented!()
    }

    /// Writes as much as the send buffer has room for; returns how much that was.
    /// After less than all, [`Writable`](crate::StreamEvent::Writable) will come.
    pub fn write(&mut self, s: StreamId, data: &[u8]) -> usize {
        let _ = (s, data);
        unimplemented!()
    }

    /// Closes our side: what was written is still sent. `Closed` comes later.
    pub fn close(&mut self, s: StreamId) {
        let _ = s;
        unimplemented!()
    }

    /// Resets the connection: nothing more is sent or read, and no event comes.
    pub fn abort(&mut self, s: StreamId) {
        let _ = s;
        unimplemented!()
    }
}
