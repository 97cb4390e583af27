//! The report of a run that has ended.

use calisto::stats::SteerCounter;

use super::Sim;
use super::proc::ProcSim;
use crate::report::{Moves, ProcReport, Report, Time};
use crate::scenario::Scenario;

impl Sim {
    /// What came out.
    #[allow(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
    pub(super) fn report(&mut self, scenario: &Scenario) -> Report {
        let opened = self.window.opened.unwrap_or(0);
        let closed = self.window.closed.unwrap_or(self.now);
        let span_ns = (closed - opened).max(1) as f64;
        let mut procs: Vec<ProcReport> = self
            .procs
            .iter_mut()
            .map(|proc| proc_report(proc, span_ns))
            .collect();
        for (report, proc) in procs.iter_mut().zip(&scenario.procs) {
            report.name.clone_from(&proc.name);
        }
        Report {
            name: scenario.name.clone(),
            policy: scenario.steering.label(),
            seed: scenario.seed,
            seconds: span_ns / 1e9,
            packets: procs.iter().map(|p| p.latency.count).sum(),
            dispatcher_busy: self.window.dispatcher_ns / span_ns,
            nic_drops: self.window.nic_drops,
            longest_idle_while_waiting_ns: self.window.idle_while_waiting,
            procs,
        }
    }
}

fn proc_report(proc: &mut ProcSim, span_ns: f64) -> ProcReport {
    proc.steering.flush(&proc.stats);
    let counts = proc.meter.difference();
    let cores = |ns: f64| ns / span_ns;
    let st = |counter| proc.stats.get(counter);
    let mut ends = proc.meter.ends;
    ends.unfinished = ends.arrived - ends.answered - ends.nic_drops - ends.rxq_drops;
    ProcReport {
        name: String::new(),
        ends,
        latency: proc.meter.latency(),
        cores: cores(counts.core_ns),
        time: Time {
            service: cores(counts.time.service),
            state: cores(counts.time.state),
            softirq: cores(counts.time.softirq),
            overhead: cores(counts.time.overhead),
            sibling: cores(counts.time.sibling),
            spin: cores(counts.time.spin),
        },
        grants: counts.grants,
        moves: Moves {
            changed_core: counts.changed_core,
            known: counts.known,
            hits: st(SteerCounter::Hits),
            inserts: st(SteerCounter::Inserts),
            evictions: st(SteerCounter::Evictions),
            aged_out: st(SteerCounter::AgedOut),
            core_lost: st(SteerCounter::MovedCoreLost),
            relief: st(SteerCounter::MovedRelief),
            strict: st(SteerCounter::MovedStrict),
            strict_wakes: st(SteerCounter::StrictWakes),
            guard_waits: st(SteerCounter::GuardWaits),
            could_overtake: st(SteerCounter::CouldOvertake),
            imbalance_max_milli: st(SteerCounter::ImbalanceMax),
        },
        touches: counts.touches,
        steals: counts.steals,
        reordered: counts.reordered,
        slices: counts.slices,
    }
}
