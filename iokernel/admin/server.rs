//! The admin thread.

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Serialize, Serializer};

use crate::config::rule::RuleSpec;
use crate::control::directory::{Directory, Entry};
use crate::control::rate_limit::{Suppressed, TokenBucket};
use crate::control::socket::{Peer, peer};
use crate::control::{ControlStats, RulesLink, kthreads};
use crate::ids::CoreId;
use crate::stats::{
    ControlCounts, CounterSet, Counts, Gauges, Held, PortCounter, Stats, SteerCounter,
};
use crate::steering::Policy;

use super::conversation::Conversation;
use super::rule_book::RuleBook;
use super::{ERROR, OK, Request, address};

/// Longest wait for a connection, until the next look at the daemon's end.
const IDLE_PERIOD: Duration = Duration::from_millis(100);

/// What the admin thread works with.
#[derive(Debug)]
pub struct AdminConfig {
    /// As [`Admin::bind`] made it.
    pub listener: UnixListener,
    /// Its CPU; `None`: anywhere.
    pub cpu: Option<u16>,
    /// The policy, which may have rules or not.
    pub policy: Policy,
    /// Cores of runtimes, for which there may be rules.
    pub cores: Vec<CoreId>,
    /// The rules that `link` was made with.
    pub rules: Vec<RuleSpec>,
    /// To the polling loop.
    pub link: RulesLink,
    /// Who is attached.
    pub directory: Directory,
    /// The polling loop's counters.
    pub stats: Stats,
    /// What the polling loop holds.
    pub gauges: Gauges,
    /// What the control thread counts.
    pub control: Arc<ControlStats>,
    /// Ends the thread.
    pub stop: Arc<AtomicBool>,
}

/// The admin thread.
#[derive(Debug)]
pub struct Admin {
    listener: UnixListener,
    rules: RuleBook,
    directory: Directory,
    stats: Stats,
    gauges: Gauges,
    control: Arc<ControlStats>,
    stop: Arc<AtomicBool>,
    refusals: TokenBucket,
    orders: TokenBucket,
    accept_errors: TokenBucket,
}

impl Admin {
    /// Opens the socket. Who connects waits until the thread runs.
    ///
    /// # Errors
    /// What binding reports. The name is free for whoever holds the control socket,
    /// unless a stranger took it.
    pub fn bind() -> io::Result<UnixListener> {
        let listener = UnixListener::bind_addr(&address())?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Starts the thread. It ends on `stop`.
    ///
    /// # Errors
    /// What starting a thread reports.
    pub fn spawn(config: AdminConfig) -> io::Result<JoinHandle<()>> {
        let now = Instant::now();
        let bucket = || TokenBucket::new(32, Duration::from_millis(250), now);
        let admin = Admin {
            listener: config.listener,
            rules: RuleBook::new(config.policy, config.cores, config.rules, config.link),
            directory: config.directory,
            stats: config.stats,
            gauges: config.gauges,
            control: config.control,
            stop: config.stop,
            refusals: bucket(),
            orders: bucket(),
            accept_errors: bucket(),
        };
        let cpu = config.cpu;
        let thread = std::thread::Builder::new().name("admin".into());
        thread.spawn(move || admin.run(cpu))
    }

    fn run(mut self, cpu: Option<u16>) {
        if let Some(cpu) = cpu
            && let Err(e) = rustix::thread::sched_setaffinity(None, &kthreads::cpu_set(&[cpu]))
        {
            log::warn!("admin thread: cannot be pinned to CPU {cpu}: {e}");
        }
        let period = Timespec::try_from(IDLE_PERIOD).expect("below a second");
        while !self.stop.load(Ordering::Relaxed) {
            match self.listener.accept() {
                Ok((stream, _)) => self.serve(stream),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
                    // Interrupted or not, the next round looks.
                    let _ = poll(&mut fds, Some(&period));
                }
                Err(e) => {
                    if let Some(more) = self.accept_errors.take(Instant::now()) {
                        log::warn!("admin socket: accept failed: {e}{}", Suppressed(more));
                    }
                    std::thread::sleep(IDLE_PERIOD);
                }
            }
        }
    }

