//! The programs of a real run: iokerneld, a server runtime on it, a client.
//!
//! ```text
//!   loopback:  client runtime -- iokerneld -- server runtime      (one machine, no NIC)
//!   port:      client on kernel sockets -- wire -- iokerneld (DPDK) -- server runtime
//! ```
//!
//! Everything is a process of its own and ends with the bed. Over a port the
//! client is started by a command prefix (`nsenter ...`, `ssh HOST`), because the
//! wire's other end is elsewhere.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::child::Child;

/// The server's address on loopback.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SERVER_MAC: &str = "02:00:00:00:00:02";
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT_MAC: &str = "02:00:00:00:00:01";
/// First of the server's ports.
pub(crate) const PORT: u16 = 5000;

/// How client and server reach each other.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    /// Both are runtimes on one iokerneld.
    Loopback,
    /// The server's iokerneld drives a port; the client is elsewhere.
    Port {
        /// What iokerneld gives to DPDK.
        eal: Vec<String>,
        /// The server's address.
        ip: Ipv4Addr,
        /// What starts the client: words before its own command.
        client: Vec<String>,
    },
}

/// What is under test: a name and the flags that make it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    /// Its name in tables and plots.
    pub(crate) name: String,
    /// iokerneld's flags.
    pub(crate) flags: Vec<String>,
}

impl Case {
    /// `--policy name`, and `more`.
    pub(crate) fn policy(name: &str, policy: &str, more: &[&str]) -> Case {
        let flags = ["--policy", policy].into_iter().chain(more.iter().copied());
        Case {
            name: name.to_owned(),
            flags: flags.map(str::to_owned).collect(),
        }
    }
}

/// The server's work for a request.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// As synthetic's `--fakework`.
    pub(crate) fakework: String,
    /// As synthetic's `--distribution`.
    pub(crate) distribution: String,
    /// As synthetic's `--mean`, in iterations.
    pub(crate) mean: f64,
}

/// The client's steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    /// Below the first step, in requests a second.
    pub(crate) from: f64,
    /// The last step.
    pub(crate) to: f64,
    /// How many steps.
    pub(crate) samples: u32,
    /// Seconds that each takes.
    pub(crate) seconds: u64,
}

/// How to start what a run needs.
#[derive(Debug, Clone)]
pub(crate) struct Bed {
    /// Where `iokerneld` and `synthetic` lie.
    pub(crate) bin: PathBuf,
    /// How they are connected.
    pub(crate) link: Link,
    /// Cores that iokerneld hands out.
    pub(crate) cores: u16,
    /// Kthreads of the server.
    pub(crate) kthreads: u16,
    /// UDP flows of the client.
    pub(crate) flows: u32,
    /// Ports of the server over which they spread.
    pub(crate) ports: u16,
    /// What a request costs.
    pub(crate) work: Work,
}

impl Bed {
    /// Starts iokerneld and waits until it is ready.
    pub(crate) fn daemon(&self, case: &Case) -> Result<Child> {
        let mut command = self.program("iokerneld")?;
        command.args(["--no-huge", "--idle", "yield", "--watch-flows"]);
        command.args(["--virtual-cores", &self.cores.to_string()]);
        command.args(["--flow-entries", &self.flows.max(1024).to_string()]);
        command.args(&case.flags);
        match &self.link {
            Link::Loopback => command.args(["--port", "loopback"]),
            Link::Port { eal, .. } => command.arg("--").args(eal),
        };
        let mut child = Child::start("iokerneld", &mut command)?;
        child.wait_for("ready")?;
        Ok(child)
    }

    /// Starts the server and waits until it is attached and listens.
    pub(crate) fn server(&self) -> Result<Child> {
        let ip = match self.link {
            Link::Loopback => SERVER,
            Link::Port { ip, .. } => ip,
        };
        let mut command = self.program("synthetic")?;
        command.arg(format!("{ip}:{PORT}"));
        command.args(["--mode", "spawner-server", "--mac", SERVER_MAC]);
        command.args([
            "--kthreads",
            &self.kthreads.to_string(),
            "--guaranteed",
            "1",
        ]);
        command.args(["--ports", &self.ports.to_string()]);
        command.args(["--fakework", &self.work.fakework]);
        let mut child = Child::start("the server", &mut command)?;
        child.wait_for("Bound to address")?;
        Ok(child)
    }

    /// Starts the client, which prints a JSON object for each step.
    pub(crate) fn client(&self, steps: &Steps, seed: u64) -> Result<Child> {
        let mut command = match &self.link {
            Link::Loopback => {
                let mut command = self.program("synthetic")?;
                command.arg(format!("{SERVER}:{PORT}"));
                command.args(["--mode", "runtime-client", "--mac", CLIENT_MAC]);
                command.args(["--ip", &CLIENT.to_string(), "--kthreads", "1"]);
                command.args(["--guaranteed", "1"]);
                command
            }
            Link::Port { ip, client, .. } => {
                let (program, rest) = client.split_first().context("no client command")?;
                let mut command = Command::new(program);
                command.args(rest).arg(self.path("synthetic"));
                command.arg(format!("{ip}:{PORT}"));
                command.args(["--mode", "linux-client"]);
                command
            }
        };
        command.args(["--ports", &self.ports.to_string()]);
        command.args(["--flows", &self.flows.to_string()]);
        command.args(["--distribution", &self.work.distribution]);
        command.args(["--mean", &self.work.mean.to_string()]);
        command.args(["--start_mpps", &(steps.from / 1e6).to_string()]);
        command.args(["--mpps", &(steps.to / 1e6).to_string()]);
        command.args(["--samples", &steps.samples.to_string()]);
        command.args(["--runtime", &steps.seconds.to_string()]);
        command.args(["--pause", "0", "--rampup", "0", "--json", "-"]);
        command.args(["--seed", &seed.to_string()]);
        Child::start("the client", &mut command)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    fn program(&self, name: &str) -> Result<Command> {
        let path = self.path(name);
        ensure!(
            path.exists(),
            "{} is not there: cargo build --release -p calisto -p calisto-synthetic",
            path.display()
        );
        Ok(Command::new(path))
    }
}
