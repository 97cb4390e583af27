//! The simulator beside measured runs.
//!
//! Terms: a *run* is one measurement of a real dispatcher and runtime at a *rate* of requests;
//! rate 0 is *saturation*, when there is always a request waiting. The *ratio* of a figure is
//! the simulated median over the measured one; figures *agree* if it is within [`TOLERANCE`] of 1.
//!
//! Nothing here is fitted: the simulator gets the rates, and what the machine costs, measured anew
//! before each round of runs, but no result. Pure.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::error::SimError;
use crate::machine::Machine;
use crate::scenario::Scenario;

/// What still counts as agreeing.
pub const TOLERANCE: f64 = 0.2;
/// Figures below it are as good as zero, such as the one wake of a runtime that never parks.
const NOTHING: f64 = 0.001;
/// Requests a second that no core can serve, to see how many it does.
const FLOOD: f64 = 1e6;

/// What the NIC emulator prints of a run. C: `print_result` in apps/bench/nicgen.
#[derive(Debug, Clone, Deserialize)]
struct Nic {
    secs: f64,
    sent: f64,
    replies: f64,
    waited_ms: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
}

/// What the echo runtime prints of its whole life, warm-up too.
#[derive(Debug, Clone, Deserialize)]
struct Echo {
    wakes: f64,
    rx_frames: f64,
}

/// One measured run.
#[derive(Debug, Clone)]
pub struct Run {
    rate: f64,
    nic: Nic,
    echo: Echo,
}

impl Run {
    /// Reads a line: the rate, the emulator's JSON, the runtime's; tabs between them.
    ///
    /// # Errors
    /// If it is not such a line.
    pub fn parse(line: &str) -> Result<Run, SimError> {
        let wrong = |what: &str| SimError::Run(format!("{what} in '{line}'"));
        let mut parts = line.split('\t');
        let mut next = |what| parts.next().ok_or_else(|| wrong(what));
        let rate: f64 = next("no rate")?.parse().map_err(|_| wrong("no rate"))?;
        let nic = serde_json::from_str(next("no result of the emulator")?);
        let echo = serde_json::from_str(next("no report of the runtime")?);
        Ok(Run {
            rate,
            nic: nic.map_err(|e| wrong(&e.to_string()))?,
            echo: echo.map_err(|e| wrong(&e.to_string()))?,
        })
    }

    /// Requests a second that were answered.
    fn answered(&self) -> f64 {
        self.nic.replies / self.nic.secs
    }

    fn lost_percent(&self) -> f64 {
        100.0 * (1.0 - self.nic.replies / self.nic.sent.max(1.0)).max(0.0)
    }

    fn waited_percent(&self) -> f64 {
        self.nic.waited_ms / self.nic.secs / 10.0
    }
}

/// Median, least and greatest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Of an even number the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        Spread {
            median: f64::midpoint(values[last / 2], values[last.div_ceil(2)]),
            least: values[0],
            greatest: values[last],
        }
    }

    fn text(&self) -> String {
        let show = |v: f64| match v {
            v if v >= 1000.0 => format!("{v:.0}"),
            v if v >= 10.0 => format!("{v:.1}"),
            v => format!("{v:.3}"),
        };
        let (median, least, greatest) = (show(self.median), show(self.least), show(self.greatest));
        format!("{median} ({least}-{greatest})")
    }
}

/// One figure, both ways.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Requests a second; 0: saturation.
    pub rate: f64,
    /// Which figure, with its unit.
    pub figure: &'static str,
    /// Of the measured runs.
    pub measured: Spread,
    /// Of the simulations, one for each machine file.
    pub simulated: Spread,
    /// Simulated over measured.
    pub ratio: f64,
    /// The ratio is within [`TOLERANCE`] of 1, or both are as good as zero.
    pub agrees: bool,
}

impl Row {
    fn new(rate: f64, figure: &'static str, measured: Spread, simulated: Spread) -> Row {
        let ratio = simulated.median / measured.median;
        Row {
            rate,
            figure,
            measured,
            simulated,
            ratio,
            agrees: (ratio - 1.0).abs() <= TOLERANCE
                || measured.median.max(simulated.median) < NOTHING,
        }
    }
}

