//! The simulation itself: what happens next, and who is told.
//!
//! Time is in nanoseconds. Three things happen: kthreads come to the end of something or get
//! a signal ([`events`]), the dispatcher comes to the end of a stage of its loop
//! ([`dispatcher`]), packets come (found by the dispatcher when it looks). At the same time
//! kthreads go first, in the order in which their events were planned; so a run is a function
//! of scenario and seed.
//!
//! # Invariants
//!
//! A kthread has one planned event at most, signals aside. A packet is in exactly one place: the
//! NIC's ring, an rxq, a softirq, a run queue, running, or waiting to be sent.

mod decisions;
mod dispatcher;
mod events;
mod kthread;
mod meter;
mod proc;
mod receive;
mod report;
mod run;
mod schedule;
#[cfg(test)]
mod tests;
mod ticks;

use calisto::cores::arbiter::{Arbiter, Decisions};
use calisto::ids::{CoreId, ProcSlot};
use calisto::steering::rules::RuleSet;

use self::dispatcher::Dispatcher;
use self::events::Events;
use self::meter::Window;
use self::proc::ProcSim;
use crate::arrivals::Ahead;
use crate::cache::Caches;
use crate::error::SimError;
use crate::machine::Machine;
use crate::report::Report;
use crate::scenario::Scenario;

/// Simulates a scenario.
///
/// # Errors
/// If the [scenario](Scenario::check) cannot be, or there is no memory for steering's tables.
pub fn run(scenario: &Scenario) -> Result<Report, SimError> {
    scenario.check()?;
    let mut sim = Sim::new(scenario)?;
    sim.run();
    Ok(sim.report(scenario))
}

/// A packet that was taken from the NIC's ring and has not ended.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    /// When it came.
    at: u64,
    flow: u32,
    service: u32,
    hash: u32,
    /// Its number within the flow; wraps.
    seq: u16,
    proc: u16,
    /// After the warm-up.
    counts: bool,
}

/// Everything.
#[derive(Debug)]
struct Sim {
    now: u64,
    machine: Machine,
    events: Events,
    procs: Vec<ProcSim>,
    arbiter: Arbiter,
    decisions: Decisions,
    rules: RuleSet,
    dispatcher: Dispatcher,
    caches: Caches,
    /// By core: a kthread works or looks for work there.
    busy: Vec<bool>,
    /// By core: the other thread of its physical core, if there is one that runtimes use.
    sibling: Vec<Option<CoreId>>,
    packets: Vec<InFlight>,
    free: Vec<u32>,
    streams: Vec<Option<Ahead>>,
    /// When the next packet will be found; `u64::MAX`: none comes.
    next_arrival: u64,
    window: Window,
    skip_idle_ticks: bool,
}

impl Sim {
    fn new(scenario: &Scenario) -> Result<Sim, SimError> {
        let machine = &scenario.machine;
        let cores = machine.cores(scenario.cores);
        let all = usize::from(machine.topology.physical * machine.topology.threads);
        let mut sibling = vec![None; all];
        for core in &cores {
            sibling[core.core.index()] = core.sibling;
        }
        let procs = (0..scenario.procs.len())
            .map(|at| ProcSim::new(scenario, at, all))
            .collect::<Result<Vec<_>, SimError>>()?;
        let streams = scenario.procs.iter().enumerate().map(|(at, proc)| {
            let load = proc.load.as_ref();
            load.map(|load| Ahead::new(load, scenario.seed, at))
        });
        let mut sim = Sim {
            now: 0,
            machine: machine.clone(),
            events: Events::new(procs.iter().map(|proc| proc::index(proc.kthreads.len()))),
            arbiter: Arbiter::new(&cores, scenario.procs.len()),
            decisions: Decisions::new(),
            rules: RuleSet::default(),
            dispatcher: Dispatcher::new(scenario, &procs),
            caches: Caches::new(machine),
            busy: vec![false; all],
            sibling,
            packets: Vec::new(),
            free: Vec::new(),
            streams: streams.collect(),
            next_arrival: u64::MAX,
            window: Window::new(scenario),
            skip_idle_ticks: scenario.skip_idle_ticks,
            procs,
        };
        sim.find_next_arrival();
        Ok(sim)
    }

    /// Packets that came and have not ended.
    fn under_way(&self) -> usize {
        self.packets.len() - self.free.len() + self.dispatcher.nic_len()
    }

    fn slot(at: usize) -> ProcSlot {
        ProcSlot(u16::try_from(at).expect("a scenario has 64 procs at most"))
    }
}

/// A span as it is planned: to the nanosecond.
fn span(ns: f64) -> u64 {
    // By way of the signed type, to which processors convert at once.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "costs are checked to be 0 to 1e9"
    )]
    let span = (ns + 0.5) as i64 as u64;
    span
}
