//! A network and an IPC namespace for one host, and how to get into them.
//!
//! The namespaces are kept by a process that only sleeps, the *holder*. Without
//! root they are made inside a user namespace of their own, in which we are
//! root; what needs real devices (veth) does not work there.

#![allow(
    unsafe_code,
    reason = "unshare and setns between fork and exec, which std cannot do"
)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A network and an IPC namespace; gone, with all that is in them, on drop.
#[derive(Debug)]
pub struct Namespaces {
    holder: Child,
    /// In the order in which they must be joined: the user namespace first.
    fds: Vec<File>,
    net: File,
}

/// Somebody to run a program as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Its only group.
    pub gid: u32,
}

/// True if the effective user is root.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Dies with the thread that started it, so that a killed test leaves nothing.
fn die_with_parent() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })
}

impl Namespaces {
    /// Makes new namespaces.
    ///
    /// # Errors
    /// When the system does not allow it; the error is a reason to skip a test.
    pub fn new() -> io::Result<Namespaces> {
        let mut flags = libc::CLONE_NEWNET | libc::CLONE_NEWIPC;
        if !is_root() {
            flags |= libc::CLONE_NEWUSER;
        }
        let mut command = Command::new("sleep");
        command.arg("infinity").stdin(Stdio::null());
        // SAFETY: between fork and exec: two system calls, no allocation, no lock.
        unsafe {
            command.pre_exec(move || {
                die_with_parent()?;
                check(libc::unshare(flags))
            });
        }
        let holder = command.spawn()?;
        let dir = PathBuf::from(format!("/proc/{}", holder.id()));
        let mut space = Namespaces {
            fds: Vec::new(),
            net: File::open(dir.join("ns/net"))?,
            holder,
        };
        if !is_root() {
            map_root(&dir)?;
            space.fds.push(File::open(dir.join("ns/user"))?);
        }
        space.fds.push(File::open(dir.join("ns/net"))?);
        space.fds.push(File::open(dir.join("ns/ipc"))?);
        Ok(space)
    }

    /// The holder's process id, by which `ip link` names the network namespace.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A command that will run inside, and die with the calling thread.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let fds: Vec<RawFd> = self.fds.iter().map(AsRawFd::as_raw_fd).collect();
        let mut command = Command::new(program);
        // SAFETY: between fork and exec: system calls only, no allocation, no
        // lock. The descriptors were inherited open: close-on-exec ones close later.
        unsafe {
            command.pre_exec(move || {
                die_with_parent()?;
                fds.iter().try_for_each(|&fd| check(libc::setns(fd, 0)))
            });
        }
        command
    }

    /// The same as another user, where one is named (needs root).
    pub fn command_as(&self, user: Option<&User>, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let Some(user) = user else {
            return self.command(program);
        };
        let mut command = self.command("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--clear-groups"])
            .args(["--reuid", &user.uid.to_string()])
            .args(["--regid", &user.gid.to_string()])
            .arg(program);
        command
    }

    /// Runs `f` in a thread of this process that uses the network namespace.
    ///
    /// # Panics
    /// When `f` does, or the namespace cannot be joined (needs root).
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: changes the network namespace of this new thread only; the fd is open.
                check(unsafe { libc::setns(self.net.as_raw_fd(), libc::CLONE_NEWNET) })
                    .expect("a test in a namespace must be able to join it");
                f()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Other processes inside: their ids and command names.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let ours = fs::read_link(format!("/proc/{}/ns/ipc", self.pid()));
        let Ok(ours) = ours else { return Vec::new() };
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|&pid| pid != self.pid())
            .filter(|pid| fs::read_link(format!("/proc/{pid}/ns/ipc")).is_ok_and(|ns| ns == ours))
            // A zombie has no namespaces any more, so it does not get here.
            .map(|pid| {
                let name = fs::read_to_string(format!("/proc/{pid}/comm"));
                (pid, name.unwrap_or_default().trim().to_owned())
            })
            .collect()
    }

    /// SysV shared-memory segments inside, one line each as the kernel lists them.
    ///
    /// # Panics
    /// When the list cannot be read.
    pub fn segments(&self) -> Vec<String> {
        let out = self
            .command("cat")
            .arg("/proc/sysvipc/shm")
            .output()
            .expect("cat can be run");
        assert!(out.status.success(), "cannot list the segments");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.lines().skip(1).map(str::to_owned).collect()
    }
}

/// Makes us root in the user namespace of the process at `dir`.
fn map_root(dir: &std::path::Path) -> io::Result<()> {
    // SAFETY: getuid and getgid have no preconditions.
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    fs::write(dir.join("setgroups"), "deny")?;
    fs::write(dir.join("gid_map"), format!("0 {gid} 1"))?;
    fs::write(dir.join("uid_map"), format!("0 {uid} 1"))
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
