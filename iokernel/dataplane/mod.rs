//! The polling loop: packets, commands, completions, cores.
//!
//! ```text
//!   port.rx_burst --> rx --> rxq        txcmdq --> commands --> port.release, arbiter
//!   txpktq --> tx --> port.tx_push      port.tx_done --> completions --> rxq
//! ```
//!
//! Each turn of the loop: receive; messages of the control thread; every 5 us
//! the core arbiter; commands; completions; transmit. Each stage does at most a
//! named burst of work. Nothing here allocates, locks, logs, or panics over
//! what a runtime did: a runtime that breaks the contract is detached
//! ([`leave`]) and nobody else notices.
//!
//! *Source:* C: `dataplane_loop`, iokernel/main.c.

mod commands;
mod completions;
pub mod effects;
mod gauges;
mod grants;
mod leave;
pub mod lending;
pub mod loans;
pub mod macs;
mod rx;
mod steer;
#[cfg(test)]
mod tests;
mod tx;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::abi::ingress::Ingress;
use crate::control::{DataplaneEnd, DetachReason, RulesEnd, ToDataplane};
use crate::cores::arbiter::{Arbiter, Decisions};
use crate::ids::{BufIdx, KthreadIdx, Micros, ProcSlot};
use crate::port::{Port, RX_BURST_SIZE, RxFrame, TxToken};
use crate::proc::{Proc, Taken};
use crate::stats::{Counter, Gauges, Stats};
use crate::steering::Ahead;
use crate::steering::rules::RuleSet;
use crate::time::{Clock, Ticks};
use effects::Effects;
use lending::Lending;
use loans::{Loans, MAX_PROCS};
use macs::Macs;

/// Time between rounds of the core arbiter. C: `CORES_ADJUST_INTERVAL_US`, iokernel/main.c.
pub const ADJUST_INTERVAL: Micros = Micros(5);
/// Time between looks at what is held. A look costs about a microsecond, and a thousand
/// a second are enough for whoever asks.
pub const GAUGE_INTERVAL: Micros = Micros(1000);
/// Messages of the control thread in one turn. C: `IOKERNEL_CONTROL_BURST_SIZE`.
pub const CONTROL_BURST_SIZE: usize = 4;
/// Turns after which the control thread is heard even though packets keep coming.
pub const CONTROL_PATIENCE: u32 = 256;
/// Most kthreads of all runtimes together.
const MAX_KTHREADS: usize = MAX_PROCS * crate::abi::types::NCPU as usize;

/// Whether the loop gives its CPU away when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Never: the CPU is the loop's own.
    Spin,
    /// Yield to the scheduler: somebody else lives on the CPU.
    Yield,
}

/// No runtime's slot.
const NOBODY: ProcSlot = ProcSlot(u16::MAX);

/// What is left when the loop has ended.
#[derive(Debug)]
pub struct Stopped<P> {
    /// The port, to be closed.
    pub port: P,
    /// Runtimes whose packets the port still holds: none, unless a device never
    /// gave them back. To be dropped after the port is closed.
    pub held: Vec<Box<Proc>>,
}

/// Names one kthread of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KthreadRef {
    slot: ProcSlot,
    kthread: KthreadIdx,
}

/// What a dataplane is made of.
#[derive(Debug)]
pub struct Parts<P> {
    /// Where frames come from and go to.
    pub port: P,
    /// The bytes of received frames.
    pub ingress: Ingress,
    /// The rings to and from the control thread.
    pub link: DataplaneEnd,
    /// Where changed rules come from.
    pub rules: RulesEnd,
    /// Who gets which core.
    pub arbiter: Arbiter,
    /// Pins, wakes, preempts.
    pub effects: Effects,
    /// The time.
    pub clock: Clock,
    /// Where to count.
    pub stats: Stats,
    /// Where to say what is held.
    pub gauges: Gauges,
    /// What to do when there is nothing to do.
    pub idle: Idle,
    /// How many buffers one runtime may keep.
    pub lending: Lending,
}

