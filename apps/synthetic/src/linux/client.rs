//! `linux-client`: a thread for each lane.

use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::lane::{Sockets, drive};
use super::tcp_lane::TcpLane;
use super::udp_lane::UdpLane;
use crate::cli::{Cli, Job, Transport};
use crate::client::{Generator, PROBE};
use crate::error::Failure;
use crate::flows::Flows;
use crate::payload::Payload;
use crate::run::Run;

/// Descriptors for all but sockets.
const OTHER_FILES: u64 = 64;
/// Microseconds that a thread stays awake before a request is due.
const SPIN_US: u32 = 50;
/// Time between two tries to get a first answer.
const RETRY: Duration = Duration::from_millis(200);

/// Sends on Linux sockets.
pub struct LinuxClient {
    server: SocketAddrV4,
    ports: u16,
    transport: Transport,
    flows: Flows,
    lanes: usize,
    spin: Duration,
    sockets: Vec<Box<dyn Sockets>>,
    threads: Vec<JoinHandle<()>>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for LinuxClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinuxClient")
            .field("server", &self.server)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl LinuxClient {
    /// A client as the command line says.
    ///
    /// # Errors
    /// When this process may not have so many sockets.
    pub fn new(cli: &Cli, job: &Job) -> Result<LinuxClient, Failure> {
        let client = LinuxClient {
            server: cli.addr()?,
            ports: cli.ports,
            transport: cli.transport,
            flows: job.flows.clone(),
            lanes: job.lanes,
            spin: Duration::from_micros(cli.client.spin_us.unwrap_or(SPIN_US).into()),
            sockets: Vec::new(),
            threads: Vec::new(),
            trouble: Arc::default(),
        };
        allow_files(u64::from(job.flows.sources()) + job.lanes as u64)?;
        Ok(client)
    }

    fn open(&self, lane: usize, patience: Duration) -> anyhow::Result<Box<dyn Sockets>> {
        let (server, flows, lanes) = (self.server, &self.flows, self.lanes);
        Ok(match self.transport {
            Transport::Udp => Box::new(UdpLane::open(server, self.ports == 1, flows, lane, lanes)?),
            Transport::Tcp => Box::new(TcpLane::open(server, flows, lane, lanes, patience)?),
        })
    }

    /// Asks with flow 0 until it is answered.
    fn probe(&mut self, patience: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + patience;
        let (mut answered, mut tries) = (false, 0);
        while !answered {
            let transport = self.transport.name();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let server = self.server;
                bail!(
                    "no answer from {server} to {tries} requests in {:.1} s: is a server with \
                     --transport {transport} there?",
                    patience.as_secs_f64()
                );
            }
            // A stream loses nothing, so asking once is enough.
            if self.transport == Transport::Udp || tries == 0 {
                let payload = Payload {
                    work: 0,
                    index: PROBE,
                };
                self.sockets[0].send(0, payload)?;
                tries += 1;
            }
            let wait = Instant::now() + left.min(RETRY);
            while !answered && Instant::now() < wait {
                self.sockets[0].wait(wait.saturating_duration_since(Instant::now()))?;
                self.sockets[0].receive(&mut |p| answered |= p.index == PROBE)?;
            }
        }
        Ok(())
    }
}

impl Generator for LinuxClient {
    fn mode(&self) -> &'static str {
        "linux-client"
    }

    fn connect(&mut self, patience: Duration) -> anyhow::Result<()> {
        // As upstream, each run has sockets of its own.
        self.sockets.clear();
        self.sockets = (0..self.lanes)
            .map(|lane| self.open(lane, patience))
            .collect::<anyhow::Result<_>>()?;
        self.probe(patience)
    }

    fn begin(&mut self, run: &Arc<Run>) -> anyhow::Result<()> {
        for (lane, mut sockets) in self.sockets.drain(..).enumerate() {
            let (run, trouble, spin) = (Arc::clone(run), Arc::clone(&self.trouble), self.spin);
            let work = move || {
                if let Err(error) = drive(&run, lane, &mut *sockets, spin) {
                    let mut trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
                    trouble.get_or_insert(format!("{error:#}"));
                    run.stop();
                }
            };
            let thread = std::thread::Builder::new()
                .name(format!("lane {lane}"))
                .spawn(work)
                .context("cannot start a thread: lower --threads")?;
            self.threads.push(thread);
        }
        Ok(())
    }

    fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone()
    }

    fn end(&mut self) {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Raises this process's limit of open files as far as it takes.
fn allow_files(sockets: u64) -> Result<(), Failure> {
    let wanted = sockets + OTHER_FILES;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|now| now >= wanted) {
        return Ok(());
    }
    let most = limit.maximum;
    limit.current = Some(wanted);
    let raised =
        most.is_none_or(|most| most >= wanted) && setrlimit(Resource::Nofile, limit).is_ok();
    if raised {
        return Ok(());
    }
    let most = most.unwrap_or_default();
    Err(Failure::Usage(format!(
        "so many --flows take {wanted} open files, and this process may have {most}: more \
         --ports share a socket (UDP), runtime-client takes none, or raise `ulimit -Hn`"
    )))
}
