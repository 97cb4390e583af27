//! A host: namespaces, one `iokerneld`, runtimes; and proof that nothing is left.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::child::eventually;
use crate::daemon::Daemon;
use crate::namespace::{Namespaces, User};
use crate::runtime::{Running, Runtime};
use crate::skip::skip;
use crate::veth::{self, Peer};

/// Huge pages of 2 MiB that a daemon on a DPDK port and a few runtimes take:
/// 256 for the ingress region, 64 for DPDK, the rest for regions.
const HUGE_PAGES: u64 = 400;

/// A system call that the daemon's list forgot fails unseen by default; a test sees it.
/// Nothing, said loudly, where the kernel cannot: the daemon would not start.
fn strict() -> &'static [&'static str] {
    let path = "/proc/sys/kernel/seccomp/actions_avail";
    let actions = std::fs::read_to_string(path).unwrap_or_default();
    if actions.contains("kill_process") {
        return &["--seccomp", "kill"];
    }
    let why = "this kernel cannot end a process for a system call";
    skip("system calls that the daemon's list forgot", why);
    &[]
}

/// One case at a time: a dataplane takes a CPU, and its memory half a GiB.
static MACHINE: Mutex<()> = Mutex::new(());

/// Held by a case for as long as it uses the machine.
#[derive(Debug)]
pub struct Turn(#[allow(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

impl Turn {
    /// Waits for this test's turn.
    pub fn take() -> Arc<Turn> {
        let guard = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        #[allow(
            clippy::arc_with_non_send_sync,
            reason = "shared by hosts of one thread"
        )]
        Arc::new(Turn(guard))
    }
}

/// A private world for one `iokerneld`.
#[derive(Debug)]
pub struct Host {
    /// Dropped first, so that its end comes before the namespaces'.
    daemon: Option<Daemon>,
    space: Namespaces,
    args: Vec<String>,
    /// Whom the daemon runs as, if not as the test.
    user: Option<User>,
    /// Regions of 2 MiB pages, unless a runtime asks otherwise.
    huge: bool,
    /// DPDK's name for this daemon, in file names.
    prefix: Option<String>,
    dir: PathBuf,
    _turn: Arc<Turn>,
}

/// What names of test runs begin with; the process id and a number follow.
const PREFIX: &str = "calisto-test-";
/// Where DPDK has its files of huge pages, and the directories of its processes.
const DPDK_FILES: &str = "/dev/hugepages";
const DPDK_DIRS: &str = "/var/run/dpdk";

/// A name that no other test run uses.
fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{n}", std::process::id())
}

/// Removes what tests left that were killed: whose process is no more.
fn remove_leftovers() {
    let dirs = [std::env::temp_dir(), DPDK_FILES.into(), DPDK_DIRS.into()];
    let entries = dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok());
    for entry in entries.flatten().flatten() {
        let name = entry.file_name();
        if owner(&name.to_string_lossy()).is_none_or(is_process) {
            continue;
        }
        // Another test may be at it too, and what other users left is theirs.
        let path = entry.path();
        let _ = match entry.file_type() {
            Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(path),
            _ => std::fs::remove_file(path),
        };
    }
}

