//! Parks and wakes, and SIGUSR1.
//!
//! ```text
//!             SIGUSR1 in application code: parked in the handler (stuck)
//!   running ------------------------------------------------------+
//!     |  SIGUSR1 elsewhere: a flag, followed at the end of         |
//!     |  the library's part                                        v
//!     +--> parked: flags set, TXCMD_PARKED sent, read of the eventfd
//!               ^                                          |
//!               +---- running again: a core number was read
//! ```
//!
//! A kthread sends its own number, plus one, as the payload of a park to which it
//! was forced, so that another one looks at what it left. Where it parks by itself
//! it has left nothing but timers, which the last one to park passes on.
//!
//! Everything in [`Seat`] may be called by the signal handler: atomics, a `try_lock`
//! that cannot fail there, and system calls; no allocation, no waiting for a lock.

#![allow(unsafe_code, reason = "a signal handler")]

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::TryLockError;
use std::sync::atomic::{AtomicBool, Ordering};

use calisto::abi::types::{TXCMD_NET_COMPLETE, TXCMD_PARKED, TXCMD_PARKED_LAST};

use crate::lend::LENT;
use crate::process::{Kthread, NEVER, NOBODY, Process};

thread_local! {
    /// The process and number of the kthread that this thread is. A pointer and a
    /// number without destructors: a handler may read them at any moment.
    static SEAT: Cell<(*const Process, usize)> = const { Cell::new((std::ptr::null(), 0)) };
}

/// One kthread's place in the process, for its own thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat<'a> {
    pub(crate) process: &'a Process,
    pub(crate) index: usize,
}

impl<'a> Seat<'a> {
    /// The place of kthread `index`.
    pub(crate) fn new(process: &'a Process, index: usize) -> Seat<'a> {
        Seat { process, index }
    }

    pub(crate) fn kthread(&self) -> &'a Kthread {
        &self.process.kthreads[self.index]
    }

