//! How long fake work takes on this machine, to choose `--mean` by.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::fakework::FakeWork;

/// Time that a measurement should take.
const LONG_ENOUGH: Duration = Duration::from_millis(200);
/// Measurements, of which the median counts.
const ROUNDS: usize = 5;

/// Measures `work`, and says how long a request without iterations takes, an iteration,
/// and how many iterations make a microsecond.
pub fn run(work: &FakeWork) -> String {
    // Each from another flow, so that a flow's state is not always in the cache.
    let request = nanos_each(|n| (0..n).for_each(|i| work.work(0, flow(i))));
    let iteration = nanos_each(|n| work.work(n, 0));
    let mut text = String::new();
    let _ = writeln!(text, "Rate = {iteration:.3} ns/iteration");
    let _ = writeln!(text, "{:.1} iterations take 1 us", 1000.0 / iteration);
    let _ = writeln!(text, "a request without iterations takes {request:.1} ns");
    text
}

/// A hash that is another one each time.
fn flow(i: u64) -> u32 {
    const GOLDEN: u32 = 0x9e37_79b9;
    u32::try_from(i & u64::from(u32::MAX))
        .unwrap_or_default()
        .wrapping_mul(GOLDEN)
}

/// Nanoseconds for one of the `n` that `f` is asked for.
fn nanos_each(f: impl Fn(u64)) -> f64 {
    let timed = |n| {
        let start = Instant::now();
        f(n);
        start.elapsed()
    };
    let mut n = 1;
    // Doubled until it takes long; this also warms the memory.
    while timed(n) < LONG_ENOUGH {
        n *= 2;
    }
    let mut each: Vec<f64> = (0..ROUNDS)
        .map(|_| timed(n).as_nanos() as f64 / n as f64)
        .collect();
    each.sort_by(f64::total_cmp);
    each[ROUNDS / 2]
}