/// The process that a file or directory of that name belongs to, if it is a test's.
fn owner(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

fn is_process(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Free huge pages of 2 MiB.
pub fn free_huge_pages() -> u64 {
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let text = std::fs::read_to_string(path);
    text.ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0)
}

impl Host {
    /// A host with namespaces and no daemon yet; `None`, said loudly, if this
    /// machine does not allow namespaces.
    pub fn bare(case: &str, turn: Arc<Turn>) -> Option<Host> {
        let space = match Namespaces::new() {
            Ok(space) => space,
            Err(e) => {
                skip(case, &format!("namespaces are not allowed here: {e}"));
                return None;
            }
        };
        remove_leftovers();
        let dir = std::env::temp_dir().join(unique_name());
        std::fs::create_dir(&dir).expect("a test can write to the temporary directory");
        Some(Host {
            daemon: None,
            space,
            args: Vec::new(),
            user: None,
            huge: false,
            prefix: None,
            dir,
            _turn: turn,
        })
    }

    /// A daemon on the loopback port, with four cores to give, ready.
    pub fn loopback(case: &str) -> Option<Host> {
        Host::loopback_with(case, &["--virtual-cores", "4"])
    }

    /// The same with other options than `--port loopback --no-huge`.
    pub fn loopback_with(case: &str, options: &[&str]) -> Option<Host> {
        Host::on_loopback(case, None, options)
    }

    /// The same with a daemon that another user runs.
    pub fn loopback_as(case: &str, user: User, options: &[&str]) -> Option<Host> {
        Host::on_loopback(case, Some(user), options)
    }

    fn on_loopback(case: &str, user: Option<User>, options: &[&str]) -> Option<Host> {
        let mut host = Host::bare(case, Turn::take())?;
        host.args = ["--port", "loopback", "--no-huge"]
            .iter()
            .chain(strict())
            .chain(options)
            .map(ToString::to_string)
            .collect();
        host.user = user;
        host.start_daemon();
        Some(host)
    }

    /// A daemon on one end of a veth pair by `net_af_packet`, and Linux, with
    /// the address 10.0.255.1/16, at the other.
    pub fn veth(case: &str) -> Option<(Host, Peer)> {
        Host::veth_with(case, &["--virtual-cores", "4"])
    }

    /// The same with these options in place of four cores to give.
    pub fn veth_with(case: &str, options: &[&str]) -> Option<(Host, Peer)> {
        let turn = Turn::take();
        if let Err(why) = veth::possible() {
            skip(case, &why);
            return None;
        }
        let mut host = Host::bare(case, turn)?;
        let peer = Peer::connect(&host.space);
        host.use_dpdk(veth::HOST_END, options);
        host.start_daemon();
        Some((host, peer))
    }

    /// Sets the daemon's options for DPDK's port on the interface `iface`.
    pub fn use_dpdk(&mut self, iface: &str, options: &[&str]) {
        let prefix = self.prefix.insert(unique_name()).clone();
        let vdev = format!("--vdev=net_af_packet0,iface={iface}");
        let file_prefix = format!("--file-prefix={prefix}");
        self.huge = free_huge_pages() >= HUGE_PAGES;
        self.args = strict()
            .iter()
            .chain(options)
            .map(ToString::to_string)
            .collect();
        if !self.huge {
            self.args.push("--no-huge".into());
        }
        self.args
            .extend(["--".into(), "--no-pci".into(), vdev, file_prefix]);
    }

    /// Starts the daemon, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_daemon(&mut self) {
        self.daemon = Some(Daemon::start_as(
            self.user.as_ref(),
            &self.space,
            &self.args,
        ));
    }

    /// The running daemon.
    ///
    /// # Panics
    /// When it was stopped.
    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("the daemon is running")
    }

    /// The running daemon's process id.
    ///
    /// # Panics
    /// When it was stopped.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon is running").pid()
    }

    /// Ends the daemon as an operator does, for its log. It must exit with 0, also
    /// with runtimes attached.
    ///
    /// # Panics
    /// When it does not.
    pub fn stop_daemon(&mut self) -> String {
        let mut daemon = self.daemon.take().expect("the daemon is running");
        assert!(
            daemon.is_running(),
            "iokerneld had ended:\n{}",
            daemon.log()
        );
        let status = daemon.terminate();
        assert!(status.success(), "iokerneld: {status}:\n{}", daemon.log());
        daemon.log()
    }

    /// Starts a runtime and waits until it has been given a core.
    pub fn start(&self, runtime: Runtime) -> Running {
        self.spawn(runtime).attached()
    }

    /// Starts a runtime and waits for nothing.
    pub fn spawn(&self, runtime: Runtime) -> Running {
        runtime.spawn(&self.space, self.huge)
    }

    /// A command inside the host's namespaces.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.space.command(program)
    }

    /// The host's namespaces.
    pub fn space(&self) -> &Namespaces {
        &self.space
    }

    /// A directory that goes away with the host.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ends the daemon, and asserts that it left nothing: no segment, no
    /// process, no file of huge pages. Runtimes must have ended before.
    ///
    /// # Panics
    /// Naming what is left.
    pub fn finish(mut self) {
        if self.daemon.is_some() {
            self.stop_daemon();
        }
        // A killed process may take a moment to be gone.
        eventually("every process of the host has ended", || {
            self.space.processes().is_empty()
        });
        let segments = self.space.segments();
        assert!(
            segments.is_empty(),
            "segments are left:\n{}",
            segments.join("\n")
        );
        let files = self.huge_files();
        assert!(files.is_empty(), "files of huge pages are left: {files:?}");
    }

    fn huge_files(&self) -> Vec<PathBuf> {
        let Some(prefix) = &self.prefix else {
            return Vec::new();
        };
        let files = std::fs::read_dir(DPDK_FILES).into_iter().flatten();
        files
            .flatten()
            .filter(|f| f.file_name().to_string_lossy().starts_with(prefix.as_str()))
            .map(|f| f.path())
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.daemon = None;
        for file in self.huge_files() {
            let _ = std::fs::remove_file(file);
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        if let Some(prefix) = &self.prefix {
            let _ = std::fs::remove_dir_all(Path::new(DPDK_DIRS).join(prefix));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_test_left_is_removed_and_nothing_else() {
        // Beyond the greatest process id that Linux gives.
        let dead = format!("{PREFIX}4194305-0");
        let (ours, other) = (unique_name(), format!("{PREFIX}other"));
        let dirs = [dead, ours, other].map(|name| std::env::temp_dir().join(name));
        for dir in &dirs {
            std::fs::create_dir_all(dir.join("inner")).unwrap();
        }
        remove_leftovers();
        let left = dirs.each_ref().map(|dir| dir.exists());
        for dir in &dirs {
            let _ = std::fs::remove_dir_all(dir);
        }
        assert_eq!(left, [false, true, true]);
    }

    #[test]
    fn a_name_says_whose_it_is() {
        assert_eq!(owner(&unique_name()), Some(std::process::id()));
        assert_eq!(owner("calisto-test-12-3map_0"), Some(12));
        for other in [
            "calisto-test-12",
            "calisto-test--1",
            "rte",
            "x-calisto-test-1-1",
        ] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
