//! What a callback can do: send, bind, connect, read, write.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::app::{Datagram, StreamId};
use crate::error::{ConnectError, SendError};
use crate::park::Seat;
use crate::process::{Kthread, Process};
use crate::worker::Worker;

/// The network, as a callback sees it.
#[derive(Debug)]
pub struct Net<'a> {
    worker: &'a mut Worker,
    process: &'a Process,
    /// Whose callback it is.
    owner: usize,
    /// Whose thread it is.
    index: usize,
}

/// Some of the library's own work in the middle of a callback: preemption waits for its end.
struct Part<'a>(Option<Seat<'a>>);

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.0 {
            seat.enter_app();
        }
    }
}

impl<'a> Net<'a> {
    /// What a callback of kthread `owner` gets on the thread of kthread `index`.
    pub(crate) fn new(
        worker: &'a mut Worker,
        process: &'a Process,
        owner: usize,
        index: usize,
    ) -> Net<'a> {
        Net {
            worker,
            process,
            owner,
            index,
        }
    }

    /// Runs application code with it.
    pub(crate) fn lend<T>(&mut self, f: impl FnOnce(&mut Net<'a>) -> T) -> T {
        let Some(seat) = self.seat() else {
            return f(self);
        };
        struct Leave<'a>(Seat<'a>);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.leave_app();
            }
        }
        let _leave = Leave(seat);
        seat.enter_app();
        f(self)
    }

    /// Where this thread can be parked. Not in another kthread's callbacks: whoever
    /// holds that one's state must come to an end.
    fn seat(&self) -> Option<Seat<'a>> {
        (self.owner == self.index).then(|| Seat::new(self.process, self.index))
    }

    fn part(&self) -> Part<'a> {
        let seat = self.seat();
        if let Some(seat) = seat {
            seat.leave_app();
        }
        Part(seat)
    }

    fn own(&self) -> &'a Kthread {
        &self.process.kthreads[self.owner]
    }

    /// The kthread whose `Local` the callback has.
    pub fn kthread(&self) -> usize {
        self.owner
    }

    /// How many kthreads the runtime has.
    pub fn kthreads(&self) -> usize {
        self.process.kthreads.len()
    }

    /// The time, read anew at each call.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// The runtime's own address.
    pub fn addr(&self) -> Ipv4Addr {
        self.process.config.addr
    }

    /// Says that this kthread has more to do than it can, or no longer: the I/O
    /// kernel gives the runtime another core if it can. Packets that wait say so by themselves.
    pub fn want_core(&mut self, wanted: bool) {
        self.own().wants_core.store(wanted, Ordering::Relaxed);
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
        self.udp_send_with(from_port, to, payload.len(), |buf| {
            buf.copy_from_slice(payload)
        })
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
        let _part = self.part();
        self.worker.send_udp(from_port, to, None, len, fill)
    }

    /// Answers a datagram: from the port it came to, to where it came from.
    ///
    /// # Errors
    /// [`SendError`], but for `NoRoute`: the way back is known.
    pub fn reply(&mut self, d: &Datagram<'_>, payload: &[u8]) -> Result<(), SendError> {
        self.reply_with(d, payload.len(), |buf| buf.copy_from_slice(payload))
    }

    /// The same, written in place as with [`udp_send_with`](Self::udp_send_with).
    ///
    /// # Errors
    /// As of [`reply`](Self::reply).
    pub fn reply_with(
        &mut self,
        d: &Datagram<'_>,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        let _part = self.part();
        let mac = Some(d.from_mac);
        self.worker.send_udp(d.to.port(), d.from, mac, len, fill)
    }

    /// Takes datagrams for `port` from now on, on every kthread.
    pub fn udp_bind(&mut self, port: u16) {
        self.udp_bind_range(port..=port);
    }

    /// The same for many ports.
    pub fn udp_bind_range(&mut self, ports: RangeInclusive<u16>) {
        self.process.udp_ports.add(ports);
    }

    /// Takes TCP connections to `port` from now on, on every kthread: each is
    /// the kthread's where its first segment arrives.
    pub fn tcp_listen(&mut self, port: u16) {
        self.process.tcp_ports.add(port..=port);
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
        let _part = self.part();
        if !self.worker.has_route(*to.ip()) || self.worker.is_broadcast(*to.ip()) {
            return Err(ConnectError::NoRoute);
        }
        let flows = &self.process.flows;
        let flow = flows
            .enter_new(to, self.owner)
            .ok_or(ConnectError::NoPort)?;
        let id = self.own().stack().connect(flow, self.process.config.addr);
        if id.is_none() {
            flows.leave(&flow);
        }
        id.ok_or(ConnectError::TooMany)
    }

    /// Reads what has arrived, at most `buf`; 0 when there is nothing now, or no such
    /// connection of this kthread.
    pub fn read(&mut self, s: StreamId, buf: &mut [u8]) -> usize {
        let _part = self.part();
        self.own().stack().read(s, buf)
    }

    /// Writes as much as the send buffer has room for; returns how much that was.
    /// After less than all, [`Writable`](crate::StreamEvent::Writable) will come.
    pub fn write(&mut self, s: StreamId, data: &[u8]) -> usize {
        let _part = self.part();
        self.own().stack().write(s, data)
    }

    /// Closes our side: what was written is still sent. `Closed` comes later.
    pub fn close(&mut self, s: StreamId) {
        let _part = self.part();
        self.own().stack().close(s);
    }

    /// Resets the connection: nothing more is sent or read, and no event comes.
    pub fn abort(&mut self, s: StreamId) {
        let _part = self.part();
        self.own().stack().abort(s);
    }
}
