//! What a sample came to: rates, losses and latencies.
//!
//! Rules are upstream's: rates are over the time between the first and the last sending,
//! and a percentile is over all requests *sent*, so that one of those lost, at the end, is
//! infinite. Three differ. A latency begins when the request was due, unless
//! [`TimedFrom::Sent`]. The first tenth that is left out is one of the time, not of the
//! requests: a client that cannot keep up sends them late, the first of them all the time.
//! And a rate is of what was sent, also where nothing was answered.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;

use crate::num::{size, whole};
use crate::run::{Outcome, Run};

/// When a latency begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TimedFrom {
    /// When the request was due: a client or server that stalls is seen by all requests
    /// that it delayed
    Due,
    /// When it was sent, as upstream; requests 5 us behind time are not sent
    Sent,
}

impl TimedFrom {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            TimedFrom::Due => "due",
            TimedFrom::Sent => "sent",
        }
    }
}

/// A sample's results. Times are nanoseconds.
#[derive(Debug)]
pub struct Sample {
    /// Requests that had been scheduled.
    pub scheduled: u64,
    /// Of these, sent without an answer.
    pub dropped: u64,
    /// Of these, not sent.
    pub never_sent: u64,
    /// Requests a second that were sent.
    pub target: u64,
    /// Requests a second that were answered.
    pub actual: u64,
    /// Of all that were answered, sorted.
    pub latencies: Vec<u64>,
    /// How far behind time each was sent, sorted.
    pub lateness: Vec<u64>,
    /// The wall clock's time of its start.
    pub start: SystemTime,
    /// What became of each request, by time.
    pub outcomes: Vec<Outcome>,
}

impl Sample {
    /// The results of the part of `run` that was due within `range`; without what was sent
    /// in the first `discard` percent of that time, or due then and never sent. `None` if
    /// that leaves no request.
    pub fn of(run: &Run, range: &Range<u64>, discard: u32, from: TimedFrom) -> Option<Sample> {
        let outcomes = run.outcomes(range);
        let first = outcomes.first()?;
        let start = run.start_unix() + Duration::from_nanos(first.due_ns);
        let left_out = (range.end - range.start) / 100 * u64::from(discard);
        let begin = range.start + left_out;
        let outcomes: Vec<Outcome> = outcomes
            .into_iter()
            .filter(|o| o.sent_ns.unwrap_or(o.due_ns) >= begin)
            .collect();
        let counts = (range.end - begin).max(1);
        (!outcomes.is_empty()).then(|| Sample::from_outcomes(outcomes, counts, start, from))
    }

    /// `length`: of the time that counts, in nanoseconds.
    fn from_outcomes(
        outcomes: Vec<Outcome>,
        length: u64,
        start: SystemTime,
        from: TimedFrom,
    ) -> Sample {
        let sends = || outcomes.iter().filter_map(|o| o.sent_ns);
        let sent = sends().count() as u64;
        let mut latencies: Vec<u64> = outcomes.iter().filter_map(|o| latency(o, from)).collect();
        latencies.sort_unstable();
        let mut lateness: Vec<u64> = outcomes
            .iter()
            .filter_map(|o| Some(o.sent_ns? - o.due_ns))
            .collect();
        lateness.sort_unstable();
        let scheduled = outcomes.len() as u64;
        let answered = latencies.len() as u64;
        let span = sends().max().zip(sends().min());
        let span = span.map(|(last, first)| last - first);
        // Between fewer than two sendings there is no time.
        let span = span.filter(|&span| span > 0).unwrap_or(length);
        Sample {
            scheduled,
            dropped: sent - answered,
            never_sent: scheduled - sent,
            target: a_second(sent, span),
            actual: if answered > 1 {
                a_second(answered, span)
            } else {
                0
            },
            latencies,
            lateness,
            start,
            outcomes,
        }
    }

    /// Requests that were sent.
    pub fn sent(&self) -> u64 {
        self.scheduled - self.never_sent
    }

    /// True if there are latencies to speak of.
    pub fn is_meaningful(&self) -> bool {
        self.latencies.len() > 1
    }

    /// The latency within which `percent` of the requests sent were answered, in
    /// microseconds; infinite if those lost are among them.
    pub fn percentile_us(&self, percent: f64) -> f64 {
        let at = size(whole(self.sent() as f64 * percent / 100.0));
        match self.latencies.get(at) {
            Some(&ns) => ns as f64 / 1000.0,
            None => f64::INFINITY,
        }
    }

    /// The same of how far behind time requests were sent; 0 if none was.
    pub fn lateness_us(&self, percent: f64) -> f64 {
        let at = size(whole(self.lateness.len() as f64 * percent / 100.0));
        let at = at.min(self.lateness.len().saturating_sub(1));
        self.lateness.get(at).map_or(0.0, |&ns| ns as f64 / 1000.0)
    }
}

/// The latency of a request that was answered.
pub fn latency(outcome: &Outcome, from: TimedFrom) -> Option<u64> {
    let sent = outcome.sent_ns?;
    let begin = match from {
        TimedFrom::Due => outcome.due_ns,
        TimedFrom::Sent => sent,
    };
    Some(outcome.answered_ns?.saturating_sub(begin))
}

