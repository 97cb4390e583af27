//! The polling core: the loop of iokernel/dataplane/mod.rs, in stages that take time.
//!
//! ```text
//!   receive 64 -> every 5 us: arbiter -> 64 commands -> send 64 -> completions -> again
//! ```
//!
//! A stage reads what there is when it begins and does everything when it ends; stages
//! without work take no time. With nothing to do the loop turns idly, which is not simulated
//! turn by turn: whatever comes is found after half of an idle turn, the mean. Commands and
//! packets to be sent are taken in the order in which they were written, not kthread by kthread.

use std::collections::VecDeque;

use calisto::ids::Micros;
use calisto::port::RX_BURST_SIZE;
use calisto::steering::Policy;

use super::kthread::Message;
use super::proc::{ProcSim, index};
use super::{InFlight, Sim, span};
use crate::scenario::Scenario;

/// Packets received at once.
pub(super) const RX_BURST: usize = RX_BURST_SIZE;
/// Commands, packets to be sent: at once.
const BURST: usize = 64;
/// Completions at once.
const DONE_BURST: usize = 256;
/// Table of `buckets`, bytes.
const BUCKET_BYTES: u64 = 128 << 10;

/// What a runtime tells the dispatcher.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    /// A packet's buffer comes back.
    Returned,
    /// A kthread parked; with `join` another is to take over what it left.
    Park { proc: u16, kthread: u16, join: bool },
}

/// The stages of a turn, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Receive,
    Adjust,
    Command,
    Send,
    Done,
    End,
}

/// What the dispatcher is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It turns idly.
    Idle,
    /// It comes to that step.
    Before(Step),
    /// It is at the step, with so many packets, commands or completions.
    At(Step, usize),
}

/// The dispatcher.
#[derive(Debug)]
pub(super) struct Dispatcher {
    stage: Stage,
    /// When it goes on.
    pub(super) at: u64,
    /// Nanoseconds by which it is behind the event that is being handled.
    pub(super) lag: f64,
    worked: bool,
    /// Half of an idle turn.
    pub(super) found_after: u64,
    pub(super) nic: VecDeque<InFlight>,
    /// These with the time from which it finds them.
    commands: VecDeque<(u64, Command)>,
    to_send: VecDeque<(u64, u32, u16)>,
    done: VecDeque<(u64, u16, u16)>,
    pub(super) next_tick: u64,
    /// Ticks are left out just now.
    pub(super) leaving_out: bool,
    /// When the last tick began, if it was left out.
    pub(super) left_out: Option<u64>,
    /// Its whole time was counted as busy.
    pub(super) is_counted: bool,
    /// The time of the last tick.
    pub(super) clock: Micros,
    /// Ticks since anything changed.
    pub(super) still: u32,
    /// Kthreads that parked with messages since ticks were left out last.
    pub(super) left: u32,
    pub(super) house_turn: usize,
    steer_ns: f64,
    line_bytes: Vec<u64>,
    /// Nanoseconds of stages that did something.
    pub(super) busy_ns: f64,
}

impl Dispatcher {
    pub(super) fn new(scenario: &Scenario, procs: &[ProcSim]) -> Dispatcher {
        let d = &scenario.machine.dispatcher;
        let steer = &d.steer;
        let policy = scenario.steering.policy;
        let guard = if scenario.steering.order_guard {
            steer.guard_ns
        } else {
            0.0
        };
        let ns = match policy {
            Policy::Modulo => steer.modulo_ns,
            Policy::KthreadTable => steer.kthread_table_ns,
            Policy::FlowTable => steer.flow_table_ns,
            Policy::Buckets => steer.buckets_ns,
            _ => steer.hybrid_ns,
        };
        // A table's lines that are ever read: one a flow at most.
        let line_bytes = procs.iter().map(|proc| match policy {
            Policy::FlowTable => (proc.flows.len() as u64 * 64).min(proc.steering.bytes() as u64),
            Policy::Buckets | Policy::Hybrid => BUCKET_BYTES,
            _ => 0,
        });
        Dispatcher {
            stage: Stage::Idle,
            at: 0,
            lag: 0.0,
            worked: false,
            found_after: span(d.poll_ns / 2.0),
            nic: VecDeque::new(),
            commands: VecDeque::new(),
            to_send: VecDeque::new(),
            done: VecDeque::new(),
            next_tick: 0,
            leaving_out: false,
            left_out: None,
            is_counted: false,
            clock: Micros(0),
            still: 0,
            left: 0,
            house_turn: 0,
            steer_ns: ns + guard,
            line_bytes: line_bytes.collect(),
            busy_ns: 0.0,
        }
    }

