//! Unmodified upstream programs, against our daemon, on hosts of their own.
//!
//! `SHENANGO_DIR` names a built upstream tree; without it every case is
//! skipped. Nothing of upstream is here: only the names of its programs, the
//! keys of its configuration, and what a good run prints.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::child::Child;
use crate::host::{Host, Turn, free_huge_pages};
use crate::skip::skip;
use crate::veth::{self, Peer};

/// Names a built upstream tree.
pub const TREE_VAR: &str = "SHENANGO_DIR";
/// What the last line of a good run holds.
pub const SUCCESS: &str = "init: shutting down -> SUCCESS";
/// Huge pages of 2 MiB that a daemon takes: ingress region and DPDK's own.
const DAEMON_PAGES: u64 = 320;
/// Huge pages of 2 MiB that a runtime of 1 to 16 kthreads takes.
const RUNTIME_PAGES: u64 = 1025;

/// The built tree.
#[derive(Debug, Clone)]
pub struct Tree(PathBuf);

impl Tree {
    /// The tree that `SHENANGO_DIR` names; `None`, said loudly, without it.
    pub fn find(case: &str) -> Option<Tree> {
        let dir = std::env::var_os(TREE_VAR).unwrap_or_default();
        if dir.is_empty() {
            skip(case, &format!("{TREE_VAR} names no built upstream tree"));
            return None;
        }
        Some(Tree(dir.into()))
    }

    /// A program, by its path in the tree; `None`, said loudly, if it was not built.
    pub fn program(&self, case: &str, path: &str) -> Option<PathBuf> {
        let program = self.0.join(path);
        if !program.exists() {
            skip(case, &format!("{} was not built", program.display()));
            return None;
        }
        Some(program)
    }
}

/// A runtime's configuration file, key by key.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    last: u8,
    kthreads: u32,
    guaranteed: u32,
    spinning: u32,
}

impl RuntimeConfig {
    /// The runtime 192.168.1.`last`, of one kthread with a guarantee.
    pub fn new(last: u8) -> RuntimeConfig {
        RuntimeConfig {
            last,
            kthreads: 1,
            guaranteed: 1,
            spinning: 0,
        }
    }

    /// Kthreads, and how many have a core whenever they want one.
    #[must_use]
    pub fn kthreads(mut self, kthreads: u32, guaranteed: u32) -> RuntimeConfig {
        (self.kthreads, self.guaranteed) = (kthreads, guaranteed);
        self
    }

    /// Kthreads that never park.
    #[must_use]
    pub fn spinning(mut self, kthreads: u32) -> RuntimeConfig {
        self.spinning = kthreads;
        self
    }

    /// Its address.
    pub fn ip(&self) -> String {
        format!("192.168.1.{}", self.last)
    }

    fn text(&self) -> String {
        let mac = format!("02:00:00:00:00:{:02x}", self.last);
        let keys = [
            ("host_addr", self.ip()),
            ("host_netmask", "255.255.255.0".into()),
            ("host_gateway", "192.168.1.1".into()),
            ("host_mac", mac),
            ("runtime_kthreads", self.kthreads.to_string()),
            ("runtime_guaranteed_kthreads", self.guaranteed.to_string()),
            ("runtime_spinning_kthreads", self.spinning.to_string()),
        ];
        keys.iter().map(|(k, v)| format!("{k} {v}\n")).collect()
    }
}

/// A host with a daemon, for upstream's programs.
#[derive(Debug)]
pub struct Suite {
    /// The host.
    pub host: Host,
    /// CPUs that programs believe in, if not the machine's.
    fake_cpus: Option<u32>,
}