    /// The kthread whose queues go with the core that this one has.
    #[inline]
    pub(crate) fn queues(&self) -> &'a Kthread {
        match self.kthread().lent_by.load(Ordering::SeqCst) {
            NOBODY => self.kthread(),
            lender => &self.process.kthreads[lender],
        }
    }

    /// Tells the signal handler who this thread is, until `f` returns.
    pub(crate) fn occupy<T>(self, f: impl FnOnce() -> T) -> T {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                SEAT.set((std::ptr::null(), 0));
            }
        }
        SEAT.set((self.process, self.index));
        let _leave = Leave;
        f()
    }

    /// Sends a command. The I/O kernel takes them all the time; if it is gone, so is the command.
    pub(crate) fn command(self, cmd: u32, payload: u64) {
        let mut queue = match self.queues().txcmdq.try_lock() {
            Ok(queue) => queue,
            // A callback's panic does not touch the queue.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Only who has the core takes it, and the handler only where it is not held.
            Err(TryLockError::WouldBlock) => return,
        };
        while !queue.send(u64::from(cmd), payload) && !self.process.is_ending() {
            std::thread::yield_now();
        }
    }

    /// Returns a received packet's buffer.
    #[inline]
    pub(crate) fn complete(self, tag: u64) {
        self.command(TXCMD_NET_COMPLETE, tag);
    }

    /// Waits for the first core.
    pub(crate) fn wait_first(self) {
        self.wait();
        self.took_core();
    }

    /// Parks for want of work. False: something came meanwhile, and it did not.
    pub(crate) fn park_idle(self) -> bool {
        let (process, kthread) = (self.process, self.kthread());
        // The callback that went on with a lent core was the last thing to do: the core is not
        // ours to park with.
        if kthread.is_lent() {
            return false;
        }
        // SeqCst, both: whoever leaves us an event sets `attention` and then looks whether we
        // run (takeover.rs). One of the two sees the other.
        kthread.running.store(false, Ordering::SeqCst);
        if kthread.attention.load(Ordering::SeqCst) || kthread.preempted.load(Ordering::SeqCst) {
            kthread.running.store(true, Ordering::SeqCst);
            return false;
        }
        kthread.counters.parks.inc();
        // AcqRel: the last one sees the deadlines that those before it have left.
        if process.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            kthread.counters.parks_last.inc();
            let micros = match process.next_deadline() {
                NEVER => 0,
                // Rounded up: early is for nothing. 0 would mean none.
                at => at.saturating_sub(process.now()).div_ceil(1000).max(1),
            };
            self.command(TXCMD_PARKED_LAST, micros);
        } else {
            self.command(TXCMD_PARKED, 0);
        }
        self.wait();
        self.took_core();
        true
    }

    /// Parks because the core is wanted, and leaves to others whatever there is.
    pub(crate) fn park_preempted(self) {
        let kthread = self.kthread();
        if kthread.is_lent() {
            let signalled = kthread.preempted.swap(false, Ordering::SeqCst);
            self.give_back();
            self.wait();
            self.had_signal(signalled);
        } else {
            self.leave_core();
            self.wait();
        }
        self.took_core();
    }

    /// The same in the middle of a callback. Here a core may also be lent (lend.rs).
    fn park_stuck(self) {
        let kthread = self.kthread();
        // Release: whoever sees it shows congestion, so that we get a core again.
        self.process.stuck.fetch_add(1, Ordering::Release);
        let mut signalled = false;
        if kthread.is_lent() {
            signalled = kthread.preempted.swap(false, Ordering::SeqCst);
            self.give_back();
        } else {
            kthread.counters.preemptions_in_callback.inc();
            self.leave_core();
        }
        // SeqCst: of a lender and us, one takes it back (lend.rs).
        kthread.stuck.store(true, Ordering::SeqCst);
        let mut given = self.wait();
        if !kthread.stuck.swap(false, Ordering::SeqCst) {
            while given & LENT == 0 && !self.process.is_ending() {
                given |= self.wait();
            }
            if given & !LENT != 0 {
                self.give_back();
            }
        }
        self.process.stuck.fetch_sub(1, Ordering::Release);
        if given & !LENT != 0 {
            self.had_signal(signalled);
            self.took_core();
        }
    }

    /// A signal while the core was lent may have been for the core that was read of after
    /// that. Rather a park too many than one too few.
    fn had_signal(self, signalled: bool) {
        if signalled {
            self.kthread().preempted.store(true, Ordering::SeqCst);
        }
    }

    /// Sends the park of a kthread that is preempted.
    fn leave_core(self) {
        let kthread = self.kthread();
        kthread.preempted.store(false, Ordering::SeqCst);
        kthread.counters.preemptions.inc();
        kthread.running.store(false, Ordering::SeqCst);
        self.process.active.fetch_sub(1, Ordering::AcqRel);
        self.command(TXCMD_PARKED, self.index as u64 + 1);
    }

    fn took_core(self) {
        let kthread = self.kthread();
        kthread.counters.wakes.inc();
        self.process.active.fetch_add(1, Ordering::AcqRel);
        kthread.running.store(true, Ordering::SeqCst);
    }

    /// Blocks until the I/O kernel, or a lender, gives a core, or the runtime ends. Returns
    /// the sum of what was written: core numbers plus 1, and [`LENT`].
    fn wait(self) -> u64 {
        let kthread = self.kthread();
        let mut given = 0u64;
        while !self.process.is_ending() {
            // SAFETY: eight bytes of a local are written. Straight from libc: it is async-signal-safe.
            let n = unsafe { libc::read(kthread.eventfd.as_raw_fd(), (&raw mut given).cast(), 8) };
            if n == 8 {
                break;
            }
            // Interrupted, so no core had been given yet when the signal came: the park that
            // was sent is the answer to it. After a read that took a core it is a new one.
            if kthread.preempted.swap(false, Ordering::SeqCst) {
                kthread.counters.late_preemptions.inc();
                // Since the interruption a core may have been given and been wanted back: the
                // I/O kernel writes first, and signals then. Rather a park too many.
                if self.is_given() {
                    kthread.preempted.store(true, Ordering::SeqCst);
                }
            }
        }
        if !self.process.attached.load(Ordering::Relaxed)
            && !self.process.attached.swap(true, Ordering::AcqRel)
        {
            let _ = rustix::io::write(&self.process.notice, &1u64.to_ne_bytes());
        }
        given
    }

    /// True if a core was given that was not taken yet.
    fn is_given(self) -> bool {
        let mut fd = libc::pollfd {
            fd: self.kthread().eventfd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd, a local. Straight from libc: it is async-signal-safe.
        unsafe { libc::poll(&raw mut fd, 1, 0) == 1 }
    }

    /// Application code of this kthread's own begins: from now on it may be parked anywhere.
    #[inline]
    pub(crate) fn enter_app(self) {
        let kthread = self.kthread();
        // SeqCst: with the handler, which looks at it, on this same thread; and before the look at the flag.
        kthread.in_app.store(true, Ordering::SeqCst);
        while kthread.preempted.load(Ordering::SeqCst) && !self.process.is_ending() {
            kthread.in_app.store(false, Ordering::SeqCst);
            self.park_stuck();
            kthread.in_app.store(true, Ordering::SeqCst);
        }
    }

    /// The library's part begins.
    #[inline]
    pub(crate) fn leave_app(self) {
        self.kthread().in_app.store(false, Ordering::SeqCst);
    }

    fn on_signal(self) {
        let kthread = self.kthread();
        kthread.preempted.store(true, Ordering::SeqCst);
        if kthread.in_app.load(Ordering::SeqCst) && !self.process.is_ending() {
            self.enter_app();
        }
    }
}

extern "C" fn on_sigusr1(_signal: libc::c_int) {
    let (process, index) = SEAT.get();
    // SAFETY: errno is this thread's own.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { *errno };
    // SAFETY: occupy() sets the pointer from a reference that outlives its call, and takes it away after.
    if let Some(process) = unsafe { process.as_ref() } {
        Seat { process, index }.on_signal();
    }
    // SAFETY: as above. The interrupted code must find its own errno.
    unsafe { *errno = saved };
}

/// Sends SIGUSR1 to [`on_sigusr1`] in this process.
pub(crate) fn install_handler() -> io::Result<()> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    // SAFETY: all zero is a valid sigaction: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int) = on_sigusr1;
    action.sa_sigaction = handler as libc::sighandler_t;
    // No SA_RESTART: a parked kthread must see that it was signalled. SA_NODEFER: also
    // one that is parked in the handler. No SA_ONSTACK: an alternate stack is short, and
    // may be wanted for a fault meanwhile.
    action.sa_flags = libc::SA_NODEFER;
    // SAFETY: `action` lives on, no old action is asked for, and the handler keeps to what it may do.
    if unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
