//! Thread ids and eventfds that a runtime claims to be its kthreads'.
//!
//! A thread id is a number in the runtime's pid namespace, and a number may be
//! anyone's. It must name a thread of the process that connected; where the
//! kernel has pidfds for threads (Linux 6.9) one is taken, and the check is
//! repeated afterwards, so that the pidfd is known to be of that thread even if
//! the number is used again.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::error::KthreadError;

/// `PIDFD_THREAD` (linux/pidfd.h): a pidfd of one thread.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());
/// Most threads of a runtime in another pid namespace that are looked at.
const MAX_TASKS: usize = 1024;
/// The count of an eventfd that is waited on is small: the numbers of cores that it was given.
const EVENTFD_FULL: u64 = 1 << 32;

/// The threads of one process.
#[derive(Debug)]
pub struct PeerThreads {
    pid: i32,
    /// From the peer's numbers to ours, if its pid namespace is not ours.
    translated: Option<HashMap<i32, i32>>,
}

/// The numbers of a thread, from our pid namespace to its own.
fn ns_ids(status: &str) -> Vec<i32> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .map(|ids| {
            ids.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect()
        })
        .unwrap_or_default()
}

impl PeerThreads {
    /// The threads of process `pid`. `meanwhile` is called again and again.
    pub fn of(pid: i32, mut meanwhile: impl FnMut()) -> PeerThreads {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let translated = (ns_ids(&status).len() > 1).then(|| {
            let tasks = fs::read_dir(format!("/proc/{pid}/task"));
            tasks
                .into_iter()
                .flatten()
                .flatten()
                .take(MAX_TASKS)
                .filter_map(|task| {
                    meanwhile();
                    let status = fs::read_to_string(task.path().join("status")).ok()?;
                    let ids = ns_ids(&status);
                    Some((*ids.last()?, *ids.first()?))
                })
                .collect()
        });
        PeerThreads { pid, translated }
    }

    /// The thread that the peer calls `tid`, by our number.
    ///
    /// # Errors
    /// [`KthreadError::ForeignThread`].
    pub fn resolve(&self, tid: i32) -> Result<i32, KthreadError> {
        let ours = match &self.translated {
            Some(map) => map.get(&tid).copied(),
            None => Some(tid),
        };
        ours.filter(|&ours| self.has(ours))
            .ok_or(KthreadError::ForeignThread { tid, pid: self.pid })
    }

    fn has(&self, tid: i32) -> bool {
        is_thread_of(self.pid, tid)
    }

    /// A pidfd of a resolved thread; `None` where the kernel has none of threads.
    ///
    /// # Errors
    /// [`KthreadError::ForeignThread`] when the thread ended meanwhile.
    pub fn pidfd(&self, tid: i32) -> Result<Option<OwnedFd>, KthreadError> {
        use rustix::io::Errno;
        let gone = || KthreadError::ForeignThread { tid, pid: self.pid };
        let pid = Pid::from_raw(tid).ok_or_else(gone)?;
        let fd = match pidfd_open(pid, PIDFD_THREAD) {
            Ok(fd) => fd,
            Err(Errno::INVAL | Errno::NOSYS) => return Ok(None),
            Err(Errno::SRCH) => return Err(gone()),
            Err(e) => return Err(KthreadError::Os("pidfd_open", e.into())),
        };
        // The number named a thread of the peer before and does so now, so that thread
        // lived in between, when the pidfd was taken.
        if self.has(tid) && !has_ended(&fd) {
            Ok(Some(fd))
        } else {
            Err(gone())
        }
    }
}

/// True if process `pid` has a thread `tid` now, both numbers as we see them.
pub fn is_thread_of(pid: i32, tid: i32) -> bool {
    pid > 0 && tid > 0 && fs::exists(format!("/proc/{pid}/task/{tid}")).unwrap_or(false)
}

/// True once the thread or process of a pidfd has ended.
pub fn has_ended(pidfd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .is_ok_and(|n| n > 0)
}

/// Checks that `fds` are eventfds, each another, and none of them full.
///
/// # Errors
/// The kthread's number, and what is wrong.
pub fn check_eventfds(fds: &[OwnedFd]) -> Result<(), (usize, KthreadError)> {
    let mut seen = HashMap::new();
    for (index, fd) in fds.iter().enumerate() {
        let number = fd.as_raw_fd();
        let kind = fs::read_link(format!("/proc/self/fd/{number}"))
            .map_err(|e| (index, KthreadError::Os("readlink of its fd", e)))?;
        // A path would begin with a slash: no file can be called this.
        if kind.as_os_str() != "anon_inode:[eventfd]" {
            let kind = kind.to_string_lossy().escape_default().to_string();
            return Err((index, KthreadError::NoEventfd(kind)));
        }
        // Linux 5.2 and newer; before, a shared eventfd goes unnoticed and harms its runtime only.
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let line = |name| info.lines().find_map(|line| line.strip_prefix(name));
        let count = line("eventfd-count:").map(|hex| u64::from_str_radix(hex.trim(), 16));
        if let Some(Ok(count)) = count
            && count >= EVENTFD_FULL
        {
            return Err((index, KthreadError::FullEventfd(count)));
        }
        let id = line("eventfd-id:");
        if let Some(id) = id
            && let Some(other) = seen.insert(id.trim().to_owned(), index)
        {
            return Err((index, KthreadError::SharedEventfd(other)));
        }
    }
    Ok(())
}

