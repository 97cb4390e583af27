//! A server to be loaded from another machine: for NICs whose other end is not here.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use calisto::terminal::answer;
use clap::Args;

use crate::bed::{Bed, Case, Link, PORT, Work};
use crate::stop;
use crate::sweep::counters;

/// How often counters are shown.
const INTERVAL: Duration = Duration::from_secs(2);

/// Which port, and what runs on it.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where `iokerneld` and `synthetic` lie.
    #[arg(long, value_name = "DIR", default_value = "target/release")]
    bin: PathBuf,
    /// What DPDK is told, words apart.
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    eal: String,
    /// The server's address.
    #[arg(long, value_name = "ADDR")]
    ip: Ipv4Addr,
    /// The policy.
    #[arg(long, value_name = "NAME", default_value = "flow-table")]
    policy: String,
    /// Cores that iokerneld hands out; kthreads of the server.
    #[arg(long, value_name = "N", default_value_t = 4)]
    cores: u16,
    /// Flows that are watched.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    flows: u32,
}

fn say(text: &str) -> Result<()> {
    answer(text).context("cannot write to standard output")
}

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(args: &ServeArgs) -> Result<()> {
    let bed = Bed {
        bin: args.bin.clone(),
        link: Link::Port {
            eal: args.eal.split_whitespace().map(str::to_owned).collect(),
            ip: args.ip,
            client: Vec::new(),
        },
        cores: args.cores,
        kthreads: args.cores,
        flows: args.flows,
        ports: 1,
        work: Work {
            fakework: "sqrt".to_owned(),
            distribution: "exponential".to_owned(),
            mean: 0.0,
        },
    };
    let daemon = bed.daemon(&Case::policy(&args.policy, &args.policy, &[]))?;
    let server = bed.server()?;
    say(&format!(
        "serving under {}; load it from another machine on that network:\n\
         \u{20} synthetic {}:{PORT} --mode linux-client --flows 400 --distribution exponential \
         --mean 5000 --mpps 0.02 --samples 5\n",
        args.policy, args.ip
    ))?;
    let mut before = counters(server.pid())?;
    let mut next = Instant::now() + INTERVAL;
    while stop::check().is_ok() {
        if Instant::now() < next {
            thread::sleep(Duration::from_millis(50));
            continue;
        }
        next += INTERVAL;
        let now = counters(server.pid())?;
        let moves = now.since(&before);
        before = now;
        say(&format!(
            "{:>9} packets, {} changed core, {} wakes\n",
            moves.packets, moves.changed_core, moves.wakes
        ))?;
    }
    // The server before its iokerneld, so that it can say good-bye.
    drop(server);
    drop(daemon);
    Ok(())
}
