//! What the server does on each kthread: to completion, where a request arrives.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use calisto_runtime::{App, Datagram, Net, Next, StreamEvent, StreamId};
use crossbeam_utils::CachePadded;

use crate::cli::Transport;
use crate::fakework::FakeWork;
use crate::payload::{Payload, Stream};

/// Longest time until a kthread notices that the server should end.
const NAP: Duration = Duration::from_millis(50);

/// The server.
#[derive(Debug)]
pub(super) struct ServerApp {
    pub(super) work: FakeWork,
    pub(super) transport: Transport,
    pub(super) first_port: u16,
    pub(super) ports: u16,
    /// Set by whoever wants the end.
    pub(super) stop: AtomicBool,
    /// Set when the ports are bound.
    pub(super) bound: AtomicBool,
    /// By kthread.
    pub(super) counts: Box<[CachePadded<Counts>]>,
}

/// One kthread's counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) served: AtomicU64,
    pub(super) malformed: AtomicU64,
    /// Answers for which there was no room.
    pub(super) unsent: AtomicU64,
}

/// One kthread's connections.
pub(super) type Connections = HashMap<StreamId, Connection>;

/// A connection, as far as it was read and answered.
#[derive(Debug, Default)]
pub(super) struct Connection {
    received: Stream,
    unsent: Vec<u8>,
    ended: bool,
}

impl ServerApp {
    fn serve(&self, net: &Net<'_>, payload: Payload, hash: u32) {
        self.work.work(payload.work, hash);
        self.counts[net.kthread()].served.fetch_add(1, Relaxed);
    }

    /// Serves what a connection brought, as long as answers find room.
    fn converse(&self, connection: &mut Connection, net: &mut Net<'_>, s: StreamId) {
        let hash = stream_hash(s);
        let mut buf = [0; 4096];
        loop {
            let written = net.write(s, &connection.unsent);
            connection.unsent.drain(..written);
            // What cannot be answered is not read either: the peer's window closes.
            if !connection.unsent.is_empty() {
                return;
            }
            let len = net.read(s, &mut buf);
            if len == 0 {
                break;
            }
            let Connection {
                received, unsent, ..
            } = connection;
            received.push(&buf[..len], |payload| {
                self.serve(net, payload, hash);
                // At once, if it can be, rather than after the other requests' work.
                let bytes = payload.to_bytes();
                let written = match unsent.is_empty() {
                    true => net.write(s, &bytes),
                    false => 0,
                };
                unsent.extend(&bytes[written..]);
            });
        }
        if connection.ended {
            net.close(s);
        }
    }
}

/// A connection's stand-in for the RSS hash of its packets, which the library does not tell.
fn stream_hash(s: StreamId) -> u32 {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(s);
    u32::try_from(hash >> 32).unwrap_or_default()
}

impl App for ServerApp {
    type Local = Connections;

    fn local(&self, _kthread: usize) -> Connections {
        Connections::new()
    }

    fn datagram(&self, _: &mut Connections, net: &mut Net<'_>, d: &Datagram<'_>) {
        let counts = &self.counts[net.kthread()];
        match Payload::parse(d.payload()) {
            Some(payload) => {
                self.serve(net, payload, d.rss_hash());
                if net.reply(d, d.payload()).is_err() {
                    counts.unsent.fetch_add(1, Relaxed);
                }
            }
            None => {
                counts.malformed.fetch_add(1, Relaxed);
            }
        }
    }

    fn stream(&self, all: &mut Connections, net: &mut Net<'_>, s: StreamId, event: StreamEvent) {
        if let StreamEvent::Closed(_) = event {
            all.remove(&s);
            return;
        }
        let connection = all.entry(s).or_default();
        connection.ended |= event == StreamEvent::PeerClosed;
        self.converse(connection, net, s);
    }

    fn poll(&self, _: &mut Connections, net: &mut Net<'_>) -> Next {
        if self.stop.load(Relaxed) {
            return Next::Stop;
        }
        // Binding again does no harm: two kthreads may find that it is yet to be done.
        if !self.bound.load(Relaxed) {
            let last = self.first_port + (self.ports - 1);
            match self.transport {
                Transport::Udp => net.udp_bind_range(self.first_port..=last),
                Transport::Tcp => (self.first_port..=last).for_each(|port| net.tcp_listen(port)),
            }
            self.bound.store(true, Relaxed);
        }
        Next::Until(net.now() + NAP)
    }
}