/// Simulates every rate that was measured, on each of the machines (the same one, measured several
/// times), and puts side by side. The scenario is to have one runtime, with load.
///
/// # Errors
/// If the scenario cannot be, or has another number of runtimes; without machines.
pub fn compare(
    scenario: &Scenario,
    machines: &[Machine],
    runs: &[Run],
) -> Result<Vec<Row>, SimError> {
    if machines.is_empty() {
        return Err(SimError::Machine("none was measured".into()));
    }
    let mut rows = Vec::new();
    for rate in rates(runs) {
        let simulated = machines.iter().map(|m| simulate(scenario, m, rate));
        let simulated = simulated.collect::<Result<Vec<_>, _>>()?;
        let figures = if rate > 0.0 { UNDER_LOAD } else { SATURATED };
        for figure in figures {
            let runs = runs.iter().filter(|r| same(r.rate, rate));
            let measured = Spread::of(runs.map(figure.measured));
            let simulated = Spread::of(simulated.iter().map(figure.simulated));
            rows.push(Row::new(rate, figure.name, measured, simulated));
        }
    }
    Ok(rows)
}

/// What is compared.
struct Figure {
    name: &'static str,
    measured: fn(&Run) -> f64,
    simulated: fn(&Simulated) -> f64,
}

const UNDER_LOAD: &[Figure] = &[
    Figure {
        name: "p50 us",
        measured: |r| r.nic.p50_us,
        simulated: |s| s.p50_us,
    },
    Figure {
        name: "p90 us",
        measured: |r| r.nic.p90_us,
        simulated: |s| s.p90_us,
    },
    Figure {
        name: "p99 us",
        measured: |r| r.nic.p99_us,
        simulated: |s| s.p99_us,
    },
    Figure {
        name: "wakes a request",
        measured: |r| r.echo.wakes / r.echo.rx_frames.max(1.0),
        simulated: |s| s.wakes,
    },
];

const SATURATED: &[Figure] = &[Figure {
    name: "answered a second",
    measured: Run::answered,
    simulated: |s| s.capacity,
}];

/// The figures of one simulation.
#[derive(Debug, Clone, Copy)]
struct Simulated {
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    wakes: f64,
    /// Requests a second, if the core did nothing but serve: only right at saturation.
    capacity: f64,
}

#[allow(clippy::cast_precision_loss, reason = "counters and nanoseconds")]
fn simulate(base: &Scenario, machine: &Machine, rate: f64) -> Result<Simulated, SimError> {
    let one_runtime = || SimError::Scenario("one runtime with load is what was measured".into());
    let mut scenario = base.clone();
    scenario.machine = machine.clone();
    let [proc] = &mut scenario.procs[..] else {
        return Err(one_runtime());
    };
    let load = proc.load.as_mut().ok_or_else(one_runtime)?;
    load.rate = if rate > 0.0 { rate } else { FLOOD };
    let service_ns = load.service.mean_ns();
    let report = crate::run(&scenario)?;
    let proc = &report.procs[0];
    Ok(Simulated {
        p50_us: proc.latency.p50_ns as f64 / 1000.0,
        p90_us: proc.latency.p90_ns as f64 / 1000.0,
        p99_us: proc.latency.p99_ns as f64 / 1000.0,
        wakes: proc.grants.total() as f64 / report.packets as f64,
        capacity: proc.time.service * 1e9 / service_ns,
    })
}

/// Rates that are written alike are parsed alike.
#[allow(clippy::float_cmp, reason = "neither is computed")]
fn same(a: f64, b: f64) -> bool {
    a == b
}

/// All rates, in the order of their first run.
fn rates(runs: &[Run]) -> Vec<f64> {
    let mut rates: Vec<f64> = Vec::new();
    for run in runs {
        if !rates.iter().any(|&r| same(r, run.rate)) {
            rates.push(run.rate);
        }
    }
    rates
}

fn rate_text(rate: f64) -> String {
    if rate > 0.0 {
        format!("{rate:.0}")
    } else {
        "saturation".into()
    }
}

