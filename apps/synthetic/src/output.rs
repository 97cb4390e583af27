//! The table on standard output: upstream's columns, and its traces and buckets.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::UNIX_EPOCH;

use clap::ValueEnum;

use crate::run::Outcome;
use crate::sample::{Sample, TimedFrom, latency};

/// The head of the table. Rates are requests a second, times microseconds, Start is in
/// seconds since 1970.
pub const HEADER: &str =
    "Distribution, Target, Actual, Dropped, Never Sent, Median, 90th, 99th, 99.9th, 99.99th, Start";
/// The percentiles of the columns.
pub const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// What is printed of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Nothing
    Silent,
    /// A row
    Normal,
    /// A row, and how many latencies fell into each microsecond: US:COUNT
    Buckets,
    /// A row, and each request: SENT:LATE:LATENCY, all in ns, -1 for what did not happen
    Trace,
}

/// A sample as text, with its line feeds.
pub fn text(sample: &Sample, distribution: &str, output: Output, from: TimedFrom) -> String {
    let mut text = match output {
        Output::Silent => return String::new(),
        _ => row(sample, distribution),
    };
    if !sample.is_meaningful() {
        return text;
    }
    match output {
        Output::Buckets => buckets(sample, &mut text),
        Output::Trace => trace(sample, from, &mut text),
        Output::Silent | Output::Normal => {}
    }
    text
}

fn row(sample: &Sample, distribution: &str) -> String {
    let start = sample.start.duration_since(UNIX_EPOCH);
    let start = start.map_or(0, |t| t.as_secs());
    let Sample {
        target,
        actual,
        dropped,
        never_sent,
        ..
    } = sample;
    let mut row = format!("{distribution}, {target}, {actual}, {dropped}, {never_sent}, ");
    // As upstream: without answers there are no percentiles, not even empty columns.
    if sample.is_meaningful() {
        for percent in PERCENTILES {
            let _ = write!(row, "{:.1}, ", sample.percentile_us(percent));
        }
    }
    let _ = writeln!(row, "{start}");
    row
}

fn buckets(sample: &Sample, text: &mut String) {
    let mut buckets: BTreeMap<u64, u64> = BTreeMap::new();
    for ns in &sample.latencies {
        *buckets.entry(ns / 1000).or_default() += 1;
    }
    text.push_str("Latencies: ");
    for (us, count) in buckets {
        let _ = write!(text, "{us}:{count} ");
    }
    text.push('\n');
}

fn trace(sample: &Sample, from: TimedFrom, text: &mut String) {
    let mut outcomes: Vec<&Outcome> = sample.outcomes.iter().collect();
    outcomes.sort_by_key(|o| o.sent_ns.unwrap_or(o.due_ns));
    text.push_str("Trace: ");
    for outcome in outcomes {
        let due = outcome.due_ns;
        let _ = match (outcome.sent_ns, latency(outcome, from)) {
            (None, _) => write!(text, "{due}:-1:-1 "),
            (Some(sent), None) => write!(text, "{sent}:{}:-1 ", sent - due),
            (Some(sent), Some(latency)) => write!(text, "{sent}:{}:{latency} ", sent - due),
        };
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    /// Four requests, 1 ms apart: answered after 10 and 20 us, lost, not sent.
    fn sample() -> Sample {
        let outcome = |due_ns, sent_ns, answered_ns| Outcome {
            due_ns,
            sent_ns,
            answered_ns,
        };
        Sample {
            scheduled: 4,
            dropped: 1,
            never_sent: 1,
            target: 1500,
            actual: 1000,
            latencies: vec![10_000, 20_000],
            lateness: vec![0, 0, 5],
            start: SystemTime::UNIX_EPOCH + Duration::from_secs(77),
            outcomes: vec![
                outcome(1_000_000, Some(1_000_000), Some(1_010_000)),
                outcome(2_000_000, Some(2_000_005), Some(2_020_000)),
                outcome(3_000_000, Some(3_000_000), None),
                outcome(4_000_000, None, None),
            ],
        }
    }

    #[test]
    fn a_row_has_the_columns_of_the_header() {
        let text = text(&sample(), "bimodal1", Output::Normal, TimedFrom::Due);
        assert_eq!(
            text,
            "bimodal1, 1500, 1000, 1, 1, 20.0, inf, inf, inf, inf, 77\n"
        );
        assert_eq!(text.split(", ").count(), HEADER.split(", ").count());
    }

    #[test]
    fn without_answers_a_row_is_short() {
        let mut none = sample();
        none.latencies.clear();
        none.actual = 0;
        none.dropped = 3;
        let text = text(&none, "zero", Output::Trace, TimedFrom::Due);
        assert_eq!(text, "zero, 1500, 0, 3, 1, 77\n");
    }

    #[test]
    fn traces_and_buckets_follow_the_row() {
        let lines = |output, from| text(&sample(), "zero", output, from);
        assert_eq!(lines(Output::Silent, TimedFrom::Due), "");
        let buckets = lines(Output::Buckets, TimedFrom::Due);
        assert!(buckets.ends_with("\nLatencies: 10:1 20:1 \n"), "{buckets}");
        let trace = lines(Output::Trace, TimedFrom::Due);
        let wanted = "\nTrace: 1000000:0:10000 2000005:5:20000 3000000:0:-1 4000000:-1:-1 \n";
        assert!(trace.ends_with(wanted), "{trace}");
        let sent = lines(Output::Trace, TimedFrom::Sent);
        assert!(sent.contains(" 2000005:5:19995 "), "{sent}");
    }
}