fn a_second(count: u64, span_ns: u64) -> u64 {
    u64::try_from(u128::from(count) * 1_000_000_000 / u128::from(span_ns)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::Flows;
    use crate::run::{Limits, Turn};
    use crate::schedule::Request;
    use proptest::prelude::*;

    fn outcome(due_ns: u64, late: u64, latency: Option<u64>) -> Outcome {
        Outcome {
            due_ns,
            sent_ns: Some(due_ns + late),
            answered_ns: latency.map(|l| due_ns + late + l),
        }
    }

    fn sample(outcomes: Vec<Outcome>, from: TimedFrom) -> Sample {
        Sample::from_outcomes(outcomes, 1_000_000_000, SystemTime::UNIX_EPOCH, from)
    }

    #[test]
    fn counts_and_rates() {
        // One a microsecond; the 8th is lost, the 9th not sent.
        let mut outcomes: Vec<Outcome> = (0..10).map(|i| outcome(1000 * i, 0, Some(500))).collect();
        outcomes[8].answered_ns = None;
        outcomes[9].sent_ns = None;
        outcomes[9].answered_ns = None;
        let sample = sample(outcomes, TimedFrom::Due);
        assert_eq!(
            (sample.scheduled, sample.dropped, sample.never_sent),
            (10, 1, 1)
        );
        assert_eq!((sample.target, sample.actual), (1_125_000, 1_000_000));
        assert_eq!(sample.percentile_us(50.0), 0.5);
        assert_eq!(sample.percentile_us(99.0), f64::INFINITY);
    }

    #[test]
    fn a_stall_is_seen_from_due_only() {
        // All sent 1 ms late, as after a stall, and answered within 1 us.
        let outcomes: Vec<Outcome> = (0..10).map(|i| outcome(i, 1_000_000, Some(1000))).collect();
        assert_eq!(
            sample(outcomes.clone(), TimedFrom::Due).percentile_us(50.0),
            1001.0
        );
        let sent = sample(outcomes, TimedFrom::Sent);
        assert_eq!(sent.percentile_us(50.0), 1.0);
        assert_eq!(sent.lateness_us(99.0), 1000.0);
    }

    #[test]
    fn nothing_answered_is_no_division_by_zero() {
        let none = sample(vec![outcome(5, 0, None)], TimedFrom::Due);
        assert!(!none.is_meaningful());
        assert_eq!((none.dropped, none.target, none.actual), (1, 1, 0));
    }

    /// 100 requests, one due each 10 ns; two are sent in time, and three of the first ones late.
    fn overloaded() -> Run {
        let requests = (0u32..100)
            .map(|i| Request {
                due_ns: u64::from(i) * 10,
                work: 0,
                flow: 0,
            })
            .collect();
        let limits = Limits {
            late: None,
            grace: Duration::ZERO,
        };
        let flows = Flows::new(1, 1, true, None).expect("good");
        let run = Run::start(1, requests, flows, 1, 1000, limits);
        for now in [5, 15, 300, 500, 700] {
            assert!(matches!(run.take(0, now), Turn::Send(_)));
        }
        run
    }

    #[test]
    fn what_was_sent_in_the_share_that_is_discarded_is_left_out() {
        let run = overloaded();
        let of = |discard| Sample::of(&run, &(0..1000), discard, TimedFrom::Due).expect("some");
        let (all, tenth, most) = (of(0), of(10), of(90));
        assert_eq!((all.sent(), all.never_sent), (5, 95));
        // Sent at 300, 500 and 700 ns; 10 to 99 were never sent.
        assert_eq!((tenth.sent(), tenth.never_sent), (3, 90));
        assert_eq!(tenth.target, 3 * 1_000_000_000 / 400);
        // Nothing was sent after that: the row says so.
        assert_eq!((most.sent(), most.never_sent), (0, 10));
        assert_eq!((most.target, most.actual), (0, 0));
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted(
            latencies in prop::collection::vec(1u64..1_000_000, 2..500),
            lost in 0usize..50,
            percent in 0.0..100.0,
        ) {
            let answered = latencies.iter().map(|&l| outcome(0, 0, Some(l)));
            let outcomes = answered.chain((0..lost).map(|_| outcome(0, 0, None))).collect();
            let got = sample(outcomes, TimedFrom::Due).percentile_us(percent);
            let mut all: Vec<f64> = latencies.iter().map(|&l| l as f64 / 1000.0).collect();
            all.extend(std::iter::repeat_n(f64::INFINITY, lost));
            all.sort_by(f64::total_cmp);
            // No more than the share asked for is below, and the value is one of them.
            let below = all.iter().filter(|&&v| v < got).count() as f64;
            prop_assert!(below <= all.len() as f64 * percent / 100.0);
            let within = all.iter().filter(|&&v| v <= got).count() as f64;
            prop_assert!(within > (all.len() as f64 * percent / 100.0).floor());
            prop_assert!(all.contains(&got));
        }
    }
}
