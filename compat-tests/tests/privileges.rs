//! What a running daemon may still do, and that it is enough; who may attach.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

#[cfg(feature = "dpdk")]
use compat_tests::child::Child;
use compat_tests::child::eventually;
use compat_tests::daemon;
#[cfg(feature = "dpdk")]
use compat_tests::daemon::Daemon;
use compat_tests::host::Turn;
#[cfg(feature = "dpdk")]
use compat_tests::host::free_huge_pages;
use compat_tests::namespace::{User, is_root};
use compat_tests::{Host, Runtime, skip};

/// Nobody, and a group of its own.
const NOBODY: User = User {
    uid: 65534,
    gid: 4001,
};
/// Of no group that is let in.
const STRANGER: User = User {
    uid: 65533,
    gid: 4002,
};

/// Numbers of capabilities (linux/capability.h).
const KILL: u64 = 1 << 5;
const IPC_OWNER: u64 = 1 << 15;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_NICE: u64 = 1 << 23;

/// `NAME:\tVALUE` of each thread of a process.
fn statuses(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon runs");
    let texts = tasks.map(|t| fs::read_to_string(t.expect("an entry").path().join("status")));
    texts.map(|text| text.expect("its threads stay")).collect()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}:\t");
    let line = status.lines().find_map(|l| l.strip_prefix(&*prefix));
    line.unwrap_or_else(|| panic!("no {name} in {status}"))
}

/// Asserts that each of at least `threads` threads is behind both walls, with no
/// capabilities but `most`.
fn assert_confined(pid: u32, threads: usize, most: u64) {
    let all = statuses(pid);
    assert!(all.len() >= threads, "{} threads", all.len());
    for status in all {
        let set = |name| u64::from_str_radix(field(&status, name), 16).expect("a number");
        assert_eq!(field(&status, "Seccomp"), "2", "{status}");
        assert_eq!(field(&status, "NoNewPrivs"), "1", "{status}");
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(set(name) & !most, 0, "{name} of {status}");
        }
        if is_root() && field(&status, "Uid").starts_with('0') {
            assert_eq!(set("CapBnd") & !most, 0, "{status}");
            assert_eq!(set("CapEff"), most, "{status}");
        }
    }
}

/// False, said loudly, where nobody else can be acted for.
fn may_be_others(case: &str) -> bool {
    let may = is_root();
    if !may {
        skip(case, "needs root, to run programs as other users");
    }
    may
}

#[test]
fn every_thread_is_confined() {
    let Some(mut host) = Host::loopback("a confined daemon") else {
        return;
    };
    // Polling, control, admin.
    assert_confined(host.daemon().pid(), 3, KILL | SYS_NICE | IPC_OWNER);
    host.finish();
}

#[test]
fn who_serves_its_own_user_keeps_less() {
    let Some(mut host) = Host::loopback_with("its own user", &["--allow-uid", "0"]) else {
        return;
    };
    let runtime = host.start(Runtime::echo(1));
    // To pin a thread of its own user that has more capabilities than it takes one.
    assert_confined(host.daemon().pid(), 3, SYS_NICE);
    runtime.stop().assert_good();
    host.finish();
}

/// Makes the program that `command` starts run as if its kernel had no filters.
#[allow(unsafe_code, reason = "a filter is installed between fork and exec")]
fn without_filters(command: &mut Command) {
    let code = |code: u32| u16::try_from(code).expect("codes have 16 bits");
    let one = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let seccomp = u32::try_from(libc::SYS_seccomp).expect("a small number");
    let fails = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    // The number of the call comes first in what a filter sees.
    let mut filter = [
        one(code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), 0, 0),
        one(
            code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
            1,
            seccomp,
        ),
        one(code(libc::BPF_RET | libc::BPF_K), 0, fails),
        one(
            code(libc::BPF_RET | libc::BPF_K),
            0,
            libc::SECCOMP_RET_ALLOW,
        ),
    ];
    let install = move || {
        let program = libc::sock_fprog {
            len: 4,
            filter: filter.as_mut_ptr(),
        };
        let (yes, no) = (1_u64, 0_u64);
        // SAFETY: integers, and a program that lives; the kernel copies its instructions.
        let results = unsafe {
            [
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, no, no, no),
                libc::prctl(
                    libc::PR_SET_SECCOMP,
                    u64::from(libc::SECCOMP_MODE_FILTER),
                    &raw const program,
                ),
            ]
        };
        match results {
            [0, 0] => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec: two system calls, no allocation, no lock.
    unsafe { command.pre_exec(install) };
}

