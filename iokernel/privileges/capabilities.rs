//! Giving capabilities up.
//!
//! They belong to threads, and a port has some running before the polling loop does.
//! A thread can only change its own: so each of the others gets a signal, whose handler
//! does it there. Whether it was done is read from /proc, thread by thread.

#![allow(unsafe_code, reason = "a signal handler")]

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// Sent to the threads. Ignored by default and without a meaning here; the watch over
/// wakes uses it later.
const SIGNAL: libc::c_int = libc::SIGURG;
/// Threads that have not answered by then keep theirs.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between looks.
const PAUSE: Duration = Duration::from_millis(2);

/// What threads may keep. Read by the handler.
static KEEP: AtomicU64 = AtomicU64::new(u64::MAX);

/// Why some thread may have more than it needs.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShedError {
    /// The calling thread's own.
    #[error("{0}")]
    Own(#[from] Errno),
    /// It cannot be seen which threads there are.
    #[error("the threads cannot be seen: {0}")]
    Threads(#[from] io::Error),
    /// Others.
    #[error("threads {0:?} still have more")]
    Others(Vec<i32>),
}

/// Gives up, in every thread, all capabilities but `keep`; returns those that the
/// calling thread is left with. No program that any of them starts has more, either.
///
/// # Errors
/// [`ShedError`]: which threads have more than that.
pub(super) fn keep_only(keep: CapabilitySet) -> Result<CapabilitySet, ShedError> {
    shed(keep)?;
    KEEP.store(keep.bits(), Ordering::Relaxed);
    let before = handle(shed_here)?;
    let behind = all_follow(keep);
    restore(&before)?;
    match behind?.as_slice() {
        [] => Ok(capabilities(None)?.permitted),
        behind => Err(ShedError::Others(behind.to_vec())),
    }
}

/// Gives up the calling thread's. Async-signal-safe: system calls only.
fn shed(keep: CapabilitySet) -> Result<(), Errno> {
    let bits = (0..u64::BITS).map(|n| CapabilitySet::from_bits_retain(1 << n));
    for one in bits.filter(|&one| !keep.contains(one)) {
        match capability_is_in_bounding_set(one) {
            // Without CAP_SETPCAP it stays, to no avail: see set_no_new_privs.
            Ok(true) => drop(remove_capability_from_bounding_set(one)),
            Ok(false) => {}
            // Beyond the last that this kernel knows.
            Err(_) => break,
        }
    }
    // Linux before 4.3 has no such set.
    let _ = clear_ambient_capability_set();
    set_no_new_privs(true)?;
    let keep = keep & capabilities(None)?.permitted;
    set_capabilities(
        None,
        CapabilitySets {
            effective: keep,
            permitted: keep,
            inheritable: CapabilitySet::empty(),
        },
    )
}

extern "C" fn shed_here(_: libc::c_int) {
    // SAFETY: the thread's own error number, which the interrupted code may be about to read.
    let errno = unsafe { *libc::__errno_location() };
    // Whether it was done is seen in /proc.
    let _ = shed(CapabilitySet::from_bits_retain(
        KEEP.load(Ordering::Relaxed),
    ));
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Signals threads until each has given up its own; returns those that never did.
fn all_follow(keep: CapabilitySet) -> Result<Vec<i32>, ShedError> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let behind = threads_beyond(keep)?;
        if behind.is_empty() || Instant::now() > deadline {
            return Ok(behind);
        }
        for tid in behind {
            // SAFETY: takes three integers; a thread that ended is none to be signalled.
            unsafe { libc::syscall(libc::SYS_tgkill, own, tid, SIGNAL) };
        }
        std::thread::sleep(PAUSE);
    }
}

/// The threads of this process that hold more than `keep`, or may gain some.
fn threads_beyond(keep: CapabilitySet) -> io::Result<Vec<i32>> {
    let mut beyond = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?;
        // One that ended meanwhile has none.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else {
            continue;
        };
        if has_more(&status, keep)
            && let Some(tid) = task.file_name().to_str().and_then(|n| n.parse().ok())
        {
            beyond.push(tid);
        }
    }
    Ok(beyond)
}

/// By a thread's /proc status. Without `NoNewPrivs` (Linux before 4.10) it is not known.
fn has_more(status: &str, keep: CapabilitySet) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let set = |name: &str| {
        let text = field(name).map_or("", str::trim);
        u64::from_str_radix(text, 16).unwrap_or(u64::MAX)
    };
    ["CapInh:", "CapPrm:", "CapEff:"]
        .iter()
        .any(|name| set(name) & !keep.bits() != 0)
        || field("NoNewPrivs:").is_some_and(|v| v.trim() == "0")
}

/// Handles [`SIGNAL`]; returns what was done about it before.
fn handle(handler: extern "C" fn(libc::c_int)) -> io::Result<libc::sigaction> {
    // SAFETY: all-zero is a valid sigaction: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // Threads of a port are left where they wait.
    action.sa_flags = libc::SA_RESTART;
    let mut before = action;
    // SAFETY: both are initialised; the handler makes system calls only.
    match unsafe { libc::sigaction(SIGNAL, &raw const action, &raw mut before) } {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}

fn restore(before: &libc::sigaction) -> io::Result<()> {
    // SAFETY: what handle() got from the kernel.
    match unsafe { libc::sigaction(SIGNAL, before, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// For people: `KILL SYS_NICE`, or `none`.
pub(super) fn names(set: CapabilitySet) -> String {
    let names: Vec<_> = set.iter_names().map(|(name, _)| name).collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_more_by_any_set_or_by_what_it_may_gain() {
        let status = |inh, prm, eff, nnp| {
            format!(
                "Name:\tx\nCapInh:\t{inh}\nCapPrm:\t{prm}\nCapEff:\t{eff}\nCapBnd:\t00ff\nNoNewPrivs:\t{nnp}\n"
            )
        };
        let keep = CapabilitySet::KILL | CapabilitySet::SYS_NICE;
        // KILL is bit 5, SYS_NICE bit 23.
        assert!(!has_more(&status("0000", "800020", "800020", 1), keep));
        assert!(!has_more(&status("0000", "000020", "000000", 1), keep));
        assert!(has_more(&status("0001", "000020", "000020", 1), keep));
        assert!(has_more(&status("0000", "000021", "000020", 1), keep));
        assert!(has_more(&status("0000", "000020", "200020", 1), keep));
        assert!(has_more(&status("0000", "000020", "000020", 0), keep));
        assert!(
            has_more("", keep),
            "what cannot be read is not known to be little"
        );
    }

    #[test]
    fn names_are_the_kernels() {
        let set = CapabilitySet::KILL | CapabilitySet::IPC_OWNER;
        assert_eq!(names(set), "KILL IPC_OWNER");
        assert_eq!(names(CapabilitySet::empty()), "none");
    }
}
