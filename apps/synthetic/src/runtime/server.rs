//! `spawner-server`: serves on a runtime until it is told to end.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use calisto_runtime::Stats;

use super::server_app::{Counts, ServerApp};
use super::{Started, config};
use crate::cli::Cli;
use crate::error::Failure;
use crate::server::{Report, listening, stop_flag};

/// Time between two looks at signals.
const LOOK: Duration = Duration::from_millis(50);
/// How long the end waits for kthreads; one without a core cannot be asked.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// When the runtime cannot be started, or iokerneld hangs up.
pub fn run(cli: &Cli) -> Result<Report, Failure> {
    let addr = cli.addr()?;
    let config = config::of_server(cli)?;
    let addr = SocketAddrV4::new(config.addr, addr.port());
    let app = Arc::new(ServerApp {
        work: cli.fakework.clone(),
        transport: cli.transport,
        first_port: addr.port(),
        ports: cli.ports,
        stop: AtomicBool::new(false),
        bound: AtomicBool::new(false),
        counts: (0..config.kthreads).map(|_| Default::default()).collect(),
    });
    let stop = stop_flag()?;
    let started = Started::start(config, &app)?;
    let mut announced = false;
    loop {
        if let Some(end) = started.wait(LOOK) {
            // Nobody had asked for it.
            return match end {
                Ok(stats) => Ok(report(&app, Some(&stats))),
                Err(error) => Err(Failure::Failed(error.into())),
            };
        }
        if !announced && app.bound.load(Relaxed) {
            listening(addr, cli.ports)?;
            announced = true;
        }
        if stop.load(Relaxed) {
            break;
        }
    }
    app.stop.store(true, Relaxed);
    app.work.stop_flag().store(true, Relaxed);
    match started.wait(LAST_WORDS) {
        Some(Err(error)) => Err(Failure::Failed(error.into())),
        Some(Ok(stats)) => Ok(report(&app, Some(&stats))),
        None => Ok(report(&app, None)),
    }
}

fn report(app: &ServerApp, stats: Option<&Stats>) -> Report {
    let counts = |f: fn(&Counts) -> &AtomicU64| {
        let count = |c: &_| f(c).load(Relaxed);
        app.counts.iter().map(|c| count(c)).collect::<Vec<u64>>()
    };
    let named = |stats: &Stats| stats.iter().map(|(name, n)| (name.to_owned(), n)).collect();
    Report {
        by_thread: counts(|c| &c.served),
        malformed: counts(|c| &c.malformed).iter().sum(),
        unsent: counts(|c| &c.unsent).iter().sum(),
        runtime: stats.map(named),
    }
}
