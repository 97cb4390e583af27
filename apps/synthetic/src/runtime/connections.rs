//! A kthread's part of the client over TCP: connections, and which of them is due next.
//!
//! A connection is a source and has a lane of its own, since it lives on one kthread,
//! and which one that is nobody knows before it is open.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use calisto_runtime::{Net, StreamId};

use crate::payload::{Payload, Stream};
use crate::run::{Run, Turn};

/// Requests sent before anything else is looked at.
const BURST: usize = 64;

/// Open connections of a kthread.
#[derive(Debug, Default)]
pub(super) struct Connections {
    all: HashMap<StreamId, Connection>,
    /// When each has something to send, in nanoseconds from the start of the run.
    due: BinaryHeap<Reverse<(u64, StreamId)>>,
    /// The run for which that is so.
    run: u32,
}

#[derive(Debug)]
struct Connection {
    lane: usize,
    received: Stream,
    unsent: Vec<u8>,
}

impl Connection {
    fn write(&mut self, net: &mut Net<'_>, s: StreamId) {
        if !self.unsent.is_empty() {
            let written = net.write(s, &self.unsent);
            self.unsent.drain(..written);
        }
    }
}

impl Connections {
    /// A connection was opened: it carries the flow `lane`.
    pub(super) fn opened(&mut self, s: StreamId, lane: usize) {
        let connection = Connection {
            lane,
            received: Stream::default(),
            unsent: Vec::new(),
        };
        self.all.insert(s, connection);
    }

    /// A connection is over. True if it had been open.
    pub(super) fn closed(&mut self, s: StreamId) -> bool {
        self.all.remove(&s).is_some()
    }

    /// Writes what waits for room in a connection.
    pub(super) fn writable(&mut self, net: &mut Net<'_>, s: StreamId) {
        if let Some(connection) = self.all.get_mut(&s) {
            connection.write(net, s);
        }
    }

    /// Takes all answers that a connection brought.
    pub(super) fn readable(&mut self, net: &mut Net<'_>, s: StreamId, mut f: impl FnMut(Payload)) {
        let Some(connection) = self.all.get_mut(&s) else {
            return;
        };
        let mut buf = [0; 4096];
        loop {
            let len = net.read(s, &mut buf);
            if len == 0 {
                return;
            }
            connection.received.push(&buf[..len], &mut f);
        }
    }

    /// Asks with the first flow's connection, if it is here. True if it is.
    pub(super) fn probe(&mut self, net: &mut Net<'_>, payload: Payload) -> bool {
        let first = self.all.iter_mut().find(|(_, c)| c.lane == 0);
        let Some((&s, connection)) = first else {
            return false;
        };
        connection.unsent.extend(payload.to_bytes());
        connection.write(net, s);
        true
    }

    /// Sends what is due. Returns when the next one is, or 0 for at once; `None` when
    /// nothing is left.
    pub(super) fn send(&mut self, net: &mut Net<'_>, run: &Run) -> Option<u64> {
        if self.run != run.number() {
            self.run = run.number();
            self.due = self.all.keys().map(|&s| Reverse((0, s))).collect();
        }
        for _ in 0..BURST {
            let Reverse((due, s)) = *self.due.peek()?;
            if due > run.now() {
                return Some(due);
            }
            self.due.pop();
            let Some(connection) = self.all.get_mut(&s) else {
                continue;
            };
            match run.take(connection.lane, run.now()) {
                Turn::Send(request) => {
                    let (_, payload) = run.request(request);
                    connection.unsent.extend(payload.to_bytes());
                    connection.write(net, s);
                    self.due.push(Reverse((0, s)));
                }
                Turn::Wait(due) => self.due.push(Reverse((due, s))),
                Turn::Over => {}
            }
        }
        Some(0)
    }
}
