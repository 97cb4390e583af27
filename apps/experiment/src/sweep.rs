//! Load steps under each case in turn, several rounds: what client and daemon counted.
//!
//! Rounds interleave the cases, so that a slow minute of the machine does not
//! hit one of them alone; a result is the median of the rounds, with its spread.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use calisto::admin::Request;
use calisto::admin::client::ask;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bed::{Bed, Case, Steps};
use crate::child::Child;

/// How much longer than a step its result may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the client says of one step: the fields of `synthetic --json` that are needed here.
/// Times are in microseconds from when a request was due.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Requests a second that were asked for.
    pub(crate) offered: f64,
    /// Requests a second that were answered.
    pub(crate) actual: f64,
    /// Sent, never answered.
    pub(crate) dropped: u64,
    /// Due too late to be sent at all.
    pub(crate) never_sent: u64,
    /// Median; null if it is not finite.
    pub(crate) p50: Option<f64>,
    /// 99th percentile.
    pub(crate) p99: Option<f64>,
    /// 99.9th percentile.
    #[serde(rename = "p99.9")]
    pub(crate) p999: Option<f64>,
}

impl Sample {
    /// In a line, for who waits.
    pub(crate) fn told(&self) -> String {
        format!(
            "round {}, {}: {:.0} requests/s, p99 {}",
            self.round,
            self.case,
            self.latency.offered,
            self.latency
                .p99
                .map_or("unknown".to_owned(), |us| format!("{us:.0} us")),
        )
    }
}

/// What the daemon counted of the server while a step ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moves {
    /// Packets steered to the server's kthreads.
    pub(crate) packets: u64,
    /// Of them, those whose flow was on another core before.
    pub(crate) changed_core: u64,
    /// Of them, those that could overtake an earlier one of their flow.
    pub(crate) could_overtake: u64,
    /// Kthreads woken, of all runtimes.
    pub(crate) wakes: u64,
    /// Kthreads that parked, of all runtimes.
    pub(crate) parks: u64,
}

/// One step under one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The case's name.
    pub(crate) case: String,
    /// Which round it was, from 1.
    pub(crate) round: u32,
    /// Which step, from 0.
    pub(crate) step: u32,
    /// The client's part.
    pub(crate) latency: Latency,
    /// The daemon's part.
    pub(crate) moves: Moves,
}

/// Runs all steps of all cases; `report` sees each sample as it comes.
///
/// # Errors
/// A program that does not start or ends, or an interruption.
pub(crate) fn run(
    bed: &Bed,
    cases: &[Case],
    steps: &Steps,
    rounds: u32,
    mut report: impl FnMut(&Sample),
) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for round in 1..=rounds {
        for case in cases {
            let daemon = bed.daemon(case)?;
            let server = bed.server()?;
            let client = bed.client(steps, u64::from(round))?;
            let from = samples.len();
            listen(client, server.pid(), steps, |step, latency, moves| {
                let sample = Sample {
                    case: case.name.clone(),
                    round,
                    step,
                    latency,
                    moves,
                };
                report(&sample);
                samples.push(sample);
            })
            .with_context(|| format!("{}, round {round}", case.name))?;
            ensure!(
                samples.len() - from == steps.samples as usize,
                "the client gave {} of {} samples",
                samples.len() - from,
                steps.samples
            );
            server.stop()?;
            daemon.stop()?;
        }
    }
    Ok(samples)
}

/// Reads the client's samples, and the daemon's counters at the end of each.
fn listen(
    mut client: Child,
    server: u32,
    steps: &Steps,
    mut each: impl FnMut(u32, Latency, Moves),
) -> Result<()> {
    let patience = Duration::from_secs(steps.seconds) + PATIENCE;
    let mut before = counters(server)?;
    let mut step = 0;
    while let Some(line) = client.line(patience)? {
        let latency = serde_json::from_str(&line)
            .with_context(|| format!("the client said `{line}`, which is no sample"))?;
        let now = counters(server)?;
        each(step, latency, now.since(&before));
        before = now;
        step += 1;
    }
    client.success(patience)
}

impl Moves {
    /// What was counted since `before`.
    pub(crate) fn since(&self, before: &Moves) -> Moves {
        Moves {
            packets: self.packets - before.packets,
            changed_core: self.changed_core - before.changed_core,
            could_overtake: self.could_overtake - before.could_overtake,
            wakes: self.wakes - before.wakes,
            parks: self.parks - before.parks,
        }
    }
}

/// The counters of the runtime whose process is `server`, as they are now.
///
/// # Errors
/// No daemon, or no such runtime on it.
pub(crate) fn counters(server: u32) -> Result<Moves> {
    let parse = |line: &String| serde_json::from_str::<Value>(line);
    let runtimes = ask(&Request::Runtimes)?;
    let runtimes = runtimes.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let runtime = runtimes
        .iter()
        .find(|r| r["pid"] == server)
        .context("the server is not attached any more: its log says why")?;
    let stats = ask(&Request::Stats)?;
    let stats = parse(stats.first().context("no counters")?)?;
    // Counters that are zero are not in the answer.
    let of = |value: &Value| value.as_u64().unwrap_or(0);
    Ok(Moves {
        packets: of(&runtime["steering"]["ST_PACKETS"]),
        changed_core: of(&runtime["steering"]["ST_CHANGED_CORE"]),
        could_overtake: of(&runtime["steering"]["ST_COULD_OVERTAKE"]),
        wakes: of(&stats["counters"]["WAKES"]),
        parks: of(&stats["counters"]["PARKS"]),
    })
}