/// Waits for pages that earlier runtimes are still giving back.
fn pages_free(case: &str, wanted: u64) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while free_huge_pages() < wanted {
        if Instant::now() > end {
            let free = free_huge_pages();
            skip(
                case,
                &format!("needs {wanted} free huge pages, {free} are: sysctl vm.nr_hugepages"),
            );
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}

fn ready(case: &str, turn: Arc<Turn>, iface: &str, options: &[&str]) -> Option<Host> {
    let mut host = Host::bare(case, turn)?;
    // Upstream's runtimes leave the removal of their segments to this.
    let forced = "echo 1 > /proc/sys/kernel/shm_rmid_forced";
    veth::must(host.command("sh").args(["-c", forced]));
    host.use_dpdk(iface, options);
    Some(host)
}

impl Suite {
    /// A host on which no daemon of ours runs.
    pub fn without_daemon(host: Host) -> Suite {
        Suite {
            host,
            fake_cpus: None,
        }
    }

    /// One host for `runtimes` runtimes, and Linux as 192.168.1.2 at the other
    /// end of its wire.
    pub fn one_host(case: &str, runtimes: u64, options: &[&str]) -> Option<(Suite, Peer)> {
        let turn = Turn::take();
        possible(case, DAEMON_PAGES + runtimes * RUNTIME_PAGES)?;
        let host = ready(case, turn, veth::HOST_END, options)?;
        let peer = Peer::connect_as(host.space(), "192.168.1.2/24", "192.168.1.255");
        let mut suite = Suite {
            host,
            fake_cpus: None,
        };
        suite.host.start_daemon();
        Some((suite, peer))
    }

    /// Two hosts, joined by a veth pair, for one runtime each. Their two
    /// dataplanes may have to share a CPU, so each yields when idle.
    pub fn two_hosts(case: &str) -> Option<(Suite, Suite)> {
        let turn = Turn::take();
        possible(case, 2 * (DAEMON_PAGES + RUNTIME_PAGES))?;
        let options = ["--idle", "yield"];
        let a = ready(case, Arc::clone(&turn), veth::HOST_END, &options)?;
        let b = ready(case, turn, veth::PEER_END, &options)?;
        veth::join(a.space(), b.space());
        let mut hosts = (
            Suite {
                host: a,
                fake_cpus: None,
            },
            Suite {
                host: b,
                fake_cpus: None,
            },
        );
        hosts.0.host.start_daemon();
        hosts.1.host.start_daemon();
        Some(hosts)
    }

    /// Shows `cpus` CPUs to the programs that are started from now on: an
    /// unmodified runtime refuses more kthreads than CPUs less one.
    pub fn fake_cpus(&mut self, cpus: u32) {
        let dir = self.host.dir();
        let (cpu, node) = (dir.join("cpu"), dir.join("node"));
        let all = format!("0-{}\n", cpus - 1);
        write(&node.join("online"), "0\n");
        write(&cpu.join("online"), &all);
        write(&cpu.join("possible"), &all);
        write(&cpu.join("present"), &all);
        for n in 0..cpus {
            let topology = cpu.join(format!("cpu{n}/topology"));
            write(&topology.join("physical_package_id"), "0\n");
            write(&topology.join("core_id"), &format!("{n}\n"));
            write(&topology.join("core_siblings_list"), &all);
            write(&topology.join("thread_siblings_list"), &format!("{n}\n"));
        }
        self.fake_cpus = Some(cpus);
    }

    /// Writes a runtime's configuration; returns its path.
    pub fn config(&self, config: &RuntimeConfig) -> OsString {
        let path = self
            .host
            .dir()
            .join(format!("runtime{}.config", config.last));
        write(&path, &config.text());
        path.into_os_string()
    }

    /// Starts a program on this host.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn start(&self, program: &Path, args: &[OsString]) -> Child {
        let mut command = self.wrapped();
        // Line-buffered: what a killed program had printed would be lost.
        command
            .args(["stdbuf", "-oL", "-eL"])
            .arg(program)
            .args(args);
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        Child::spawn(name.into_owned(), &mut command)
            .unwrap_or_else(|e| panic!("cannot run {}: {e}", program.display()))
    }

    /// `env`, or a shell that bind-mounts the fake CPUs first, in a mount
    /// namespace of its own; a program and its arguments follow.
    fn wrapped(&self) -> Command {
        if self.fake_cpus.is_none() {
            return self.host.command("env");
        }
        let script = "mount --bind \"$1/cpu\" /sys/devices/system/cpu && \
             { [ ! -d /sys/devices/system/node ] || mount --bind \"$1/node\" /sys/devices/system/node; } && \
             shift && exec \"$@\"";
        let mut command = self.host.command("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]);
        command.arg(self.host.dir());
        command
    }
}

fn write(path: &Path, text: &str) {
    let dir = path.parent().expect("files lie in a directory");
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(path, text))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn possible(case: &str, pages: u64) -> Option<()> {
    if let Err(why) = veth::possible() {
        skip(case, &why);
        return None;
    }
    pages_free(case, pages).then_some(())
}

/// Asserts a good end: exit 0, after saying that it succeeded.
///
/// # Panics
/// With what it said, when not; or when it takes longer than `patience`.
pub fn assert_success(mut program: Child, patience: Duration) -> Vec<String> {
    let status = program.wait_at_most(patience);
    let lines = program.lines();
    let said = lines.join("\n");
    let status = status.unwrap_or_else(|| panic!("{} does not end:\n{said}", program.name()));
    assert!(status.success(), "{}: {status}:\n{said}", program.name());
    assert!(
        said.contains(SUCCESS),
        "{} did not say {SUCCESS:?}:\n{said}",
        program.name()
    );
    lines
}