/// A set of CPUs.
pub fn cpu_set(cpus: &[u16]) -> CpuSet {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(usize::from(cpu));
    }
    set
}

/// Pins a runtime's thread if it is still that one.
///
/// A number is nobody else's while its thread lives. That is looked at just before; in
/// between the thread would have to end and the kernel to go through all other numbers.
/// Where it has no pidfds of threads (before Linux 6.9) a thread of a later process with
/// the runtime's number would be taken for it.
///
/// # Errors
/// `ESRCH` if it has ended; what `sched_setaffinity` reports.
pub fn pin_kthread(pid: i32, tid: i32, pidfd: Option<&OwnedFd>, cpus: &CpuSet) -> io::Result<()> {
    let lives = match pidfd {
        Some(pidfd) => !has_ended(pidfd),
        None => is_thread_of(pid, tid),
    };
    if lives {
        pin(tid, cpus)
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// Pins a thread.
///
/// # Errors
/// What `sched_setaffinity` reports.
fn pin(tid: i32, cpus: &CpuSet) -> io::Result<()> {
    let pid = Pid::from_raw(tid).filter(|_| tid > 0);
    let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(sched_setaffinity(Some(pid), cpus)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::skip;
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::thread::sched_getaffinity;

    #[test]
    fn ns_ids_go_from_outer_to_inner() {
        let status = "Name:\tx\nNSpid:\t4242\t17\t1\nUid:\t0\n";
        assert_eq!(ns_ids(status), [4242, 17, 1]);
        assert!(ns_ids("Name:\tx\n").is_empty());
    }

    #[test]
    fn threads_of_others_and_dead_threads_are_foreign() {
        let me = std::process::id().cast_signed();
        let peer = PeerThreads::of(me, || {});
        assert_eq!(peer.resolve(me).unwrap(), me);
        for tid in [1, 0, -1, i32::MIN, i32::MAX] {
            assert!(peer.resolve(tid).is_err(), "{tid}");
        }
        let tid = std::thread::spawn(|| rustix::thread::gettid().as_raw_nonzero().get())
            .join()
            .unwrap();
        // join() returns a moment before the kernel forgets the thread.
        while peer.has(tid) {
            std::thread::yield_now();
        }
        assert!(peer.resolve(tid).is_err());
    }

    #[test]
    fn a_thread_of_an_inner_pid_namespace_is_found_by_its_inner_number() {
        let child = std::process::Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "sleep", "60"])
            .spawn();
        let Ok(mut child) = child else {
            return skip("threads of an inner pid namespace", "no unshare program");
        };
        let unshare = child.id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        let found = (0..500).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            let inner: i32 = fs::read_to_string(&children).ok()?.trim().parse().ok()?;
            Some(inner)
        });
        if let Some(outer) = found {
            let peer = PeerThreads::of(outer, || {});
            assert_eq!(peer.resolve(1).unwrap(), outer);
            assert!(
                peer.resolve(outer).is_err(),
                "outer numbers mean nothing inside"
            );
        } else {
            skip(
                "threads of an inner pid namespace",
                "none is to be had here",
            );
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn who_has_the_number_of_an_ended_thread_is_left_alone() {
        let me = std::process::id().cast_signed();
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let before = sched_getaffinity(None).unwrap();
        let nowhere = cpu_set(&[]);
        // An empty set is refused, so nothing changes even if the check is missing.
        let gone = |pid, pidfd| {
            let error = pin_kthread(pid, own, pidfd, &nowhere).unwrap_err();
            error.raw_os_error() == Some(libc::ESRCH)
        };
        assert!(!gone(me, None), "a thread of its process is that one");
        assert!(gone(1, None));
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            tell.send(tid).unwrap();
            let _ = ended.recv();
        });
        let pidfd = PeerThreads::of(me, || {})
            .pidfd(told.recv().unwrap())
            .unwrap();
        let Some(pidfd) = pidfd else {
            return skip("the number of an ended thread", "no pidfds of threads here");
        };
        assert!(!gone(me, Some(&pidfd)));
        drop(end);
        thread.join().unwrap();
        // join() returns a moment before the kernel says so.
        while !has_ended(&pidfd) {
            std::thread::yield_now();
        }
        assert!(gone(me, Some(&pidfd)));
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }

    #[test]
    fn a_full_eventfd_is_refused() {
        let full = eventfd(0, EventfdFlags::empty()).unwrap();
        rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        let some = eventfd(3, EventfdFlags::empty()).unwrap();
        assert!(check_eventfds(std::slice::from_ref(&some)).is_ok());
        let error = check_eventfds(&[some, full]).unwrap_err();
        assert!(matches!(error, (1, KthreadError::FullEventfd(count)) if count == u64::MAX - 1));
    }

    #[test]
    fn only_eventfds_pass_and_each_but_once() {
        let new = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        assert!(check_eventfds(&[new(), new(), new()]).is_ok());
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let (index, error) = check_eventfds(&[new(), reader]).unwrap_err();
        assert!(
            index == 1 && matches!(error, KthreadError::NoEventfd(_)),
            "{error}"
        );
        let first = new();
        let again = first.try_clone().unwrap();
        let (index, error) = check_eventfds(&[first, new(), again]).unwrap_err();
        assert!(
            index == 2 && matches!(error, KthreadError::SharedEventfd(0)),
            "{error}"
        );
    }
}
