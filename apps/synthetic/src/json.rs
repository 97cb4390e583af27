//! Results for programs: one JSON object a line. The names of fields are kept.

use std::fs::File;
use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::num::whole;
use crate::sample::Sample;

/// Where objects go: a file, or standard output for `-`.
#[derive(Debug)]
pub struct Sink {
    file: Option<File>,
    name: String,
}

impl Sink {
    /// Makes the file, empty.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &str) -> anyhow::Result<Sink> {
        let file = match path {
            "-" => None,
            _ => Some(File::create(path).with_context(|| format!("cannot write to {path}"))?),
        };
        Ok(Sink {
            file,
            name: path.to_owned(),
        })
    }

    /// True if objects go to standard output, which is then theirs alone.
    pub fn is_stdout(&self) -> bool {
        self.file.is_none()
    }

    /// Writes an object and its line feed, at once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, object: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(object).context("no JSON")?;
        line.push('\n');
        let written = match &mut self.file {
            Some(file) => file.write_all(line.as_bytes()),
            None => calisto::terminal::answer(&line),
        };
        written.map_err(|e: io::Error| anyhow::anyhow!("cannot write to {}: {e}", self.name))
    }
}

/// What the load was, for [`SampleObject`].
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// `linux-client` or `runtime-client`.
    pub mode: &'static str,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// Name of the distribution of work.
    pub distribution: &'static str,
    /// Mean iterations of work.
    pub mean: f64,
    /// Flows that requests are spread over.
    pub flows: u32,
    /// Exponent of their Zipf distribution; null: all alike.
    pub zipf: Option<f64>,
    /// `due` or `sent`.
    pub timed_from: &'static str,
    /// The seed of this sample's schedule, as `--seed` would have it.
    pub seed: u64,
}

/// A sample. Times are in microseconds unless they say otherwise; null where infinite or
/// unknown. Counts are of requests that were due after the discarded share.
#[derive(Debug, Serialize)]
pub struct SampleObject {
    /// Which sample, from 1.
    pub sample: u32,
    /// What the load was.
    #[serde(flatten)]
    pub load: Load,
    /// Requests a second as scheduled.
    pub offered: f64,
    /// Column Target: requests a second that were sent.
    pub target: u64,
    /// Column Actual: requests a second that were answered.
    pub actual: u64,
    /// Requests in the schedule.
    pub scheduled: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// Sent without an answer.
    pub dropped: u64,
    /// Not sent.
    pub never_sent: u64,
    /// The least latency.
    pub min: Option<f64>,
    /// The mean latency of those answered.
    pub mean_latency: Option<f64>,
    /// The greatest latency of those answered.
    pub max: Option<f64>,
    /// Median; percentiles are over all that were sent.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// 99.9th percentile.
    #[serde(rename = "p99.9")]
    pub p999: Option<f64>,
    /// 99.99th percentile.
    #[serde(rename = "p99.99")]
    pub p9999: Option<f64>,
    /// How far behind time requests were sent: median.
    pub late_p50: f64,
    /// The same, 99th percentile.
    pub late_p99: f64,
    /// The same, the greatest.
    pub late_max: f64,
    /// When the sample began, in seconds since 1970.
    pub start: u64,
    /// Latencies of those answered: `[up to, count]`, bounds being powers of two.
    pub histogram: Vec<(f64, u64)>,
}

impl SampleObject {
    /// Number `number`, of `offered` requests a second.
    pub fn new(sample: &Sample, number: u32, load: &Load, offered: f64) -> SampleObject {
        let known = |us: f64| Some(us).filter(|us| us.is_finite());
        let percentile = |p| known(sample.percentile_us(p));
        let us = |ns: Option<&u64>| ns.map(|&ns| ns as f64 / 1000.0);
        let answered = sample.latencies.len() as u64;
        let sum: f64 = sample.latencies.iter().map(|&ns| ns as f64).sum();
        SampleObject {
            sample: number,
            load: load.clone(),
            offered,
            target: sample.target,
            actual: sample.actual,
            scheduled: sample.scheduled,
            sent: sample.sent(),
            answered,
            dropped: sample.dropped,
            never_sent: sample.never_sent,
            min: us(sample.latencies.first()),
            mean_latency: (answered > 0).then(|| sum / answered as f64 / 1000.0),
            max: us(sample.latencies.last()),
            p50: percentile(50.0),
            p90: percentile(90.0),
            p99: percentile(99.0),
            p999: percentile(99.9),
            p9999: percentile(99.99),
            late_p50: sample.lateness_us(50.0),
            late_p99: sample.lateness_us(99.0),
            late_max: sample.lateness_us(100.0),
            start: sample
                .start
                .duration_since(UNIX_EPOCH)
                .map_or(0, |t| t.as_secs()),
            histogram: histogram(&sample.latencies),
        }
    }
}

fn histogram(latencies: &[u64]) -> Vec<(f64, u64)> {
    // Three digits of values that are counted exactly elsewhere.
    let Ok(mut histogram) = Histogram::<u64>::new(3) else {
        return Vec::new();
    };
    for &ns in latencies {
        // It grows as it needs to; what it could not hold would take centuries.
        let _ = histogram.record(ns);
    }
    histogram
        .iter_log(1000, 2.0)
        .filter(|bucket| bucket.count_since_last_iteration() > 0)
        .map(|bucket| {
            let bound = whole((bucket.value_iterated_to() as f64 / 1000.0).ceil());
            (bound as f64, bucket.count_since_last_iteration())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn fields_keep_their_names() {
        let sample = Sample {
            scheduled: 5,
            dropped: 1,
            never_sent: 1,
            target: 4,
            actual: 3,
            latencies: vec![900, 2_500, 30_000],
            lateness: vec![100, 200, 300, 4000],
            start: SystemTime::UNIX_EPOCH,
            outcomes: Vec::new(),
        };
        let load = Load {
            mode: "linux-client",
            transport: "udp",
            distribution: "zero",
            mean: 167.0,
            flows: 1,
            zipf: None,
            timed_from: "due",
            seed: 9,
        };
        let json = serde_json::to_value(SampleObject::new(&sample, 2, &load, 5.0)).expect("JSON");
        for (name, value) in [
            ("sample", serde_json::json!(2)),
            ("transport", serde_json::json!("udp")),
            ("sent", serde_json::json!(4)),
            ("answered", serde_json::json!(3)),
            ("min", serde_json::json!(0.9)),
            ("max", serde_json::json!(30.0)),
            ("p50", serde_json::json!(30.0)),
            ("p99.99", serde_json::json!(null)),
            ("late_max", serde_json::json!(4.0)),
            (
                "histogram",
                serde_json::json!([[1.0, 1], [4.0, 1], [32.0, 1]]),
            ),
        ] {
            assert_eq!(json[name], value, "{name}");
        }
    }
}
