//! Reports as lines of a table: for people, and as CSV.

use std::fmt::Write as _;

use crate::report::Report;
use crate::sweep::Key;

/// What a run was, and what came out with each seed.
#[derive(Debug, Clone)]
pub struct Row {
    /// The policy's label.
    pub policy: String,
    /// The values of what was varied.
    pub point: Vec<(Key, f64)>,
    /// Which runtime; it has a load.
    pub proc: usize,
    /// One report a seed.
    pub reports: Vec<Report>,
}

/// A column: its heading, and its value in a report of a runtime.
type Column = (&'static str, fn(&Report, usize) -> f64);

#[allow(clippy::cast_precision_loss, reason = "counts of packets")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        100.0 * part as f64 / whole as f64
    }
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds of a latency")]
fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

/// Latencies in microseconds, shares in per cent.
const COLUMNS: [Column; 16] = [
    ("mean_us", |r, p| r.procs[p].latency.mean_ns / 1000.0),
    ("p50_us", |r, p| us(r.procs[p].latency.p50_ns)),
    ("p99_us", |r, p| us(r.procs[p].latency.p99_ns)),
    ("p99.9_us", |r, p| us(r.procs[p].latency.p999_ns)),
    ("cores", |r, p| r.procs[p].cores),
    ("working", |r, p| r.procs[p].time.working()),
    ("state", |r, p| r.procs[p].time.state),
    ("changed_%", |r, p| {
        share(r.procs[p].moves.changed_core, r.procs[p].moves.known)
    }),
    ("private_%", |r, p| {
        share(r.procs[p].touches.private, r.procs[p].touches.total())
    }),
    ("dirty_%", |r, p| {
        share(r.procs[p].touches.other_core, r.procs[p].touches.total())
    }),
    ("memory_%", |r, p| {
        let t = &r.procs[p].touches;
        share(t.memory + t.first, t.total())
    }),
    ("stolen_%", |r, p| {
        let (s, n) = (&r.procs[p].steals, r.procs[p].latency.count);
        share(s.uthreads + s.packets, n)
    }),
    ("reordered_ppm", |r, p| {
        1e4 * share(r.procs[p].reordered, r.procs[p].latency.count)
    }),
    ("grants", |r, p| count(r.procs[p].grants.total())),
    ("lost", |r, p| {
        let e = &r.procs[p].ends;
        count(e.nic_drops + e.rxq_drops + e.unfinished)
    }),
    ("dispatcher_%", |r, _| 100.0 * r.dispatcher_busy),
];

#[allow(clippy::cast_precision_loss, reason = "counts of packets")]
fn count(n: u64) -> f64 {
    n as f64
}

/// Least, median and greatest of the seeds.
fn spread(row: &Row, column: Column) -> (f64, f64, f64) {
    let values = row.reports.iter().map(|report| column.1(report, row.proc));
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (first, last) = (values[0], values[values.len() - 1]);
    (first, values[(values.len() - 1) / 2], last)
}

/// The same of the column with that heading; none if there is no such column.
pub(crate) fn named(row: &Row, heading: &str) -> Option<(f64, f64, f64)> {
    let column = COLUMNS.into_iter().find(|(name, _)| *name == heading)?;
    Some(spread(row, column))
}

fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// A table for people. With several seeds medians, and behind them least and greatest.
pub fn text(rows: &[Row]) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let mut lines = vec![headings(first)];
    for row in rows {
        let mut line = vec![row.policy.clone()];
        line.extend(row.point.iter().map(|(_, value)| value.to_string()));
        line.push(row.reports[0].procs[row.proc].name.clone());
        for column in COLUMNS {
            let (least, median, greatest) = spread(row, column);
            line.push(if row.reports.len() == 1 {
                short(median)
            } else {
                format!("{} ({}-{})", short(median), short(least), short(greatest))
            });
        }
        lines.push(line);
    }
    let width = |at: usize| lines.iter().map(|line| line[at].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(out, "{cell:>width$}  ");
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

/// Settings are told from what came out of them: there are `cores` and `state` of both.
fn headings(row: &Row) -> Vec<String> {
    let mut line = vec!["policy".to_owned()];
    let settings = row.point.iter().map(|(key, _)| key.name());
    line.extend(settings.map(|name| format!("set.{name}")));
    line.push("proc".to_owned());
    line.extend(COLUMNS.map(|(name, _)| name.to_owned()));
    line
}

/// The same as CSV: one line a run, unrounded.
pub fn csv(rows: &[Row]) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let mut out = headings(first).join(",") + ",seed\n";
    for row in rows {
        for report in &row.reports {
            out += &row.policy;
            for (_, value) in &row.point {
                let _ = write!(out, ",{value}");
            }
            let name = &report.procs[row.proc].name;
            let _ = write!(out, ",\"{}\"", name.replace('"', "\"\""));
            for (_, value) in COLUMNS {
                let _ = write!(out, ",{}", value(report, row.proc));
            }
            let _ = writeln!(out, ",{}", report.seed);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ProcReport;

    fn row(means: &[f64]) -> Row {
        let report = |mean: &f64| {
            let mut proc = ProcReport {
                name: "a \"b\"".into(),
                ..ProcReport::default()
            };
            proc.latency.mean_ns = *mean;
            Report {
                name: String::new(),
                policy: String::new(),
                seed: 3,
                seconds: 1.0,
                packets: 1,
                dispatcher_busy: 0.5,
                nic_drops: 0,
                longest_idle_while_waiting_ns: 0,
                procs: vec![proc],
            }
        };
        Row {
            policy: "modulo".into(),
            point: vec![(Key::Load, 5000.0)],
            proc: 0,
            reports: means.iter().map(report).collect(),
        }
    }

    #[test]
    fn several_seeds_show_their_spread() {
        let text = text(&[row(&[3000.0, 1000.0, 2000.0])]);
        assert!(text.contains("2.000 (1.000-3.000)"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn csv_has_a_line_a_run_and_as_many_cells_as_headings() {
        let csv = csv(&[row(&[3000.0, 1000.0])]);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("modulo,5000,\"a \"\"b\"\"\",3,"));
        for line in &lines {
            assert_eq!(line.split(',').count(), 4 + COLUMNS.len(), "{line}");
        }
    }

    #[test]
    fn no_two_columns_have_one_name() {
        let mut row = row(&[1000.0]);
        row.point = Key::ALL.map(|(_, key)| (key, 1.0)).into();
        let rows = [row];
        let csv = csv(&rows);
        let mut names: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
        assert!(names.contains(&"cores") && names.contains(&"set.cores"));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{csv}");
    }

    #[test]
    fn a_percentile_is_in_its_own_column() {
        let mut row = row(&[1000.0]);
        let latency = &mut row.reports[0].procs[0].latency;
        (latency.p50_ns, latency.p90_ns, latency.p99_ns) = (1000, 2000, 3000);
        (latency.p999_ns, latency.max_ns) = (4000, 5000);
        for (heading, us) in [("p50_us", 1.0), ("p99_us", 3.0), ("p99.9_us", 4.0)] {
            assert_eq!(named(&row, heading), Some((us, us, us)), "{heading}");
        }
    }
}
