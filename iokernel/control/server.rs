//! The control thread's loop.
//!
//! One round: runtimes that the dataplane returned, departures, candidates that
//! waited for a departure, what arrived on registrations, new connections,
//! deadlines, the watch. No step waits for a peer; the only wait is the poll.
//!
//! The dataplane sends without a system call, so its ring is looked at every
//! round, and a round comes at least every [`LEAVING_PERIOD`] while somebody is
//! leaving.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::thread::CpuSet;

use crate::ids::{ProcId, ProcSlot};
use crate::port::dma::DmaMapper;
use crate::proc::Proc;

use super::checks::{self, Candidate, Context};
use super::error::{KthreadError, RegistrationError};
use super::kthreads;
use super::messages::{ControlEnd, DetachReason, ToControl, ToDataplane};
use super::rate_limit::TokenBucket;
use super::registration::{DEADLINE, Progress, Registration};
use super::socket::{ControlSocket, Peer, peer};
use super::table::Table;

/// Time between calls of [`ServerConfig::watch`].
pub const WATCH_PERIOD: Duration = Duration::from_millis(5);
/// Longest round while the dataplane has something to return.
pub const LEAVING_PERIOD: Duration = Duration::from_millis(10);
/// Longest round otherwise.
const IDLE_PERIOD: Duration = Duration::from_millis(100);
/// Registrations under way at once; further connections wait in the backlog.
pub const MAX_PENDING: usize = 64;
/// When all places are taken, a registration older than this gives way.
const GRACE: Duration = Duration::from_millis(200);
/// How long a candidate waits for what a leaving runtime still holds.
const SUCCESSION: Duration = Duration::from_secs(2);
/// How long the dataplane has to return all runtimes at the end.
const SHUTDOWN: Duration = Duration::from_secs(2);
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
    /// Cores that guarantees may sum up to.
    pub runtime_cores: u16,
    /// CPU of the control thread; `None`: anywhere.
    pub control_cpu: Option<u16>,
    /// CPUs of parked kthreads. Empty: kthreads are left where they are.
    pub park_cpus: Vec<u16>,
    /// Called every [`WATCH_PERIOD`].
    pub watch: Option<Box<dyn FnMut() + Send>>,
    /// Ends the thread, once the dataplane returned all runtimes.
    pub stop: Arc<AtomicBool>,
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
    next_number: u32,
    /// Accepting failed; not before this.
    accept_after: Option<Instant>,
    next_watch: Instant,
    park: Option<CpuSet>,
    /// Where this process may run, for kthreads that we leave.
    everywhere: CpuSet,
    refusals: TokenBucket,
    arrivals: TokenBucket,
    departures: TokenBucket,
    accept_errors: TokenBucket,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Listener,
    Pending(u32),
    Attached(ProcId),
}

impl Token {
    const PENDING: u64 = 1 << 62;
    const ATTACHED: u64 = 1 << 63;

