//! `linux-server`: serves until it is told to end, or one of its threads fails.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use calisto::port::hash::hash_flow;
use crossbeam_utils::CachePadded;

use super::{tcp_server, udp_server};
use crate::cli::{Cli, Transport};
use crate::error::Failure;
use crate::fakework::FakeWork;
use crate::server::{Report, stop_flag};

/// Longest time until a thread notices that it should end.
pub(super) const NAP: Duration = Duration::from_millis(100);
/// How long the end waits for threads that are in the middle of a request.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// One thread's counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) served: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) unsent: AtomicU64,
}

/// What a thread needs to serve.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) work: FakeWork,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) counts: Arc<CachePadded<Counts>>,
}

impl Service {
    /// Does the work of a request that came from `from` to `to`.
    pub(super) fn serve(&self, iterations: u64, from: SocketAddrV4, to: SocketAddrV4) {
        let hash = match self.work.needs_flow() {
            true => hash_flow(from.into(), to.into()).unwrap_or_default(),
            false => 0,
        };
        self.work.work(iterations, hash);
        self.counts.served.fetch_add(1, Relaxed);
    }

    /// Counts a datagram that is no request.
    pub(super) fn malformed(&self) {
        self.counts.malformed.fetch_add(1, Relaxed);
    }

    /// Counts an answer that could not be sent.
    pub(super) fn unsent(&self) {
        self.counts.unsent.fetch_add(1, Relaxed);
    }

    /// True when it is time to end.
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// When an address is in use, or a thread fails.
pub fn run(cli: &Cli) -> Result<Report, Failure> {
    let addr = cli.addr()?;
    if cli.threads == 0 {
        return Err(Failure::Usage("--threads 0: there is at least 1".into()));
    }
    let stop = stop_flag()?;
    let service = |stop: &Arc<AtomicBool>| Service {
        work: cli.fakework.clone(),
        stop: Arc::clone(stop),
        counts: Arc::default(),
    };
    let services: Vec<Service> = (0..cli.threads).map(|_| service(&stop)).collect();
    let (failed, failures) = channel();
    match cli.transport {
        Transport::Udp => udp_server::start(addr, cli.ports, &services, &failed)?,
        Transport::Tcp => tcp_server::start(addr, cli.ports, &services, &failed)?,
    }
    // Threads hold the others: when all have ended there is no one to wait for.
    drop(failed);
    let mut failure = None;
    while !stop.load(Relaxed) && failure.is_none() {
        failure = failures.recv_timeout(NAP).ok();
    }
    stop.store(true, Relaxed);
    cli.fakework.stop_flag().store(true, Relaxed);
    let _ = failures.recv_timeout(LAST_WORDS);
    match failure {
        Some(error) => Err(Failure::Failed(error)),
        None => Ok(report(&services)),
    }
}

/// Tells of a thread's end, when it was not asked to.
pub(super) fn spawn(
    name: String,
    failed: &Sender<anyhow::Error>,
    work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> std::io::Result<()> {
    let failed = failed.clone();
    let thread = std::thread::Builder::new().name(name);
    thread
        .spawn(move || {
            if let Err(error) = work() {
                let _ = failed.send(error);
            }
        })
        .map(drop)
}

fn report(services: &[Service]) -> Report {
    let counts = |f: fn(&Counts) -> &AtomicU64| {
        let count = |s: &Service| f(&s.counts).load(Relaxed);
        services.iter().map(count).collect::<Vec<u64>>()
    };
    Report {
        by_thread: counts(|c| &c.served),
        malformed: counts(|c| &c.malformed).iter().sum(),
        unsent: counts(|c| &c.unsent).iter().sum(),
        runtime: None,
    }
}
