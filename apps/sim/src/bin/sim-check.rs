//! `sim-check`: puts simulations beside the measured runs that come in on standard input.
//!
//! scripts/sim-check.sh makes the runs. Exit code 2 for bad usage or input, 1 for a failure;
//! figures that do not agree are a finding, not a failure.

use std::io::{Write as _, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use calisto::terminal::arguments;
use calisto_sim::beside::{Run, compare, markdown};
use calisto_sim::{Machine, Scenario, SimError};
use clap::Parser;

/// Simulates what was measured, and prints both as Markdown.
#[derive(Debug, Parser)]
#[command(name = "sim-check", version)]
struct Args {
    /// What was measured: one runtime with load
    scenario: PathBuf,
    /// The machine that it was measured on, as `calisto-sim measure` prints it; several times if
    /// it was measured several times: each rate is simulated with each
    #[arg(long = "machine", required = true)]
    machines: Vec<String>,
    /// Writes the table as JSON, too
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = match arguments() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match check(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sim-check: {error:#}");
            if error.is::<SimError>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn check(args: &Args) -> anyhow::Result<()> {
    let path = args.scenario.clone();
    let text = std::fs::read_to_string(&path).map_err(|reason| SimError::Read { path, reason })?;
    let scenario = Scenario::from_toml(&text)?;
    let machines = args.machines.iter().map(|m| Machine::load(m));
    let machines = machines.collect::<Result<Vec<_>, _>>()?;
    let mut runs = Vec::new();
    for line in stdin().lines() {
        runs.push(Run::parse(&line.context("cannot read the runs")?)?);
    }
    if runs.is_empty() {
        return Err(SimError::Run("there is none".into()).into());
    }
    let rows = compare(&scenario, &machines, &runs)?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&rows)? + "\n";
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    write!(stdout(), "{}", markdown(&rows, &runs)).context("cannot write to standard output")
}
