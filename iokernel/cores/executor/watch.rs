//! Ends writes to an eventfd that block.
//!
//! A wake is a blocking write into a counter that the runtime shares. With the
//! counter near its maximum the write blocks, and with it the polling loop, for
//! as long as the runtime likes. So the polling thread notes when it began to
//! write, and the control thread, which looks now and then, interrupts a write
//! that has lasted too long with a signal whose handler does nothing.
//!
//! ```text
//!   polling thread                    control thread, every few ms
//!   since = now                       if check(now) { interrupt() }
//!   write(park_efd)  <-- EINTR --       (SIGURG to the polling thread)
//!   since = 0
//! ```
//!
//! The signal can land between `since = now` and the block inside `write`, where
//! it interrupts nothing. Then `since` stays set, and the next look sends another.
//! It can also land just after the write ended, where it finds the thread in user
//! code or in a later system call; the polling thread's calls either cannot be
//! interrupted or take `EINTR` for an answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::ids::Micros;

/// A wake that takes longer is blocked, microseconds. A write into an eventfd with
/// room takes about one; the margin is for being scheduled out.
pub const WAKE_STUCK_US: u64 = 5_000;

/// Sent to the polling thread. Ignored by default and without a meaning here.
const SIGNAL: libc::c_int = libc::SIGURG;

/// What the polling thread and its watcher share.
#[derive(Debug, Default)]
pub struct WakeWatch {
    /// When the wake in progress began, microseconds; 0 if there is none.
    since: AtomicU64,
    /// The polling thread; 0 until it has called [`install`](WakeWatch::install).
    tid: AtomicI32,
}

impl WakeWatch {
    /// A watch over nobody yet.
    pub fn new() -> Arc<WakeWatch> {
        Arc::default()
    }

    /// Called by the polling thread before it wakes anybody: makes it the thread to
    /// interrupt, and installs the handler that does nothing.
    ///
    /// # Errors
    /// The kernel's, if it refuses the handler or the signal mask.
    pub fn install(&self) -> io::Result<()> {
        extern "C" fn do_nothing(_: libc::c_int) {}
        // SAFETY: all-zero is a valid sigaction: no flags (so no SA_RESTART: system
        // calls return EINTR) and an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: `action` is initialised; its handler is async-signal-safe, for it
        // does nothing.
        if unsafe { libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all-zero is a valid sigset_t to be filled by sigemptyset; the calls
        // write to it and read from it only.
        let unblocked = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, SIGNAL);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut())
        };
        if unblocked != 0 {
            return Err(io::Error::from_raw_os_error(unblocked));
        }
        self.tid.store(
            rustix::thread::gettid().as_raw_nonzero().get(),
            Ordering::Release,
        );
        Ok(())
    }

    /// Runs `write` under watch, from `now` on.
    #[inline]
    pub(super) fn during<T>(&self, now: Micros, write: impl FnOnce() -> T) -> T {
        // Release: not to sink below the write. A look that reads an old value is a
        // look too early or too late, nothing worse.
        self.since.store(now.0.max(1), Ordering::Release);
        let done = write();
        self.since.store(0, Ordering::Release);
        done
    }

    /// True if a wake has been in progress for longer than [`WAKE_STUCK_US`]. `now`
    /// is of the clock that [`wake`](super::wake) is given.
    pub fn check(&self, now: Micros) -> bool {
        match self.since.load(Ordering::Acquire) {
            0 => false,
            since => now.0.saturating_sub(since) > WAKE_STUCK_US,
        }
    }

    /// Interrupts the polling thread's system call. To be repeated as long as
    /// [`check`](WakeWatch::check) says so.
    pub fn interrupt(&self) {
        let tid = self.tid.load(Ordering::Acquire);
        if tid != 0 {
            // SAFETY: takes three integers; the thread is one of our own process, and
            // install() gave the signal a handler before it stored the id.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, SIGNAL) };
        }
    }
}