/// The dataplane's whole state. One thread owns it.
#[derive(Debug)]
pub struct Dataplane<P> {
    port: P,
    ingress: Ingress,
    link: DataplaneEnd,
    rules_end: RulesEnd,
    /// The operator's rules.
    rules: Box<RuleSet>,
    arbiter: Arbiter,
    effects: Effects,
    decisions: Decisions,
    /// Attached runtimes that could not be woken or preempted, each once.
    failed: Vec<(ProcSlot, DetachReason)>,
    clock: Clock,
    stats: Stats,
    gauges: Gauges,
    next_gauges: Micros,
    /// Rounds of the gauges so far.
    gauge_turn: u32,
    /// Runtimes' packets that the port had at the last of these.
    in_flight_before: u64,
    idle: Idle,
    /// Runtimes by slot.
    procs: Box<[Option<Box<Proc>>]>,
    /// Slots of runtimes that are attached and not leaving.
    live: Vec<ProcSlot>,
    /// Slots of runtimes that are leaving.
    leaving: Vec<ProcSlot>,
    /// Which of them is looked after next.
    leave_turn: usize,
    /// Slots of runtimes with completions or joins to be sent again.
    overflowing: Vec<ProcSlot>,
    macs: Macs,
    loans: Loans,
    lending: Lending,
    /// Kthreads whose queues are polled: the active ones, and parked ones that
    /// still have packets to send. C: `ts`, iokernel/cores.c.
    polled: Vec<KthreadRef>,
    /// Runtimes that have kthreads among them.
    runtimes_polled: usize,
    /// Counts turns of the loop, for [`Taken`].
    turns: u32,
    /// Some runtime was cut short at its share in the last round over `polled`.
    cut: bool,
    /// Where the next round over `polled` begins, for each of the two rounds.
    command_turn: usize,
    tx_turn: usize,
    overflow_turn: usize,
    frames: Box<[RxFrame; RX_BURST_SIZE]>,
    runs: Box<rx::Runs>,
    /// What steering reads of this runtime's flows.
    ahead: Ahead,
    ahead_of: ProcSlot,
    burst: Box<steer::Burst>,
    /// Whose turn it was last to be looked after.
    house_turn: usize,
    /// The time of the last round of the arbiter.
    now: Micros,
    routes: Box<rx::Routes>,
    pending: Box<tx::Pending>,
    done: Box<[TxToken; completions::DONE_BURST_SIZE]>,
    completed: Box<completions::Completed>,
    freed: arrayvec::ArrayVec<BufIdx, FREED>,
    next_adjust: Ticks,
    /// The counter at the last turn.
    last_turn: Ticks,
    adjust_ticks: u64,
    unheard: u32,
}

/// Buffers returned to the port at once.
const FREED: usize = 2 * commands::CMD_BURST_SIZE;

impl<P: Port> Dataplane<P> {
    /// Wires a dataplane. All memory that the loop needs is allocated here.
    pub fn new(parts: Parts<P>) -> Self {
        let Parts {
            port,
            ingress,
            link,
            rules: rules_end,
            arbiter,
            effects,
            clock,
            stats,
            gauges,
            idle,
            lending,
        } = parts;
        Dataplane {
            port,
            ingress,
            link,
            rules_end,
            rules: Box::default(),
            arbiter,
            effects,
            decisions: Decisions::new(),
            failed: Vec::with_capacity(MAX_PROCS),
            clock,
            stats,
            gauges,
            next_gauges: Micros(0),
            gauge_turn: 0,
            in_flight_before: 0,
            idle,
            procs: (0..MAX_PROCS).map(|_| None).collect(),
            live: Vec::with_capacity(MAX_PROCS),
            leaving: Vec::with_capacity(MAX_PROCS),
            leave_turn: 0,
            overflowing: Vec::with_capacity(MAX_PROCS),
            macs: Macs::default(),
            loans: Loans::default(),
            lending,
            polled: Vec::with_capacity(MAX_KTHREADS),
            runtimes_polled: 0,
            turns: 0,
            cut: false,
            command_turn: 0,
            tx_turn: 0,
            overflow_turn: 0,
            frames: Box::new([RxFrame::EMPTY; RX_BURST_SIZE]),
            runs: Box::default(),
            ahead: Ahead::default(),
            ahead_of: NOBODY,
            burst: Box::default(),
            house_turn: 0,
            now: clock.now(),
            routes: Box::default(),
            pending: Box::default(),
            done: Box::new([completions::NO_TOKEN; completions::DONE_BURST_SIZE]),
            completed: Box::default(),
            freed: arrayvec::ArrayVec::new(),
            next_adjust: clock.ticks(),
            last_turn: Ticks(0),
            adjust_ticks: clock.span(ADJUST_INTERVAL),
            unheard: 0,
        }
    }

