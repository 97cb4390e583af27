//! What the client does on each kthread.
//!
//! Over UDP any kthread sends for any lane, so that the schedule is kept as long as one
//! of them runs. Over TCP each sends for the connections that it has.

use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use calisto_runtime::{App, Datagram, Net, Next, StreamEvent, StreamId};

use super::connections::Connections;
use crate::cli::Transport;
use crate::client::PROBE;
use crate::flows::Flows;
use crate::payload::Payload;
use crate::run::{Run, Turn};

/// The first source's UDP port.
pub(super) const FIRST_SOURCE_PORT: u16 = 1024;
/// Datagrams sent before anything else is looked at.
const BURST: usize = 32;
/// Longest time until a kthread notices a run that begins, or the end.
const NAP: Duration = Duration::from_millis(5);
/// Time between two tries to get a first answer.
const RETRY: Duration = Duration::from_millis(200);
/// Connections that are being opened at once.
const OPENING: u32 = 64;

/// The client.
#[derive(Debug)]
pub(super) struct ClientApp {
    pub(super) server: SocketAddrV4,
    pub(super) transport: Transport,
    pub(super) flows: Flows,
    /// The run under way.
    pub(super) run: ArcSwapOption<Run>,
    /// Set while a first answer is wanted.
    pub(super) probing: AtomicBool,
    /// Set when it came.
    pub(super) heard: AtomicBool,
    /// Requests for a first answer that were sent.
    pub(super) probes: AtomicU32,
    /// Set when the runtime should end.
    pub(super) stop: AtomicBool,
    /// Connections begun, and opened.
    pub(super) begun: AtomicU32,
    pub(super) opened: AtomicU32,
    /// Why it cannot go on. No kthread waits for this lock: it may be parked holding it.
    pub(super) trouble: Mutex<Option<String>>,
}

/// A kthread's own part.
#[derive(Debug, Default)]
pub(super) struct Local {
    is_bound: bool,
    /// When the last request for a first answer was sent.
    probed: Option<Instant>,
    /// A request that could not be sent yet, and its run.
    pending: Option<(Arc<Run>, u32)>,
    connections: Connections,
}

impl ClientApp {
    fn take_answer(&self, payload: Payload) {
        if payload.index == PROBE {
            self.heard.store(true, Relaxed);
        } else if let Some(run) = &*self.run.load() {
            run.answered(payload.index, run.now());
        }
    }

    fn send_datagram(&self, net: &mut Net<'_>, flow: u32, payload: Payload) -> bool {
        // Both sums fit: the command line was checked.
        let source = u16::try_from(self.flows.source(flow)).unwrap_or_default();
        let port = self.server.port() + self.flows.port_offset(flow);
        let to = SocketAddrV4::new(*self.server.ip(), port);
        net.udp_send(FIRST_SOURCE_PORT + source, to, &payload.to_bytes())
            .is_ok()
    }

    /// Asks for a first answer, if one is wanted.
    fn probe(&self, local: &mut Local, net: &mut Net<'_>) {
        let is_time = local.probed.is_none_or(|last| last.elapsed() >= RETRY);
        if !self.probing.load(Relaxed) || self.heard.load(Relaxed) || !is_time {
            return;
        }
        let payload = Payload {
            work: 0,
            index: PROBE,
        };
        let sent = match self.transport {
            Transport::Udp => self.send_datagram(net, 0, payload),
            Transport::Tcp => local.connections.probe(net, payload),
        };
        if sent {
            self.probes.fetch_add(1, Relaxed);
            local.probed = Some(Instant::now());
        }
    }

    /// Sends datagrams that are due. Returns when the next one is, in nanoseconds from the
    /// start, or 0 for at once; `None` when nothing is left.
    fn send_datagrams(&self, local: &mut Local, net: &mut Net<'_>, run: &Arc<Run>) -> Option<u64> {
        let mut next = None;
        for step in 0..run.lanes() {
            // Each kthread begins at another lane, to keep out of the others' way.
            let lane = (net.kthread() + step) % run.lanes();
            let due = self.send_lane(local, net, run, lane);
            if local.pending.is_some() {
                return due;
            }
            next = next.into_iter().chain(due).min();
        }
        next
    }

