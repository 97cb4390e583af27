//! The paper's claims, and whether they come out: pure functions of simulated cells.
//!
//! A difference counts only if every seed has its sign ([`Gain::less`],
//! [`Gain::more`]) and its median is at least [`NOTICEABLE`]; the rest is chance.

use std::fmt;

use crate::simulated::{BASE, Cell, Gain, find, p99_us};

/// Differences of less than this, %, are not called differences.
pub(crate) const NOTICEABLE: f64 = 1.0;
/// The paper's gain, %, is reached from here on.
pub(crate) const PAPERS_GAIN: f64 = 8.0;

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As the paper says.
    Holds,
    /// In the paper's direction, but less.
    Partly,
    /// Not seen.
    No,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Holds => "**holds**",
            Verdict::Partly => "**holds in part**",
            Verdict::No => "**does not hold**",
        })
    }
}

/// A claim and its fate.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    /// What the paper says.
    pub(crate) says: &'static str,
    /// Whether it does.
    pub(crate) verdict: Verdict,
    /// By how much.
    pub(crate) evidence: String,
    /// Why not, where it does not.
    pub(crate) reason: String,
}

/// Where a policy's p99 differs from the base's.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Difference {
    x: f64,
    gain: Gain,
}

/// The policy's difference of p99 to the base at each load of `xs`.
fn differences(cells: &[Cell], policy: &str, xs: impl Fn(f64) -> bool) -> Vec<Difference> {
    cells
        .iter()
        .filter(|cell| cell.policy == policy && xs(cell.x))
        .filter_map(|cell| {
            let base = find(cells, BASE, cell.x)?;
            let gain = Gain::of(cell, base, p99_us)?;
            Some(Difference { x: cell.x, gain })
        })
        .collect()
}

fn lowest(differences: &[Difference]) -> Option<Difference> {
    let key = |d: &&Difference| d.gain.percent.middle;
    differences
        .iter()
        .min_by(|a, b| key(a).total_cmp(&key(b)))
        .copied()
}

fn highest(differences: &[Difference]) -> Option<Difference> {
    let key = |d: &&Difference| d.gain.percent.middle;
    differences
        .iter()
        .max_by(|a, b| key(a).total_cmp(&key(b)))
        .copied()
}

fn described(difference: Option<Difference>) -> String {
    match difference {
        None => "nothing was run".to_owned(),
        Some(Difference { x, gain }) => {
            let p = gain.percent;
            format!(
                "{:+.2} % ({:+.2} to {:+.2}) at {:.1} thousand packets a second",
                p.middle,
                p.least,
                p.greatest,
                x / 1000.0
            )
        }
    }
}

/// "p99 is up to 10 % lower than Shenango's", Figure 7. It holds if p99 is clearly lower at half
/// of the loads at least, and by nearly as much at one.
pub(crate) fn lower_tail(figure_7: &[Cell]) -> Claim {
    let differences = differences(figure_7, "paper-strict", |_| true);
    let clear: Vec<Difference> = differences
        .iter()
        .filter(|d| d.gain.less() && d.gain.percent.middle <= -NOTICEABLE)
        .copied()
        .collect();
    let best = lowest(&clear);
    let verdict = match best {
        None => Verdict::No,
        Some(d)
            if d.gain.percent.middle <= -PAPERS_GAIN && 2 * clear.len() >= differences.len() =>
        {
            Verdict::Holds
        }
        Some(_) => Verdict::Partly,
    };
    Claim {
        reason: match verdict {
            Verdict::Holds => String::new(),
            _ => "what affinity could give at these loads is in the next section".to_owned(),
        },
        says: "From 10 to 14 thousand packets a second the 99th percentile is up to 10 % below Shenango's (Figure 7)",
        verdict,
        evidence: format!(
            "p99 under paper-strict beside modulo: lowest {}, highest {}; clear (all seeds, at least {NOTICEABLE} %) \
             at {} of {} loads",
            described(lowest(&differences)),
            described(highest(&differences)),
            clear.len(),
            differences.len()
        ),
    }
}

/// "Below 5 thousand packets a second it is slower than Shenango", Figure 6.
/// `insert_ns` is what a new flow's entry costs.
pub(crate) fn slower_when_idle(figure_6: &[Cell], insert_ns: f64) -> Claim {
    let differences = differences(figure_6, "paper-strict", |x| x <= 5_000.0);
    let clear = differences
        .iter()
        .filter(|d| d.gain.more() && d.gain.percent.middle >= NOTICEABLE)
        .count();
    let verdict = match clear {
        0 => Verdict::No,
        n if n == differences.len() => Verdict::Holds,
        _ => Verdict::Partly,
    };
    let base = figure_6.iter().find(|c| c.policy == BASE);
    let p99_ns = base
        .and_then(Cell::p99_us)
        .map_or(f64::NAN, |m| 1000.0 * m.middle);
    Claim {
        says: "Up to 5 thousand packets a second it is slower than Shenango, for the table's sake (Figure 6)",
        verdict,
        reason: match verdict {
            Verdict::Holds => String::new(),
            _ => format!(
                "a new flow's entry costs {insert_ns:.0} ns in this table, {:.2} % of p99; the paper's was rte_hash, with a lookup and an insertion",
                100.0 * insert_ns / p99_ns
            ),
        },
        evidence: format!(
            "p99 under paper-strict beside modulo: highest {}; clear at {clear} of {} loads",
            described(highest(&differences)),
            differences.len()
        ),
    }
}