    /// Polls until `stop` is set, then detaches every runtime.
    pub fn run(mut self, stop: &AtomicBool) -> Stopped<P> {
        // Relaxed: the flag carries nothing but itself.
        while !stop.load(Ordering::Relaxed) {
            if !self.turn() && self.idle == Idle::Yield {
                std::thread::yield_now();
            }
        }
        self.shut_down();
        self.publish_port();
        Stopped {
            port: self.port,
            held: self.procs.into_iter().flatten().collect(),
        }
    }

    /// One turn of the loop. True if it found work.
    pub fn turn(&mut self) -> bool {
        self.turns = self.turns.wrapping_add(1);
        let mut worked = self.rx();
        self.unheard += 1;
        if !worked || self.unheard >= CONTROL_PATIENCE {
            self.unheard = 0;
            self.hear_control();
            if !self.leaving.is_empty() {
                self.see_off();
            }
        }
        let now = self.clock.ticks();
        if now < self.last_turn {
            self.clock_went_back(now);
        }
        self.last_turn = now;
        if now >= self.next_adjust {
            self.next_adjust = Ticks(now.0 + self.adjust_ticks);
            let now = self.clock.at(now);
            self.housekeep(now);
            self.adjust(now);
            if now >= self.next_gauges {
                self.publish_gauges(now);
            }
        }
        worked |= self.commands();
        if !self.overflowing.is_empty() {
            worked |= self.drain_overflows();
        }
        worked |= self.tx();
        // What the device is done with at once is reported in the same turn.
        worked |= self.completions();
        if !self.failed.is_empty() {
            self.detach_failed();
        }
        worked
    }

    /// Times that were set stay as far away as they were; the arbiter's round is due.
    #[cold]
    fn clock_went_back(&mut self, now: Ticks) {
        self.clock.set_back(self.last_turn, now);
        self.next_adjust = now;
        self.stats.add(Counter::ClockSetBack, 1);
    }

    /// The port.
    pub fn port(&self) -> &P {
        &self.port
    }

    /// The port, for tests that make it do things.
    pub fn port_mut(&mut self) -> &mut P {
        &mut self.port
    }

    fn hear_control(&mut self) {
        self.rules_end.renew(&mut self.rules);
        for _ in 0..CONTROL_BURST_SIZE {
            match self.link.from_control.pop() {
                Ok(ToDataplane::Attach(proc)) => self.attach(proc),
                Ok(ToDataplane::Detach(id)) => {
                    let proc = self.procs[id.slot.index()].as_ref();
                    // Not if it was detached for a fault meanwhile.
                    if proc.is_some_and(|p| p.id == id && p.notes.leaving.is_none()) {
                        self.detach(id.slot, DetachReason::HungUp);
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Takes a runtime in and launches its kthread 0, or queues it for a core.
    ///
    /// *Source:* C: `dp_clients_add_client`, iokernel/dp_clients.c.
    fn attach(&mut self, proc: Box<Proc>) {
        let mut proc = proc;
        let (slot, mac) = (proc.id.slot, proc.mac);
        let seat = proc.seat.take().expect("a runtime brings its seat");
        assert!(
            self.procs[slot.index()].is_none(),
            "the control thread gave out an occupied slot"
        );
        assert!(
            self.macs.insert(mac, slot),
            "the control thread let in a second runtime with address {mac}"
        );
        self.procs[slot.index()] = Some(proc);
        // It may have the slot of the one that is remembered.
        self.ahead_of = NOBODY;
        self.live.push(slot);
        self.stats.add(Counter::Attached, 1);
        self.arbiter.add(slot, seat, &mut self.decisions);
        self.apply();
    }

    /// What a runtime took of this turn.
    #[inline]
    fn taken(&mut self, slot: ProcSlot) -> &mut Taken {
        let turn = self.turns;
        let taken = &mut self.proc(slot).notes.taken;
        if taken.turn != turn {
            *taken = Taken {
                turn,
                ..Taken::default()
            };
        }
        taken
    }

    /// The runtime in `slot`, which is attached.
    #[inline]
    fn proc(&mut self, slot: ProcSlot) -> &mut Proc {
        self.procs[slot.index()]
            .as_mut()
            .expect("slots in the dataplane's lists are occupied")
    }
}
