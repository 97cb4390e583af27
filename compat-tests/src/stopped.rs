//! One thread of another process, stopped: a signal stops them all.

#![allow(unsafe_code, reason = "ptrace has no safe wrapper")]

use std::io;
use std::marker::PhantomData;

/// A thread that stands still until this is dropped.
///
/// Only the thread that stopped it may let it go on, so this is not `Send`.
#[derive(Debug)]
pub struct Stopped {
    tid: i32,
    _not_send: PhantomData<*const ()>,
}

fn check(ret: libc::c_long) -> io::Result<()> {
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `ptrace` with requests that take no memory of ours.
fn ptrace(request: libc::c_uint, tid: i32) -> io::Result<()> {
    // SAFETY: the requests used here take a thread and two numbers, both zero.
    check(unsafe { libc::ptrace(request, tid, 0_usize, 0_usize) })
}

impl Stopped {
    /// Stops the thread `tid`, and waits until it stands.
    ///
    /// # Errors
    /// The kernel's: there is no such thread, or tracing is not allowed.
    pub fn stop(tid: i32) -> io::Result<Stopped> {
        ptrace(libc::PTRACE_SEIZE, tid)?;
        // From here on dropping it detaches.
        let stopped = Stopped {
            tid,
            _not_send: PhantomData,
        };
        ptrace(libc::PTRACE_INTERRUPT, tid)?;
        let mut status = 0;
        // SAFETY: `status` is ours; the thread is traced by us, so it can be waited for.
        check(unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) }.into())?;
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // A process that ended has been let go already.
        let _ = ptrace(libc::PTRACE_DETACH, self.tid);
    }
}

/// The thread of process `pid` with the name `name`.
pub fn thread_named(pid: u32, name: &str) -> Option<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.flatten().find_map(|task| {
        let comm = std::fs::read_to_string(task.path().join("comm")).ok()?;
        (comm.trim() == name).then(|| task.file_name().to_str()?.parse().ok())?
    })
}
