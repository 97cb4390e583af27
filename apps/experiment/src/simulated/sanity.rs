//! Is the simulator right? Queues whose latency is known, and that no work is lost.

use anyhow::{Context, Result};
use calisto_sim::{Load, Machine, Proc, ProcReport, Scenario, Service};

use super::paper::Size;
use super::{BASE, Cell, Plan};

/// Service time of the queues, nanoseconds.
const SERVICE_NS: f64 = 10_000.0;
/// Loads of the queues.
const SHARES: [f64; 3] = [0.3, 0.6, 0.9];
/// 99 % of an exponential distribution lie below so many means.
const LN_100: f64 = 4.605_170_185_988_091;

/// One known queue at one load.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    /// What is compared.
    pub(crate) what: String,
    /// What theory says, microseconds.
    pub(crate) theory_us: f64,
    /// What came out: median of the seeds.
    pub(crate) simulated_us: f64,
    /// How far it may be off, %: four times what chance allows, or 1 %.
    pub(crate) tolerance_percent: f64,
}

impl Check {
    /// How far it is off, %.
    pub(crate) fn off_percent(&self) -> f64 {
        100.0 * (self.simulated_us / self.theory_us - 1.0)
    }

    /// It is as near as it should be.
    pub(crate) fn holds(&self) -> bool {
        self.off_percent().abs() <= self.tolerance_percent
    }
}

/// One core on which nothing but the requests' own work takes time.
fn queue(share: f64, service: Service, size: Size) -> Scenario {
    Scenario {
        name: "queue".into(),
        machine: Machine::ideal(1),
        cores: 1,
        procs: vec![Proc {
            guaranteed: 1,
            load: Some(Load {
                rate: share * 1e9 / SERVICE_NS,
                flows: 1000,
                service,
                state_bytes: 0,
                ..Load::default()
            }),
            ..Proc::default()
        }],
        // Latencies near saturation are correlated over thousands of packets.
        packets: size.packets * 5,
        drain_seconds: 1.0,
        ..Scenario::default()
    }
}

/// M/M/1 and M/D/1 at three loads.
pub(crate) fn queues(size: Size) -> Result<Vec<Check>> {
    let run = |name: &str, service: Service| {
        Plan {
            name,
            policies: &[BASE],
            xs: &SHARES,
            seeds: size.seeds,
            scenario: &|share| queue(share, service, size),
        }
        .run()
    };
    let mut checks = Vec::new();
    let us = SERVICE_NS / 1000.0;
    for cell in run("M/M/1", Service::Exponential { ns: SERVICE_NS })? {
        let mean = us / (1.0 - cell.x);
        checks.push(check("M/M/1, mean", &cell, mean, mean_us)?);
        checks.push(check("M/M/1, p99", &cell, mean * LN_100, super::p99_us)?);
    }
    for cell in run("M/D/1", Service::Constant { ns: SERVICE_NS })? {
        let mean = us * (1.0 + cell.x / (2.0 * (1.0 - cell.x)));
        checks.push(check("M/D/1, mean", &cell, mean, mean_us)?);
    }
    Ok(checks)
}

fn mean_us(proc: &ProcReport) -> f64 {
    proc.latency.mean_ns / 1000.0
}

fn check(what: &str, cell: &Cell, theory_us: f64, f: impl Fn(&ProcReport) -> f64) -> Result<Check> {
    let simulated = cell.of(f).context("no seeds")?;
    let mean = cell.of(mean_us).context("no seeds")?.middle;
    let chance = cell
        .of(|p| p.latency.mean_ci95_ns / 1000.0)
        .context("no seeds")?;
    Ok(Check {
        what: format!("{what}, load {}", cell.x),
        theory_us,
        simulated_us: simulated.middle,
        tolerance_percent: (200.0 * chance.middle / mean).max(1.0),
    })
}

/// How many packets the runs of `cells` lost count of: each must end in exactly one way.
pub(crate) fn lost_count(cells: &[Cell]) -> u64 {
    let procs = cells.iter().flat_map(|c| &c.reports).flat_map(|r| &r.procs);
    procs
        .map(|p| {
            let ends = p.ends.answered + p.ends.nic_drops + p.ends.rxq_drops + p.ends.unfinished;
            p.ends.arrived.abs_diff(ends)
        })
        .sum()
}

/// Packets, all runs together.
pub(crate) fn packets(cells: &[Cell]) -> u64 {
    let reports = cells.iter().flat_map(|c| &c.reports);
    reports.flat_map(|r| &r.procs).map(|p| p.ends.arrived).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::questions::tests::cell;

    #[test]
    fn a_check_holds_within_its_tolerance() {
        let check = |simulated_us| Check {
            what: String::new(),
            theory_us: 100.0,
            simulated_us,
            tolerance_percent: 2.0,
        };
        assert!(check(101.9).holds() && check(98.1).holds());
        assert!(!check(102.1).holds() && !check(97.9).holds());
        assert!(!check(f64::NAN).holds());
    }

    #[test]
    fn packets_without_an_end_are_counted() {
        let mut cell = cell("modulo", 1.0, &[1]);
        let ends = &mut cell.reports[0].procs[0].ends;
        (ends.arrived, ends.answered, ends.rxq_drops) = (10, 6, 2);
        let cells = [cell];
        assert_eq!((packets(&cells), lost_count(&cells)), (10, 2));
    }
}
