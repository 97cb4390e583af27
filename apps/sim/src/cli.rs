//! The command line.

use std::io::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use calisto_sim::charts::charts;
use calisto_sim::sweep::{self, Axis, Key};
use calisto_sim::table::{self, Row};
use calisto_sim::{Machine, Report, Scenario, SimError, Steering};
use clap::{Args, Parser, Subcommand};
use rustix::time::{ClockId, clock_gettime};

use crate::measure;

/// Simulates hosts under Calisto, with the daemon's own steering and core allocation.
#[derive(Debug, Parser)]
#[command(name = "calisto-sim", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario, or many, and prints a table.
    Run(RunArgs),
    /// Prints a machine that comes along (m510, server64, vm2), as a file to start from.
    Machine {
        /// Its name.
        name: String,
    },
    /// Measures this machine, and prints a machine file.
    Measure(measure::Args),
    /// Prints how many packets are simulated here in a second of processor time, each scenario
    /// after one of a single packet, whose time is that of making its tables.
    Bench {
        /// Packets of each run.
        #[arg(long, default_value_t = 1_000_000)]
        packets: u64,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The scenario, TOML; without it the paper's: 700,000 flows, 10 cores, 14,000 packets a second.
    scenario: Option<PathBuf>,
    /// A machine by name, or a file; in place of the scenario's.
    #[arg(long)]
    machine: Option<String>,
    /// modulo, kthread-table, flow-table, buckets, hybrid; with -strict, -guard behind; also
    /// several times, or with commas.
    #[arg(long = "policy", value_delimiter = ',')]
    policies: Vec<String>,
    /// A setting: load, utilisation, cores, flows, state, write, other, service, zipf, churn,
    /// seed. Also several times. In place of load, utilisation gives a rate, for the cores and the
    /// service time of the run.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The same with several values, one run each: load=5000..14000..1000 or cores=2,4,8.
    #[arg(long = "sweep", value_name = "KEY=VALUES")]
    sweeps: Vec<String>,
    /// Packets of each run.
    #[arg(long)]
    packets: Option<u64>,
    /// Simulated seconds of each run, in place of a number of packets.
    #[arg(long, conflicts_with = "packets")]
    seconds: Option<f64>,
    /// Runs each with so many seeds, from the scenario's on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    seeds: u16,
    /// Runs so many at once; as many as there are CPUs by default. The output is the same.
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// Writes the table as CSV, one line a run.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Writes all reports as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes charts against the first setting of --sweep to this directory, as SVG and PNG: p50,
    /// p99, packets whose flow changed core, cores.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Run(args) => simulate(&args),
        Command::Machine { name } => {
            let machine = Machine::load(&name)?;
            print(&toml::to_string(&machine).context("cannot write a machine")?)
        }
        Command::Measure(args) => print(&measure::measure(&args)?),
        Command::Bench { packets } => bench(packets),
    }
}

/// Writes to standard output. Whoever reads may stop reading.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

fn read(path: &Path) -> Result<Scenario, SimError> {
    let text = std::fs::read_to_string(path).map_err(|reason| SimError::Read {
        path: path.into(),
        reason,
    })?;
    Scenario::from_toml(&text)
}

fn simulate(args: &RunArgs) -> anyhow::Result<()> {
    let base = base(args)?;
    let steerings = steerings(args, &base)?;
    let (sets, sweeps) = settings(args)?;
    if let Some(dir) = &args.plot {
        if sweeps.is_empty() {
            let needs = "--plot needs a --sweep, whose values are the charts' x axis";
            return Err(SimError::Scenario(needs.into()).into());
        }
        if base.procs.iter().all(|proc| proc.load.is_none()) {
            let none = "--plot has nothing to draw: no runtime has a load";
            return Err(SimError::Scenario(none.into()).into());
        }
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot make the directory {}", dir.display()))?;
    }
    let rows = rows(args, &base, &steerings, &sets, &sweeps)?;
    if let Some(path) = &args.csv {
        write(path, &table::csv(&rows))?;
    }
    if let Some(path) = &args.json {
        let first = |row: &&Row| row.proc == rows[0].proc;
        let all: Vec<&Report> = rows.iter().filter(first).flat_map(|r| &r.reports).collect();
        write(path, &(serde_json::to_string_pretty(&all)? + "\n"))?;
    }
    if let Some(dir) = &args.plot {
        for (name, chart) in charts(&rows) {
            chart.save(&dir.join(name))?;
        }
    }
    print(&table::text(&rows))
}

/// The scenario with what the command line says of it, but for policies and settings.
fn base(args: &RunArgs) -> Result<Scenario, SimError> {
    let mut base = match &args.scenario {
        Some(path) => read(path)?,
        None => Scenario::default(),
    };
    if let Some(machine) = &args.machine {
        base.machine = Machine::load(machine)?;
    }
    if let Some(packets) = args.packets {
        base.packets = packets;
    }
    if let Some(seconds) = args.seconds {
        (base.seconds, base.packets) = (seconds, 0);
    }
    Ok(base)
}

