//! Our daemon, with a hostile runtime in it: one daemon for all cases, so that
//! whatever a case leaves behind is found.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use calisto::admin::{Request, client};
use serde_json::Value;

use crate::child::{Child, PATIENCE};
use crate::host::{Host, free_huge_pages};
use crate::skip::skip;
use crate::veth::Peer;
use crate::{Running, Runtime, runtime};

use super::offender::PEERS_VAR;
use super::witness::{Witness, within};
use super::{ACTED, Case, Expect, HUGE_VAR};

/// The echo runtime's number.
pub(super) const ECHO: u16 = 1;
/// Huge pages that an offender may need, beyond the host's.
const HUGE_PAGES: u64 = 420;
/// Once a burst is used up there is one log line in such a time: so long after each.
const LINE_COMES_BACK: Duration = Duration::from_millis(250);
/// Waited for at most so many.
const MANY: u64 = 8;

/// A daemon, an echo runtime, and the witness.
#[derive(Debug)]
pub struct Arena {
    witness: Witness,
    echo: Option<Running>,
    host: Host,
    peer: Peer,
    program: PathBuf,
    huge: bool,
    /// Of the daemon, with the echo runtime alone attached.
    baseline: Baseline,
}

/// What must be as it was when an offender is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Baseline {
    fds: usize,
    threads: usize,
    segments: usize,
    runtimes: Vec<u64>,
}

type Counts = BTreeMap<String, u64>;

/// What became of an offender.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The counters of reasons that rose, or that it was borne.
    pub reasons: Vec<String>,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.reasons.is_empty() {
            return f.write_str("borne");
        }
        f.write_str(&self.reasons.join(", "))
    }
}

fn entries(dir: &str) -> usize {
    fs::read_dir(dir).map(Iterator::count).unwrap_or(0)
}

/// True of a counter of reasons.
fn is_reason(name: &str) -> bool {
    name.starts_with("REFUSED_") || name.starts_with("FAULT_")
}

