//! Many simulated runs: policies by loads by seeds, on all CPUs.
//!
//! A *cell* is one policy at one load, over several seeds. With one seed every
//! policy sees the same packets with the same service times (common random
//! numbers), so policies are compared seed by seed: a [`Gain`] is the median of
//! those differences, and it is *clear* only if all seeds have its sign.

pub(crate) mod maps;
pub(crate) mod paper;
pub(crate) mod sanity;

use std::sync::Mutex;

use anyhow::{Context, Result};
use calisto_plot::{Chart, Series};
use calisto_sim::{ProcReport, Report, Scenario, Steering};
use serde::Serialize;

use crate::median::Median;
use crate::progress::Progress;
use crate::stop;

/// The policies of the paper and of this project, by what they are called in reports.
pub(crate) const POLICIES: [(&str, &str); 6] = [
    ("modulo", "modulo"),
    ("paper-strict", "flow-table-strict"),
    ("sticky", "flow-table"),
    ("kthread-table", "kthread-table"),
    ("buckets", "buckets"),
    ("hybrid", "hybrid"),
];

/// The one to which the others are compared: upstream's.
pub(crate) const BASE: &str = "modulo";

/// One policy at one load: a report for each seed, in the seeds' order.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cell {
    /// The policy, as in [`POLICIES`].
    pub(crate) policy: String,
    /// What is varied: packets a second, or something else.
    pub(crate) x: f64,
    /// By seed.
    pub(crate) reports: Vec<Report>,
}

impl Cell {
    /// A number of the runtime under load (the first), over the seeds.
    pub(crate) fn of(&self, f: impl Fn(&ProcReport) -> f64) -> Option<Median> {
        Median::of(self.reports.iter().map(|r| f(&r.procs[0])))
    }

    /// 99th percentile of latency, microseconds.
    pub(crate) fn p99_us(&self) -> Option<Median> {
        self.of(p99_us)
    }

    /// Packets of known flows that were steered to another core than the flow's last, %.
    pub(crate) fn changed_percent(&self) -> Option<Median> {
        self.of(|p| 100.0 * ratio(p.moves.changed_core, p.moves.known))
    }

    /// Touches that found the flow's state in the core's own caches, %.
    pub(crate) fn private_percent(&self) -> Option<Median> {
        self.of(|p| 100.0 * ratio(p.touches.private, p.touches.total()))
    }

    /// Cores that worked, in the mean: without looking for work in vain.
    pub(crate) fn working_cores(&self) -> Option<Median> {
        self.of(|p| p.time.working())
    }

    /// Time in which the dispatcher did something, %.
    pub(crate) fn dispatcher_percent(&self) -> Option<Median> {
        Median::of(self.reports.iter().map(|r| 100.0 * r.dispatcher_busy))
    }

    /// Cores granted a second.
    pub(crate) fn grants_per_second(&self) -> Option<Median> {
        Median::of(
            self.reports
                .iter()
                .map(|r| r.procs[0].grants.total() as f64 / r.seconds),
        )
    }
}

/// 99th percentile of latency, microseconds.
pub(crate) fn p99_us(proc: &ProcReport) -> f64 {
    proc.latency.p99_ns as f64 / 1000.0
}

/// 0 of nothing.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// A difference to the base at the same load, %: below zero is less than the base.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Gain {
    /// Over the seeds.
    pub(crate) percent: Median,
}

impl Gain {
    /// Of `f` under `cell`, beside `base`, seed by seed.
    pub(crate) fn of(cell: &Cell, base: &Cell, f: impl Fn(&ProcReport) -> f64) -> Option<Gain> {
        let pairs = cell.reports.iter().zip(&base.reports);
        let percent =
            Median::of(pairs.map(|(a, b)| 100.0 * (f(&a.procs[0]) / f(&b.procs[0]) - 1.0)))?;
        Some(Gain { percent })
    }

    /// All seeds say that it is less than the base.
    pub(crate) fn less(&self) -> bool {
        self.percent.greatest < 0.0
    }

    /// All seeds say that it is more.
    pub(crate) fn more(&self) -> bool {
        self.percent.least > 0.0
    }
}

/// The cell of a policy at `x`.
pub(crate) fn find<'a>(cells: &'a [Cell], policy: &str, x: f64) -> Option<&'a Cell> {
    cells.iter().find(|c| c.policy == policy && c.x == x)
}

/// What to run: one scenario for each policy and each `x`.
pub(crate) struct Plan<'a> {
    /// For progress.
    pub(crate) name: &'a str,
    /// Policies, as in [`POLICIES`].
    pub(crate) policies: &'a [&'a str],
    /// The values of what is varied.
    pub(crate) xs: &'a [f64],
    /// Seeds 1 to so many.
    pub(crate) seeds: u64,
    /// Makes the scenario at an `x`; policy and seed are then set.
    pub(crate) scenario: &'a (dyn Fn(f64) -> Scenario + Sync),
}

impl Plan<'_> {
    /// Runs it all; cells in the order of `xs`, then of policies.
    ///
    /// # Errors
    /// A scenario that the simulator refuses, or an interruption.
    pub(crate) fn run(&self) -> Result<Vec<Cell>> {
        let seeds = usize::try_from(self.seeds)?;
        let mut jobs = Vec::new();
        for &x in self.xs {
            for policy in self.policies {
                let mut scenario = (self.scenario)(x);
                let keep = scenario.steering;
                scenario.steering = Steering {
                    flow_entries: keep.flow_entries,
                    flow_idle_seconds: keep.flow_idle_seconds,
                    ..steering(policy)?
                };
                for seed in 1..=self.seeds {
                    jobs.push(Scenario {
                        seed,
                        ..scenario.clone()
                    });
                }
            }
        }
        let reports = on_all_cpus(self.name, &jobs)?;
        let mut reports = reports.into_iter();
        let mut cells = Vec::new();
        for &x in self.xs {
            for policy in self.policies {
                cells.push(Cell {
                    policy: (*policy).to_owned(),
                    x,
                    reports: reports.by_ref().take(seeds).collect(),
                });
            }
        }
        Ok(cells)
    }
}

/// The simulator's steering for one of [`POLICIES`].
fn steering(policy: &str) -> Result<Steering> {
    let label = POLICIES
        .iter()
        .find(|(name, _)| *name == policy)
        .with_context(|| format!("no policy is called {policy} here"))?
        .1;
    Ok(Steering::from_label(label)?)
}

/// The reports of `jobs`, in their order; says how far it is.
fn on_all_cpus(name: &str, jobs: &[Scenario]) -> Result<Vec<Report>> {
    let progress = Mutex::new(Progress::new(jobs.len()));
    let reports = calisto_sim::run_all(jobs, None, || {
        if let Ok(mut progress) = progress.lock() {
            progress.next(name);
        }
        stop::check().is_err()
    });
    if let Ok(progress) = progress.lock() {
        progress.end();
    }
    stop::check()?;
    Ok(reports.into_iter().collect::<Result<_, _>>()?)
}

/// A line for each policy: a number of its cells against `x`.
pub(crate) fn chart(
    cells: &[Cell],
    title: &str,
    x_label: &str,
    y_label: &str,
    column: impl Fn(&Cell) -> Option<Median>,
) -> Chart {
    let points = cells
        .iter()
        .filter_map(|cell| Some((cell.policy.as_str(), column(cell)?.at(cell.x))));
    Chart {
        title: title.to_owned(),
        x_label: x_label.to_owned(),
        y_label: y_label.to_owned(),
        log_x: false,
        log_y: false,
        series: Series::by_name(points),
    }
}