#[test]
fn a_list_that_was_asked_for_and_cannot_be_had_ends_the_start() {
    let case = "a kernel without filters";
    let Some(host) = Host::bare(case, Turn::take()) else {
        return;
    };
    let start = |options: &[&str]| {
        // Ends the daemon that starts all the same.
        let mut command = host.command("timeout");
        command.args(["-s", "TERM", "5"]).arg(daemon::binary());
        command.args(["--port", "loopback", "--no-huge"]);
        without_filters(command.args(options));
        let out = command.output().expect("timeout is installed");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.code(), said)
    };
    for how in ["deny", "kill", "log"] {
        let (code, said) = start(&["--seccomp", how]);
        assert_eq!(code, Some(1), "{how}: {said}");
        let lines: Vec<_> = said.lines().filter(|l| !l.starts_with('[')).collect();
        let [line] = lines[..] else {
            panic!("{how}: not one line but {said}");
        };
        assert!(line.contains("--seccomp"), "{line}");
        assert_eq!(host.space().segments(), Vec::<String>::new(), "{how}");
    }
    // Nothing said: one warning. The 124 is timeout's own.
    let (code, said) = start(&[]);
    assert_eq!(code, Some(124), "{said}");
    let warned = said.matches("system calls are not restricted").count();
    assert_eq!(warned, 1, "{said}");
    assert!(said.contains("ready") && said.contains("stopped"), "{said}");
    host.finish();
}

#[cfg(feature = "dpdk")]
#[test]
fn threads_of_dpdk_are_confined_too() {
    let Some((mut host, _peer)) = Host::veth("a confined daemon with DPDK") else {
        return;
    };
    // As above, and the EAL's: interrupts at least.
    assert_confined(host.daemon().pid(), 4, KILL | SYS_NICE | IPC_OWNER);
    host.finish();
}

#[cfg(feature = "dpdk")]
#[test]
fn devices_of_every_kind_start_and_stop_behind_the_walls() {
    let case = "virtual devices";
    if !may_be_others(case) {
        return;
    }
    let Some(host) = Host::bare(case, Turn::take()) else {
        return;
    };
    for device in ["net_tap0", "net_null0", "net_ring0"] {
        let vdev = format!("--vdev={device}");
        let words = ["--no-huge", "--seccomp", "kill", "--", "--no-pci", &vdev];
        let mut daemon = Daemon::start(host.space(), &words.map(str::to_owned));
        let status = daemon.terminate();
        assert!(status.success(), "{device}: {status}:\n{}", daemon.log());
    }
    host.finish();
}

#[cfg(feature = "dpdk")]
#[test]
fn memory_that_processes_share_is_had_and_given_back_behind_the_walls() {
    let case = "memory that DPDK's processes share";
    if !may_be_others(case) {
        return;
    }
    let Some(host) = Host::bare(case, Turn::take()) else {
        return;
    };
    // The ingress region and DPDK's own.
    if free_huge_pages() < 400 {
        return skip(case, "it takes 400 huge pages");
    }
    let dir = host.dir().display().to_string();
    let prefix = format!("calisto-shared-{}", std::process::id());
    let script = r#"mount -t hugetlbfs none "$1" && exec "$0" --seccomp kill -- \
        --no-pci --vdev=net_null0 --huge-dir="$1" --file-prefix="$2""#;
    let mut command = host.command("unshare");
    command.args(["--mount", "sh", "-c", script]);
    command.arg(daemon::binary()).args([&dir, &prefix]);
    let mut child = Child::spawn("iokerneld", &mut command).expect("unshare is installed");
    let ready = child.wait_line(|line| line.contains("ready"));
    child.signal(libc::SIGTERM);
    let status = child.wait();
    let _ = fs::remove_dir_all(format!("/var/run/dpdk/{prefix}"));
    let log = child.lines().join("\n");
    assert!(ready.is_some() && status.success(), "{status}:\n{log}");
    host.finish();
}

#[test]
fn runtimes_of_other_users_are_pinned_woken_and_preempted() {
    let case = "runtimes of other users";
    if !may_be_others(case) {
        return;
    }
    let Some(mut host) = Host::loopback(case) else {
        return;
    };
    // One takes every core; the other gets its own by preemption, and gives it back.
    let burner = host.start(Runtime::burner(1).by(&NOBODY).kthreads(4, 0));
    let parker = Runtime::parker(2).by(&STRANGER).kthreads(3, 2);
    let report = host.start(parker.set("cycles", 3)).wait();
    report.assert_good().assert_seen(&["wakes", "parks"]);
    let report = burner.stop();
    report.assert_good().assert_seen(&["preempts"]);
    let log = host.stop_daemon();
    assert!(log.contains("uid 65534"), "{log}");
    host.finish();
}

