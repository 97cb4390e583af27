//! The demo: a load sweep under upstream's rule and under the flow table.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use calisto::terminal::answer;
use calisto_plot::PlotError;
use clap::Args;

use crate::bed::{Bed, Case, Link, Steps, Work};
use crate::progress::Progress;
use crate::summary;
use crate::sweep::{self, Sample};

/// What to show, and over which wire.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where `iokerneld` and `synthetic` lie.
    #[arg(long, value_name = "DIR", default_value = "target/release")]
    bin: PathBuf,
    /// Where plots and samples go.
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    out: PathBuf,
    /// Policies to compare.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_values = ["modulo", "flow-table"])]
    policies: Vec<String>,
    /// Highest load, requests a second.
    #[arg(long, value_name = "N", allow_hyphen_values = true, default_value_t = 25_000.0, value_parser = positive)]
    load: f64,
    /// Load steps up to it.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    steps: u32,
    /// Seconds of each step.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Times that everything is run.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// UDP flows.
    #[arg(long, value_name = "N", default_value_t = 400)]
    flows: u32,
    /// Mean work of a request, iterations of a square root.
    #[arg(long, value_name = "N", default_value_t = 5000.0)]
    mean: f64,
    /// What a request does besides: as synthetic's --fakework.
    #[arg(long, value_name = "SPEC", default_value = "sqrt")]
    fakework: String,
    /// Cores that iokerneld hands out; kthreads of the server.
    #[arg(long, value_name = "N", default_value_t = 4)]
    cores: u16,
    /// Over a DPDK port instead of loopback: what DPDK is told, words apart.
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true, requires_all = ["ip", "client"])]
    eal: Option<String>,
    /// The server's address on that port.
    #[arg(long, value_name = "ADDR")]
    ip: Option<Ipv4Addr>,
    /// What runs a command on the other end of the wire, words apart.
    #[arg(long, value_name = "WORDS")]
    client: Option<String>,
}

/// A number above zero.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err("give a number above 0".to_owned()),
    }
}

impl DemoArgs {
    fn bed(&self) -> Bed {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let link = match (&self.eal, self.ip, &self.client) {
            (Some(eal), Some(ip), Some(client)) => Link::Port {
                eal: words(eal),
                ip,
                client: words(client),
            },
            _ => Link::Loopback,
        };
        Bed {
            bin: self.bin.clone(),
            link,
            cores: self.cores,
            kthreads: self.cores,
            flows: self.flows,
            ports: 1,
            work: Work {
                fakework: self.fakework.clone(),
                distribution: "exponential".to_owned(),
                mean: self.mean,
            },
        }
    }
}

/// Runs it, prints the table, writes plots and samples.
pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    let bed = args.bed();
    let cases: Vec<Case> = args
        .policies
        .iter()
        .map(|policy| Case::policy(policy, policy, &[]))
        .collect();
    let steps = Steps {
        from: 0.0,
        to: args.load,
        samples: args.steps,
        seconds: args.seconds,
    };
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let all = (args.steps * args.rounds) as usize * cases.len();
    let mut progress = Progress::new(all);
    let samples = sweep::run(&bed, &cases, &steps, args.rounds, |s| {
        progress.next(&s.told())
    })?;
    progress.end();
    let rows = summary::rows(&samples, args.seconds);
    save(&args.out.join("samples.jsonl"), &samples)?;
    let mut files = String::new();
    let title = |what: &str| {
        format!(
            "{what} against load ({} kthreads, {} flows)",
            args.cores, args.flows
        )
    };
    let plots = [
        (
            "p99",
            summary::chart(
                &rows,
                &title("99th percentile"),
                "p99 latency, us",
                true,
                |r| r.p99_us,
            ),
        ),
        (
            "changed-core",
            summary::chart(
                &rows,
                &title("Packets whose flow changed core"),
                "packets that changed core, %",
                false,
                |r| r.changed_percent,
            ),
        ),
    ];
    for (name, chart) in plots {
        // A load at which all was lost has no latency to draw.
        match chart.save(&args.out.join(name)) {
            Ok(paths) => files.extend(paths.map(|path| format!("{}\n", path.display()))),
            Err(e @ PlotError::Empty(_)) => files.push_str(&format!("{e}\n")),
            Err(e) => return Err(e.into()),
        }
    }
    answer(&(summary::table(&rows) + &files)).context("cannot write to standard output")
}

/// Samples as JSON, one a line.
pub(crate) fn save(path: &Path, samples: &[Sample]) -> Result<()> {
    let open = || -> Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for sample in samples {
            serde_json::to_writer(&mut file, sample)?;
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    };
    open().with_context(|| format!("cannot write {}", path.display()))
}
