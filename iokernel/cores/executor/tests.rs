#![allow(
    clippy::tests_outside_test_module,
    reason = "this file is the test module"
)]

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::*;

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

fn own_tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// A thread that sleeps until the sender is dropped, and its id.
fn sleeper() -> (i32, mpsc::Sender<()>, std::thread::JoinHandle<()>) {
    let (stop, stopped) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        tell.send(own_tid()).unwrap();
        let _ = stopped.recv();
    });
    (told.recv().unwrap(), stop, thread)
}

/// The thread by pidfd and, on every kernel, without one.
fn names<'a>(tid: i32, pidfd: Option<&'a OwnedFd>) -> Vec<Thread<'a>> {
    let mut names = vec![Thread {
        pid: own_pid(),
        tid,
        pidfd: None,
    }];
    names.extend(pidfd.map(|fd| Thread {
        pid: own_pid(),
        tid,
        pidfd: Some(fd.as_fd()),
    }));
    names
}

/// True once the kernel knows the thread no more (it is reaped a little after join).
fn gone(tid: i32) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        // SAFETY: takes three integers.
        if unsafe { libc::syscall(libc::SYS_tgkill, own_pid(), tid, 0) } != 0 {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

#[test]
fn pin_moves_a_thread_to_one_cpu() {
    let (tid, stop, thread) = sleeper();
    let pid = rustix::process::Pid::from_raw(tid);
    let before = rustix::thread::sched_getaffinity(pid).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&c| before.is_set(c)).collect();
    let pidfd = thread_pidfd(tid);
    for name in names(tid, pidfd.as_ref()) {
        for &cpu in &cpus {
            pin(name, CpuId(u16::try_from(cpu).unwrap())).unwrap();
            let set = rustix::thread::sched_getaffinity(pid).unwrap();
            assert_eq!((set.count(), set.is_set(cpu)), (1, true));
        }
    }
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn a_cpu_that_is_not_there_is_told_apart_from_a_thread_that_is_not() {
    let (tid, stop, thread) = sleeper();
    let pid = rustix::process::Pid::from_raw(tid);
    let before = rustix::thread::sched_getaffinity(pid).unwrap();
    for name in names(tid, thread_pidfd(tid).as_ref()) {
        // The last that a set has room for: no machine of ours has so many.
        assert_eq!(pin(name, CpuId(1023)), Err(EffectError::NoCpu));
    }
    assert_eq!(rustix::thread::sched_getaffinity(pid).unwrap(), before);
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn a_dead_thread_is_reported_as_gone() {
    let (tid, stop, thread) = sleeper();
    let pidfd = thread_pidfd(tid);
    drop(stop);
    thread.join().unwrap();
    assert!(gone(tid));
    for name in names(tid, pidfd.as_ref()) {
        assert_eq!(pin(name, CpuId(0)), Err(EffectError::ThreadGone));
        assert_eq!(preempt(name), Err(EffectError::ThreadGone));
    }
    assert!(thread_pidfd(tid).is_none());
}

#[test]
fn a_thread_of_another_process_is_left_alone() {
    // Our own thread, under the pid of process 1: no thread of that process.
    let name = Thread {
        pid: 1,
        tid: own_tid(),
        pidfd: None,
    };
    let before = rustix::thread::sched_getaffinity(None).unwrap();
    assert_eq!(pin(name, CpuId(0)), Err(EffectError::ThreadGone));
    assert_eq!(preempt(name), Err(EffectError::ThreadGone));
    assert_eq!(rustix::thread::sched_getaffinity(None).unwrap(), before);
}

static SIGNALLED: AtomicI32 = AtomicI32::new(0);

extern "C" fn note_thread(_: libc::c_int) {
    // SAFETY: gettid takes nothing, and is async-signal-safe.
    SIGNALLED.store(unsafe { libc::gettid() }, Ordering::SeqCst);
}

#[test]
fn preempt_signals_that_very_thread() {
    // SAFETY: all-zero is a valid sigaction; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note_thread as extern "C" fn(libc::c_int) as libc::sighandler_t;
        assert_eq!(
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()),
            0
        );
    }
    let (tid, stop, thread) = sleeper();
    let pidfd = thread_pidfd(tid);
    for name in names(tid, pidfd.as_ref()) {
        SIGNALLED.store(0, Ordering::SeqCst);
        preempt(name).unwrap();
        while SIGNALLED.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(SIGNALLED.load(Ordering::SeqCst), tid);
    }
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn wake_writes_the_core_plus_one() {
    let efd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let watch = WakeWatch::new();
    wake(&watch, efd.as_fd(), CoreId(6), Micros(1)).unwrap();
    let mut count = [0; 8];
    rustix::io::read(&efd, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 7);
    assert!(!watch.check(Micros(1_000_000)), "no wake is in progress");
}

/// An eventfd that takes not even 1 more: its counter ends at 2^64 - 2.
fn brimful_eventfd() -> OwnedFd {
    let efd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&efd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    efd
}

#[test]
fn a_wake_that_blocks_is_interrupted() {
    let watch = WakeWatch::new();
    let start = Instant::now();
    let now = move || Micros(1 + u64::try_from(start.elapsed().as_micros()).unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waker = scope.spawn(|| {
            watch.install().unwrap();
            // A signal that comes before the block interrupts nothing.
            watch.interrupt();
            let efd = brimful_eventfd();
            let began = now();
            let result = wake(&watch, efd.as_fd(), CoreId(0), began);
            let lasted = now().0 - began.0;
            done.store(true, Ordering::Release);
            (result, lasted)
        });
        while !done.load(Ordering::Acquire) {
            if watch.check(now()) {
                watch.interrupt();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let (result, lasted) = waker.join().unwrap();
        assert_eq!(result, Err(EffectError::EfdBlocked));
        assert!(lasted > WAKE_STUCK_US, "given up after {lasted} us");
    });
}

#[test]
fn a_non_blocking_eventfd_that_is_full_is_reported() {
    let efd = brimful_eventfd();
    rustix::io::ioctl_fionbio(&efd, true).unwrap();
    let watch = WakeWatch::new();
    assert_eq!(
        wake(&watch, efd.as_fd(), CoreId(0), Micros(1)),
        Err(EffectError::EfdBlocked)
    );
}

#[test]
fn a_wake_is_stuck_only_after_its_time() {
    let watch = WakeWatch::new();
    watch.during(Micros(100), || {
        assert!(!watch.check(Micros(100 + WAKE_STUCK_US)));
        assert!(watch.check(Micros(101 + WAKE_STUCK_US)));
        assert!(!watch.check(Micros(50)), "a clock read earlier is no alarm");
    });
    assert!(!watch.check(Micros(101 + WAKE_STUCK_US)));
    watch.during(Micros(0), || {
        assert!(watch.check(Micros(2 + WAKE_STUCK_US)))
    });
}