    fn serve(&mut self, stream: UnixStream) {
        let who = peer(stream.as_fd());
        let stop = Arc::clone(&self.stop);
        let mut conversation = Conversation::new(stream, &stop);
        let answer = match who {
            Ok(who) if self.may_ask(who) => {
                let line = conversation.read_line();
                line.and_then(|line| self.obey(who, line.parse()?))
            }
            Ok(who) => Err(format!(
                "uid {} may not ask: root and the user of iokerneld may",
                who.uid
            )),
            Err(e) => Err(format!("who asks cannot be found out: {e}")),
        };
        conversation.answer(&match answer {
            Ok(lines) => format!("{lines}{OK}\n"),
            Err(line) => format!("{ERROR}{line}\n"),
        });
    }

    fn may_ask(&mut self, who: Peer) -> bool {
        let may = may_ask(who.uid, rustix::process::geteuid().as_raw());
        if !may && let Some(more) = self.refusals.take(Instant::now()) {
            let Peer { pid, uid } = who;
            log::warn!(
                "pid {pid} (uid {uid}) is refused by the admin socket{}",
                Suppressed(more)
            );
        }
        may
    }

    /// The lines of the answer, or the line of an error.
    fn obey(&mut self, who: Peer, request: Request) -> Result<String, String> {
        let mut lines = String::new();
        match request {
            Request::Rules => {
                for spec in self.rules.specs() {
                    let _ = writeln!(lines, "{spec}");
                }
            }
            Request::Runtimes => {
                for entry in self.directory.attached() {
                    json_line(&mut lines, &Runtime::of(&entry));
                }
            }
            Request::Stats => json_line(
                &mut lines,
                &AllStats {
                    counters: NonZero(&self.stats, &self.control.reasons),
                    port: All(&self.gauges.port),
                    held: All(&self.gauges.held),
                    control: Control::of(&self.control),
                    steering: All(&self.directory.totals()),
                },
            ),
            Request::RuleAdd(spec) => self.rules.add(spec)?,
            Request::RuleDel(selector) => self.rules.del(selector)?,
            Request::RuleClear => self.rules.clear()?,
        }
        if let Request::RuleAdd(_) | Request::RuleDel(_) | Request::RuleClear = request
            && let Some(more) = self.orders.take(Instant::now())
        {
            let Peer { pid, uid } = who;
            log::info!("pid {pid} (uid {uid}) asked: {request}{}", Suppressed(more));
        }
        Ok(lines)
    }
}

/// Root, and the daemon's own user.
pub(super) fn may_ask(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

fn json_line(lines: &mut String, value: &impl Serialize) {
    *lines += &serde_json::to_string(value).expect("names and numbers are JSON");
    lines.push('\n');
}

/// A runtime as JSON.
#[derive(Serialize)]
struct Runtime<'a> {
    pid: i32,
    uid: u32,
    mac: String,
    kthreads: usize,
    guaranteed_cores: u16,
    steering: All<'a, SteerCounter>,
}

impl Runtime<'_> {
    fn of(entry: &Entry) -> Runtime<'_> {
        Runtime {
            pid: entry.pid,
            uid: entry.uid,
            mac: entry.mac.to_string(),
            kthreads: entry.kthreads,
            guaranteed_cores: entry.guaranteed_cores,
            steering: All(&entry.steering),
        }
    }
}

#[derive(Serialize)]
struct AllStats<'a> {
    counters: NonZero<'a>,
    port: All<'a, PortCounter>,
    held: All<'a, Held>,
    control: Control,
    steering: All<'a, SteerCounter>,
}

/// The control thread's counters, under names in the manner of the others.
#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Control {
    control_attached: u64,
    control_reserved_cores: u64,
    control_admitted: u64,
    control_refused: u64,
    control_faults: u64,
}

impl Control {
    fn of(stats: &ControlStats) -> Control {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Control {
            control_attached: now(&stats.attached),
            control_reserved_cores: now(&stats.reserved_cores),
            control_admitted: now(&stats.admitted),
            control_refused: now(&stats.refused),
            control_faults: now(&stats.faults),
        }
    }
}

/// Counters by label, all of them.
struct All<'a, C>(&'a Counts<C>);

/// Counters of both loops by label, without those that are zero.
struct NonZero<'a>(&'a Stats, &'a ControlCounts);

impl<C: CounterSet> Serialize for All<'_, C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(C::ALL.iter().map(|c| (c.label(), self.0.get(*c))))
    }
}

impl Serialize for NonZero<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.non_zero().chain(self.1.non_zero()))
    }
}
