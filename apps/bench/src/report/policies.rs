//! Policies beside each other, each measured in turn within a round.
//!
//! The *baseline* is `modulo` where it was measured, else the first policy.

use std::fmt::Write;

use super::{Figure, Run, Spread};

const BASELINE: &str = "modulo";

/// What is added to the table when contenders are policies: the ratios to the baseline,
/// round by round, and what became of flows where the sink watched them.
pub(super) fn append(out: &mut String, cases: &[&str], contenders: &[&str], runs: &[Run]) {
    let Some(first) = contenders.first() else {
        return;
    };
    let baseline = contenders
        .iter()
        .find(|who| **who == BASELINE)
        .unwrap_or(first);
    ratios(out, cases, contenders, baseline, runs);
    flows(out, cases, contenders, runs);
}

fn of<'a>(runs: &'a [Run], case: &str, who: &str) -> impl Iterator<Item = &'a Run> {
    runs.iter().filter(move |r| r.case == case && r.who == who)
}

fn ratios(out: &mut String, cases: &[&str], contenders: &[&str], baseline: &str, runs: &[Run]) {
    let _ = write!(
        out,
        "\nown ns/packet as a ratio to {baseline}'s in the same round:\n\n\
         | case | policy | by round | median | least - greatest | quiet pairs | median of quiet |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for case in cases {
        for who in contenders.iter().filter(|who| **who != baseline) {
            let pairs: Vec<(&Run, &Run)> = of(runs, case, who)
                .filter_map(|run| {
                    let base = of(runs, case, baseline).find(|b| b.round == run.round)?;
                    (base.own_ns() > 0.0).then_some((run, base))
                })
                .collect();
            let ratio = |(run, base): &(&Run, &Run)| run.own_ns() / base.own_ns();
            let all: Vec<f64> = pairs.iter().map(ratio).collect();
            let quiet = pairs.iter().filter(|(a, b)| a.is_quiet() && b.is_quiet());
            let quiet: Vec<f64> = quiet.map(ratio).collect();
            let by_round: Vec<String> = all.iter().map(|r| format!("{r:.2}")).collect();
            let Some(Spread { min, median, max }) = Spread::of(all) else {
                continue;
            };
            let (count, quiet) = (quiet.len(), Spread::of(quiet));
            let quiet = quiet.map_or("-".into(), |s| format!("{:.3}", s.median));
            let _ = writeln!(
                out,
                "| {case} | {who} | {} | {median:.3} | {min:.3} - {max:.3} | {count} | {quiet} |",
                by_round.join(" ")
            );
        }
    }
}

fn flows(out: &mut String, cases: &[&str], contenders: &[&str], runs: &[Run]) {
    let watched: Vec<&&str> = cases
        .iter()
        .filter(|case| runs.iter().any(|r| r.case == **case && r.sink.flows > 0))
        .collect();
    if watched.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "\nflows, as the runtime saw them, in percent of its packets:\n\n\
         | case | policy | changed core | changed kthread | overtaken | parks | kthreads active |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for case in watched {
        for who in contenders {
            let column = |digits: usize, f: Figure<'_>| {
                let spread = Spread::of(of(runs, case, who).map(f).collect());
                spread.map(|s| s.show(digits))
            };
            let Some(core) = column(2, &|r| r.percent(r.sink.moved_core)) else {
                continue;
            };
            #[allow(clippy::cast_precision_loss, reason = "a figure to be read")]
            let rest = [
                column(2, &|r| r.percent(r.sink.moved_kthread)),
                column(3, &|r| r.percent(r.sink.overtaken)),
                column(0, &|r| r.sink.parks as f64),
                column(1, &|r| r.sink.mean_active),
            ];
            let rest: Vec<String> = rest.into_iter().flatten().collect();
            let _ = writeln!(out, "| {case} | {who} | {core} | {} |", rest.join(" | "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{line, runs};
    use crate::report::table;

    #[test]
    fn ratios_are_to_modulo_in_the_same_round_whatever_the_order() {
        let t = table(&runs(&[
            line(1, "flow-table", 30.0),
            line(1, "modulo", 60.0),
            line(2, "modulo", 100.0),
            line(2, "flow-table", 90.0),
            line(3, "modulo", 50.0),
            line(3, "flow-table", 60.0),
            // No modulo in this round: no pair.
            line(4, "flow-table", 10.0),
        ]));
        // 0.5, 0.9 and 1.2.
        let row = "| echo | flow-table | 0.50 0.90 1.20 | 0.900 | 0.500 - 1.200 | 3 | 0.900 |";
        assert!(t.contains(row), "{t}");
        assert!(t.contains("ratio to modulo's"), "{t}");
        assert!(t.contains("| echo | modulo | 60.0 (50.0-100.0) |"), "{t}");
        assert!(!t.contains("ours / other"), "{t}");
        assert!(!t.contains("as the runtime saw them"), "{t}");
    }

    #[test]
    fn a_disturbed_run_spoils_its_round_only() {
        let t = table(&runs(&[
            line(1, "modulo", 100.0).replace("30.0,\"sent", "300.0,\"sent"),
            line(1, "buckets", 200.0),
            line(2, "modulo", 100.0),
            line(2, "buckets", 110.0),
        ]));
        let row = "| echo | buckets | 2.00 1.10 | 1.550 | 1.100 - 2.000 | 1 | 1.100 |";
        assert!(t.contains(row), "{t}");
    }

    #[test]
    fn without_modulo_the_first_policy_is_the_baseline() {
        let t = table(&runs(&[line(1, "buckets", 50.0), line(1, "hybrid", 40.0)]));
        assert!(t.contains("ratio to buckets's"), "{t}");
        assert!(t.contains("| echo | hybrid | 0.80 |"), "{t}");
    }

    #[test]
    fn moved_flows_are_a_share_of_the_packets_that_the_runtime_took() {
        let seen = "{\"bad\":0,\"received\":1000,\"flows\":7,\"moved_core\":250,\
                    \"moved_kthread\":300,\"overtaken\":1,\"parks\":12,\"mean_active\":3.25}";
        let l = line(1, "modulo", 50.0).replace("{\"bad\":0}", seen);
        let t = table(&runs(&[l]));
        let row = "| echo | modulo | 25.00 (25.00-25.00) | 30.00 (30.00-30.00) \
                   | 0.100 (0.100-0.100) | 12 (12-12) | 3.2 (3.2-3.2) |";
        assert!(t.contains(row), "{t}");
    }
}