    /// The same for one lane.
    fn send_lane(
        &self,
        local: &mut Local,
        net: &mut Net<'_>,
        run: &Arc<Run>,
        lane: usize,
    ) -> Option<u64> {
        for _ in 0..BURST {
            match run.take(lane, run.now()) {
                Turn::Send(request) => {
                    let (flow, payload) = run.request(request);
                    if !self.send_datagram(net, flow, payload) {
                        run.give_back(request);
                        local.pending = Some((Arc::clone(run), request));
                        break;
                    }
                }
                Turn::Wait(due) => return Some(due),
                Turn::Over => return None,
            }
        }
        Some(0)
    }

    /// Sends what could not be sent before. False if it still cannot be.
    fn send_pending(&self, local: &mut Local, net: &mut Net<'_>) -> bool {
        let Some((run, request)) = local.pending.take() else {
            return true;
        };
        let (flow, payload) = run.request(request);
        if run.retake(request, run.now()) && !self.send_datagram(net, flow, payload) {
            run.give_back(request);
            local.pending = Some((run, request));
            return false;
        }
        true
    }

    /// Begins connections that are missing, some at a time.
    fn connect(&self, net: &mut Net<'_>) {
        loop {
            let begun = self.begun.load(Relaxed);
            let is_enough =
                begun >= self.flows.count() || begun - self.opened.load(Relaxed) >= OPENING;
            if is_enough
                || self
                    .begun
                    .compare_exchange(begun, begun + 1, Relaxed, Relaxed)
                    .is_err()
            {
                return;
            }
            let port = self.server.port() + self.flows.port_offset(begun);
            let to = SocketAddrV4::new(*self.server.ip(), port);
            if let Err(error) = net.tcp_connect(to) {
                self.fail(format!("cannot connect to {to}: {error}"));
            }
        }
    }

    fn fail(&self, why: String) {
        if let Ok(mut trouble) = self.trouble.try_lock() {
            trouble.get_or_insert(why);
        }
    }

    /// Why it cannot go on, if it cannot.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl App for ClientApp {
    type Local = Local;

    fn local(&self, _kthread: usize) -> Local {
        Local::default()
    }

    fn datagram(&self, _: &mut Local, _: &mut Net<'_>, d: &Datagram<'_>) {
        if let Some(payload) = Payload::parse(d.payload()) {
            self.take_answer(payload);
        }
    }

    fn stream(&self, local: &mut Local, net: &mut Net<'_>, s: StreamId, event: StreamEvent) {
        match event {
            StreamEvent::Opened => {
                // Flows are alike but for their number, so the next one is as good as any.
                let lane = self.opened.fetch_add(1, Relaxed);
                local.connections.opened(s, lane as usize);
            }
            StreamEvent::Writable => local.connections.writable(net, s),
            StreamEvent::Readable => {
                local
                    .connections
                    .readable(net, s, |payload| self.take_answer(payload));
            }
            StreamEvent::PeerClosed => self.fail("the server closed a connection".to_owned()),
            StreamEvent::Closed(reason) => {
                let server = self.server;
                self.fail(match local.connections.closed(s) {
                    true => format!("the server ended a connection ({reason:?})"),
                    false => format!(
                        "cannot connect to {server} ({reason:?}): is a server with --transport tcp there?"
                    ),
                });
            }
        }
    }

    fn poll(&self, local: &mut Local, net: &mut Net<'_>) -> Next {
        if self.stop.load(Relaxed) {
            return Next::Stop;
        }
        if !std::mem::replace(&mut local.is_bound, true) && self.transport == Transport::Udp {
            let sources = u16::try_from(self.flows.sources()).unwrap_or_default();
            net.udp_bind_range(FIRST_SOURCE_PORT..=FIRST_SOURCE_PORT + (sources - 1));
        }
        if self.transport == Transport::Tcp {
            self.connect(net);
        }
        self.probe(local, net);
        if !self.send_pending(local, net) {
            return Next::Busy;
        }
        let run = self.run.load();
        let run = run.as_ref();
        let next = run.and_then(|run| match self.transport {
            Transport::Udp => self.send_datagrams(local, net, run),
            Transport::Tcp => local.connections.send(net, run),
        });
        let nap = net.now() + NAP;
        match (run, next) {
            (Some(_), Some(0)) => Next::Busy,
            (Some(run), Some(due)) => Next::Until(run.instant(due).min(nap)),
            _ => Next::Until(nap),
        }
    }
}