    /// True if the next tick is like the one before, if no messages lie with parked kthreads.
    pub(super) fn repeats(&self) -> bool {
        self.still >= 3 + self.left
    }

    /// Packets in the NIC's ring.
    pub(super) fn nic_len(&self) -> usize {
        self.nic.len()
    }
}

#[allow(clippy::cast_precision_loss, reason = "a burst")]
pub(super) fn times(n: usize, ns: f64) -> f64 {
    n as f64 * ns
}

impl Sim {
    /// A queue or a core changed: the next tick may decide something.
    pub(super) fn touch_queues(&mut self) {
        if self.dispatcher.stage == Stage::Idle {
            self.catch_up();
            self.dispatcher.at = self.dispatcher.at.min(self.dispatcher.next_tick);
        }
        self.dispatcher.still = 0;
    }

    /// A runtime has written a command.
    pub(super) fn command(&mut self, command: Command) {
        let found = self.now + self.dispatcher.found_after;
        self.dispatcher.commands.push_back((found, command));
        self.nudge(found);
    }

    /// A runtime has a packet to be sent.
    pub(super) fn reply(&mut self, packet: u32, kthread: usize) {
        let found = self.now + self.dispatcher.found_after;
        let packet = (found, packet, index(kthread));
        self.dispatcher.to_send.push_back(packet);
        self.nudge(found);
    }

    fn nudge(&mut self, at: u64) {
        if self.dispatcher.stage == Stage::Idle {
            self.dispatcher.at = self.dispatcher.at.min(at);
        }
    }

    /// The dispatcher goes on: it ends a step, and begins the next that takes time.
    pub(super) fn dispatch(&mut self) {
        loop {
            self.dispatcher.lag = 0.0;
            let next = match self.dispatcher.stage {
                Stage::Idle => match self.leave_idleness() {
                    Some(step) => step,
                    None => return,
                },
                Stage::Before(step) => step,
                Stage::At(step, n) => self.end(step, n),
            };
            if self.takes_time(Stage::Before(next)) {
                return;
            }
            let stage = match self.begin(next) {
                Some((step, n)) => Stage::At(step, n),
                None if self.dispatcher.worked && self.next_work() <= self.now => {
                    Stage::Before(Step::Receive)
                }
                None => Stage::Idle,
            };
            if self.takes_time(stage) {
                return;
            }
            if stage == Stage::Idle {
                self.dispatcher.at = self.next_for_dispatcher();
                return;
            }
        }
    }

    /// Goes to a stage, and says whether it is only reached later, for something took time.
    fn takes_time(&mut self, stage: Stage) -> bool {
        self.dispatcher.stage = stage;
        let took = if self.dispatcher.lag > 0.0 {
            span(self.dispatcher.lag)
        } else {
            0
        };
        self.dispatcher.busy_ns += self.dispatcher.lag;
        self.dispatcher.at = self.now + took;
        took > 0
    }

    /// The step with which it goes on; none if that is only later.
    fn leave_idleness(&mut self) -> Option<Step> {
        self.catch_up();
        let rest = self.tick_in_progress();
        if rest == 0 {
            return Some(Step::Receive);
        }
        // The rest of the turn in which the tick was.
        self.dispatcher.worked = false;
        if self.dispatcher.is_counted {
            self.dispatcher.stage = Stage::Before(Step::Command);
            self.dispatcher.at = self.now + rest;
            return None;
        }
        #[allow(clippy::cast_precision_loss, reason = "the length of a tick")]
        {
            self.dispatcher.lag = rest as f64;
        }
        Some(Step::Command)
    }

