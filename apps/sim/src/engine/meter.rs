//! Counting, for the time that is reported.
//!
//! Counts run from the beginning; the report is the difference of two looks, at the end of the
//! warm-up and at the last arrival.

use hdrhistogram::Histogram;

use crate::report::{Ends, Grants, Latency, Steals, Time, Touches};
use crate::scenario::Scenario;

/// Batches for the confidence interval of the mean.
const BATCHES: usize = 20;
/// Longest latency that is told from longer ones: 1000 s.
const LATENCY_MAX: u64 = 1_000_000_000_000;
/// 97.5 % quantile of Student's t with 19 degrees of freedom.
const T_19: f64 = 2.093;

/// What is counted of a runtime from the beginning on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) time: Time,
    pub(super) grants: Grants,
    pub(super) touches: Touches,
    pub(super) steals: Steals,
    pub(super) reordered: u64,
    pub(super) slices: u64,
    pub(super) changed_core: u64,
    pub(super) known: u64,
    /// Active kthreads times nanoseconds.
    pub(super) core_ns: f64,
}

/// The counts and latencies of a runtime.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) counts: Counts,
    pub(super) ends: Ends,
    first: Counts,
    last: Option<Counts>,
    active: f64,
    active_since: u64,
    latencies: Histogram<u64>,
    sum: f64,
    /// Sums and numbers of latencies, in batches that grow together.
    batches: Vec<(f64, u64)>,
    batch_size: u64,
}

impl Meter {
    pub(super) fn new() -> Meter {
        Meter {
            counts: Counts::default(),
            ends: Ends::default(),
            first: Counts::default(),
            last: None,
            active: 0.0,
            active_since: 0,
            latencies: Histogram::new_with_bounds(1, LATENCY_MAX, 3)
                .expect("three digits of these are possible"),
            sum: 0.0,
            batches: Vec::with_capacity(2 * BATCHES),
            batch_size: 64,
        }
    }

