//! Finding, building and starting `iokerneld`, and what asks it.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

use crate::child::Child;
use crate::namespace::{Namespaces, User};

/// Names another binary to test, in place of the one in the target directory.
pub const DAEMON_VAR: &str = "CALISTO_IOKERNELD";
/// The same for `calistoctl`.
pub const CTL_VAR: &str = "CALISTO_CALISTOCTL";

/// A running `iokerneld`; killed on drop.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

/// The binary under test: as [`DAEMON_VAR`] says, or beside this test's own.
///
/// Cargo does not build another package's binaries for a test, and a stale one
/// would be tested in silence: so it is built here, once.
pub fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| find_or_build("iokerneld", DAEMON_VAR))
}

/// The `calistoctl` under test, likewise.
pub fn ctl() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| find_or_build("calistoctl", CTL_VAR))
}

fn find_or_build(name: &str, var: &str) -> PathBuf {
    match std::env::var_os(var) {
        Some(path) => path.into(),
        None => build("calisto", name),
    }
}

/// Builds a package's binary, for tests of another package; where it lies: beside
/// [`binary`].
///
/// # Panics
/// When it does not build: with what the compiler said.
pub fn build(package: &str, name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a running test has a path");
    // target/<profile>/deps/<test>, or target/<profile>/<program>
    let dir = exe.parent().expect("programs lie in a directory");
    let profile = match dir.parent() {
        Some(profile) if dir.ends_with("deps") => profile,
        _ => dir,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--quiet",
            "-p",
            package,
            "--bin",
            name,
            "--target-dir",
        ])
        .arg(
            profile
                .parent()
                .expect("a profile lies in the target directory"),
        )
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    if package == "calisto" && !cfg!(feature = "dpdk") {
        cargo.arg("--no-default-features");
    }
    let out = cargo.output().expect("cargo can be run");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name} does not build:\n{said}");
    profile.join(name)
}

impl Daemon {
    /// Starts it inside `space` and waits until it is ready.
    ///
    /// # Panics
    /// When it ends instead: with what it said.
    pub fn start(space: &Namespaces, args: &[String]) -> Daemon {
        Daemon::start_as(None, space, args)
    }

    /// The same as another user.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_as(user: Option<&User>, space: &Namespaces, args: &[String]) -> Daemon {
        let mut daemon = Daemon::spawn_as(user, space, args);
        if daemon.child.wait_line(|l| l.contains("ready")).is_none() {
            let status = daemon.child.wait();
            panic!("iokerneld {}: {status}:\n{}", args.join(" "), daemon.log());
        }
        daemon
    }

    /// Starts it inside `space` and waits for nothing.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn spawn(space: &Namespaces, args: &[String]) -> Daemon {
        Daemon::spawn_as(None, space, args)
    }

    fn spawn_as(user: Option<&User>, space: &Namespaces, args: &[String]) -> Daemon {
        let path = binary();
        let child = Child::spawn("iokerneld", space.command_as(user, path).args(args))
            .unwrap_or_else(|e| panic!("cannot run {}: {e}", path.display()));
        Daemon { child }
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        self.child.lines().join("\n")
    }

    /// The last lines that it logged.
    pub fn log_tail(&self, lines: usize) -> String {
        let all = self.child.lines();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Waits until it logs a line with `text` in it.
    ///
    /// # Panics
    /// When it ends before, or after [`PATIENCE`](crate::child::PATIENCE).
    pub fn wait_log(&self, text: &str) -> String {
        self.child
            .wait_line(|l| l.contains(text))
            .unwrap_or_else(|| panic!("iokerneld ended without saying {text:?}:\n{}", self.log()))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_status().is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait()
    }

    /// Asks it to end, as an operator does, and waits for it.
    pub fn terminate(&mut self) -> ExitStatus {
        self.child.signal(libc::SIGTERM);
        self.child.wait()
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: i32) {
        self.child.signal(signal);
    }

    /// Kills it, like `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill();
    }
}
