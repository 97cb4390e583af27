//! What a running daemon may still do, and that it is enough; who may attach.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use std::fs;

#[cfg(feature = "dpdk")]
use compat_tests::child::Child;
#[cfg(feature = "dpdk")]
use compat_tests::daemon::{self, Daemon};
#[cfg(feature = "dpdk")]
use compat_tests::host::{Turn, free_huge_pages};
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
    let Some(mut host) = Host::loopback_as(case, NOBODY, &["--virtual-cores", "2"]) else {
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
    assert!(!host.stop_daemon().contains("WARN ] capabilities"));
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