/// A setting, and its value.
type Setting = (Key, f64);

/// What `--set` and `--sweep` say.
fn settings(args: &RunArgs) -> Result<(Vec<Setting>, Vec<Axis>), SimError> {
    let mut sets = Vec::new();
    for text in &args.sets {
        let axis = Axis::parse(text)?;
        let [value] = axis.values[..] else {
            let name = axis.key.name();
            return Err(SimError::Scenario(format!("--set {name} takes one value")));
        };
        sets.push((axis.key, value));
    }
    let sweeps = args.sweeps.iter().map(|text| Axis::parse(text));
    let sweeps = sweeps.collect::<Result<Vec<_>, _>>()?;
    let swept = sweeps.iter().map(|axis| axis.key);
    sweep::check(sets.iter().map(|set| set.0).chain(swept.clone()), swept)?;
    Ok((sets, sweeps))
}

/// What `--policy` asks for, or the scenario's own.
fn steerings(args: &RunArgs, base: &Scenario) -> Result<Vec<Steering>, SimError> {
    if args.policies.is_empty() {
        return Ok(vec![base.steering]);
    }
    let labels = args.policies.iter().map(|label| {
        let Steering {
            policy,
            strict,
            order_guard,
            ..
        } = Steering::from_label(label)?;
        Ok(Steering {
            policy,
            strict,
            order_guard,
            ..base.steering
        })
    });
    labels.collect()
}

/// Runs everything: a row for each combination, policy and runtime under load.
fn rows(
    args: &RunArgs,
    base: &Scenario,
    steerings: &[Steering],
    sets: &[Setting],
    sweeps: &[Axis],
) -> Result<Vec<Row>, SimError> {
    let points = sweep::combinations(sweeps);
    let mut scenarios = Vec::new();
    for point in &points {
        for steering in steerings {
            let mut scenario = base.clone();
            scenario.steering = *steering;
            sweep::apply(sets.iter().chain(point).copied(), &mut scenario);
            // What cannot be is to be known before the others have taken their time.
            scenario.check()?;
            scenarios.extend((0..args.seeds).map(|further| Scenario {
                seed: scenario.seed.wrapping_add(further.into()),
                ..scenario.clone()
            }));
        }
    }
    let reports = calisto_sim::run_all(&scenarios, args.threads, || false);
    let mut reports = reports.into_iter();
    let mut rows = Vec::new();
    for point in &points {
        for steering in steerings {
            let seeds = reports.by_ref().take(args.seeds.into());
            let reports: Vec<Report> = seeds.collect::<Result<_, _>>()?;
            let loaded = base.procs.iter().enumerate();
            let loaded = loaded.filter(|(_, proc)| proc.load.is_some());
            rows.extend(loaded.map(|(proc, _)| Row {
                policy: steering.label(),
                point: point.clone(),
                proc,
                reports: reports.clone(),
            }));
        }
    }
    Ok(rows)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Processor time of this thread: others who use the machine do not count.
#[allow(clippy::cast_precision_loss, reason = "nanoseconds")]
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Processor time of a run.
fn timed(scenario: &Scenario) -> Result<f64, SimError> {
    let start = cpu_seconds();
    calisto_sim::run(scenario)?;
    Ok(cpu_seconds() - start)
}

fn bench(packets: u64) -> anyhow::Result<()> {
    let mut out = String::new();
    for label in ["modulo", "flow-table", "buckets"] {
        for (what, rate, flows) in [
            (
                "the paper's load, 14 thousand a second",
                14_000.0,
                700_000.0,
            ),
            ("700 thousand a second", 700_000.0, 700_000.0),
            ("700 thousand a second, 10 million flows", 700_000.0, 1e7),
        ] {
            let mut scenario = Scenario {
                packets,
                steering: Steering::from_label(label)?,
                ..Scenario::default()
            };
            Key::Flows.set(&mut scenario, flows);
            // Below what the cores can do.
            Key::Service.set(&mut scenario, 3000.0);
            Key::Load.set(&mut scenario, rate);
            // Memory that a virtual machine gave back to its host takes long to come again, as
            // long as half of a run: that is told by itself.
            let tables = timed(&Scenario {
                packets: 1,
                ..scenario.clone()
            })?;
            let seconds = timed(&scenario)?;
            #[allow(clippy::cast_precision_loss, reason = "a number of packets")]
            let speed = packets as f64 / seconds / 1e6;
            out += &format!(
                "{label}, {what}: {speed:.2} million packets a second; tables made in {:.0} ms\n",
                tables * 1000.0
            );
        }
    }
    print(&out)
}