/// The comparison as Markdown, then what agrees and what does not, then how quiet it was.
pub fn markdown(rows: &[Row], runs: &[Run]) -> String {
    let mut out = String::from(
        "| requests a second | | measured | simulated | simulated / measured |\n|---|---|---|---|---|\n",
    );
    for row in rows {
        let (rate, figure) = (rate_text(row.rate), row.figure);
        let (measured, simulated) = (row.measured.text(), row.simulated.text());
        let mark = if row.agrees { "" } else { " (!)" };
        let ratio = row.ratio;
        let _ = writeln!(
            out,
            "| {rate} | {figure} | {measured} | {simulated} | {ratio:.2}{mark} |"
        );
    }
    let named = |agrees: bool| {
        let named = rows.iter().filter(|r| r.agrees == agrees);
        let named: Vec<String> = named
            .map(|r| format!("{} at {}", r.figure, rate_text(r.rate)))
            .collect();
        if named.is_empty() {
            "nothing".to_owned()
        } else {
            named.join(", ")
        }
    };
    let percent = TOLERANCE * 100.0;
    let _ = write!(
        out,
        "\nWithin {percent:.0} %: {}.\nNot: {}.\n\n",
        named(true),
        named(false)
    );
    out += "| requests a second | lost % | waited % |\n|---|---|---|\n";
    for rate in rates(runs) {
        let of = || runs.iter().filter(|r| same(r.rate, rate));
        let lost = Spread::of(of().map(Run::lost_percent)).text();
        let waited = Spread::of(of().map(Run::waited_percent)).text();
        let _ = writeln!(out, "| {} | {lost} | {waited} |", rate_text(rate));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rate: f64, p50: f64, wakes: u32) -> Run {
        let line = format!(
            "{rate}\t{{\"secs\":2.0,\"sent\":1000,\"replies\":990,\"waited_ms\":100.0,\"p50_us\":{p50},\"p90_us\":25.0,\"p99_us\":30.0}}\
             \t{{\"wakes\":{wakes},\"rx_frames\":1000}}"
        );
        Run::parse(&line).unwrap()
    }

    /// One core without costs, requests of 10 us.
    fn beside(runs: &[Run]) -> Vec<Row> {
        let text = include_str!("../scenarios/vm2.toml");
        let scenario = Scenario {
            packets: 20_000,
            ..Scenario::from_toml(text).unwrap()
        };
        compare(&scenario, &[Machine::ideal(1)], runs).unwrap()
    }

    fn row(rows: &[Row], figure: &str) -> Row {
        rows.iter().find(|r| r.figure == figure).unwrap().clone()
    }

    #[test]
    fn the_middle_of_an_odd_and_an_even_number_of_values() {
        let odd = Spread::of([3.0, 1.0, 2.0].into_iter());
        assert_eq!((odd.least, odd.median, odd.greatest), (1.0, 2.0, 3.0));
        let even = Spread::of([4.0, 1.0, 2.0, 3.0].into_iter());
        assert_eq!(even.median, 2.5);
    }

    #[test]
    fn a_line_that_is_no_run_is_refused() {
        for line in ["", "x\t{}\t{}", "5000", "5000\t{}\t{}", "5000\tno json"] {
            assert!(
                matches!(Run::parse(line), Err(SimError::Run(_))),
                "{line:?}"
            );
        }
    }

    #[test]
    fn a_measured_run_like_the_model_agrees_and_another_does_not() {
        // Without costs half of the requests at a hundredth of the load take the 10 us alone.
        let rows = beside(&[run(1000.0, 10.0, 1000)]);
        let p50 = row(&rows, "p50 us");
        assert!(p50.agrees, "{p50:?}");
        let rows = beside(&[run(1000.0, 20.0, 1000)]);
        let p50 = row(&rows, "p50 us");
        assert!(!p50.agrees && (p50.ratio - 0.5).abs() < 0.05, "{p50:?}");
        assert!(markdown(&rows, &[run(1000.0, 20.0, 1000)]).contains("Not: p50 us at 1000"));
    }

    #[test]
    fn one_wake_in_many_requests_is_none() {
        let spread = |v| Spread::of(std::iter::once(v));
        assert!(Row::new(1.0, "wakes", spread(0.0001), spread(0.0)).agrees);
        assert!(!Row::new(1.0, "wakes", spread(0.01), spread(0.0)).agrees);
    }

    #[test]
    fn saturation_is_what_a_core_can_serve() {
        // 10 us without costs: 100,000 a second. Measured were 990 in two seconds.
        let rows = beside(&[run(0.0, 10.0, 1)]);
        let answered = row(&rows, "answered a second");
        assert_eq!(answered.measured.median, 495.0);
        assert!(
            (answered.simulated.median - 1e5).abs() < 1e3,
            "{answered:?}"
        );
    }

    #[test]
    fn rounds_of_a_rate_come_together() {
        let runs = [
            run(1000.0, 10.0, 900),
            run(2000.0, 10.0, 900),
            run(1000.0, 12.0, 700),
        ];
        let rows = beside(&runs);
        assert_eq!(rows.len(), 8);
        let wakes = row(&rows, "wakes a request").measured;
        assert_eq!((wakes.least, wakes.greatest), (0.7, 0.9));
        let text = markdown(&rows, &runs);
        assert!(text.contains("| 2000 | 1.000 (1.000-1.000) | 5.000 (5.000-5.000) |"));
    }
}
