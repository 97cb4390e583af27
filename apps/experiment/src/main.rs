//! Real runs and simulated ones, and what they say about flow affinity.
//!
//! `demo` sweeps a load over real processes. The scripts `demo.sh` and
//! `experiment.sh` build what is needed and call this program in namespaces of
//! its own. Exit code 2 for bad usage, 1 for a failure; each refusal is one line.

mod bed;
mod child;
mod demo;
mod median;
mod paper;
mod progress;
mod real;
mod report;
mod serve;
mod simulated;
mod stop;
mod summary;
mod sweep;

use std::process::ExitCode;

use calisto::terminal::arguments;
use clap::{Parser, Subcommand};

/// The demo and the experiment.
#[derive(Debug, Parser)]
#[command(name = "experiment", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sweep a load under some policies: table, plots, samples.
    Demo(demo::DemoArgs),
    /// The paper's experiment, simulated and for real: a report.
    Paper(paper::PaperArgs),
    /// Start iokerneld and a server on a port, say how to load them, and count until SIGINT.
    Serve(serve::ServeArgs),
}

fn main() -> ExitCode {
    let cli: Cli = match arguments() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let result = stop::listen().and_then(|()| match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Paper(args) => paper::run(args),
        Command::Serve(args) => serve::run(args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("experiment: {e:#}");
            ExitCode::FAILURE
        }
    }
}
