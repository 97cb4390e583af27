//! `calistoctl`: asks a running `iokerneld`, and changes its rules.
//!
//! A thin shell around [`calisto::admin::client`]. Exit code 2 for bad usage, 1 for a
//! failure; each refusal is one line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use calisto::admin::{Request, client};
use calisto::config::rule::{self, RuleSpec, Selector};
use calisto::ids::CoreId;
use calisto::terminal::{answer, arguments};
use clap::{Args, Parser, Subcommand};

mod exporter;
mod generate;
mod metrics;
mod table;
mod watch;

/// Asks a running iokerneld, and changes its rules.
#[derive(Debug, Parser)]
#[command(name = "calistoctl", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The steering rules in force
    Rules(Format),
    /// Changes the steering rules (iokerneld needs --policy hybrid)
    #[command(subcommand, disable_help_subcommand = true)]
    Rule(Change),
    /// The runtimes that are attached
    Runtimes(Format),
    /// Counters of the daemon, and of the steering of all runtimes
    Stats(Stats),
    /// Serves all counters to Prometheus, at /metrics
    Exporter {
        /// Address and port; port 0: any
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9409")]
        listen: SocketAddr,
    },
    /// Prints completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Writes its man pages
    Man {
        /// The directory, such as /usr/local/share/man/man1
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Stats {
    #[command(flatten)]
    format: Format,
    /// What is counted in each of so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = watch::interval, conflicts_with = "json")]
    watch: Option<Duration>,
}

#[derive(Debug, Args)]
struct Format {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// A flow gets a core
    Add {
        /// The core, 0 to 255
        #[arg(long, value_name = "N", value_parser = rule::core)]
        core: CoreId,
        #[command(flatten)]
        which: Which,
    },
    /// A flow is steered as any other again
    Del {
        #[command(flatten)]
        which: Which,
    },
    /// Removes all rules
    Clear,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The flow's RSS hash, such as 0x51ccc178
    #[arg(long, value_name = "H", value_parser = rule::hash)]
    hash: Option<Selector>,
    /// The flow, as its packets arrive: "udp 10.0.0.1:5000 -> 192.168.1.3:80"
    #[arg(long, value_name = "FLOW", value_parser = rule::flow)]
    flow: Option<Selector>,
}

impl Which {
    fn selector(&self) -> Selector {
        self.hash
            .or(self.flow)
            .expect("the group has one of its members")
    }
}

fn main() -> ExitCode {
    let cli: Cli = match arguments() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("calistoctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<()> {
    answer(text).context("cannot write to standard output")
}

fn run(command: &Command) -> Result<()> {
    let (request, format): (Request, Option<(&Format, table::Table)>) = match command {
        Command::Rules(format) => (Request::Rules, Some((format, table::rules))),
        Command::Runtimes(format) => (Request::Runtimes, Some((format, table::runtimes))),
        Command::Stats(Stats {
            watch: Some(interval),
            ..
        }) => return watch::stats(*interval),
        Command::Stats(stats) => (Request::Stats, Some((&stats.format, table::stats))),
        Command::Exporter { listen } => return exporter::serve(*listen),
        Command::Completions { shell } => return generate::completions(*shell),
        Command::Man { dir } => return generate::man(dir),
        Command::Rule(Change::Add { core, which }) => {
            let (core, selector) = (*core, which.selector());
            (Request::RuleAdd(RuleSpec { selector, core }), None)
        }
        Command::Rule(Change::Del { which }) => (Request::RuleDel(which.selector()), None),
        Command::Rule(Change::Clear) => (Request::RuleClear, None),
    };
    let lines = client::ask(&request)?;
    match format {
        None => Ok(()),
        Some((format, table)) => print(&table(&lines, format.json)?),
    }
}
