//! Carries the arbiter's decisions out: affinity, eventfd, signal.
//!
//! Three effects on another process' thread, each one or two system calls; none
//! allocates, logs or retries. What goes wrong is returned, for the caller to
//! count and to blame.
//!
//! A thread id may have been reused by the time it is used. So a signal goes
//! through a pidfd of the thread itself where the kernel has them (Linux 6.9),
//! else through `tgkill`, which at least demands that the thread is still one of
//! that process; and a thread is seen to be alive before it is pinned.

#![allow(unsafe_code, reason = "system calls without a safe wrapper")]

mod watch;

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::thread::CpuSet;

pub use self::watch::{WAKE_STUCK_US, WakeWatch};
use super::topology::CpuId;
use crate::ids::{CoreId, Micros};

/// A thread of another process, by every name we have for it.
#[derive(Debug, Clone, Copy)]
pub struct Thread<'a> {
    /// The process it was a thread of at registration.
    pub pid: i32,
    /// Its thread id.
    pub tid: i32,
    /// A pidfd of the thread ([`thread_pidfd`]), where the kernel has them.
    pub pidfd: Option<BorrowedFd<'a>>,
}

/// Why an effect did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EffectError {
    /// There is no such thread any more.
    #[error("the thread is gone")]
    ThreadGone,
    /// The eventfd's counter is full, which only its runtime can have done: the
    /// kthread was not woken.
    #[error("the park eventfd is full, or not blocking")]
    EfdBlocked,
    /// The CPU cannot be had: it is offline, or not in the thread's cpuset any more.
    #[error("the CPU cannot be had")]
    NoCpu,
    /// Anything else.
    #[error("error {0}")]
    Other(i32),
}

impl From<Errno> for EffectError {
    fn from(e: Errno) -> EffectError {
        match e {
            Errno::SRCH => EffectError::ThreadGone,
            e => EffectError::Other(e.raw_os_error()),
        }
    }
}

/// A pidfd of one thread. `None` if the thread is gone or the kernel has none.
///
/// *Source:* pidfd_open(2), `PIDFD_THREAD`, which has the value of `O_EXCL`.
pub fn thread_pidfd(tid: i32) -> Option<OwnedFd> {
    // SAFETY: takes two integers; touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, tid, libc::O_EXCL) };
    let fd = RawFd::try_from(fd).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets `thread` run on `cpu` only.
///
/// # Errors
/// [`EffectError::ThreadGone`] if it no longer lives. (It may end between the
/// look and the pinning; the id is not reused that soon.) [`EffectError::NoCpu`] if the
/// kernel does not let it run there; it then runs where it may.
///
/// *Source:* cores.c, `cores_pin_thread`.
pub fn pin(thread: Thread<'_>, cpu: CpuId) -> Result<(), EffectError> {
    signal(thread, 0)?;
    let mut set = CpuSet::new();
    set.set(cpu.index());
    let tid = rustix::process::Pid::from_raw(thread.tid).ok_or(EffectError::ThreadGone)?;
    match rustix::thread::sched_setaffinity(Some(tid), &set) {
        Err(Errno::INVAL) => Err(EffectError::NoCpu),
        result => Ok(result?),
    }
}

/// Wakes the kthread that is blocked on `park_efd`, and tells it its core.
///
/// The eventfd is shared with the runtime, which blocks on it, so it cannot be
/// made non-blocking; a runtime can fill its counter and so make this block.
/// `watch` ends that: see [`WakeWatch`].
///
/// # Errors
/// [`EffectError::EfdBlocked`] if the counter was full.
///
/// *Source:* cores.c, `wake_kthread_on_core`.
pub fn wake(
    watch: &WakeWatch,
    park_efd: BorrowedFd<'_>,
    core: CoreId,
    now: Micros,
) -> Result<(), EffectError> {
    let message = (u64::from(core.0) + 1).to_ne_bytes();
    match watch.during(now, || rustix::io::write(park_efd, &message)) {
        Ok(8) => Ok(()),
        Ok(_) => Err(Errno::IO.into()),
        // An eventfd with room takes the message whatever signals are pending, so
        // an interruption means that it had none.
        Err(Errno::INTR | Errno::AGAIN) => Err(EffectError::EfdBlocked),
        Err(e) => Err(e.into()),
    }
}

/// Asks `thread` to park.
///
/// # Errors
/// [`EffectError::ThreadGone`] if it no longer lives.
///
/// *Source:* cores.c, `cores_add_core`.
pub fn preempt(thread: Thread<'_>) -> Result<(), EffectError> {
    signal(thread, libc::SIGUSR1)
}

/// Sends a signal to one thread; signal 0 only looks whether it lives.
fn signal(thread: Thread<'_>, signo: i32) -> Result<(), EffectError> {
    let done = match thread.pidfd {
        // SAFETY: `pidfd` is borrowed, so open; a null siginfo is allowed.
        Some(pidfd) => unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                pidfd.as_raw_fd(),
                signo,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        },
        // SAFETY: takes three integers; touches no memory of ours.
        None => unsafe { libc::syscall(libc::SYS_tgkill, thread.pid, thread.tid, signo) },
    };
    if done == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error())
            .unwrap_or(Errno::IO)
            .into())
    }
}

#[cfg(test)]
mod tests;