    fn encode(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Token::Listener => 0,
            Token::Pending(number) => Self::PENDING | u64::from(number),
            Token::Attached(id) => {
                Self::ATTACHED | u64::from(id.slot.0) << 32 | u64::from(id.generation)
            }
        })
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "takes apart what encode() put together"
    )]
    fn decode(data: epoll::EventData) -> Token {
        let bits = data.u64();
        if bits & Self::ATTACHED != 0 {
            Token::Attached(ProcId {
                slot: ProcSlot((bits >> 32) as u16),
                generation: bits as u32,
            })
        } else if bits & Self::PENDING != 0 {
            Token::Pending(bits as u32)
        } else {
            Token::Listener
        }
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
            .spawn(move || Server::new(config, epoll, everywhere).run())
    }

    fn new(config: ServerConfig, epoll: OwnedFd, everywhere: CpuSet) -> Server {
        let now = Instant::now();
        let bucket = || TokenBucket::new(32, Duration::from_millis(250), now);
        Server {
            context: Context {
                ingress_shmid: config.ingress_shmid,
                mapper: Arc::clone(&config.mapper),
            },
            table: Table::new(config.runtime_cores),
            park: (!config.park_cpus.is_empty()).then(|| kthreads::cpu_set(&config.park_cpus)),
            config,
            epoll,
            listening: true,
            pending: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_number: 0,
            accept_after: None,
            next_watch: now,
            everywhere,
            refusals: bucket(),
            arrivals: bucket(),
            departures: bucket(),
            accept_errors: bucket(),
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
        self.retry_waiting();
        for token in tokens() {
            if let Token::Pending(number) = token {
                self.advance(number);
                self.watch();
            }
        }
        self.make_room();
        if tokens().any(|token| token == Token::Listener) {
            self.accept();
        }
        self.refuse_silent();
        self.update_listening();
        self.watch();
        self.publish_stats();
    }

    fn timeout(&self, now: Instant) -> Timespec {
        let mut wait = if self.table.any_leaving() || !self.waiting.is_empty() || !self.listening {
            LEAVING_PERIOD
        } else {
            IDLE_PERIOD
        };
        if self.config.watch.is_some() {
            wait = wait.min(self.next_watch.saturating_duration_since(now));
        }
        Timespec::try_from(wait).expect("well below a second")
    }

    fn watch(&mut self) {
        let now = Instant::now();
        if let Some(watch) = &mut self.config.watch
            && now >= self.next_watch
        {
            watch();
            self.next_watch = now + WATCH_PERIOD;
        }
    }

    // Departures.

    /// A peer hung up, or sent something, which it never should again.
    fn depart(&mut self, id: ProcId) {
        let Some(tenant) = self.table.get_mut(id).filter(|tenant| !tenant.leaving) else {
            return;
        };
        tenant.leaving = true;
        // It stays readable from now on.
        let _ = epoll::delete(&self.epoll, &tenant.connection);
        self.send(ToDataplane::Detach(id));
    }

    fn send(&mut self, message: ToDataplane) {
        if self.config.channel.to_dataplane.push(message).is_err() {
            panic!("the ring to the dataplane holds three messages a slot, and is full");
        }
    }

    /// Drops what the dataplane returned.
    fn take_returned(&mut self) {
        while let Ok(ToControl::Detached { proc, reason }) =
            self.config.channel.from_dataplane.pop()
        {
            self.dismiss(proc, reason);
        }
    }

    fn dismiss(&mut self, proc: Box<Proc>, reason: DetachReason) {
        let tenant = self.table.remove(proc.id);
        let tenant = tenant.expect("the dataplane returns each runtime once");
        let _ = epoll::delete(&self.epoll, &tenant.connection);
        self.release_threads(&proc, reason);
        if let DetachReason::Fault(_) = reason {
            self.config.stats.faults.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(more) = self.departures.take(Instant::now()) {
            let who = format_args!("pid {} (uid {}, {})", proc.pid, proc.uid, proc.mac);
            let more = Suppressed(more);
            match reason {
                DetachReason::HungUp => log::info!("{who} left{more}"),
                DetachReason::Fault(fault) => log::warn!("{who} is detached: {fault}{more}"),
                DetachReason::Shutdown => log::info!("{who} is detached: iokerneld ends{more}"),
            }
        }
    }

    /// Takes the kthreads that still live off the runtime cores.
    fn release_threads(&self, proc: &Proc, reason: DetachReason) {
        let cpus = match reason {
            DetachReason::Shutdown => Some(&self.everywhere),
            DetachReason::HungUp | DetachReason::Fault(_) => self.park.as_ref(),
        };
        let Some(cpus) = cpus else { return };
        for kthread in &proc.kthreads {
            // Without a pidfd the number may be another thread's by now, so it is let be.
            if kthread
                .pidfd
                .as_ref()
                .is_some_and(|pidfd| !kthreads::has_ended(pidfd))
            {
                // It may end at any moment, which is as good.
                let _ = kthreads::pin(kthread.tid, cpus);
            }
        }
    }

    // Arrivals.

    fn accept(&mut self) {
        while self.places() > 0 {
            match self.config.socket.accept() {
                Ok(None) => return,
                Ok(Some(connection)) => self.begin(connection),
                Err(e) => {
                    let now = Instant::now();
                    self.accept_after = Some(now + IDLE_PERIOD);
                    if let Some(more) = self.accept_errors.take(now) {
                        log::warn!("control socket: accept failed: {e}{}", Suppressed(more));
                    }
                    return;
                }
            }
        }
    }

    fn places(&self) -> usize {
        MAX_PENDING - self.pending.len() - self.waiting.len()
    }

    fn begin(&mut self, connection: OwnedFd) {
        let who = match peer(connection.as_fd()) {
            Ok(who) => who,
            Err(e) => {
                let nobody = Peer { pid: 0, uid: 0 };
                return self.refuse(nobody, &RegistrationError::Os("SO_PEERCRED", e));
            }
        };
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        let token = Token::Pending(number).encode();
        if let Err(e) = epoll::add(&self.epoll, &connection, token, flags) {
            return self.refuse(who, &RegistrationError::Os("epoll_ctl", e.into()));
        }
        let registration = Registration::new(connection, who, Instant::now());
        self.pending.insert(number, registration);
        // Most often everything is there already.
        self.advance(number);
    }

    fn advance(&mut self, number: u32) {
        if let Some((candidate, _)) = self.waiting.remove(&number) {
            // Nothing but a hang-up is to be expected of it.
            return self.refuse(candidate.peer, &RegistrationError::HungUp(13));
        }
        let Some(registration) = self.pending.get_mut(&number) else {
            return;
        };
        match registration.advance() {
            Ok(Progress::Partial) => {}
            Ok(Progress::Complete) => self.complete(number),
            Err(error) => {
                let who = registration.peer();
                self.pending.remove(&number);
                self.refuse(who, &error);
            }
        }
    }

    fn complete(&mut self, number: u32) {
        let registration = self.pending.remove(&number).expect("advance() has it");
        let who = registration.peer();
        match checks::check(registration.finish(), &self.context) {
            Ok(candidate) => self.consider(number, candidate, Instant::now() + SUCCESSION),
            Err(error) => self.refuse(who, &error),
        }
    }

    /// Admits a candidate, lets it wait for a departure, or refuses it.
    fn consider(&mut self, number: u32, candidate: Candidate, until: Instant) {
        match self.table.conflict(&candidate) {
            None => self.admit(candidate),
            Some(conflict) if conflict.passing && Instant::now() < until => {
                self.waiting.insert(number, (candidate, until));
            }
            Some(conflict) => self.refuse(candidate.peer, &conflict.error),
        }
    }

    fn retry_waiting(&mut self) {
        for (number, (candidate, until)) in std::mem::take(&mut self.waiting) {
            self.consider(number, candidate, until);
        }
    }

    /// Pins its kthreads off the runtime cores, and hands it to the dataplane.
    ///
    /// *Source:* C: iokernel/cores.c, `cores_init_proc`.
    fn admit(&mut self, candidate: Candidate) {
        if let Some(park) = &self.park {
            for (index, tid) in candidate.tids().enumerate() {
                if let Err(error) = kthreads::pin(tid, park) {
                    let error = KthreadError::Pin { tid, error };
                    let error = RegistrationError::Kthread { index, error };
                    return self.refuse(candidate.peer, &error);
                }
            }
        }
        let proc = self.table.admit(candidate);
        let id = proc.id;
        let tenant = self.table.get_mut(id).expect("admitted above");
        // It is silent from now on; whatever happens on it is its departure.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        epoll::modify(
            &self.epoll,
            &tenant.connection,
            Token::Attached(id).encode(),
            flags,
        )
        .expect("begin() added it");
        self.config.stats.admitted.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = self.arrivals.take(Instant::now()) {
            log::info!(
                "pid {} (uid {}, {}) attached: {} kthreads, {} guaranteed cores{}",
                proc.pid,
                proc.uid,
                proc.mac,
                proc.kthreads.len(),
                proc.guaranteed_cores,
                Suppressed(more)
            );
        }
        self.send(ToDataplane::Attach(proc));
    }

    /// When all places are taken, the oldest registration gives way.
    fn make_room(&mut self) {
        if self.places() > 0 {
            return;
        }
        if let Some((&number, oldest)) = self.pending.first_key_value()
            && oldest.started().elapsed() > GRACE
        {
            self.drop_pending(number, RegistrationError::GaveWay);
        }
    }

    fn refuse_silent(&mut self) {
        while let Some((&number, oldest)) = self.pending.first_key_value()
            && oldest.started().elapsed() > DEADLINE
        {
            self.drop_pending(number, RegistrationError::Silent);
        }
    }

    fn drop_pending(&mut self, number: u32, error: fn(usize) -> RegistrationError) {
        if let Some(registration) = self.pending.remove(&number) {
            self.refuse(registration.peer(), &error(registration.bytes()));
        }
    }

    /// The one line that a refusal gets. Its connection is closed by its drop.
    fn refuse(&mut self, who: Peer, error: &RegistrationError) {
        self.config.stats.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = self.refusals.take(Instant::now()) {
            log::warn!(
                "pid {} (uid {}) is refused: {error}{}",
                who.pid,
                who.uid,
                Suppressed(more)
            );
        }
    }

    /// Listens only while a connection could be accepted, or every round would begin at once.
    fn update_listening(&mut self) {
        if self.accept_after.is_some_and(|at| Instant::now() >= at) {
            self.accept_after = None;
        }
        let wanted = self.places() > 0 && self.accept_after.is_none();
        if wanted != self.listening {
            let flags = if wanted {
                epoll::EventFlags::IN
            } else {
                epoll::EventFlags::empty()
            };
            epoll::modify(
                &self.epoll,
                &self.config.socket,
                Token::Listener.encode(),
                flags,
            )
            .expect("spawn() added it");
            self.listening = wanted;
        }
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

    /// Closes what is pending, and takes all runtimes back.
    fn shut_down(mut self) {
        self.pending.clear();
        self.waiting.clear();
        let deadline = Instant::now() + SHUTDOWN;
        loop {
            // Asked before the ring is emptied: what was sent before it is seen.
            let gone = self.config.channel.from_dataplane.is_abandoned();
            self.take_returned();
            if self.table.len() == 0 || gone {
                break;
            }
            if Instant::now() > deadline {
                log::warn!(
                    "{} runtimes did not come back from the dataplane",
                    self.table.len()
                );
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.publish_stats();
    }
}

/// How many lines were not written, if any.
struct Suppressed(u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " ({n} similar lines were suppressed)"),
        }
    }
}

/// Raises the limit of open files as far as possible; returns it.
///
/// 1024 runtimes with 256 kthreads need an eventfd and a pidfd for each kthread.
pub fn raise_fd_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let old = getrlimit(Resource::Nofile);
    // Root may pass the hard limit, up to what the kernel was built for.
    let most = read("/proc/sys/fs/nr_open");
    for limit in [most, old.maximum].into_iter().flatten() {
        let new = Rlimit {
            current: Some(limit),
            maximum: Some(limit.max(old.maximum.unwrap_or(limit))),
        };
        if setrlimit(Resource::Nofile, new).is_ok() {
            return limit;
        }
    }
    old.current.unwrap_or(u64::MAX)
}
