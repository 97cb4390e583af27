//! When requests are due: decided before the first one is sent.
//!
//! Arrivals are Poisson: independent exponential gaps, at a phase's rate. A run is a
//! sequence of phases, such as upstream's ramp-up (steps of 100 ms) and the load that is
//! measured. One stream of arrivals is drawn and each request given a flow; the requests
//! of a lane are those of its flows, a Poisson stream again.

use std::time::Duration;

use rand::SeedableRng;
use rand_distr::{Distribution as _, Exp1};
use rand_pcg::Pcg64Mcg;

use crate::distribution::Distribution;
use crate::flows::Flows;
use crate::num::{nanos, whole};

/// Time from the start of a run until its first phase: threads get going.
pub const LEAD: Duration = Duration::from_millis(100);
/// The most requests of a run: 40 bytes each, so 2 GB.
pub const MAX_REQUESTS: u64 = 50_000_000;
/// A step of the ramp-up.
const STEP: Duration = Duration::from_millis(100);

/// A load held for some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    /// Requests a second.
    pub rate: f64,
    /// How long.
    pub length: Duration,
    /// True if there is to be a row for it.
    pub measured: bool,
}

/// A request that will be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Nanoseconds from the start of the run.
    pub due_ns: u64,
    /// Iterations of work.
    pub work: u64,
    /// Its flow.
    pub flow: u32,
}

/// `rate` requests a second for `length`, after a ramp-up.
pub fn classic(rate: f64, length: Duration, ramp_up: Duration) -> Vec<Phase> {
    let steps = ramp_steps(ramp_up);
    let mut phases: Vec<Phase> = (1..steps)
        .map(|step| Phase {
            rate: rate * step as f64 / steps as f64,
            length: STEP,
            measured: false,
        })
        .collect();
    phases.push(Phase {
        rate,
        length,
        measured: true,
    });
    phases
}

/// Steps of a ramp-up, with the load that it ends in.
pub fn ramp_steps(ramp_up: Duration) -> u64 {
    nanos(ramp_up) / nanos(STEP)
}

/// Parses upstream's `--loadshift`: `RATE:MICROSECONDS,...`, each measured.
///
/// # Errors
/// What is wrong with it, in words.
pub fn load_shift(spec: &str) -> Result<Vec<Phase>, String> {
    let phase = |step: &str| {
        let (rate, micros) = step
            .split_once(':')
            .ok_or(format!("{step:?} is not RATE:MICROSECONDS"))?;
        let rate: u64 = rate
            .parse()
            .ok()
            .filter(|&rate| rate > 0)
            .ok_or(format!("{rate:?} is no number of requests a second"))?;
        let micros: u64 = micros
            .parse()
            .ok()
            .filter(|&micros| micros > 0)
            .ok_or(format!("{micros:?} is no number of microseconds"))?;
        Ok(Phase {
            rate: rate as f64,
            length: Duration::from_micros(micros),
            measured: true,
        })
    };
    spec.split(',').map(phase).collect()
}

/// Requests that the phases will have, about.
pub fn expected(phases: &[Phase]) -> u64 {
    whole(phases.iter().map(|p| p.rate * p.length.as_secs_f64()).sum())
}

/// The times between which each phase's requests are due, in nanoseconds from the start.
pub fn bounds(phases: &[Phase]) -> Vec<std::ops::Range<u64>> {
    let mut start = nanos(LEAD);
    phases
        .iter()
        .map(|phase| {
            let range = start..start.saturating_add(nanos(phase.length));
            start = range.end;
            range
        })
        .collect()
}

