//! The two questions, and where affinity pays: pure functions of simulated cells.

use std::fmt::Write as _;

use super::claims::NOTICEABLE;
use super::page::{short, with_spread};
use crate::simulated::{BASE, Cell, Gain, find, p99_us};

/// The most that affinity could give at the paper's loads: nothing of a flow to be fetched.
pub(crate) struct Bound {
    /// Packets a second.
    pub(crate) rate: f64,
    /// p99 without any state, beside modulo with it.
    pub(crate) p99: Option<Gain>,
    /// The mean, likewise.
    pub(crate) mean: Option<Gain>,
    /// Seconds from one packet of a flow to its next, in the mean.
    pub(crate) seconds_between: f64,
    /// State found in the core's own caches, %, by policy.
    pub(crate) private_percent: Vec<(String, f64)>,
}

/// The bound at each load that was run both with state and without.
pub(crate) fn bounds(with: &[Cell], without: &[Cell], flows: u32) -> Vec<Bound> {
    without
        .iter()
        .filter_map(|cell| {
            let base = find(with, BASE, cell.x)?;
            let private = with.iter().filter(|c| c.x == cell.x);
            Some(Bound {
                rate: cell.x,
                p99: Gain::of(cell, base, p99_us),
                mean: Gain::of(cell, base, |p| p.latency.mean_ns),
                seconds_between: f64::from(flows) / cell.x,
                private_percent: private
                    .filter_map(|c| Some((c.policy.clone(), c.private_percent()?.middle)))
                    .collect(),
            })
        })
        .collect()
}

/// In words: can the paper's gain come from affinity?
pub(crate) fn answer_bound(bounds: &[Bound]) -> String {
    let largest = bounds
        .iter()
        .filter_map(|b| Some((b, b.p99?)))
        .min_by(|a, b| a.1.percent.middle.total_cmp(&b.1.percent.middle));
    let Some((bound, p99)) = largest else {
        return "No load was run both with state and without.".to_owned();
    };
    let most_private = bounds
        .iter()
        .flat_map(|b| &b.private_percent)
        .map(|(_, percent)| *percent)
        .fold(0.0, f64::max);
    let possible = p99.less() && p99.percent.middle <= -NOTICEABLE;
    let mut text = String::from(if possible && most_private >= 1.0 {
        "**Yes, some of it.**"
    } else {
        "**No.**"
    });
    let _ = write!(
        text,
        " A flow's packets come {:.0} s apart at {:.1} thousand packets a second. Of all touches of a flow's state, under \
         any policy, at most {most_private:.3} % found it in the core's own caches. If a flow had no state at all, p99 would \
         change by {:+.2} % ({:+.2} to {:+.2}): no steering can give more.",
        bound.seconds_between,
        bound.rate / 1000.0,
        p99.percent.middle,
        p99.percent.least,
        p99.percent.greatest,
    );
    text
}

/// A row of a table that compares policies at one `x`: what moved, and what came of it.
pub(crate) fn compared(cells: &[Cell], policies: &[&str], x: f64) -> Vec<String> {
    let mut row = Vec::new();
    if let Some(base) = find(cells, BASE, x) {
        row.push(short(base.grants_per_second(), 0));
        row.push(short(base.changed_percent(), 1));
        row.push(short(base.p99_us(), 1));
        for policy in policies.iter().filter(|p| **p != BASE) {
            let cell = find(cells, policy, x);
            row.push(short(cell.and_then(Cell::changed_percent), 1));
            let p99 = cell.and_then(|c| Gain::of(c, base, p99_us));
            row.push(with_spread(p99.map(|g| g.percent), 1));
            let work = cell.and_then(|c| Gain::of(c, base, |p| p.time.working()));
            row.push(with_spread(work.map(|g| g.percent), 1));
        }
    }
    row
}

/// A point of the map: does `policy` give less than the base?
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spot {
    /// What is varied.
    pub(crate) x: f64,
    /// p99 beside the base.
    pub(crate) p99: Gain,
    /// Cores that work beside the base.
    pub(crate) work: Gain,
}

/// The map of one policy.
pub(crate) fn spots(cells: &[Cell], policy: &str) -> Vec<Spot> {
    cells
        .iter()
        .filter(|c| c.policy == policy)
        .filter_map(|cell| {
            let base = find(cells, BASE, cell.x)?;
            Some(Spot {
                x: cell.x,
                p99: Gain::of(cell, base, p99_us)?,
                work: Gain::of(cell, base, |p| p.time.working())?,
            })
        })
        .collect()
}

/// In words: does smarter steering matter at these rates of core changes?
pub(crate) fn answer_pace(cells: &[Cell]) -> String {
    let mut text = String::new();
    let (mut better, mut worse) = (0, 0);
    for policy in ["kthread-table", "sticky"] {
        let spots = spots(cells, policy);
        let tail = |wanted: fn(&Gain) -> bool| spots.iter().filter(|s| wanted(&s.p99)).count();
        let (less, more) = (tail(clearly_less), tail(clearly_more));
        let work = spots.iter().filter(|s| clearly_less(&s.work)).count();
        better += less + work;
        worse += more;
        let range = |f: &dyn Fn(&Spot) -> f64| {
            let values: Vec<f64> = spots.iter().map(f).collect();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            format!("{least:+.1} to {most:+.1} %")
        };
        let _ = write!(
            text,
            "Under {policy} p99 differs from modulo's by {}, clearly better at {less} and clearly worse at {more} of {} places; \
             the work of cores differs by {}, clearly less at {work}; the busiest kthread got up to {} times the mean of packets \
             (modulo: {}). ",
            range(&|s| s.p99.percent.middle),
            spots.len(),
            range(&|s| s.work.percent.middle),
            imbalance(cells, policy),
            imbalance(cells, BASE),
        );
    }
    let verdict = match (better, worse) {
        (0, 0) => "**The remark holds here**: no difference is clear. ",
        (_, 0) => "**The remark does not hold here**: smarter steering is clearly better. ",
        (0, _) => {
            "**The remark holds here, and more**: smarter steering is nowhere clearly better, and clearly worse in places. "
        }
        _ => {
            "**The remark does not hold here**: smarter steering matters, for better and for worse. "
        }
    };
    format!("{verdict}{}", text.trim_end())
}

