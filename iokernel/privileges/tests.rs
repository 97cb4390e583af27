//! What the walls hold, tried out in processes of their own: this test binary again,
//! told by a variable to confine itself and to try.

#![allow(
    clippy::tests_outside_test_module,
    reason = "this file is the test module"
)]
#![allow(unsafe_code, reason = "system calls without a safe wrapper")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::mpsc;

use super::*;
use crate::control::test_runtime::{log_of, remember_log};
use crate::testing::skip;

/// Tells the process started again what to do.
const CHILD: &str = "CALISTO_PRIVILEGES_CHILD";

/// Runs the test `name` again, with `what` in [`CHILD`].
fn again(name: &str, what: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([
            &format!("privileges::tests::{name}"),
            "--exact",
            "--nocapture",
        ])
        .env(CHILD, what)
        .output()
        .unwrap()
}

/// Fails with what the process said, unless it ended well.
#[track_caller]
fn ended_well(out: &Output) {
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}: {said}", out.status);
}

/// The filter cannot be had on some machines (no seccomp, or one thread's own filter).
fn restricted(forbidden: OnForbidden) -> bool {
    match syscalls::restrict(PortNeeds::NONE, forbidden) {
        Ok(()) => true,
        Err(e) => {
            skip("a list of system calls", &e.to_string());
            false
        }
    }
}

/// The error number of a system call that fails; 0 of one that does not.
fn error_of(call: libc::c_long, args: [usize; 5]) -> i32 {
    let [a, b, c, d, e] = args;
    // SAFETY: the callers pass numbers, and pointers to what lives.
    match unsafe { libc::syscall(call, a, b, c, d, e) } {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap(),
        _ => 0,
    }
}

fn word(n: i32) -> usize {
    usize::try_from(n).unwrap()
}

#[test]
fn forbidden_system_calls_fail_and_the_daemons_own_do_not() {
    if std::env::var_os(CHILD).is_none() {
        return ended_well(&again(
            "forbidden_system_calls_fail_and_the_daemons_own_do_not",
            "deny",
        ));
    }
    // A thread that was there before is restricted too.
    let (go, wait) = mpsc::channel::<()>();
    let before = std::thread::spawn(move || {
        wait.recv().unwrap();
        forbidden_fail();
    });
    if !restricted(OnForbidden::Deny) {
        return;
    }
    go.send(()).unwrap();
    before.join().unwrap();
    forbidden_fail();
    // One that is started later as well; that threads can be started is part of it.
    std::thread::spawn(forbidden_fail).join().unwrap();
    own_calls_work();
}