/// Draws the requests of a run, in the order in which they are due.
pub fn draw(phases: &[Phase], service: Distribution, flows: &Flows, seed: u64) -> Vec<Request> {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    // A twentieth more than expected: the vector is rarely moved.
    let room = expected(phases) + expected(phases) / 20 + 16;
    let mut requests = Vec::with_capacity(crate::num::size(room.min(MAX_REQUESTS)));
    for (phase, range) in phases.iter().zip(bounds(phases)) {
        let mean_gap = 1e9 / phase.rate;
        // Exponential gaps have no memory: each phase may begin anew.
        let mut at = range.start as f64;
        loop {
            let gap: f64 = Exp1.sample(&mut rng);
            at += gap * mean_gap;
            let due_ns = whole(at);
            if due_ns >= range.end {
                break;
            }
            requests.push(Request {
                due_ns,
                work: service.sample(&mut rng),
                flow: flows.pick(&mut rng),
            });
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Shape;
    use proptest::prelude::*;

    fn zero() -> Distribution {
        Distribution::new(Shape::Zero, 0.0)
    }

    fn flows(n: u32) -> Flows {
        Flows::new(n, 1, true, None).expect("good")
    }

    fn mean_and_variance(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let square = |v: &f64| (v - mean).powi(2);
        (
            mean,
            values.iter().map(square).sum::<f64>() / values.len() as f64,
        )
    }

    #[test]
    fn arrivals_are_poisson() {
        let phases = classic(100_000.0, Duration::from_secs(4), Duration::ZERO);
        let requests = draw(&phases, zero(), &flows(1), 5);
        // Counts in windows of 1 ms: mean and variance are the same, 100.
        let mut counts = vec![0.0; 4000];
        for r in &requests {
            counts[((r.due_ns - nanos(LEAD)) / 1_000_000) as usize] += 1.0;
        }
        let (mean, variance) = mean_and_variance(&counts);
        assert!((mean - 100.0).abs() < 1.0, "{mean}");
        assert!((variance - 100.0).abs() < 10.0, "{variance}");
        // Gaps: the deviation of an exponential is its mean, 10 us.
        let gaps: Vec<f64> = requests
            .windows(2)
            .map(|w| (w[1].due_ns - w[0].due_ns) as f64)
            .collect();
        let (mean, variance) = mean_and_variance(&gaps);
        assert!((mean / 10_000.0 - 1.0).abs() < 0.01, "{mean}");
        assert!(
            (variance.sqrt() / 10_000.0 - 1.0).abs() < 0.01,
            "{variance}"
        );
    }

    #[test]
    fn the_share_of_a_flow_is_poisson_too() {
        let phases = classic(100_000.0, Duration::from_secs(4), Duration::ZERO);
        let requests = draw(&phases, zero(), &flows(4), 6);
        let mut counts = vec![0.0; 4000];
        for r in requests.iter().filter(|r| r.flow == 2) {
            counts[((r.due_ns - nanos(LEAD)) / 1_000_000) as usize] += 1.0;
        }
        let (mean, variance) = mean_and_variance(&counts);
        assert!((mean - 25.0).abs() < 0.5, "{mean}");
        assert!((variance - 25.0).abs() < 2.5, "{variance}");
    }

    #[test]
    fn a_ramp_climbs_to_the_load() {
        let phases = classic(1000.0, Duration::from_secs(1), Duration::from_secs(4));
        assert_eq!(phases.len(), 40);
        assert!(phases.windows(2).all(|w| w[0].rate < w[1].rate));
        assert_eq!(phases.iter().filter(|p| p.measured).count(), 1);
        assert_eq!(expected(&phases), 1000 + 1000 * 39 / 2 / 10);
    }

    #[test]
    fn load_shifts_are_upstreams() {
        let phases = load_shift("1000:50,2000:100").expect("good");
        assert_eq!(phases.len(), 2);
        assert_eq!(phases[1].length, Duration::from_micros(100));
        for wrong in ["", "1000", "0:5", "5:0", "a:5", "5:a", "1:1,", "1:1:1"] {
            load_shift(wrong).expect_err(wrong);
        }
    }

    proptest! {
        #[test]
        fn requests_are_sorted_and_inside(
            seed: u64, rate in 1.0..1e6, ms in 1u64..100, ramp in 0u64..3
        ) {
            let phases = classic(rate, Duration::from_millis(ms), Duration::from_millis(ramp * 100));
            let requests = draw(&phases, zero(), &flows(7), seed);
            let end = bounds(&phases).last().expect("one phase").end;
            prop_assert!(requests.is_sorted_by_key(|r| r.due_ns));
            prop_assert!(requests.iter().all(|r| r.due_ns >= nanos(LEAD) && r.due_ns < end));
            prop_assert_eq!(&requests, &draw(&phases, zero(), &flows(7), seed));
        }
    }
}
