//! TCP: one [`Stack`] for each kthread, with a smoltcp interface of its own.
//!
//! A connection is in one stack, its *owner's*. Its flow's packets come to that
//! kthread, as long as steering leaves the flow alone; then nothing is shared
//! and the owner's lock is free. A segment that comes to another kthread (it is
//! *foreign* there) is looked up in the process-wide table [`Flows`], and handled on the
//! spot in the owner's stack, under its lock. Events are the owner's to handle, or,
//! while that is parked, anybody's.
//!
//! Invariants: a connection in a stack is in the table, with that kthread as its owner;
//! no callback runs under a stack's lock.

mod conn;
mod device;
mod flows;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::iface::{Config, Interface, PollResult, SocketSet};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use self::conn::{After, Conn};
use self::device::Device;
pub(crate) use self::flows::{Flow, Flows};
use crate::app::{StreamEvent, StreamId};
use crate::process::NEVER;
use crate::wire::MTU;
use crate::worker::Worker;

/// Segments that one connection sends before the next one's turn.
const EGRESS_BURST: usize = 64;

/// Connections that wait for late segments, for ten seconds each, with their buffers. Of
/// more, the oldest are forgotten sooner.
const LINGERING_MAX: usize = 1024;

/// One kthread's TCP connections.
pub(crate) struct Stack {
    iface: Interface,
    /// No connection: for segments that belong to none, which are answered by a reset.
    nobody: SocketSet<'static>,
    conns: HashMap<StreamId, Box<Conn>>,
    by_flow: HashMap<Flow, StreamId>,
    /// When connections want to be looked at, in microseconds. Entries that
    /// are not their connection's `timer` any more are void.
    timers: BinaryHeap<Reverse<(i64, StreamId)>>,
    /// Connections that may have something to send.
    dirty: Vec<StreamId>,
    /// Empty between two uses; kept for its room.
    sending: Vec<StreamId>,
    /// Connections that are over and wait for late segments, the oldest first.
    lingering: VecDeque<StreamId>,
    events: VecDeque<(StreamId, StreamEvent)>,
    buffer: usize,
    max: usize,
    next_id: u64,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stack({} connections)", self.conns.len())
    }
}

/// smoltcp's idea of a moment, from nanoseconds since the start.
fn instant(now: u64) -> Instant {
    Instant::from_micros(i64::try_from(now / 1000).unwrap_or(i64::MAX))
}

