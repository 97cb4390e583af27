//! Reports as charts: what came out, against the setting that was varied first.
//!
//! A chart has a line for each policy; where more was varied, for each policy with the values of
//! the other settings; where several runtimes have a load, for each of these. A point is the
//! median of the seeds, with least and greatest.

use std::fmt::Write as _;

use calisto_plot::{Chart, Point, Series};

use crate::sweep::Key;
use crate::table::{self, Row};

/// An axis whose greatest value is so many times its least is logarithmic.
const LOG_FROM: f64 = 50.0;

/// A chart of a column of the table: its file's name, the column, its label.
const CHARTS: [(&str, &str, &str); 4] = [
    ("p50", "p50_us", "median latency, us"),
    ("p99", "p99_us", "99th percentile of latency, us"),
    ("changed", "changed_%", "packets whose flow changed core, %"),
    ("cores", "cores", "cores held"),
];

/// The charts of rows that a sweep gave, each with a name for its files; none of rows for which
/// nothing was varied.
pub fn charts(rows: &[Row]) -> Vec<(&'static str, Chart)> {
    let Some((key, _)) = rows.first().and_then(|row| row.point.first()) else {
        return Vec::new();
    };
    let chart = |(file, column, label): (&'static str, &str, &str)| {
        let series = lines(rows, column);
        let points = || series.iter().flat_map(|s| &s.points);
        let chart = Chart {
            title: format!("{label}, by {}", key.name()),
            x_label: x_label(*key),
            y_label: label.to_owned(),
            log_x: is_wide(points().map(|p| p.x)),
            // Shares and cores are compared by their heights.
            log_y: column.ends_with("_us") && is_wide(points().map(|p| p.y)),
            series,
        };
        (file, chart)
    };
    CHARTS.map(chart).into()
}

/// Its lines, in the order in which they first occur.
fn lines(rows: &[Row], column: &str) -> Vec<Series> {
    let several = rows.iter().any(|row| row.proc != rows[0].proc);
    let mut lines: Vec<Series> = Vec::new();
    for row in rows {
        let mut name = row.policy.clone();
        for (key, value) in &row.point[1..] {
            let _ = write!(name, ", {} {value}", key.name());
        }
        if several {
            let _ = write!(name, ", {}", row.reports[0].procs[row.proc].name);
        }
        let Some((least, median, greatest)) = table::named(row, column) else {
            continue;
        };
        let point = Point {
            x: row.point[0].1,
            y: median,
            spread: Some((least, greatest)),
        };
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Series {
                name,
                points: vec![point],
            }),
        }
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    lines
}

fn is_wide(values: impl Iterator<Item = f64> + Clone) -> bool {
    let least = values.clone().fold(f64::INFINITY, f64::min);
    let greatest = values.fold(0.0, f64::max);
    least > 0.0 && greatest >= LOG_FROM * least
}

fn x_label(key: Key) -> String {
    let unit = match key {
        Key::Load => "packets a second, of all runtimes",
        Key::Utilisation => "share of the cores that requests alone keep busy",
        Key::Cores => "runtime cores",
        Key::Flows => "flows of a runtime",
        Key::State => "bytes of state of a flow",
        Key::Write => "share of a flow's state that is written",
        Key::Other => "other bytes of a request",
        Key::Service => "mean service time, ns",
        Key::Zipf => "exponent of the flows' Zipf distribution",
        Key::Churn => "flows a second that end",
        Key::Seed => "seed",
    };
    unit.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ProcReport, Report};

    /// With seeds whose p99 are these, microseconds, and two procs.
    fn row(policy: &str, point: &[(Key, f64)], proc: usize, p99_us: &[u64]) -> Row {
        let report = |us: &u64| {
            let mut proc = ProcReport::default();
            proc.latency.p99_ns = us * 1000;
            let named = |name: &str| ProcReport {
                name: name.into(),
                ..proc.clone()
            };
            Report {
                name: String::new(),
                policy: String::new(),
                seed: 1,
                seconds: 1.0,
                packets: 1,
                dispatcher_busy: 0.0,
                nic_drops: 0,
                longest_idle_while_waiting_ns: 0,
                procs: vec![named("web"), named("db")],
            }
        };
        Row {
            policy: policy.into(),
            point: point.to_vec(),
            proc,
            reports: p99_us.iter().map(report).collect(),
        }
    }

    fn p99(rows: &[Row]) -> Chart {
        let charts = charts(rows);
        assert_eq!(charts.len(), CHARTS.len());
        charts.into_iter().find(|c| c.0 == "p99").unwrap().1
    }

    #[test]
    fn a_policy_is_a_line_with_the_spread_of_its_seeds() {
        let rows = [
            row("modulo", &[(Key::Load, 9.0)], 0, &[30, 10, 20]),
            row("buckets", &[(Key::Load, 9.0)], 0, &[7, 7, 7]),
            row("modulo", &[(Key::Load, 5.0)], 0, &[4, 5, 3]),
        ];
        let chart = p99(&rows);
        let names: Vec<&str> = chart.series.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["modulo", "buckets"]);
        let expected = [(5.0, 4.0, (3.0, 5.0)), (9.0, 20.0, (10.0, 30.0))];
        for (point, (x, y, spread)) in chart.series[0].points.iter().zip(expected) {
            assert_eq!((point.x, point.y, point.spread), (x, y, Some(spread)));
        }
        assert!(!chart.log_x && !chart.log_y);
    }

    #[test]
    fn lines_are_told_apart_by_what_else_was_varied_and_by_runtime() {
        let point = |flows, state| vec![(Key::Flows, flows), (Key::State, state)];
        let rows = [
            row("modulo", &point(100.0, 64.0), 0, &[1]),
            row("modulo", &point(100.0, 64.0), 1, &[100]),
            row("modulo", &point(100.0, 256.0), 0, &[2]),
            row("modulo", &point(10_000.0, 64.0), 0, &[3]),
        ];
        let chart = p99(&rows);
        let names: Vec<&str> = chart.series.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "modulo, state 64, web",
                "modulo, state 64, db",
                "modulo, state 256, web"
            ]
        );
        assert_eq!(chart.series[0].points.len(), 2);
        assert!(chart.log_x && chart.log_y, "100 to 10,000 and 1 to 100");
    }

    #[test]
    fn without_a_sweep_there_is_none() {
        assert!(charts(&[]).is_empty());
        assert!(charts(&[row("modulo", &[], 0, &[1])]).is_empty());
    }

    #[test]
    fn every_column_that_is_drawn_is_one_of_the_table() {
        let row = row("modulo", &[(Key::Load, 9.0)], 0, &[1]);
        for (_, column, _) in CHARTS {
            assert!(table::named(&row, column).is_some(), "{column}");
        }
    }
}