/// Every seed says less, and it is worth noticing.
pub(crate) fn clearly_less(gain: &Gain) -> bool {
    gain.less() && gain.percent.middle <= -NOTICEABLE
}

/// Every seed says more, and it is worth noticing.
pub(crate) fn clearly_more(gain: &Gain) -> bool {
    gain.more() && gain.percent.middle >= NOTICEABLE
}

/// The greatest share of packets that one kthread got in an interval, over the mean.
fn imbalance(cells: &[Cell], policy: &str) -> String {
    let reports = cells
        .iter()
        .filter(|c| c.policy == policy)
        .flat_map(|c| &c.reports);
    let greatest = reports.map(|r| r.procs[0].moves.imbalance_max_milli).max();
    greatest.map_or("-".to_owned(), |milli| {
        format!("{:.2}", milli as f64 / 1000.0)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use calisto_sim::{Latency, ProcReport, Report, Time, Touches};

    use super::*;

    /// A cell whose seeds had these 99th percentiles, in nanoseconds.
    pub(crate) fn cell(policy: &str, x: f64, p99_ns: &[u64]) -> Cell {
        let report = |&p99_ns| Report {
            name: String::new(),
            policy: policy.to_owned(),
            seed: 1,
            seconds: 1.0,
            packets: 100,
            dispatcher_busy: 0.0,
            nic_drops: 0,
            longest_idle_while_waiting_ns: 0,
            procs: vec![ProcReport {
                latency: Latency {
                    p99_ns,
                    mean_ns: p99_ns as f64 / 4.0,
                    ..Latency::default()
                },
                time: Time {
                    service: 2.0,
                    ..Time::default()
                },
                touches: Touches {
                    private: 0,
                    memory: 100,
                    ..Touches::default()
                },
                ..ProcReport::default()
            }],
        };
        Cell {
            policy: policy.to_owned(),
            x,
            reports: p99_ns.iter().map(report).collect(),
        }
    }

    #[test]
    fn without_private_state_no_gain_comes_from_affinity() {
        let with = [
            cell("modulo", 1e4, &[100_000, 100_000]),
            cell("sticky", 1e4, &[90_000, 90_000]),
        ];
        let without = [cell("modulo", 1e4, &[97_000, 98_000])];
        let bounds = bounds(&with, &without, 700_000);
        let answer = answer_bound(&bounds);
        assert!(answer.starts_with("**No.**"), "{answer}");
        assert!(answer.contains("70 s apart"), "{answer}");
        assert!(answer.contains("-3.00 % (-3.00 to -2.00)"), "{answer}");
    }

    #[test]
    fn private_state_that_is_worth_something_can_give_a_gain() {
        let mut with = [cell("modulo", 1e4, &[100_000, 100_000])];
        for report in &mut with[0].reports {
            report.procs[0].touches.private = 50;
        }
        let without = [cell("modulo", 1e4, &[80_000, 81_000])];
        let answer = answer_bound(&bounds(&with, &without, 10_000));
        assert!(answer.starts_with("**Yes"), "{answer}");
    }

    #[test]
    fn a_spot_is_a_difference_to_the_base() {
        let cells = [
            cell("modulo", 1.0, &[100_000, 100_000]),
            cell("sticky", 1.0, &[50_000, 75_000]),
            cell("sticky", 2.0, &[1, 1]),
        ];
        let spots = spots(&cells, "sticky");
        assert_eq!(spots.len(), 1);
        assert_eq!(spots[0].p99.percent.least, -50.0);
        assert_eq!(spots[0].work.percent.middle, 0.0);
        let text = answer_pace(&cells);
        assert!(
            text.contains("clearly better at 1 and clearly worse at 0 of 1"),
            "{text}"
        );
        assert!(
            text.starts_with(
                "**The remark does not hold here**: smarter steering is clearly better"
            ),
            "{text}"
        );
    }

    #[test]
    fn the_remark_holds_where_no_difference_is_clear() {
        let same = [
            cell("modulo", 1.0, &[100_000, 100_000]),
            cell("sticky", 1.0, &[99_900, 100_900]),
        ];
        assert!(answer_pace(&same).starts_with("**The remark holds here**"));
        let worse = [
            cell("modulo", 1.0, &[100_000, 100_000]),
            cell("sticky", 1.0, &[120_000, 130_000]),
        ];
        assert!(answer_pace(&worse).starts_with("**The remark holds here, and more**"));
    }

    #[test]
    fn less_work_counts_as_better_and_more_does_not() {
        let mut cells = [
            cell("modulo", 1.0, &[1000, 1000]),
            cell("sticky", 1.0, &[1000, 1000]),
        ];
        for report in &mut cells[1].reports {
            report.procs[0].time.service = 1.5;
        }
        let text = answer_pace(&cells);
        assert!(
            text.contains("-25.0 to -25.0 %, clearly less at 1"),
            "{text}"
        );
        assert!(text.starts_with("**The remark does not hold"), "{text}");
        for report in &mut cells[1].reports {
            report.procs[0].time.service = 2.5;
        }
        assert!(answer_pace(&cells).contains("clearly less at 0"));
    }
}
