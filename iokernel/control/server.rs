//! The control thread's loop.
//!
//! One round: runtimes that the dataplane returned, departures, candidates that
//! waited for a departure, what arrived on registrations, new connections,
//! deadlines, the watch. No step waits for a peer; the only wait is the poll.
//!
//! The dataplane sends without a system call, so its ring is looked at every
//! round, and a round comes at least every [`LEAVING_PERIOD`] while somebody is
//! leaving.

mod arrivals;
mod departures;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::thread::CpuSet;

use crate::port::dma::DmaMapper;
use crate::stats::ControlCounts;
use crate::steering::SteeringSpec;

use super::admission::Admission;
use super::checks::{Candidate, Context};
use super::directory::Directory;
use super::kthreads;
use super::messages::ControlEnd;
use super::penalties::Penalties;
use super::rate_limit::TokenBucket;
use super::registration::Registration;
use super::socket::ControlSocket;
use super::table::Table;
use token::Token;

/// Time between calls of [`ServerConfig::watch`].
pub const WATCH_PERIOD: Duration = Duration::from_millis(5);
/// Longest round while the dataplane has something to return.
pub const LEAVING_PERIOD: Duration = Duration::from_millis(10);
/// Longest round otherwise.
const IDLE_PERIOD: Duration = Duration::from_millis(100);
/// Registrations under way at once; further connections wait in the backlog.
pub const MAX_PENDING: usize = 64;
/// Events taken from the kernel at once.
const EVENTS: usize = 256;

/// What the control thread works with.
pub struct ServerConfig {
    /// Bound, not yet listening.
    pub socket: ControlSocket,
    /// The rings to the dataplane.
    pub channel: ControlEnd,
    /// The ingress segment's id: no runtime's region.
    pub ingress_shmid: i32,
    /// Makes regions known to the port's device.
    pub mapper: Arc<dyn DmaMapper>,
    /// Whose runtimes may attach.
    pub admission: Admission,
    /// How flows are steered.
    pub steering: SteeringSpec,
    /// Cores that guarantees may sum up to.
    pub runtime_cores: u16,
    /// CPU of the control thread; `None`: anywhere.
    pub control_cpu: Option<u16>,
    /// CPUs of parked kthreads. Empty: kthreads are left where they are.
    pub park_cpus: Vec<u16>,
    /// Called every [`WATCH_PERIOD`].
    pub watch: Option<Box<dyn FnMut() + Send>>,
    /// Ends the thread, once the dataplane returned all runtimes. The thread sets it
    /// when it ends for any other reason.
    pub stop: Arc<AtomicBool>,
    /// Where others look who is attached.
    pub directory: Directory,
    /// Counters for others to read.
    pub stats: Arc<ControlStats>,
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("ingress_shmid", &self.ingress_shmid)
            .field("runtime_cores", &self.runtime_cores)
            .field("control_cpu", &self.control_cpu)
            .field("park_cpus", &self.park_cpus)
            .finish_non_exhaustive()
    }
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct ControlStats {
    /// Runtimes attached now, leaving ones included.
    pub attached: AtomicU64,
    /// Cores promised now.
    pub reserved_cores: AtomicU64,
    /// Registrations that were admitted.
    pub admitted: AtomicU64,
    /// Registrations that were refused, hang-ups among them.
    pub refused: AtomicU64,
    /// Runtimes that were detached for a fault.
    pub faults: AtomicU64,
    /// Refusals and faults by reason, and segments left. The control thread alone writes it.
    pub reasons: ControlCounts,
}

/// The control thread.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    context: Context,
    epoll: OwnedFd,
    listening: bool,
    table: Table,
    /// By age: numbers only grow.
    pending: BTreeMap<u32, Registration>,
    waiting: BTreeMap<u32, (Candidate, Instant)>,
    /// Of `pending`, those whose users are not let in; some may have ended.
    outsiders: BTreeSet<u32>,
    next_number: u32,
    /// Accepting failed; not before this.
    accept_after: Option<Instant>,
    watch: Watch,
    /// Users whose registrations wait.
    penalties: Penalties,
    park: Option<CpuSet>,
    /// Where this process may run, for kthreads that we leave.
    everywhere: CpuSet,
    refusals: TokenBucket,
    arrivals: TokenBucket,
    departures: TokenBucket,
    /// Apart from departures: who comes and goes a lot hides nobody's fault.
    faults: TokenBucket,
    /// For segments that cannot be removed.
    leftovers: TokenBucket,
    accept_errors: TokenBucket,
    /// For kthreads that cannot be pinned where parked ones are.
    unparked: TokenBucket,
}

