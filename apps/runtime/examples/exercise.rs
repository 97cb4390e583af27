//! Goes through the ways of getting and losing a core; for tests.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use calisto_runtime::{App, Net, Next};
use clap::{Parser, Subcommand};

mod common;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    options: common::Options,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// Every kthread that ever had a core sleeps until a timer, again and again.
    Timers {
        /// Timers of all kthreads together.
        #[arg(long, default_value_t = 100)]
        count: u64,
        /// Milliseconds between two of a kthread.
        #[arg(long, default_value_t = 5)]
        every_ms: u64,
    },
    /// Wants every core and computes, in pieces that are longer than a core may be kept.
    Burn {
        /// Pieces of all kthreads together.
        #[arg(long, default_value_t = 200)]
        pieces: u64,
        /// Milliseconds of CPU time for each.
        #[arg(long, default_value_t = 4)]
        piece_ms: u64,
        /// After so many pieces of a kthread it rests for as long as they took.
        #[arg(long)]
        rest_after: Option<u64>,
    },
    /// Panics in the first callback.
    Panic,
    /// Does nothing, for ever.
    Idle,
}

struct Exercise {
    what: What,
    done: AtomicU64,
    /// Timers that were late by more than one period.
    late: AtomicU64,
    /// Callbacks that found another one of the same kthread not finished.
    torn: AtomicU64,
}

#[derive(Default)]
struct Local {
    inside: bool,
    due: Option<Instant>,
    pieces: u64,
}

/// Uses the CPU for that long, by this thread's own clock: what it was parked does not count.
fn burn(time: Duration) {
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanos =
        |t: rustix::time::Timespec| i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec);
    let end = nanos(cpu()) + time.as_nanos().cast_signed();
    while nanos(cpu()) < end {
        std::hint::spin_loop();
    }
}

impl Exercise {
    fn timer(&self, local: &mut Local, net: &Net<'_>, count: u64, every: Duration) -> Next {
        let now = net.now();
        let due = *local.due.get_or_insert(now + every);
        if now < due {
            return Next::Until(due);
        }
        if now > due + every {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        if self.done.fetch_add(1, Ordering::Relaxed) + 1 >= count {
            return Next::Stop;
        }
        local.due = Some(now + every);
        Next::Until(now + every)
    }

    fn piece(
        &self,
        local: &mut Local,
        net: &mut Net<'_>,
        pieces: u64,
        time: Duration,
        rest_after: Option<u64>,
    ) -> Next {
        if self.done.load(Ordering::Relaxed) >= pieces {
            return Next::Stop;
        }
        if let Some(due) = local.due.take_if(|due| *due > net.now()) {
            local.due = Some(due);
            return Next::Until(due);
        }
        net.want_core(true);
        burn(time);
        self.done.fetch_add(1, Ordering::Relaxed);
        local.pieces += 1;
        match rest_after {
            Some(n) if local.pieces.is_multiple_of(n) => {
                net.want_core(false);
                let due = net.now() + time * u32::try_from(n).unwrap_or(1);
                local.due = Some(due);
                Next::Until(due)
            }
            _ => Next::Busy,
        }
    }
}

impl App for Exercise {
    type Local = Local;

    fn local(&self, _kthread: usize) -> Local {
        Local::default()
    }

    fn poll(&self, local: &mut Local, net: &mut Net<'_>) -> Next {
        if std::mem::replace(&mut local.inside, true) {
            self.torn.fetch_add(1, Ordering::Relaxed);
        }
        let next = match self.what {
            What::Timers { count, every_ms } => {
                self.timer(local, net, count, Duration::from_millis(every_ms))
            }
            What::Burn {
                pieces,
                piece_ms,
                rest_after,
            } => self.piece(
                local,
                net,
                pieces,
                Duration::from_millis(piece_ms),
                rest_after,
            ),
            What::Panic => panic!("as asked"),
            What::Idle => Next::Idle,
        };
        local.inside = false;
        next
    }
}

fn main() -> ExitCode {
    common::exit_code(run(Args::parse()))
}

fn run(args: Args) -> anyhow::Result<()> {
    let app = Arc::new(Exercise {
        what: args.what,
        done: AtomicU64::new(0),
        late: AtomicU64::new(0),
        torn: AtomicU64::new(0),
    });
    common::run(&args.options, Arc::clone(&app))?;
    for (name, count) in [
        ("done", &app.done),
        ("late", &app.late),
        ("torn", &app.torn),
    ] {
        println!("{name} {}", count.load(Ordering::Relaxed));
    }
    Ok(())
}