impl Arena {
    /// A daemon on DPDK's port over a veth pair; offenders are `program`'s. `None`,
    /// said loudly, where that is not possible.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(case: &str, program: &Path) -> Option<Arena> {
        let (host, peer) =
            Host::veth_with(case, &["--virtual-cores", "4", "--allow-uid", "0,65533"])?;
        let mut arena = Arena {
            witness: Witness::start(&peer, runtime::ip(ECHO)),
            echo: None,
            host,
            peer,
            program: program.to_owned(),
            huge: free_huge_pages() >= HUGE_PAGES,
            baseline: Baseline {
                fds: 0,
                threads: 0,
                segments: 0,
                runtimes: Vec::new(),
            },
        };
        arena.echo = Some(arena.host.start(Runtime::echo(ECHO)));
        arena.witness.check(PATIENCE).expect("the echo answers");
        arena.baseline = arena.state();
        Some(arena)
    }

    fn ask(&self, request: &Request) -> Vec<Value> {
        let lines = self.host.space().run(|| client::ask(request));
        let lines = lines.expect("iokerneld answers");
        let values = lines.iter().map(|line| serde_json::from_str(line));
        values.collect::<Result<_, _>>().expect("answers are JSON")
    }

    fn counts(&self) -> Counts {
        let stats = self.ask(&Request::Stats).remove(0);
        let counters = stats["counters"].as_object().expect("counters by name");
        let count = |v: &Value| v.as_u64().expect("a count");
        counters
            .iter()
            .map(|(k, v)| (k.clone(), count(v)))
            .collect()
    }

    fn runtimes(&self) -> Vec<u64> {
        let all = self.ask(&Request::Runtimes);
        all.iter().filter_map(|r| r["pid"].as_u64()).collect()
    }

    fn state(&mut self) -> Baseline {
        let pid = self.host.daemon().pid();
        let segments = self.host.space().segments();
        Baseline {
            runtimes: self.runtimes(),
            fds: entries(&format!("/proc/{pid}/fd")),
            threads: entries(&format!("/proc/{pid}/task")),
            segments: segments.iter().filter(|s| attached(s) > 0).count(),
        }
    }

    fn spawn(&mut self, args: &[&str]) -> Child {
        let echo = self.echo.as_ref().expect("it runs until the end").pid();
        let peers = format!("{echo} {}", self.host.daemon().pid());
        let mut command = self.host.command(&self.program);
        command.args(args).env(PEERS_VAR, peers);
        if self.huge {
            command.env(HUGE_VAR, "1");
        }
        Child::spawn(args.join(" "), &mut command).expect("the offender can be run")
    }

    /// Runs one case; `None`, said loudly, if this machine cannot.
    ///
    /// # Errors
    /// What did not become of the offender as it should, or became of others.
    pub fn run(&mut self, case: &Case) -> Result<Option<Outcome>, String> {
        if case.huge && !self.huge {
            let why = format!("fewer than {HUGE_PAGES} huge pages of 2 MiB are free");
            skip(case.name, &why);
            return Ok(None);
        }
        if case.quiet {
            self.witness.set_quiet(true, PATIENCE)?;
        }
        self.witness.set_shouting(case.shouts);
        let (before, mail) = (self.counts(), self.witness.mail());
        let mut offender = self.spawn(&["offend", case.name]);
        let result = self.observe(case, &before, mail, &mut offender);
        kill_with_child(&mut offender);
        let said = offender.lines().join("\n");
        self.witness.set_shouting(false);
        result
            .and_then(|()| self.after(case, &before, &offender))
            .map(Some)
            .map_err(|why| {
                let log = self.host.daemon().log();
                let from = log.lines().count().saturating_sub(12);
                let tail: Vec<&str> = log.lines().skip(from).collect();
                format!(
                    "{}: {why}\n--- the offender said:\n{said}\n--- iokerneld said at last:\n{}",
                    case.name,
                    tail.join("\n")
                )
            })
    }

    /// What must hold while the offender is at it.
    fn observe(
        &mut self,
        case: &Case,
        before: &Counts,
        mail: u64,
        offender: &mut Child,
    ) -> Result<(), String> {
        if offender.wait_line(|l| l == ACTED).is_none() {
            // Some cases are to die, none to fail.
            let status = offender.wait();
            if matches!(status.code(), Some(code) if code != 0) {
                return Err(format!("the offender failed: {status}"));
            }
        }
        if !case.quiet {
            self.witness
                .check(PATIENCE)
                .map_err(|why| format!("while the offender lives, {why}"))?;
        }
        self.let_in_a_newcomer()?;
        match case.expect {
            Expect::Refused(says, counter) => {
                self.wait_reason(offender, "is refused", says, counter, before)?;
            }
            Expect::Detached(says, counter) => {
                self.wait_reason(offender, "is detached", says, counter, before)?;
            }
            Expect::RefusedInTheEnd(..) | Expect::Borne(_) | Expect::Races(_) => {}
        }
        if case.mail > 0 {
            let got = || self.witness.mail() >= mail + case.mail;
            if within(PATIENCE, got).is_none() {
                let came = self.witness.mail() - mail;
                return Err(format!("{came} of its own {} frames came", case.mail));
            }
        }
        Ok(())
    }

    /// Another runtime must get in meanwhile.
    fn let_in_a_newcomer(&mut self) -> Result<(), String> {
        let mut newcomer = self.spawn(&["come"]);
        let pid = u64::from(newcomer.pid());
        let came = within(PATIENCE, || self.runtimes().contains(&pid));
        let result = came.ok_or_else(|| {
            let said = newcomer.lines().join("\n");
            format!("a polite newcomer is not let in meanwhile:\n{said}")
        });
        newcomer.kill();
        result
    }

    fn wait_reason(
        &mut self,
        offender: &Child,
        verdict: &str,
        says: &str,
        counter: &str,
        before: &Counts,
    ) -> Result<(), String> {
        let who = format!("pid {} (", offender.pid());
        let said = |line: &str| {
            let line = line.split_once(&who);
            line.is_some_and(|(_, rest)| rest.contains(verdict) && rest.contains(says))
        };
        let log = || self.host.daemon().log().lines().any(said);
        if within(PATIENCE, log).is_none() {
            return Err(format!("no log line says `{who}..) {verdict}: ..{says}..`"));
        }
        let count = |counts: &Counts| counts.get(counter).copied().unwrap_or(0);
        within(PATIENCE, || count(&self.counts()) > count(before))
            .ok_or_else(|| format!("{counter} does not rise"))
    }

    /// What must hold once it is dead.
    fn after(&mut self, case: &Case, before: &Counts, offender: &Child) -> Result<Outcome, String> {
        if !self.host.daemon().is_running() {
            return Err("iokerneld ended".into());
        }
        if case.quiet {
            self.witness.set_quiet(false, PATIENCE)?;
        }
        self.witness
            .check(PATIENCE)
            .map_err(|why| format!("after the offender, {why}"))?;
        if let Expect::RefusedInTheEnd(says, counter) = case.expect {
            self.wait_reason(offender, "is refused", says, counter, before)?;
        }
        let baseline = self.baseline.clone();
        if within(PATIENCE, || self.state() == baseline).is_none() {
            return Err(format!("left is {:?}, not {baseline:?}", self.state()));
        }
        self.remove_segments();
        self.judge(case, before)
    }

    /// The counters: those that must rise did, and no other reason was counted.
    fn judge(&mut self, case: &Case, before: &Counts) -> Result<Outcome, String> {
        let old = |name: &str| before.get(name).copied().unwrap_or(0);
        let rises = |name: &&str| self.counts().get(*name).copied().unwrap_or(0) > old(name);
        let (must, may): (&[&str], &[&str]) = match case.expect {
            Expect::Refused(_, ref counter)
            | Expect::RefusedInTheEnd(_, ref counter)
            | Expect::Detached(_, ref counter) => (std::slice::from_ref(counter), &[]),
            Expect::Borne(counters) => (counters, &[]),
            Expect::Races(counters) => (&[], counters),
        };
        if within(PATIENCE, || must.iter().all(rises)).is_none() {
            let missing: Vec<_> = must.iter().filter(|name| !rises(name)).collect();
            return Err(format!("{missing:?} did not rise"));
        }
        let counts = self.counts();
        let risen = counts.iter().filter(|(name, n)| **n > old(name));
        let reasons: Vec<_> = risen.filter(|(name, _)| is_reason(name)).collect();
        let expected = [must, may, case.also].concat();
        if let Some((name, _)) = reasons
            .iter()
            .find(|(n, _)| !expected.contains(&n.as_str()))
        {
            return Err(format!("{name} was counted, which is none of {expected:?}"));
        }
        if self.witness.bad_mail() > 0 {
            return Err("a frame of its own came changed".into());
        }
        let lines: u64 = reasons.iter().map(|(name, n)| **n - old(name)).sum();
        std::thread::sleep(LINE_COMES_BACK * u32::try_from(lines.min(MANY)).expect("a few"));
        Ok(Outcome {
            reasons: reasons.into_iter().map(|(name, _)| name.clone()).collect(),
        })
    }

    /// Removes what dead offenders left: their own, as of any runtime that was killed.
    fn remove_segments(&self) {
        for segment in self.host.space().segments() {
            if attached(&segment) == 0
                && let Some(id) = segment.split_whitespace().nth(1)
            {
                crate::veth::must(self.host.command("ipcrm").args(["-m", id]));
            }
        }
    }

    /// Ends everything; nothing may be left.
    ///
    /// # Panics
    /// When something is, or the echo runtime saw a fault.
    pub fn finish(self) -> u64 {
        let Arena {
            witness,
            echo,
            host,
            peer,
            ..
        } = self;
        let answered = witness.answered();
        drop(witness);
        echo.expect("it runs until the end").stop().assert_good();
        drop(peer);
        host.finish();
        answered
    }
}

/// How often a segment is attached, of the kernel's line about it.
fn attached(segment: &str) -> u64 {
    let field = segment.split_whitespace().nth(6);
    field.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Kills an offender, and the child that it may have left.
pub(super) fn kill_with_child(offender: &mut Child) {
    for line in offender.lines() {
        let child = line.strip_prefix("child ").and_then(|n| n.parse().ok());
        if let Some(pid) = child {
            #[allow(unsafe_code, reason = "std can only signal its own children")]
            // SAFETY: a plain system call. The child sleeps until it is killed here.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
            }
        }
    }
    offender.kill();
}
