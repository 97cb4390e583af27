//! The same cases against upstream's C iokernel, for comparison.
//!
//! `SHENANGO_IOKERNELD` names a program that runs it on the interface whose name it
//! is given, as for the tests of `apps/runtime`. It is started anew after each case
//! that it does not survive, and believes in [`CPUS`] CPUs, so that it has cores to
//! give to more than one runtime on any machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::child::Child;
use crate::host::{Host, Turn, free_huge_pages};
use crate::skip::skip;
use crate::upstream::Suite;
use crate::veth::{self, HOST_END, Peer};
use crate::{Running, Runtime, runtime};

use super::arena::{ECHO, kill_with_child};
use super::offender::{PATIENCE_VAR, PEERS_VAR};
use super::witness::{Witness, within};
use super::{ACTED, Case, HUGE_VAR, WOKEN};

/// Names upstream's iokernel.
pub const VAR: &str = "SHENANGO_IOKERNELD";
/// CPUs that it sees.
const CPUS: u32 = 4;
/// 256 for the ingress segment, 64 for DPDK, the rest for runtimes.
const HUGE_PAGES: u64 = 360;
/// After so long without an answer it is blocked. It answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest time that an offender has for its case, waits included.
const ACT: Duration = Duration::from_secs(15);

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It went on, and the echo runtime lost nothing.
    Survived,
    /// The process ended.
    Stopped,
    /// While the offender lived the echo runtime got nothing done, or nobody could attach.
    Blocked,
    /// The echo runtime lost packets for good, or ended.
    Harmed,
    /// It went on, but the offender could not do its case: it waited in vain, mostly for
    /// a core.
    Untried,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Survived => "survived",
            Verdict::Stopped => "stopped",
            Verdict::Blocked => "blocked",
            Verdict::Harmed => "harmed another",
            Verdict::Untried => "survived; the offender got nowhere",
        })
    }
}

/// Upstream's iokernel, an echo runtime, and the witness.
#[derive(Debug)]
struct World {
    witness: Witness,
    echo: Running,
    daemon: Child,
    suite: Suite,
    _peer: Peer,
}

/// Where upstream's iokernel is tried.
#[derive(Debug)]
pub struct Upstream {
    iokernel: PathBuf,
    program: PathBuf,
    world: Option<World>,
}

impl Upstream {
    /// What [`VAR`] names; offenders are `program`'s. `None`, said loudly, without it.
    pub fn find(program: &Path) -> Option<Upstream> {
        let case = "upstream's iokernel";
        let Some(iokernel) = std::env::var_os(VAR).filter(|path| !path.is_empty()) else {
            skip(case, &format!("{VAR} names none"));
            return None;
        };
        if let Err(why) = veth::possible() {
            skip(case, &why);
            return None;
        }
        Some(Upstream {
            iokernel: iokernel.into(),
            program: program.to_owned(),
            world: None,
        })
    }

    /// Runs one case.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&mut self, case: &Case) -> Result<Verdict, String> {
        let mut world = match self.world.take() {
            Some(world) => world,
            None => World::start(&self.iokernel)?,
        };
        let verdict = world.run(case, &self.program);
        if matches!(verdict, Verdict::Survived | Verdict::Untried) {
            self.world = Some(world);
        }
        Ok(verdict)
    }
}

impl World {
    fn start(iokernel: &Path) -> Result<World, String> {
        let free = || free_huge_pages() >= HUGE_PAGES;
        within(PATIENCE, free).ok_or("too few free huge pages: sysctl vm.nr_hugepages")?;
        let host = Host::bare("upstream's iokernel", Turn::take()).ok_or("no namespaces")?;
        let peer = Peer::connect(host.space());
        let mut suite = Suite::without_daemon(host);
        suite.fake_cpus(CPUS);
        let daemon = suite.start(iokernel, &[HOST_END.into()]);
        if daemon
            .wait_line(|l| l.contains("running dataplane"))
            .is_none()
        {
            return Err(format!("it ended:\n{}", daemon.lines().join("\n")));
        }
        let echo = suite.host.start(Runtime::echo(ECHO).huge_pages(true));
        let witness = Witness::start(&peer, runtime::ip(ECHO));
        witness.check(PATIENCE)?;
        Ok(World {
            witness,
            echo,
            daemon,
            suite,
            _peer: peer,
        })
    }

    fn spawn(&self, program: &Path, args: &[&str]) -> Child {
        let mut command = self.suite.host.command(program);
        let peers = format!("{} {}", self.echo.pid(), self.daemon.pid());
        command.args(args).env(PEERS_VAR, peers).env(HUGE_VAR, "1");
        command.env(PATIENCE_VAR, PATIENCE.as_secs().to_string());
        Child::spawn(args.join(" "), &mut command).expect("the offender can be run")
    }

    fn is_stopped(&mut self) -> bool {
        self.daemon.try_status().is_some()
    }

    fn run(&mut self, case: &Case, program: &Path) -> Verdict {
        let quiet = !case.quiet || self.witness.set_quiet(true, PATIENCE).is_ok();
        self.witness.set_shouting(case.shouts);
        let mut offender = self.spawn(program, &["offend", case.name]);
        // One that waits in vain gives up by itself.
        let _ = within(ACT, || {
            let acted = offender.lines().iter().any(|l| l == ACTED);
            acted || offender.try_status().is_some() || self.is_stopped()
        });
        let failed = offender.try_status().and_then(|s| s.code());
        let failed = failed.is_some_and(|code| code != 0);
        let answers = case.quiet || self.witness.check(PATIENCE).is_ok();
        let lets_in = self.lets_in_a_newcomer(program);
        kill_with_child(&mut offender);
        self.witness.set_shouting(false);
        let loud = self.witness.set_quiet(false, PATIENCE).is_ok();
        let recovers = quiet && loud && self.witness.check(PATIENCE).is_ok();
        match () {
            () if self.is_stopped() => Verdict::Stopped,
            () if !recovers || self.echo.try_status().is_some() => Verdict::Harmed,
            () if !(answers && lets_in) => Verdict::Blocked,
            () if failed => Verdict::Untried,
            () => Verdict::Survived,
        }
    }

    fn lets_in_a_newcomer(&mut self, program: &Path) -> bool {
        if self.is_stopped() {
            return false;
        }
        let newcomer = self.spawn(program, &["come"]);
        let woken = || newcomer.lines().iter().any(|l| l == WOKEN);
        within(PATIENCE, woken).is_some()
    }
}