fn forbidden_fail() {
    let own = word(rustix::process::getpid().as_raw_nonzero().get());
    let path = c"/dev/null".as_ptr().addr();
    let page = word(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let executable = word(libc::PROT_READ | libc::PROT_EXEC);
    let to = [0_u8; 16];
    for (name, call, args) in [
        ("execve", libc::SYS_execve, [path, 0, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [0; 5]),
        ("fork", libc::SYS_fork, [0; 5]),
        ("clone", libc::SYS_clone, [word(libc::SIGCHLD), 0, 0, 0, 0]),
        ("clone3", libc::SYS_clone3, [0; 5]),
        ("kill", libc::SYS_kill, [own, 0, 0, 0, 0]),
        (
            "tgkill SIGKILL",
            libc::SYS_tgkill,
            [own, own, word(libc::SIGKILL), 0, 0],
        ),
        (
            "socket",
            libc::SYS_socket,
            [word(libc::AF_INET), word(libc::SOCK_DGRAM), 0, 0, 0],
        ),
        ("sendto", libc::SYS_sendto, [0, 0, 0, 0, to.as_ptr().addr()]),
        (
            "open for writing",
            libc::SYS_openat,
            [0, path, word(libc::O_WRONLY), 0, 0],
        ),
        (
            "open, creating",
            libc::SYS_openat,
            [0, path, word(libc::O_CREAT), 0, 0],
        ),
        (
            "executable memory",
            libc::SYS_mmap,
            [0, 4096, executable, page, 0],
        ),
        (
            "shmget, creating",
            libc::SYS_shmget,
            [7, 4096, word(libc::IPC_CREAT), 0, 0],
        ),
        (
            "IPC_SET",
            libc::SYS_shmctl,
            [0, word(libc::IPC_SET), 0, 0, 0],
        ),
        ("ioctl", libc::SYS_ioctl, [0; 5]),
        ("unlink", libc::SYS_unlink, [0; 5]),
        ("unshare", libc::SYS_unshare, [0; 5]),
        ("setuid", libc::SYS_setuid, [0; 5]),
        ("capset", libc::SYS_capset, [0; 5]),
        ("seccomp", libc::SYS_seccomp, [0; 5]),
        ("PR_SET_DUMPABLE", libc::SYS_prctl, [4, 1, 0, 0, 0]),
    ] {
        assert_eq!(error_of(call, args), libc::ENOSYS, "{name}");
    }
}

fn own_calls_work() {
    assert!(
        fs::read_to_string("/proc/self/status")
            .unwrap()
            .contains("Pid:")
    );
    assert!(fs::read_dir("/proc/self/task").unwrap().count() > 0);
    // Beyond what the C library has at hand.
    assert_eq!(std::hint::black_box(vec![1_u8; 64 << 20])[1 << 20], 1);
    // No such segment, and no segment of that key: asked and answered.
    assert_eq!(
        error_of(
            libc::SYS_shmctl,
            [word(i32::MAX), word(libc::IPC_RMID), 0, 0, 0]
        ),
        libc::EINVAL
    );
    assert_eq!(
        error_of(libc::SYS_shmget, [0x7777, 0, 0, 0, 0]),
        libc::ENOENT
    );
    let own = word(rustix::process::getpid().as_raw_nonzero().get());
    assert_eq!(error_of(libc::SYS_tgkill, [own, own, 0, 0, 0]), 0);
}

#[test]
fn a_forbidden_system_call_ends_the_process_if_so_wished() {
    const NAME: &str = "a_forbidden_system_call_ends_the_process_if_so_wished";
    match std::env::var(CHILD).as_deref() {
        Ok("kill") => {
            if restricted(OnForbidden::Kill) {
                error_of(libc::SYS_ptrace, [0; 5]);
                unreachable!("the call ends the process");
            }
        }
        Ok(_) => {
            if restricted(OnForbidden::Log) {
                // Done, with the kernel's own answer.
                assert_ne!(
                    error_of(libc::SYS_setuid, [usize::MAX, 0, 0, 0, 0]),
                    libc::ENOSYS
                );
            }
        }
        Err(_) => {
            let killed = again(NAME, "kill");
            let said = String::from_utf8_lossy(&killed.stderr);
            let skipped = said.contains("SKIPPED");
            assert!(
                skipped || killed.status.signal() == Some(libc::SIGSYS),
                "{}: {said}",
                killed.status
            );
            ended_well(&again(NAME, "log"));
        }
    }
}

#[test]
fn a_kernel_without_filters_is_one_warning() {
    const NAME: &str = "a_kernel_without_filters_is_one_warning";
    if std::env::var_os(CHILD).is_none() {
        return ended_well(&again(NAME, "old"));
    }
    let old = syscalls::without(libc::SYS_seccomp).unwrap();
    if let Err(e) = syscalls::install(&old) {
        return skip("a kernel without filters", &e.to_string());
    }
    remember_log();
    let needs = Needs {
        port: PortNeeds::NONE,
        users: None,
        extra: CapabilitySet::empty(),
    };
    confine(&needs, None).unwrap();
    let log = log_of(std::thread::current().id());
    let warned: Vec<_> = log
        .iter()
        .filter(|l| l.contains("not restricted"))
        .collect();
    assert_eq!(warned.len(), 1, "{log:?}");
    // Capabilities are gone all the same.
    let kept = rustix::thread::capabilities(None).unwrap().permitted;
    assert!(!kept.contains(CapabilitySet::SYS_ADMIN), "{log:?}");
    // Who asked for it does not run without.
    for named in [OnForbidden::Deny, OnForbidden::Kill, OnForbidden::Log] {
        let error = confine(&needs, Some(named)).unwrap_err().to_string();
        assert!(error.contains("--seccomp"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    confine(&needs, Some(OnForbidden::Off)).unwrap();
}

#[test]
fn capabilities_that_are_not_had_are_named() {
    const NAME: &str = "capabilities_that_are_not_had_are_named";
    if std::env::var_os(CHILD).is_none() {
        return ended_well(&again(NAME, "drop"));
    }
    capabilities::keep_only(CapabilitySet::empty()).unwrap();
    let two = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_RAW;
    let named = not_had(two).unwrap();
    assert!(
        named.contains("SYS_ADMIN") && named.contains("NET_RAW"),
        "{named}"
    );
    assert_eq!(not_had(CapabilitySet::empty()), None);
    let all = read_capabilities("all").unwrap();
    assert_eq!(not_had(all), None, "as many as there are");
    assert_eq!(capability_names(all), "all");
    assert_eq!(capability_names(CapabilitySet::KILL), "KILL");
}

#[test]
fn capabilities_go_from_every_thread() {
    const NAME: &str = "capabilities_go_from_every_thread";
    if std::env::var_os(CHILD).is_none() {
        return ended_well(&again(NAME, "drop"));
    }
    let had = rustix::thread::capabilities(None).unwrap();
    let keep = CapabilitySet::KILL | CapabilitySet::SYS_NICE;
    // One that sleeps in a system call, one that computes.
    let (stop, stopped) = mpsc::channel::<()>();
    let sleeper = std::thread::spawn(move || stopped.recv());
    let busy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let runner = std::thread::spawn({
        let busy = busy.clone();
        move || {
            while busy.load(std::sync::atomic::Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        }
    });
    let kept = capabilities::keep_only(keep).unwrap();
    assert_eq!(kept, had.permitted & keep);
    let mut threads = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let set = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
        };
        let most = kept.bits();
        assert_eq!((set("CapEff:"), set("CapPrm:")), (most, most), "{status}");
        assert_eq!((set("CapInh:"), set("CapAmb:")), (0, 0), "{status}");
        if had.effective.contains(CapabilitySet::SETPCAP) {
            assert_eq!(set("CapBnd:") & !keep.bits(), 0, "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        threads += 1;
    }
    // The harness's own, this test's, and the two.
    assert!(threads >= 3, "{threads} threads");
    drop(stop);
    busy.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(sleeper.join().unwrap().is_err());
    runner.join().unwrap();
}

#[test]
fn what_is_kept_follows_from_who_may_attach_and_from_the_port() {
    let needs = |users| Needs {
        port: PortNeeds::NONE,
        users,
        extra: CapabilitySet::empty(),
    };
    let others = CapabilitySet::KILL | CapabilitySet::SYS_NICE | CapabilitySet::IPC_OWNER;
    assert_eq!(needs(None).capabilities(0, false), others);
    assert_eq!(
        needs(None).capabilities(0, true),
        others | CapabilitySet::SYS_PTRACE
    );
    assert_eq!(needs(Some(&[0, 1000])).capabilities(0, false), others);
    // Its own user's runtimes only.
    assert_eq!(
        needs(Some(&[1000])).capabilities(1000, true),
        CapabilitySet::SYS_NICE
    );
    let port = Needs {
        port: PortNeeds {
            capabilities: CapabilitySet::NET_ADMIN,
            ..PortNeeds::NONE
        },
        extra: CapabilitySet::SYS_RAWIO,
        ..needs(Some(&[0]))
    };
    assert_eq!(
        port.capabilities(0, false),
        CapabilitySet::NET_ADMIN | CapabilitySet::SYS_RAWIO | CapabilitySet::SYS_NICE
    );
}

#[test]
fn a_proc_that_hides_processes_is_recognised() {
    let mounted = |options: &str| hides_processes(&format!("proc /proc proc {options} 0 0\n"));
    assert!(!mounted("rw,relatime"));
    assert!(!mounted("rw,hidepid=off") && !mounted("hidepid=0"));
    for how in ["1", "2", "4", "invisible", "noaccess", "ptraceable"] {
        assert!(mounted(&format!("rw,hidepid={how},gid=4")), "{how}");
    }
    assert!(!hides_processes("proc /mnt/proc proc rw,hidepid=2 0 0\n"));
}

#[test]
fn capabilities_are_read_by_name() {
    let set = read_capabilities("net_admin, CAP_SYS_RAWIO").unwrap();
    assert_eq!(set, CapabilitySet::NET_ADMIN | CapabilitySet::SYS_RAWIO);
    assert!(
        read_capabilities("all")
            .unwrap()
            .contains(CapabilitySet::SYS_ADMIN)
    );
    assert_eq!(read_capabilities("net_admin,root").unwrap_err(), "root");
    assert!(read_capabilities("").is_err());
}