/// "Packets of a flow stay on their core."
pub(crate) fn flows_stay(figure_6: &[Cell]) -> Claim {
    let shares = |policy: &str| {
        let cells = figure_6.iter().filter(|c| c.policy == policy);
        let shares: Vec<f64> = cells
            .filter_map(|c| c.changed_percent())
            .map(|m| m.middle)
            .collect();
        (
            shares.iter().copied().fold(f64::INFINITY, f64::min),
            shares.iter().copied().fold(0.0, f64::max),
        )
    };
    let (base, strict) = (shares(BASE), shares("paper-strict"));
    let verdict = if strict.0 > strict.1 || base.0 > base.1 {
        // Nothing was run.
        Verdict::No
    } else if strict.1 * 2.0 < base.0 {
        Verdict::Holds
    } else if strict.1 < base.1 {
        Verdict::Partly
    } else {
        Verdict::No
    };
    Claim {
        reason: String::new(),
        says: "Packets of one flow stay on one core",
        verdict,
        evidence: format!(
            "packets of known flows that changed core: modulo {:.2} to {:.2} %, paper-strict {:.2} to {:.2} %",
            base.0, base.1, strict.0, strict.1
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::questions::tests::cell;

    #[test]
    fn a_gain_must_be_clear_in_every_seed() {
        let cells = [
            cell("modulo", 1e4, &[100, 100, 100]),
            cell("paper-strict", 1e4, &[80, 85, 101]),
        ];
        assert_eq!(lower_tail(&cells).verdict, Verdict::No);
        let cells = [
            cell("modulo", 1e4, &[100_000, 100_000, 100_000]),
            cell("paper-strict", 1e4, &[96_000, 95_000, 97_000]),
        ];
        assert_eq!(lower_tail(&cells).verdict, Verdict::Partly);
        let cells = [
            cell("modulo", 1e4, &[100_000, 110_000]),
            cell("paper-strict", 1e4, &[90_000, 91_000]),
        ];
        let claim = lower_tail(&cells);
        assert_eq!(claim.verdict, Verdict::Holds);
        assert!(claim.evidence.contains("1 of 1 loads"));
    }

    #[test]
    fn a_loss_at_low_load_is_looked_for_up_to_5_thousand() {
        let cells = [
            cell("modulo", 4e3, &[100_000, 100_000]),
            cell("paper-strict", 4e3, &[104_000, 103_000]),
            cell("modulo", 5e3, &[100_000, 100_000]),
            cell("paper-strict", 5e3, &[100_000, 100_000]),
            cell("modulo", 8e3, &[100_000, 100_000]),
            cell("paper-strict", 8e3, &[150_000, 150_000]),
        ];
        let claim = slower_when_idle(&cells, 15.0);
        assert_eq!(claim.verdict, Verdict::Partly);
        assert!(
            claim.evidence.contains("1 of 2 loads"),
            "{}",
            claim.evidence
        );
        assert_eq!(slower_when_idle(&cells[2..], 15.0).verdict, Verdict::No);
        assert_eq!(slower_when_idle(&cells[..2], 15.0).verdict, Verdict::Holds);
    }

    #[test]
    fn one_load_of_many_is_not_the_papers_range() {
        let mut cells = Vec::new();
        for (x, p99) in [(1e4, 90_000), (1.1e4, 100_000), (1.2e4, 100_000)] {
            cells.push(cell("modulo", x, &[100_000, 100_000]));
            cells.push(cell("paper-strict", x, &[p99, p99]));
        }
        assert_eq!(lower_tail(&cells).verdict, Verdict::Partly);
    }

    /// A cell of which `changed` of 100 packets changed core.
    fn moving(policy: &str, changed: u64) -> Cell {
        let mut cell = cell(policy, 1e4, &[1, 1]);
        for report in &mut cell.reports {
            report.procs[0].moves.known = 100;
            report.procs[0].moves.changed_core = changed;
        }
        cell
    }

    #[test]
    fn flows_stay_if_far_fewer_change_core() {
        let verdict = |base, strict| {
            flows_stay(&[moving("modulo", base), moving("paper-strict", strict)]).verdict
        };
        assert_eq!(verdict(60, 1), Verdict::Holds);
        assert_eq!(verdict(60, 40), Verdict::Partly);
        assert_eq!(verdict(60, 70), Verdict::No);
        assert_eq!(flows_stay(&[]).verdict, Verdict::No);
    }
}
