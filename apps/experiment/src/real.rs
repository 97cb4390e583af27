//! The experiment with real processes on this machine.
//!
//! Ten virtual cores share the CPUs that there are, so latencies are those of a
//! loaded small machine, and caches those of its few CPUs: what is shown for real
//! is that policies move flows as the simulator says, and what that does here.

use std::path::Path;
use std::thread;

use anyhow::{Context, Result};

use crate::bed::{Bed, Case, Link, Steps, Work};
use crate::demo::save;
use crate::progress::Progress;
use crate::simulated::BASE;
use crate::summary::{self, Row};
use crate::sweep::{self, Sample};

/// One set of sweeps.
#[derive(Debug)]
pub(crate) struct Runs {
    /// A name for files.
    pub(crate) name: &'static str,
    /// What was run.
    pub(crate) title: String,
    /// How often.
    pub(crate) rounds: u32,
    /// What came out.
    pub(crate) rows: Vec<Row>,
}

/// Everything that was run, and where.
#[derive(Debug)]
pub(crate) struct Real {
    /// The machine, in a line.
    pub(crate) machine: String,
    /// CPUs that it has.
    pub(crate) cpus: usize,
    /// The sets.
    pub(crate) runs: Vec<Runs>,
}

/// The policies, as iokerneld's flags.
fn cases() -> Vec<Case> {
    vec![
        Case::policy(BASE, "modulo", &[]),
        Case::policy("paper-strict", "flow-table", &["--affinity", "strict"]),
        Case::policy("sticky", "flow-table", &[]),
        Case::policy("kthread-table", "kthread-table", &[]),
        Case::policy("buckets", "buckets", &[]),
        Case::policy("hybrid", "hybrid", &[]),
    ]
}

/// Runs the sets; samples go to files in `out`. With `reuse` they are taken from there, as an
/// earlier run left them.
pub(crate) fn run(bin: &Path, out: &Path, quick: bool, reuse: bool) -> Result<Real> {
    let rounds = if quick { 1 } else { 3 };
    let seconds = if quick { 1 } else { 3 };
    let work = Work {
        fakework: "sqrt".to_owned(),
        distribution: "exponential".to_owned(),
        mean: 2000.0,
    };
    let bed = Bed {
        bin: bin.to_owned(),
        link: Link::Loopback,
        cores: 10,
        kthreads: 10,
        flows: 700_000,
        ports: 64,
        work,
    };
    let paper = Steps {
        from: 2_000.0,
        to: 14_000.0,
        samples: 4,
        seconds,
    };
    let sets = [
        (
            "real-paper",
            "the paper's loads, 700 thousand flows".to_owned(),
            bed.clone(),
            paper,
        ),
        (
            "real-few-flows",
            "the same loads, 2000 flows, which do send again".to_owned(),
            Bed {
                flows: 2000,
                ports: 1,
                ..bed.clone()
            },
            paper,
        ),
        (
            "real-saturation",
            "up to saturation, 2000 flows".to_owned(),
            Bed {
                flows: 2000,
                ports: 1,
                ..bed
            },
            Steps {
                from: 0.0,
                to: 100_000.0,
                samples: 5,
                seconds: if quick { 1 } else { 2 },
            },
        ),
    ];
    let cases = cases();
    let mut runs = Vec::new();
    for (name, title, bed, steps) in sets {
        let file = out.join(format!("{name}.jsonl"));
        let samples = if reuse {
            read(&file)?
        } else {
            let all = (steps.samples * rounds) as usize * cases.len();
            let mut progress = Progress::new(all);
            let samples = sweep::run(&bed, &cases, &steps, rounds, |s| progress.next(&s.told()))?;
            progress.end();
            save(&file, &samples)?;
            samples
        };
        let rounds = samples.iter().map(|s| s.round).max().unwrap_or(0);
        runs.push(Runs {
            name,
            title,
            rounds,
            rows: summary::rows(&samples, steps.seconds),
        });
    }
    Ok(Real {
        machine: machine(),
        cpus: cpus(),
        runs,
    })
}

/// Samples that an earlier run left.
fn read(path: &Path) -> Result<Vec<Sample>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {}: run without --reuse first", path.display()))?;
    text.lines()
        .map(|line| {
            serde_json::from_str(line)
                .with_context(|| format!("{}: no sample: {line}", path.display()))
        })
        .collect()
}

/// What Linux says of this machine.
fn machine() -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "an unknown processor".to_owned());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What comes behind the numbers is a distribution's own.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    format!("{} CPUs ({model}), Linux {kernel}", cpus())
}

fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
