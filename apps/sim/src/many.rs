//! Many runs at once, on all CPUs. A run is a function of its scenario, so on how many threads
//! they are, and in which order, changes no report.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::engine::run;
use crate::error::SimError;
use crate::report::Report;
use crate::scenario::Scenario;

/// Simulates scenarios on so many threads (`None`: as there are CPUs for us), and gives their
/// reports in their order. Each run needs its own memory: 20 bytes a flow, and steering's table.
///
/// Before each run `stop` is asked; once it says true, none begins any more, and those that did
/// not begin are [`SimError::Stopped`].
pub fn run_all(
    scenarios: &[Scenario],
    threads: Option<NonZero<usize>>,
    stop: impl Fn() -> bool + Sync,
) -> Vec<Result<Report, SimError>> {
    let threads = threads
        .or_else(|| thread::available_parallelism().ok())
        .map_or(1, NonZero::get)
        .min(scenarios.len());
    // Relaxed: the number is all that threads tell each other.
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(scenario) = scenarios.get(at) else {
                return done;
            };
            let result = if stop() {
                Err(SimError::Stopped)
            } else {
                run(scenario)
            };
            done.push((at, result));
        }
    };
    let mut all = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let done = workers.into_iter().flat_map(|worker| {
            let done = worker.join();
            done.unwrap_or_else(|panic| resume_unwind(panic))
        });
        done.collect::<Vec<_>>()
    });
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds 1 to 7, of which the fourth scenario cannot be.
    fn scenarios() -> Vec<Scenario> {
        let scenario = |seed| Scenario {
            seed,
            packets: if seed == 3 { 3000 } else { 300 },
            cores: if seed == 4 { 0 } else { 4 },
            ..Scenario::default()
        };
        (1..8).map(scenario).collect()
    }

    #[test]
    fn reports_come_in_their_order_whatever_the_threads() {
        let scenarios = scenarios();
        for threads in [1, 3, 100] {
            let all = run_all(&scenarios, NonZero::new(threads), || false);
            assert_eq!(all.len(), scenarios.len());
            for (scenario, result) in scenarios.iter().zip(all) {
                match (run(scenario), result) {
                    (Ok(alone), Ok(together)) => assert_eq!(
                        serde_json::to_string(&alone).unwrap(),
                        serde_json::to_string(&together).unwrap()
                    ),
                    (Err(alone), Err(together)) => {
                        assert_eq!(scenario.seed, 4);
                        assert_eq!(alone.to_string(), together.to_string());
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(run_all(&[], None, || false).is_empty());
    }

    #[test]
    fn no_run_begins_once_it_is_to_stop() {
        let asked = AtomicUsize::new(0);
        let stop = || asked.fetch_add(1, Ordering::Relaxed) >= 2;
        let all = run_all(&scenarios(), NonZero::new(1), stop);
        assert!(all[0].is_ok() && all[1].is_ok());
        assert!(all[2..].iter().all(|r| matches!(r, Err(SimError::Stopped))));
    }
}
