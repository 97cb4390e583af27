//! One TCP connection: a smoltcp socket, and what its events are made from.
//!
//! Each has a socket set of its own, so that a segment meets the one socket that
//! it is for, however many connections there are.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;

use super::Flow;
use crate::app::{CloseReason, StreamEvent, StreamId};

/// After so long without an answer that is owed a connection has ended.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a peer that has not closed its side after ours is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: StreamId,
    pub(crate) flow: Flow,
    pub(crate) set: SocketSet<'static>,
    handle: SocketHandle,
    /// `Opened` was said.
    opened: bool,
    /// `PeerClosed` was said.
    peer_closed: bool,
    /// `Closed` was said, or nobody wants to hear it.
    silent: bool,
    /// We closed our side.
    closed: bool,
    /// A write found less room than it wanted.
    wants_room: bool,
    /// We began it.
    active: bool,
    /// Bytes that could be read when it was looked at last.
    readable: usize,
    /// The earliest entry for it among the timers.
    pub(crate) timer: Option<i64>,
    /// It is in the list of those that may have something to send.
    pub(crate) dirty: bool,
}

/// What is left to do for a connection after a look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It goes on.
    Keep,
    /// It is over, and will wait for late segments from now on.
    Linger,
    /// It is over: forget it.
    Forget,
}

impl Conn {
    /// A connection in the beginning; `buffer` bytes each way.
    pub(crate) fn new(id: StreamId, flow: Flow, buffer: usize, active: bool) -> Conn {
        let buffer = || SocketBuffer::new(vec![0; buffer]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        // The application answers before anything is sent: an acknowledgement goes along.
        socket.set_ack_delay(None);
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Conn {
            id,
            flow,
            set,
            handle,
            opened: false,
            peer_closed: false,
            silent: false,
            closed: false,
            wants_room: false,
            active,
            readable: 0,
            timer: None,
            dirty: false,
        }
    }

    /// Its socket.
    pub(crate) fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut::<Socket<'static>>(self.handle)
    }

    fn state(&self) -> State {
        self.set.get::<Socket<'static>>(self.handle).state()
    }

    /// We have asked, and no answer has come.
    pub(crate) fn is_connecting(&self) -> bool {
        self.state() == State::SynSent
    }

    /// Sets when to give up: only while the peer owes an answer. (smoltcp counts from the
    /// last segment, so that a quiet connection would end as well.)
    pub(crate) fn set_patience(&mut self) {
        let socket = self.socket();
        let owed = match socket.state() {
            State::Established | State::CloseWait => socket.send_queue() > 0,
            State::FinWait2 if socket.keep_alive().is_none() => {
                socket.set_keep_alive(Some(KEEP_ALIVE));
                true
            }
            _ => true,
        };
        socket.set_timeout(owed.then_some(TIMEOUT));
    }

    /// Reads; 0 when there is nothing.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> usize {
        let read = self.socket().recv_slice(buf).unwrap_or(0);
        self.readable = self.socket().recv_queue();
        read
    }

    /// Writes as much as there is room for.
    pub(crate) fn write(&mut self, data: &[u8]) -> usize {
        let written = self.socket().send_slice(data).unwrap_or(0);
        self.wants_room |= written < data.len() && self.socket().may_send();
        written
    }

    /// Closes our side.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.socket().close();
    }

    /// Resets it, without an event.
    pub(crate) fn abort(&mut self) {
        self.silent = true;
        self.socket().abort();
    }

    /// Says what has happened since the last look. `by_peer`: a segment has just been
    /// handled, so the peer was the cause. `before`: the state before that.
    pub(crate) fn look(
        &mut self,
        before: State,
        by_peer: bool,
        say: &mut impl FnMut(StreamId, StreamEvent),
    ) -> After {
        let state = self.state();
        let id = self.id;
        if !self.silent {
            if !self.opened && is_open(state) {
                self.opened = true;
                say(id, StreamEvent::Opened);
            }
            if self.opened {
                self.say_data(say);
            }
        }
        match state {
            // A reset took an unopened connection back to where it came from.
            State::Listen => return self.forget_unopened(),
            State::Closed => {
                let reason = match before {
                    State::LastAck | State::Closing | State::TimeWait => CloseReason::Done,
                    _ if !by_peer => CloseReason::TimedOut,
                    State::SynSent => CloseReason::Refused,
                    _ => CloseReason::Reset,
                };
                self.say_closed(reason, say);
                return After::Forget;
            }
            State::TimeWait if before != State::TimeWait => {
                self.say_closed(CloseReason::Done, say);
                return After::Linger;
            }
            _ => {}
        }
        After::Keep
    }

    fn forget_unopened(&self) -> After {
        if self.opened {
            After::Keep
        } else {
            After::Forget
        }
    }

    fn say_data(&mut self, say: &mut impl FnMut(StreamId, StreamEvent)) {
        let id = self.id;
        let socket = self.set.get_mut::<Socket<'static>>(self.handle);
        let readable = socket.recv_queue();
        if readable > self.readable {
            say(id, StreamEvent::Readable);
        }
        self.readable = readable;
        let room = socket.send_capacity() - socket.send_queue();
        // A quarter, so that a writer is not called for every acknowledgement.
        if self.wants_room && socket.may_send() && room * 4 >= socket.send_capacity() {
            self.wants_room = false;
            say(id, StreamEvent::Writable);
        }
        let state = socket.state();
        let fin_seen = matches!(
            state,
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        );
        if fin_seen && !self.peer_closed {
            self.peer_closed = true;
            say(id, StreamEvent::PeerClosed);
        }
    }

    fn say_closed(&mut self, reason: CloseReason, say: &mut impl FnMut(StreamId, StreamEvent)) {
        // What never opened was nobody's, unless we had begun it.
        if !self.silent && (self.opened || self.active) {
            say(self.id, StreamEvent::Closed(reason));
        }
        self.silent = true;
    }

    /// It is closed, but a reset has to be sent yet.
    pub(crate) fn has_last_word(&mut self) -> bool {
        let socket = self.socket();
        socket.state() == State::Closed && socket.remote_endpoint().is_some()
    }

    /// True if `Opened` was said.
    pub(crate) fn was_opened(&self) -> bool {
        self.opened
    }

    /// The state now, for [`look`](Self::look) later.
    pub(crate) fn before(&self) -> State {
        self.state()
    }
}

fn is_open(state: State) -> bool {
    !matches!(
        state,
        State::Closed | State::Listen | State::SynSent | State::SynReceived
    )
}