    /// Begins the first step from `from` on that has something to do. What it takes is in `lag`.
    fn begin(&mut self, from: Step) -> Option<(Step, usize)> {
        let now = self.now;
        if from == Step::Receive {
            self.dispatcher.worked = false;
            self.pull();
            let n = self.dispatcher.nic.len().min(RX_BURST);
            if n > 0 {
                let costs = &self.machine.dispatcher;
                let each = costs.rx_packet_ns + self.dispatcher.steer_ns;
                self.dispatcher.lag = costs.rx_burst_ns + times(n, each) + self.lines_ns(n);
                return Some((Step::Receive, n));
            }
        }
        if from <= Step::Adjust && now >= self.dispatcher.next_tick {
            self.adjust();
            return Some((Step::Adjust, 0));
        }
        let costs = &self.machine.dispatcher;
        let d = &mut self.dispatcher;
        let (step, n, each) = 'found: {
            if from <= Step::Command {
                let n = ready(&d.commands, now, |c| c.0, BURST);
                if n > 0 {
                    break 'found (Step::Command, n, costs.command_ns);
                }
            }
            if from <= Step::Send {
                let n = ready(&d.to_send, now, |s| s.0, BURST);
                if n > 0 {
                    break 'found (Step::Send, n, costs.tx_packet_ns);
                }
            }
            if from <= Step::Done {
                let n = ready(&d.done, now, |d| d.0, DONE_BURST);
                if n > 0 {
                    break 'found (Step::Done, n, costs.completion_ns);
                }
            }
            return None;
        };
        d.lag = times(n, each);
        Some((step, n))
    }

    /// Ends a step: what it was about takes effect. The step that follows.
    fn end(&mut self, step: Step, n: usize) -> Step {
        if step != Step::Adjust {
            self.dispatcher.worked = true;
        }
        match step {
            Step::Receive => {
                self.steer(n);
                Step::Adjust
            }
            Step::Adjust => Step::Command,
            Step::Command => {
                self.commands(n);
                Step::Send
            }
            Step::Send => {
                self.sent(n);
                Step::Done
            }
            Step::Done | Step::End => {
                self.completions(n);
                Step::End
            }
        }
    }

    fn commands(&mut self, n: usize) {
        for _ in 0..n {
            let command = self.dispatcher.commands.pop_front();
            if let Some((
                _,
                Command::Park {
                    proc,
                    kthread,
                    join,
                },
            )) = command
            {
                self.parked(proc.into(), kthread.into(), join);
            }
        }
    }

    fn completions(&mut self, n: usize) {
        for _ in 0..n {
            if let Some((_, proc, kthread)) = self.dispatcher.done.pop_front() {
                self.complete(proc.into(), kthread.into());
            }
        }
    }

    /// Replies leave, one after the other, the last now.
    fn sent(&mut self, n: usize) {
        let (tx_ns, done_ns) = (
            self.machine.dispatcher.tx_packet_ns,
            self.machine.dispatcher.tx_done_ns,
        );
        for i in 0..n {
            let Some((_, number, kthread)) = self.dispatcher.to_send.pop_front() else {
                return;
            };
            let left = self.now - span(times(n - 1 - i, tx_ns));
            let packet = self.packets[number as usize];
            self.free.push(number);
            let meter = &mut self.procs[usize::from(packet.proc)].meter;
            meter.ends.answered += 1;
            if packet.counts {
                meter.answered(left - packet.at);
            }
            let found = left + span(done_ns) + self.dispatcher.found_after;
            self.dispatcher
                .done
                .push_back((found, packet.proc, kthread));
        }
    }

    /// Tells a runtime that its packet was sent (iokernel/dataplane/completions.rs).
    fn complete(&mut self, p: usize, k: usize) {
        let kthread = calisto::ids::KthreadIdx(index(k));
        if self.arbiter.is_active(Sim::slot(p), kthread) {
            self.send(p, k, Message::Complete);
        } else {
            self.send_to_any(p, Message::Complete);
        }
    }

    /// Waiting for lines of the flow table in a burst of `n`.
    fn lines_ns(&self, n: usize) -> f64 {
        let proc = usize::from(self.dispatcher.nic[0].proc);
        let bytes = self.dispatcher.line_bytes[proc];
        if bytes == 0 {
            return 0.0;
        }
        let one = self.caches.own_line_ns(bytes);
        one + times(n - 1, one / self.machine.dispatcher.lines_at_once)
    }

    /// When the idle dispatcher has something to do.
    fn next_for_dispatcher(&mut self) -> u64 {
        let work = self.next_work();
        if self.is_still() {
            work
        } else {
            work.min(self.dispatcher.next_tick).max(self.now)
        }
    }

    /// When there is something to be found, ticks aside.
    fn next_work(&self) -> u64 {
        let d = &self.dispatcher;
        let front = |at: Option<u64>| at.unwrap_or(u64::MAX);
        self.next_arrival
            .min(front(d.commands.front().map(|c| c.0)))
            .min(front(d.to_send.front().map(|s| s.0)))
            .min(front(d.done.front().map(|d| d.0)))
            .max(self.now)
    }
}

/// How many of the first were written long enough ago to be found, `most` at most.
fn ready<T>(queue: &VecDeque<T>, now: u64, at: impl Fn(&T) -> u64, most: usize) -> usize {
    queue.iter().take(most).take_while(|x| at(x) <= now).count()
}