/// The polling loop's watch, and when it is to be called next.
struct Watch {
    call: Option<Box<dyn FnMut() + Send>>,
    next: Instant,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Calls it if it is time.
    fn look(&mut self) {
        let now = Instant::now();
        if let Some(call) = &mut self.call
            && now >= self.next
        {
            call();
            self.next = now + WATCH_PERIOD;
        }
    }

    /// How long until then, if there is one.
    fn due_in(&self, now: Instant) -> Option<Duration> {
        self.call.as_ref()?;
        Some(self.next.saturating_duration_since(now))
    }
}

/// Stops the daemon when the control thread ends, in a panic above all: without it
/// the dataplane would poll on, and nobody could attach or leave.
struct StopWithUs(Arc<AtomicBool>);

impl Drop for StopWithUs {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Server {
    /// Starts to listen, and the control thread. It ends on `stop`, and then
    /// has dropped every runtime that the dataplane returned.
    ///
    /// # Errors
    /// What listening, epoll or starting a thread reports.
    pub fn spawn(config: ServerConfig) -> io::Result<JoinHandle<()>> {
        config.socket.listen().map_err(io::Error::other)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &config.socket,
            Token::Listener.encode(),
            epoll::EventFlags::IN,
        )?;
        let everywhere = rustix::thread::sched_getaffinity(None)?;
        std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                let _stop = StopWithUs(Arc::clone(&config.stop));
                Server::new(config, epoll, everywhere).run();
            })
    }

    fn new(mut config: ServerConfig, epoll: OwnedFd, everywhere: CpuSet) -> Server {
        let now = Instant::now();
        let bucket = || TokenBucket::new(32, Duration::from_millis(250), now);
        Server {
            context: Context {
                ingress_shmid: config.ingress_shmid,
                mapper: Arc::clone(&config.mapper),
                admission: config.admission.clone(),
            },
            table: Table::new(config.runtime_cores),
            park: (!config.park_cpus.is_empty()).then(|| kthreads::cpu_set(&config.park_cpus)),
            watch: Watch {
                call: config.watch.take(),
                next: now,
            },
            config,
            epoll,
            listening: true,
            pending: BTreeMap::new(),
            waiting: BTreeMap::new(),
            outsiders: BTreeSet::new(),
            next_number: 0,
            accept_after: None,
            penalties: Penalties::default(),
            everywhere,
            refusals: bucket(),
            arrivals: bucket(),
            departures: bucket(),
            faults: bucket(),
            leftovers: bucket(),
            accept_errors: bucket(),
            unparked: bucket(),
        }
    }

    fn run(mut self) {
        if let Some(cpu) = self.config.control_cpu
            && let Err(e) = rustix::thread::sched_setaffinity(None, &kthreads::cpu_set(&[cpu]))
        {
            log::warn!("control thread: cannot be pinned to CPU {cpu}: {e}");
        }
        let mut space = [MaybeUninit::uninit(); EVENTS];
        while !self.config.stop.load(Ordering::Relaxed) {
            let timeout = self.timeout(Instant::now());
            let events = match epoll::wait(&self.epoll, &mut space, Some(&timeout)) {
                Ok((events, _)) => &*events,
                Err(rustix::io::Errno::INTR) => &[],
                Err(e) => panic!("epoll on our own fds failed: {e}"),
            };
            self.round(events);
        }
        self.shut_down();
    }

    fn round(&mut self, events: &[epoll::Event]) {
        self.take_returned();
        let tokens = || events.iter().map(|event| Token::decode(event.data));
        for token in tokens() {
            if let Token::Attached(id) = token {
                self.depart(id);
            }
        }
        self.depart_broken();
        self.retry_waiting();
        for token in tokens() {
            if let Token::Pending(number) = token {
                self.advance(number);
                self.watch.look();
            }
        }
        self.make_room();
        if tokens().any(|token| token == Token::Listener) {
            self.accept();
        }
        self.refuse_silent();
        self.update_listening();
        self.watch.look();
        self.publish_stats();
    }

    fn timeout(&self, now: Instant) -> Timespec {
        let mut wait = if self.table.any_leaving() || !self.waiting.is_empty() || !self.listening {
            LEAVING_PERIOD
        } else {
            IDLE_PERIOD
        };
        if let Some(due) = self.watch.due_in(now) {
            wait = wait.min(due);
        }
        Timespec::try_from(wait).expect("well below a second")
    }

    fn publish_stats(&self) {
        let stats = &self.config.stats;
        stats
            .attached
            .store(self.table.len() as u64, Ordering::Relaxed);
        stats
            .reserved_cores
            .store(u64::from(self.table.reserved()), Ordering::Relaxed);
    }
}
