//! The report's part on real runs.

use anyhow::Result;

use super::claims::{NOTICEABLE, PAPERS_GAIN};
use super::page::{Page, short, with_spread};
use crate::median::Median;
use crate::real::Real;
use crate::simulated::BASE;
use crate::summary::{self, Row};

/// Writes the sets that were run.
pub(crate) fn write(page: &mut Page, real: &Real) -> Result<()> {
    page.heading(2, "For real, on this machine");
    page.paragraph(format!(
        "{}. Ten virtual cores and kthreads share the CPUs, client and server are runtimes on the loopback port; latency is from \
         when a request was due. Medians of the rounds, with the least and the greatest.",
        real.machine
    ));
    if real.cpus <= 2 {
        // iokerneld gives the dispatcher a CPU of its own.
        page.paragraph(
            "All these virtual cores share one CPU, and so one cache: a flow's state is as near on one as on another. What follows \
             shows who moves flows, and that nothing else goes wrong; what affinity is worth cannot be seen on such a machine.",
        );
    }
    for runs in &real.runs {
        page.heading(3, &capital(&runs.title));
        if runs.rounds > 1 {
            page.paragraph(differences(&runs.rows));
            page.paragraph(noise(&runs.rows));
        } else {
            page.paragraph(
                "One round: there is no spread, and nothing can be said of differences.",
            );
        }
        for (kind, label, log, column) in [
            (
                "p99",
                "p99 latency, us",
                true,
                (|r| r.p99_us) as fn(&Row) -> _,
            ),
            ("changed", "packets that changed core, %", false, |r| {
                r.changed_percent
            }),
        ] {
            let plot = summary::chart(&runs.rows, &capital(&runs.title), label, log, column);
            page.picture(&format!("{}-{kind}", runs.name), &plot)?;
        }
        page.table(
            [
                "requests/s",
                "policy",
                "answered/s",
                "median, us",
                "p99, us",
                "changed core, %",
                "wakes/s",
                "lost",
            ],
            runs.rows.iter().map(|row| {
                vec![
                    format!("{:.0}", row.target_rps),
                    row.case.clone(),
                    short(row.achieved_rps, 0),
                    with_spread(row.p50_us, 0),
                    with_spread(row.p99_us, 0),
                    with_spread(row.changed_percent, 2),
                    short(row.wakes_per_second, 0),
                    row.lost.to_string(),
                ]
            }),
        );
    }
    Ok(())
}

/// In words: at how many loads a policy's p99 lies apart from modulo's, spreads and all.
fn differences(rows: &[Row]) -> String {
    let mut cases: Vec<&str> = rows.iter().map(|r| r.case.as_str()).collect();
    cases.dedup();
    let mut parts = Vec::new();
    for case in cases.into_iter().filter(|c| *c != BASE) {
        let (mut below, mut above, mut all) = (0, 0, 0);
        for row in rows.iter().filter(|r| r.case == case) {
            let base = rows
                .iter()
                .find(|r| r.case == BASE && r.target_rps == row.target_rps)
                .and_then(|r| r.p99_us);
            let (Some(base), Some(own)) = (base, row.p99_us) else {
                continue;
            };
            all += 1;
            let share = NOTICEABLE / 100.0;
            below += u32::from(own.greatest < base.least * (1.0 - share));
            above += u32::from(own.least > base.greatest * (1.0 + share));
        }
        parts.push(format!(
            "{case} below at {below} and above at {above} of {all} loads"
        ));
    }
    format!(
        "Where all rounds of a policy lie on one side of all rounds of modulo, p99: {}.",
        parts.join("; ")
    )
}

/// In words: how far rounds of one policy lie apart, at one load.
fn noise(rows: &[Row]) -> String {
    let apart = rows.iter().filter_map(|row| {
        let p99 = row.p99_us?;
        Some(100.0 * (p99.greatest - p99.least) / p99.middle)
    });
    Median::of(apart).map_or_else(String::new, |apart| {
        let more = if apart.middle >= PAPERS_GAIN {
            ": two single runs that differ by the paper's 10 % say nothing here"
        } else {
            ""
        };
        format!(
            "Rounds of one and the same policy at the same load differ in p99 by {:.0} % (median; {:.0} to {:.0}){more}.",
            apart.middle, apart.least, apart.greatest
        )
    })
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(case: &str, p99: [f64; 2]) -> Row {
        Row {
            case: case.to_owned(),
            target_rps: 1000.0,
            achieved_rps: None,
            p50_us: None,
            p99_us: Median::of(p99),
            p999_us: None,
            changed_percent: None,
            wakes_per_second: None,
            lost: 0,
        }
    }

    #[test]
    fn rounds_that_differ_by_the_papers_gain_are_told() {
        let text = noise(&[row("modulo", [100.0, 150.0])]);
        assert!(
            text.contains("50 %") && text.contains("say nothing here"),
            "{text}"
        );
        assert!(!noise(&[row("modulo", [100.0, 102.0])]).contains("say nothing here"));
    }

    #[test]
    fn only_spreads_that_do_not_touch_are_apart() {
        let rows = [
            row("modulo", [100.0, 120.0]),
            row("sticky", [80.0, 90.0]),
            row("buckets", [80.0, 110.0]),
            row("hybrid", [130.0, 140.0]),
        ];
        let text = differences(&rows);
        assert!(
            text.contains("sticky below at 1 and above at 0 of 1"),
            "{text}"
        );
        assert!(
            text.contains("buckets below at 0 and above at 0 of 1"),
            "{text}"
        );
        assert!(
            text.contains("hybrid below at 0 and above at 1 of 1"),
            "{text}"
        );
    }
}
