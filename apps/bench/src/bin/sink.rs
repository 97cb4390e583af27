//! The smallest runtime that an I/O kernel can serve: takes packets, gives them
//! back or echoes them, and says what it saw.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use calisto_bench::runtime::{Runtime, Spec, block_signals, stop_flag};
use calisto_bench::shared::Progress;
use calisto_bench::sink::{Options, Sink};
use clap::Parser;
use rustix::thread::CpuSet;

/// Passes between two looks at the clock.
const PASSES_PER_CLOCK: u64 = 4096;

/// Attaches to iokerneld, serves N kthreads with one thread that never sleeps,
/// and prints one line of JSON when it ends (SIGINT and SIGTERM end it, too).
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Kthreads
    #[arg(long, short, env = "SINK_KTHREADS", default_value_t = 1)]
    kthreads: u16,
    /// Guaranteed cores; all kthreads by default
    #[arg(long, short, env = "SINK_GUARANTEED")]
    guaranteed: Option<u16>,
    /// Send each packet back
    #[arg(long, short)]
    echo: bool,
    /// Park a kthread that had no message for so many microseconds; 0: never
    #[arg(long, env = "PARK_US", default_value_t = 0)]
    park_us: u64,
    /// Count flows that move, and packets that are overtaken
    #[arg(long, env = "SINK_TRACK", value_parser = clap::builder::FalseyValueParser::new())]
    track: bool,
    /// The CPU to run on
    #[arg(long, env = "SINK_CPU")]
    cpu: Option<usize>,
    /// Last byte of the Ethernet address 02:00:00:00:00:xx
    #[arg(long, env = "SINK_ID", default_value_t = 3)]
    id: u8,
    /// File in which to keep the number of packets, for the NIC emulator
    #[arg(long, env = "SINK_PROGRESS")]
    progress: Option<PathBuf>,
    /// End after so many seconds; 0: only on a signal
    #[arg(long, short, default_value_t = 0.0)]
    secs: f64,
    /// Seconds to wait for iokerneld
    #[arg(long, default_value_t = 10.0)]
    patience: f64,
}

fn main() -> ExitCode {
    match serve(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("sink: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &Args) -> anyhow::Result<()> {
    let secs = Duration::try_from_secs_f64(args.secs).context("--secs")?;
    let patience = Duration::try_from_secs_f64(args.patience).context("--patience")?;
    block_signals();
    let stop = stop_flag()?;
    let progress = args.progress.as_deref().map(Progress::open).transpose()?;
    let runtime = Runtime::register(&Spec {
        kthreads: args.kthreads,
        guaranteed: args.guaranteed.unwrap_or(args.kthreads),
        id: args.id,
        patience,
    })?;
    // Only this thread: those that stand for kthreads are the I/O kernel's to pin.
    if let Some(cpu) = args.cpu {
        ensure!(cpu < CpuSet::MAX_CPU, "--cpu {cpu}: no such CPU");
        let mut set = CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)
            .with_context(|| format!("--cpu {cpu}: cannot run there"))?;
    }
    let options = Options {
        echo: args.echo,
        track: args.track,
        park_after: (args.park_us > 0).then(|| Duration::from_micros(args.park_us)),
    };
    let mut sink = Sink::new(&runtime, options)?;
    if let Some(p) = &progress {
        p.ready();
    }
    let end = (!secs.is_zero()).then(|| Instant::now() + secs);
    'serve: loop {
        for _ in 0..PASSES_PER_CLOCK {
            sink.pass()?;
            if let Some(p) = &progress {
                p.received(sink.received());
            }
            if sink.is_stuck() {
                break 'serve;
            }
        }
        if stop.load(Ordering::Relaxed) || end.is_some_and(|end| Instant::now() > end) {
            break;
        }
    }
    let stuck = sink.is_stuck();
    println!("{}", serde_json::to_string(&sink.finish())?);
    ensure!(
        !stuck,
        "iokerneld took no command for a second: has it ended?"
    );
    Ok(())
}