#[test]
fn a_daemon_without_rights_is_confined_and_serves_its_user() {
    let case = "a daemon without rights";
    if !may_be_others(case) {
        return;
    }
    let options = ["--virtual-cores", "2", "--keep-caps", "sys_admin"];
    let Some(mut host) = Host::loopback_as(case, NOBODY, &options) else {
        return;
    };
    assert_confined(host.daemon().pid(), 3, 0);
    let echo = host.start(Runtime::echo(1).by(&NOBODY));
    let sender = Runtime::sender(2).by(&NOBODY).to(1).count(500);
    host.start(sender).wait().assert_good();
    echo.stop().assert_good();
    // Somebody else's kthreads are not its to pin: refused, with what to do about it.
    let stranger = host.spawn(Runtime::echo(3).by(&STRANGER));
    host.daemon().wait_log("as the same user");
    assert_eq!(stranger.wait().get("hung_up"), 1);
    let log = host.stop_daemon();
    assert!(!log.contains("WARN ] capabilities"), "{log}");
    // What it was told to keep, and had not.
    let said = |line: &&str| line.contains("WARN") && line.contains("SYS_ADMIN cannot be kept");
    assert_eq!(log.lines().filter(said).count(), 1, "{log}");
    host.finish();
}

#[test]
fn a_group_is_let_in_and_others_do_not_even_see_packets() {
    let case = "a group that is let in";
    if !may_be_others(case) {
        return;
    }
    let gid = NOBODY.gid.to_string();
    let options = ["--allow-gid", &gid, "--shm-gid", &gid];
    let Some(mut host) = Host::loopback_with(case, &options) else {
        return;
    };
    let member = host.start(Runtime::echo(1).by(&NOBODY));
    // It ends by itself: the segment is closed to it, so it has no reason to connect.
    let said = host.spawn(Runtime::echo(2).by(&STRANGER)).fails();
    assert!(said.contains("Permission denied"), "{said}");
    // Who sees the segment by other rights is still no member.
    let root = host.spawn(Runtime::echo(3));
    host.daemon().wait_log("is refused: user 0 is not let in");
    assert_eq!(root.wait().get("hung_up"), 1);
    member.stop().assert_good();
    host.finish();
}

#[test]
fn a_segment_of_another_user_that_was_killed_stays_and_is_named() {
    let case = "the segment of another user";
    if !may_be_others(case) {
        return;
    }
    let Some(mut host) = Host::loopback(case) else {
        return;
    };
    let unremoved = |n| Runtime::echo(n).set("keep-name", 1);
    // One's own user's is removed, and who removed it itself left none: nothing to say.
    for runtime in [unremoved(1), Runtime::echo(2).by(&NOBODY)] {
        host.start(runtime).kill();
        eventually("it is removed", || host.space().segments().len() == 1);
    }
    let echo = host.start(unremoved(3).by(&NOBODY));
    let who = format!("pid {} (uid {})", echo.pid(), NOBODY.uid);
    echo.kill();
    let line = host.daemon().wait_log(" stays, for it cannot be removed");
    assert!(line.contains("WARN") && line.contains(&who), "{line}");
    // Fields: key, id, and what does not matter here.
    let segments = host.space().segments();
    let of = |line: &str| line.split_whitespace().nth(7).map(str::to_owned);
    let uid = NOBODY.uid.to_string();
    let left = segments.iter().find(|s| of(s).as_ref() == Some(&uid));
    let left = left.unwrap_or_else(|| panic!("it is gone: {segments:?}"));
    let mut fields = left.split_whitespace();
    let key: i32 = fields.next().and_then(|f| f.parse().ok()).expect("a key");
    let id = fields.next().expect("an id");
    let named = format!("segment {id} (key {:#x})", key.cast_unsigned());
    assert!(line.contains(&named), "{named} in {line}");
    let remedy = format!("ipcrm -m {id}");
    assert!(line.contains(&remedy), "{remedy} in {line}");
    assert!(line.contains("--keep-caps sys_admin"), "{line}");
    assert!(line.contains("kernel.shm_rmid_forced=1"), "{line}");
    let mut words = remedy.split(' ');
    let mut command = host.command(words.next().expect("a program"));
    assert!(command.args(words).status().expect("util-linux").success());
    let log = host.stop_daemon();
    assert!(log.contains("SEGMENTS_LEFT 1"), "{log}");
    host.finish();
}

#[test]
fn with_the_right_to_a_segment_of_another_user_is_removed() {
    let case = "the right to remove segments";
    if !may_be_others(case) {
        return;
    }
    let options = ["--keep-caps", "sys_admin"];
    let Some(mut host) = Host::loopback_with(case, &options) else {
        return;
    };
    let most = KILL | SYS_NICE | IPC_OWNER | SYS_ADMIN;
    assert_confined(host.daemon().pid(), 3, most);
    let echo = Runtime::echo(1).set("keep-name", 1).by(&NOBODY);
    host.start(echo).kill();
    eventually("it is removed", || host.space().segments().len() == 1);
    let log = host.stop_daemon();
    assert!(!log.contains("cannot be removed"), "{log}");
    assert!(!log.contains("SEGMENTS_LEFT"), "{log}");
    host.finish();
}
