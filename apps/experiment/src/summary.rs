//! Many rounds of real runs made one: rows, a table, charts.

use std::fmt::Write as _;

use calisto_plot::{Chart, Series};

use crate::median::Median;
use crate::sweep::Sample;

/// One step of one case over all rounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// The case's name.
    pub(crate) case: String,
    /// Requests a second that were asked for.
    pub(crate) target_rps: f64,
    /// Requests a second that were answered.
    pub(crate) achieved_rps: Option<Median>,
    /// Median latency, us.
    pub(crate) p50_us: Option<Median>,
    /// 99th percentile, us.
    pub(crate) p99_us: Option<Median>,
    /// 99.9th percentile, us.
    pub(crate) p999_us: Option<Median>,
    /// Packets whose flow changed core, %.
    pub(crate) changed_percent: Option<Median>,
    /// Kthreads woken a second.
    pub(crate) wakes_per_second: Option<Median>,
    /// Requests that were lost or never sent, of all rounds.
    pub(crate) lost: u64,
}

/// The rows: cases in the order of their first sample, steps ascending.
pub(crate) fn rows(samples: &[Sample], seconds: u64) -> Vec<Row> {
    let mut keys: Vec<(&str, u32)> = Vec::new();
    for sample in samples {
        let key = (sample.case.as_str(), sample.step);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut cases: Vec<&str> = keys.iter().map(|key| key.0).collect();
    cases.dedup();
    keys.sort_by_key(|(case, step)| (cases.iter().position(|c| c == case), *step));
    keys.into_iter()
        .map(|(case, step)| {
            let rounds: Vec<&Sample> = samples
                .iter()
                .filter(|s| s.case == case && s.step == step)
                .collect();
            let median =
                |f: &dyn Fn(&Sample) -> Option<f64>| Median::of(rounds.iter().filter_map(|s| f(s)));
            Row {
                case: case.to_owned(),
                target_rps: rounds[0].latency.offered,
                achieved_rps: median(&|s| Some(s.latency.actual)),
                // Null: more requests were lost than the percentile leaves out.
                p50_us: median(&|s| s.latency.p50.or(Some(f64::INFINITY))),
                p99_us: median(&|s| s.latency.p99.or(Some(f64::INFINITY))),
                p999_us: median(&|s| s.latency.p999.or(Some(f64::INFINITY))),
                changed_percent: median(&|s| percent(s.moves.changed_core, s.moves.packets)),
                wakes_per_second: median(&|s| Some(s.moves.wakes as f64 / seconds as f64)),
                lost: rounds
                    .iter()
                    .map(|s| s.latency.dropped + s.latency.never_sent)
                    .sum(),
            }
        })
        .collect()
}

/// `None` of nothing.
fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
}

/// The rows for a terminal.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "policy                 load/s   answered/s   median us     p99 us   p99.9 us   changed core   wakes/s   lost\n",
    );
    let cell =
        |m: Option<Median>, digits: usize| m.map_or("-".to_owned(), |m| number(m.middle, digits));
    for row in rows {
        let _ = writeln!(
            text,
            "{:<20} {:>8.0} {:>12} {:>11} {:>10} {:>10} {:>12} % {:>9} {:>6}",
            row.case,
            row.target_rps,
            cell(row.achieved_rps, 0),
            cell(row.p50_us, 0),
            cell(row.p99_us, 0),
            cell(row.p999_us, 0),
            cell(row.changed_percent, 2),
            cell(row.wakes_per_second, 0),
            row.lost,
        );
    }
    text
}

/// A number with so many digits; a latency that is infinite because requests were lost, in words.
pub(crate) fn number(value: f64, digits: usize) -> String {
    if value.is_finite() {
        format!("{value:.digits$}")
    } else {
        "lost".to_owned()
    }
}

/// A chart of one column against the load.
pub(crate) fn chart(
    rows: &[Row],
    title: &str,
    y_label: &str,
    log_y: bool,
    column: impl Fn(&Row) -> Option<Median>,
) -> Chart {
    let points = rows
        .iter()
        .filter_map(|row| Some((row.case.as_str(), column(row)?.at(row.target_rps))));
    Chart {
        title: title.to_owned(),
        x_label: "requests a second".to_owned(),
        y_label: y_label.to_owned(),
        log_x: false,
        log_y,
        series: Series::by_name(points),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{Latency, Moves};

    fn sample(case: &str, round: u32, step: u32, p99: Option<f64>, changed: u64) -> Sample {
        Sample {
            case: case.to_owned(),
            round,
            step,
            latency: Latency {
                offered: 1000.0 * f64::from(step + 1),
                actual: 990.0,
                dropped: 1,
                never_sent: 2,
                p50: Some(10.0),
                p99,
                p999: None,
            },
            moves: Moves {
                packets: 200,
                changed_core: changed,
                wakes: 60,
                ..Moves::default()
            },
        }
    }

    #[test]
    fn rounds_become_medians() {
        let samples = [
            sample("b", 1, 0, Some(30.0), 20),
            sample("b", 1, 1, Some(70.0), 0),
            sample("a", 1, 0, Some(5.0), 0),
            sample("b", 2, 0, Some(10.0), 40),
            sample("b", 3, 0, None, 60),
        ];
        let rows = rows(&samples, 3);
        let cases: Vec<_> = rows
            .iter()
            .map(|r| (r.case.as_str(), r.target_rps))
            .collect();
        assert_eq!(cases, [("b", 1000.0), ("b", 2000.0), ("a", 1000.0)]);
        let p99 = rows[0].p99_us.unwrap();
        assert_eq!((p99.least, p99.middle), (10.0, 30.0));
        assert_eq!(p99.greatest, f64::INFINITY);
        assert_eq!(rows[0].changed_percent.unwrap().middle, 20.0);
        assert_eq!(rows[0].wakes_per_second.unwrap().middle, 20.0);
        assert_eq!(rows[0].lost, 9);
        assert_eq!(rows[0].p999_us.unwrap().middle, f64::INFINITY);
        assert!(table(&rows).lines().nth(1).unwrap().contains(" lost "));
    }

    #[test]
    fn a_chart_has_a_line_for_each_case() {
        let samples = [
            sample("modulo", 1, 0, Some(30.0), 20),
            sample("modulo", 1, 1, None, 20),
            sample("flow-table", 1, 0, Some(20.0), 0),
        ];
        let chart = chart(&rows(&samples, 1), "t", "us", true, |row| row.p99_us);
        assert_eq!(chart.series.len(), 2);
        // The drawing counts what it cannot show.
        assert_eq!(chart.series[0].points.len(), 2);
        assert_eq!(chart.series[0].points[1].y, f64::INFINITY);
        assert_eq!(chart.series[1].points[0].spread, Some((20.0, 20.0)));
    }
}