impl Stack {
    /// Kthread `index`'s stack, of at most `max` connections with `buffer` bytes each way.
    pub(crate) fn new(
        index: usize,
        (addr, prefix_len): (Ipv4Addr, u8),
        buffer: usize,
        max: usize,
        seed: u64,
    ) -> Stack {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut Nowhere, Instant::ZERO);
        iface.update_ip_addrs(|addrs| {
            let added = addrs.push(IpCidr::new(addr.into(), prefix_len));
            added.expect("an interface has room for one address");
        });
        Stack {
            iface,
            nobody: SocketSet::new(Vec::new()),
            conns: HashMap::new(),
            by_flow: HashMap::new(),
            timers: BinaryHeap::new(),
            dirty: Vec::new(),
            sending: Vec::new(),
            lingering: VecDeque::new(),
            events: VecDeque::new(),
            buffer,
            max,
            // Numbers of different kthreads never meet.
            next_id: (index as u64) << 48,
        }
    }

    /// True if the connection is in this stack.
    #[inline]
    pub(crate) fn has(&self, flow: &Flow) -> bool {
        self.by_flow.contains_key(flow)
    }

    /// Handles a segment (an IPv4 packet) of a connection of this stack.
    pub(crate) fn input(&mut self, worker: &mut Worker, flow: &Flow, packet: &[u8]) {
        let Some(id) = self.by_flow.get(flow).copied() else {
            return;
        };
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let before = conn.before();
        let now = instant(worker.now);
        let mut device = Device::with(worker, packet);
        self.iface
            .poll_ingress_single(now, &mut device, &mut conn.set);
        mark(&mut self.dirty, conn);
        let events = &mut self.events;
        let after = conn.look(before, true, &mut |id, event| events.push_back((id, event)));
        self.settle(worker, id, after);
    }

    /// Takes a connection that its first segment asks for, entered in the table already.
    pub(crate) fn accept(&mut self, worker: &mut Worker, flow: Flow, packet: &[u8]) {
        let id = self.name();
        let mut conn = Box::new(Conn::new(id, flow, self.buffer, false));
        let listening = conn.socket().listen(flow.port);
        if listening.is_err() || self.conns.len() >= self.max {
            worker.process().flows.leave(&flow);
            return worker.counters().dropped_no_room.inc();
        }
        self.insert(conn);
        self.input(worker, &flow, packet);
    }

    /// Begins a connection, entered in the table already; `None`: no room.
    pub(crate) fn connect(&mut self, flow: Flow, addr: Ipv4Addr) -> Option<StreamId> {
        if self.conns.len() >= self.max {
            return None;
        }
        let id = self.name();
        let mut conn = Box::new(Conn::new(id, flow, self.buffer, true));
        let (peer, ours) = (flow.peer, (addr, flow.port));
        let context = self.iface.context();
        conn.socket().connect(context, peer, ours).ok()?;
        self.insert(conn);
        Some(id)
    }

    /// Takes out a connection that waits for its peer's first answer.
    pub(crate) fn take_connecting(&mut self, flow: &Flow) -> Option<Box<Conn>> {
        let id = self.by_flow.get(flow)?;
        if !self.conns.get(id)?.is_connecting() {
            return None;
        }
        let id = self.by_flow.remove(flow)?;
        self.conns.remove(&id)
    }

    /// Takes in a connection that another kthread began.
    pub(crate) fn insert(&mut self, mut conn: Box<Conn>) {
        conn.timer = None;
        conn.dirty = false;
        mark(&mut self.dirty, &mut conn);
        self.by_flow.insert(conn.flow, conn.id);
        self.conns.insert(conn.id, conn);
    }

    /// Answers a segment of no connection at all.
    pub(crate) fn refuse(&mut self, worker: &mut Worker, packet: &[u8]) {
        let now = instant(worker.now);
        let mut device = Device::with(worker, packet);
        self.iface
            .poll_ingress_single(now, &mut device, &mut self.nobody);
    }

    /// Reads from a connection.
    pub(crate) fn read(&mut self, id: StreamId, buf: &mut [u8]) -> usize {
        let Some(conn) = self.conns.get_mut(&id) else {
            return 0;
        };
        // The window grows, of which the peer may have to be told.
        mark(&mut self.dirty, conn);
        conn.read(buf)
    }

    /// Writes to a connection.
    pub(crate) fn write(&mut self, id: StreamId, data: &[u8]) -> usize {
        let Some(conn) = self.conns.get_mut(&id) else {
            return 0;
        };
        mark(&mut self.dirty, conn);
        conn.write(data)
    }

    /// Closes our side of a connection.
    pub(crate) fn close(&mut self, id: StreamId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.close();
            mark(&mut self.dirty, conn);
        }
    }

    /// Resets a connection.
    pub(crate) fn abort(&mut self, id: StreamId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.abort();
            mark(&mut self.dirty, conn);
        }
    }

    /// The next event that nobody has handled.
    #[inline]
    pub(crate) fn next_event(&mut self) -> Option<(StreamId, StreamEvent)> {
        self.events.pop_front()
    }

    /// True if there are such events.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Sends what there is to send, looks at connections whose time has come, and
    /// returns when the next one's comes, in nanoseconds since the start.
    pub(crate) fn flush(&mut self, worker: &mut Worker) -> u64 {
        let now = instant(worker.now);
        while let Some(&Reverse((at, id))) = self.timers.peek() {
            if at > now.total_micros() {
                break;
            }
            self.timers.pop();
            if let Some(conn) = self.conns.get_mut(&id)
                && conn.timer == Some(at)
            {
                conn.timer = None;
                mark(&mut self.dirty, conn);
            }
        }
        let mut sending = std::mem::take(&mut self.sending);
        std::mem::swap(&mut sending, &mut self.dirty);
        for id in sending.drain(..) {
            self.send(worker, id, now);
        }
        self.sending = sending;
        if !self.dirty.is_empty() {
            return worker.now;
        }
        let next = self
            .timers
            .peek()
            .map(|Reverse((at, _))| at.cast_unsigned());
        next.map_or(NEVER, |micros| micros.saturating_mul(1000))
    }

    /// Sends what one connection has, and sets its timer.
    fn send(&mut self, worker: &mut Worker, id: StreamId, now: Instant) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.dirty = false;
        conn.set_patience();
        let before = conn.before();
        let mut device = Device::new(worker);
        for _ in 0..EGRESS_BURST {
            let sent = self.iface.poll_egress(now, &mut device, &mut conn.set);
            if sent == PollResult::None {
                break;
            }
        }
        if device.exhausted {
            worker.counters().dropped_no_buffer.inc();
        }
        match self.iface.poll_at(now, &conn.set) {
            Some(at) if at <= now => mark(&mut self.dirty, conn),
            Some(at) => {
                let at = at.total_micros();
                if conn.timer.is_none_or(|timer| timer > at) {
                    conn.timer = Some(at);
                    self.timers.push(Reverse((at, id)));
                }
            }
            None => {}
        }
        let events = &mut self.events;
        let after = conn.look(before, false, &mut |id, event| {
            events.push_back((id, event))
        });
        self.settle(worker, id, after);
    }

    fn settle(&mut self, worker: &mut Worker, id: StreamId, after: After) {
        match after {
            After::Keep => {}
            After::Linger => {
                self.lingering.push_back(id);
                // One that has ended since is not found any more.
                if self.lingering.len() > LINGERING_MAX
                    && let Some(oldest) = self.lingering.pop_front()
                {
                    self.forget(worker, oldest);
                }
            }
            After::Forget => self.forget(worker, id),
        }
    }

    fn forget(&mut self, worker: &mut Worker, id: StreamId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        // One that was reset still has to tell the peer.
        if conn.has_last_word() {
            return;
        }
        if conn.was_opened() {
            worker.counters().tcp_closed.inc();
        }
        let flow = conn.flow;
        self.conns.remove(&id);
        self.by_flow.remove(&flow);
        worker.process().flows.leave(&flow);
    }

    fn name(&mut self) -> StreamId {
        self.next_id += 1;
        StreamId(self.next_id)
    }
}

/// Notes that a connection may have something to send.
fn mark(dirty: &mut Vec<StreamId>, conn: &mut Conn) {
    if !conn.dirty {
        conn.dirty = true;
        dirty.push(conn.id);
    }
}

/// The flow of a segment from `src`, and whether it could begin or accept a connection.
pub(crate) fn flow_of(src: Ipv4Addr, src_port: u16, port: u16) -> Flow {
    Flow {
        peer: SocketAddrV4::new(src, src_port),
        port,
    }
}

/// A device for making an interface, which asks for nothing but its capabilities.
struct Nowhere;

impl smoltcp::phy::Device for Nowhere {
    type RxToken<'a> = device::RxToken<'a>;
    type TxToken<'a> = device::TxToken<'a>;

    fn receive(&mut self, _: Instant) -> Option<(device::RxToken<'_>, device::TxToken<'_>)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<device::TxToken<'_>> {
        None
    }

    fn capabilities(&self) -> smoltcp::phy::DeviceCapabilities {
        let capabilities = device::capabilities();
        debug_assert_eq!(capabilities.max_transmission_unit, MTU);
        capabilities
    }
}
