//! A kthread of a runtime: its queues, and what it does just now.

use std::collections::VecDeque;

use calisto::ids::CoreId;

/// A message in an rxq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// A packet, by its number in the table of those under way.
    Packet(u32),
    /// A packet that was sent is done with.
    Complete,
    /// Adopt what that kthread left.
    Join(u16),
}

/// A uthread that can run.
#[derive(Debug)]
pub(super) enum Uthread {
    /// Receive processing of messages, the next one last.
    Softirq(Vec<Message>),
    /// The work on a packet.
    Request {
        packet: u32,
        /// Nanoseconds of work that are left, without costs.
        left: f64,
        /// Where its packet, or it itself, was last touched.
        on: CoreId,
    },
    /// A slice of work that never ends: nanoseconds that are left of it.
    Batch { left: f64 },
}

/// A uthread on a run queue.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) uthread: Uthread,
    /// Since when.
    pub(super) since: u64,
}

/// What a kthread does.
#[derive(Debug)]
pub(super) enum Doing {
    /// It reads its eventfd, or is about to.
    Blocked,
    /// It was woken and does not run yet.
    Waking,
    /// It looks for work. `armed`: the next look is planned, for something came; else the
    /// end at `until` is.
    Spinning { since: u64, until: u64, armed: bool },
    /// It writes the command that it parks, on its own account or asked to.
    Parking { voluntary: bool },
    /// It runs a uthread.
    Running(Running),
}

/// A uthread that runs, until a planned event.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) uthread: Uthread,
    pub(super) since: u64,
    pub(super) until: u64,
    /// How much longer everything takes because of the sibling.
    pub(super) factor: f64,
    /// Nanoseconds of the span, without the factor, by what they are for.
    pub(super) spent: Spent,
}

/// Nanoseconds, by what they are for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    pub(super) service: f64,
    pub(super) state: f64,
    pub(super) softirq: f64,
    pub(super) overhead: f64,
}

impl Spent {
    pub(super) fn total(&self) -> f64 {
        self.service + self.state + self.softirq + self.overhead
    }
}

/// A kthread. Counters wrap, as those in shared memory do.
#[derive(Debug)]
pub(super) struct Kthread {
    pub(super) rxq: VecDeque<(Message, u64)>,
    pub(super) sent: u32,
    pub(super) consumed: u32,
    /// Packets ever put into the rxq.
    pub(super) received: u64,
    pub(super) rq: VecDeque<Ready>,
    pub(super) rq_head: u32,
    pub(super) rq_tail: u32,
    pub(super) doing: Doing,
    /// The core that it has or had last.
    pub(super) core: CoreId,
    /// By its own account; before the dispatcher has seen it.
    pub(super) parked: bool,
    /// Parked, and nobody steals from it any more.
    pub(super) detached: bool,
    /// The dispatcher has taken its last park.
    pub(super) park_seen: bool,
    /// A signal came before it ran.
    pub(super) preempted: bool,
    pub(super) last_watchdog: u64,
}

impl Kthread {
    /// One that never ran.
    pub(super) fn new() -> Kthread {
        Kthread {
            rxq: VecDeque::new(),
            sent: 0,
            consumed: 0,
            received: 0,
            rq: VecDeque::new(),
            rq_head: 0,
            rq_tail: 0,
            doing: Doing::Blocked,
            core: CoreId(0),
            parked: true,
            detached: true,
            park_seen: true,
            preempted: false,
            last_watchdog: 0,
        }
    }

    /// The dispatcher puts a message into the rxq.
    pub(super) fn send(&mut self, message: Message, now: u64) {
        self.rxq.push_back((message, now));
        self.sent = self.sent.wrapping_add(1);
        self.received += u64::from(matches!(message, Message::Packet(_)));
    }

    /// Takes up to `budget` messages from the rxq, for a softirq; the packets among them.
    pub(super) fn take_messages(&mut self, budget: u32, into: &mut Vec<Message>) -> u64 {
        let mut packets = 0;
        while into.len() < budget as usize
            && let Some((message, _)) = self.rxq.pop_front()
        {
            self.consumed = self.consumed.wrapping_add(1);
            packets += u64::from(matches!(message, Message::Packet(_)));
            into.push(message);
        }
        into.reverse();
        packets
    }

    /// Puts a uthread on the run queue.
    pub(super) fn ready(&mut self, uthread: Uthread, now: u64) {
        self.rq.push_back(Ready {
            uthread,
            since: now,
        });
        self.rq_head = self.rq_head.wrapping_add(1);
    }

    /// Takes the next one from it.
    pub(super) fn take_ready(&mut self) -> Option<Ready> {
        let ready = self.rq.pop_front()?;
        self.rq_tail = self.rq_tail.wrapping_add(1);
        Some(ready)
    }

    /// Since when something waits on one of its queues.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        let message = self.rxq.front().map(|(_, since)| *since);
        let uthread = self.rq.front().map(|ready| ready.since);
        match (message, uthread) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}