    /// The number of active kthreads from now on.
    pub(super) fn active(&mut self, kthreads: usize, now: u64) {
        self.integrate(now);
        #[allow(clippy::cast_precision_loss, reason = "256 at most")]
        {
            self.active = kthreads as f64;
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
    fn integrate(&mut self, now: u64) {
        self.counts.core_ns += self.active * (now - self.active_since) as f64;
        self.active_since = now;
    }

    /// The warm-up ends.
    pub(super) fn open(&mut self, now: u64) {
        self.integrate(now);
        self.first = self.counts;
    }

    /// Packets stop coming.
    pub(super) fn close(&mut self, now: u64) {
        self.integrate(now);
        self.last = Some(self.counts);
    }

    /// A packet was answered.
    #[allow(clippy::cast_precision_loss, reason = "nanoseconds of a latency")]
    pub(super) fn answered(&mut self, latency: u64) {
        self.latencies.saturating_record(latency);
        self.sum += latency as f64;
        match self.batches.last_mut() {
            Some((sum, n)) if *n < self.batch_size => {
                *sum += latency as f64;
                *n += 1;
            }
            _ => {
                if self.batches.len() == 2 * BATCHES {
                    self.merge_batches();
                }
                self.batches.push((latency as f64, 1));
            }
        }
    }

    /// Makes half as many batches of twice the size.
    fn merge_batches(&mut self) {
        self.batch_size *= 2;
        let pairs = self.batches.chunks(2);
        self.batches = pairs
            .map(|pair| pair.iter().fold((0.0, 0), |a, b| (a.0 + b.0, a.1 + b.1)))
            .collect();
        self.batches.reserve(BATCHES);
    }

    /// The counts of the reported time.
    pub(super) fn difference(&self) -> Counts {
        let (a, b) = (self.first, self.last.unwrap_or(self.counts));
        Counts {
            time: Time {
                service: b.time.service - a.time.service,
                state: b.time.state - a.time.state,
                softirq: b.time.softirq - a.time.softirq,
                overhead: b.time.overhead - a.time.overhead,
                sibling: b.time.sibling - a.time.sibling,
                spin: b.time.spin - a.time.spin,
            },
            grants: Grants {
                packet: b.grants.packet - a.grants.packet,
                runqueue: b.grants.runqueue - a.grants.runqueue,
                rxq: b.grants.rxq - a.grants.rxq,
                affinity: b.grants.affinity - a.grants.affinity,
                other: b.grants.other - a.grants.other,
                preempting: b.grants.preempting - a.grants.preempting,
                preempted: b.grants.preempted - a.grants.preempted,
                parks: b.grants.parks - a.grants.parks,
                parks_refused: b.grants.parks_refused - a.grants.parks_refused,
                pins: b.grants.pins - a.grants.pins,
            },
            touches: Touches {
                private: b.touches.private - a.touches.private,
                other_core: b.touches.other_core - a.touches.other_core,
                l3: b.touches.l3 - a.touches.l3,
                far: b.touches.far - a.touches.far,
                memory: b.touches.memory - a.touches.memory,
                first: b.touches.first - a.touches.first,
            },
            steals: Steals {
                uthreads: b.steals.uthreads - a.steals.uthreads,
                packets: b.steals.packets - a.steals.packets,
                ran_elsewhere: b.steals.ran_elsewhere - a.steals.ran_elsewhere,
            },
            reordered: b.reordered - a.reordered,
            slices: b.slices - a.slices,
            changed_core: b.changed_core - a.changed_core,
            known: b.known - a.known,
            core_ns: b.core_ns - a.core_ns,
        }
    }

    /// The latencies.
    #[allow(clippy::cast_precision_loss, reason = "numbers of packets")]
    pub(super) fn latency(&self) -> Latency {
        let count = self.latencies.len();
        if count == 0 {
            return Latency::default();
        }
        let at = |quantile| self.latencies.value_at_quantile(quantile);
        Latency {
            count,
            mean_ns: self.sum / count as f64,
            mean_ci95_ns: self.interval(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: self.latencies.max(),
        }
    }

    /// Half of the confidence interval of the mean, by the means of batches.
    #[allow(clippy::cast_precision_loss, reason = "numbers of packets")]
    fn interval(&self) -> f64 {
        let full: Vec<f64> = self
            .batches
            .iter()
            .filter(|b| b.1 == self.batch_size)
            .map(|b| b.0)
            .collect();
        // Twenty of as many as there are, the remainder left out.
        let each = full.len() / BATCHES;
        if each == 0 {
            return 0.0;
        }
        let size = (each as u64 * self.batch_size) as f64;
        let means: Vec<f64> = full
            .chunks_exact(each)
            .take(BATCHES)
            .map(|batch| batch.iter().sum::<f64>() / size)
            .collect();
        let n = means.len() as f64;
        let mean = means.iter().sum::<f64>() / n;
        let variance = means.iter().map(|m| (m - mean) * (m - mean)).sum::<f64>() / (n - 1.0);
        T_19 * (variance / n).sqrt()
    }
}

/// Which packets are reported, and when there are no more.
#[derive(Debug)]
pub(super) struct Window {
    /// Packets taken from the streams.
    pub(super) pulled: u64,
    /// Packets to be taken, and how many of them are warm-up; `u64::MAX`: time decides.
    pub(super) packets: u64,
    pub(super) warm_packets: u64,
    /// No packet comes after that time.
    pub(super) end_at: u64,
    pub(super) warm_until: u64,
    /// When reporting began and ended.
    pub(super) opened: Option<u64>,
    pub(super) closed: Option<u64>,
    /// Time for what is under way at the end.
    pub(super) drain: u64,
    /// Since when a core has been without kthread all the time.
    pub(super) idle_since: Option<u64>,
    /// Longest time that something waited meanwhile.
    pub(super) idle_while_waiting: u64,
    pub(super) nic_drops: u64,
    /// The dispatcher's busy time while packets were reported.
    pub(super) dispatcher_ns: f64,
}

impl Window {
    pub(super) fn new(scenario: &Scenario) -> Window {
        let by_packets = scenario.packets > 0 && scenario.rate() > 0.0;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "checked to be positive and not large"
        )]
        Window {
            pulled: 0,
            packets: if by_packets {
                scenario.packets
            } else {
                u64::MAX
            },
            warm_packets: if by_packets {
                (scenario.packets as f64 * scenario.warmup) as u64
            } else {
                u64::MAX
            },
            end_at: if scenario.seconds > 0.0 {
                (scenario.seconds * 1e9) as u64
            } else {
                u64::MAX
            },
            warm_until: if by_packets {
                u64::MAX
            } else {
                (scenario.seconds * scenario.warmup * 1e9) as u64
            },
            opened: None,
            closed: None,
            drain: (scenario.drain_seconds * 1e9) as u64,
            idle_since: None,
            idle_while_waiting: 0,
            nic_drops: 0,
            dispatcher_ns: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_that_they_are_called() {
        let mut meter = Meter::new();
        (1..=10_000).for_each(|us| meter.answered(us * 1000));
        let latency = meter.latency();
        for (ns, us) in [
            (latency.p50_ns, 5000),
            (latency.p90_ns, 9000),
            (latency.p99_ns, 9900),
            (latency.p999_ns, 9990),
            (latency.max_ns, 10_000),
        ] {
            // Three digits.
            assert!(ns.abs_diff(us * 1000) <= us, "{us} us: {latency:?}");
        }
        assert_eq!(latency.count, 10_000);
    }
}
