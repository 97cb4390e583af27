//! What iokerneld cannot do: one line that says what to do, the right exit
//! code, and nothing left behind.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use compat_tests::daemon::Daemon;
use compat_tests::namespace::Namespaces;
use compat_tests::skip::skip;

const USAGE: i32 = 2;
const FAILURE: i32 = 1;

fn args(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

fn world(case: &str) -> Option<Namespaces> {
    Namespaces::new()
        .map_err(|e| skip(case, &format!("namespaces are not allowed here: {e}")))
        .ok()
}

/// Runs it to its end. It must exit with `code`, its last line be the only one
/// that is not a log line, and hold `says`; no segment and no process may stay.
fn refused(space: &Namespaces, words: &[&str], code: i32, says: &str) {
    let mut daemon = Daemon::spawn(space, &args(words));
    let status = daemon.wait();
    let log = daemon.log();
    assert_eq!(status.code(), Some(code), "{words:?}:\n{log}");
    let lines: Vec<&str> = log.lines().filter(|l| !l.starts_with('[')).collect();
    let [line] = lines[..] else {
        panic!("{words:?} said not one line but:\n{log}");
    };
    assert!(line.starts_with("iokerneld: "), "{line}");
    assert!(line.contains(says), "{words:?}: {line}");
    assert_eq!(space.segments(), Vec::<String>::new(), "{words:?}");
    assert_eq!(space.processes(), [], "{words:?}");
}

#[test]
fn wrong_flags_are_bad_usage() {
    let Some(space) = world("wrong flags") else {
        return;
    };
    for (words, says) in [
        (&["--zzz"][..], "--zzz"),
        (&["--no-smtt"], "--no-smt"),
        (&["--policy", "random"], "modulo"),
        (&["--affinity", "strict", "--policy", "modulo"], "home"),
        (&["--order-guard", "--policy", "modulo"], "home"),
        (&["--flow-entries", "0"], "1 to 16000000"),
        (&["--flow-idle", "0"], "1 to 86400"),
        (&["--port", "eth0"], "loopback"),
        (&["--cores", "1-"], "--cores"),
        (&["--cores", ""], "--cores"),
        (&["--virtual-cores", "0"], "1 to 256"),
        (&["--virtual-cores", "257"], "1 to 256"),
        (&["--shm-mode", "888"], "octal"),
        (&["--shm-mode", "0"], "0600"),
        (&["--idle", "sleep"], "yield"),
        (&["--lent-max", "51"], "1 to 50"),
        (&["--seccomp", "on"], "deny, kill, log or off"),
        (&["--keep-caps", "net_admin,root"], "`root`"),
        (&["--allow-gid", "wheel"], "numbers"),
        (&["--allow-uid", "4294967295"], "up to 4294967294"),
        (&["--shm-gid", "+5"], "a group's number"),
        (&["--shm-gid", "1", "--shm-mode", "0666"], "must be 7"),
        (&["--config", "/nonexistent.toml"], "/nonexistent.toml"),
        (&["--dataplane-core", "1", "--cores", "0-1"], "--cores"),
        (&["--port", "loopback", "--", "--no-pci"], "EAL options"),
        (&["ias"], "Caladan"),
        (&["up"], "unexpected word"),
    ] {
        refused(&space, words, USAGE, says);
    }
}

#[test]
fn cpus_that_are_not_there_are_named() {
    let Some(space) = world("CPUs that are not there") else {
        return;
    };
    for flag in ["--cores", "--dataplane-core", "--control-core"] {
        let words = [flag, "250", "--port", "loopback", "--no-huge"];
        refused(&space, &words, FAILURE, "CPU 250 is not online");
    }
}

#[test]
fn a_second_daemon_is_told_of_the_first() {
    let Some(space) = world("a second daemon") else {
        return;
    };
    let words = ["--port", "loopback", "--no-huge"];
    let mut first = Daemon::start(&space, &args(&words));
    let mut second = Daemon::spawn(&space, &args(&words));
    assert_eq!(second.wait().code(), Some(FAILURE));
    let log = second.log();
    assert!(log.contains("another"), "{log}");
    assert!(first.is_running(), "the first goes on");
    assert_eq!(space.segments().len(), 1, "its segment stays");
    assert_eq!(first.terminate().code(), Some(0));
    assert_eq!(space.segments(), Vec::<String>::new());
}

#[test]
fn a_segment_that_others_map_is_reported_with_their_pids() {
    let Some(space) = world("a segment in use") else {
        return;
    };
    let words = ["--port", "loopback", "--no-huge"];
    let mut first = Daemon::start(&space, &args(&words));
    // A second network namespace, and the same segments: the socket is free there.
    let mut second = space.command("unshare");
    second.args([
        "--net",
        compat_tests::daemon::binary().to_str().expect("UTF-8"),
    ]);
    let out = second.args(words).output().expect("unshare is installed");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(FAILURE), "{said}");
    assert!(said.contains(&first.pid().to_string()), "{said}");
    assert_eq!(first.terminate().code(), Some(0));
}

#[test]
fn without_rights_huge_pages_are_refused_and_small_ones_work() {
    let case = "no rights";
    let Some(space) = world(case) else { return };
    if !compat_tests::namespace::is_root() {
        return skip(case, "needs root, to give it up");
    }
    let group = std::fs::read_to_string("/proc/sys/vm/hugetlb_shm_group").unwrap_or_default();
    if group.trim() == "65534" {
        return skip(case, "vm.hugetlb_shm_group lets everybody use huge pages");
    }
    let nobody = |words: &[&str]| {
        let mut command = space.command("setpriv");
        command.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "timeout",
        ]);
        command.args([
            "-s",
            "TERM",
            "5",
            compat_tests::daemon::binary().to_str().expect("UTF-8"),
        ]);
        let out = command.args(words).output().expect("setpriv is installed");
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    let (code, said) = nobody(&["--port", "loopback"]);
    assert_eq!(code, Some(FAILURE), "{said}");
    assert!(
        said.contains("vm.hugetlb_shm_group") && said.contains("--no-huge"),
        "{said}"
    );
    // Ended by the timeout's SIGTERM, which it obeys: the 124 is timeout's own.
    let (code, said) = nobody(&["--port", "loopback", "--no-huge"]);
    assert_eq!(code, Some(124), "{said}");
    assert!(said.contains("ready") && said.contains("stopped"), "{said}");
    assert_eq!(space.segments(), Vec::<String>::new());
}

#[test]
fn a_dry_run_says_the_plan_and_touches_nothing() {
    let Some(space) = world("a dry run") else {
        return;
    };
    let plan = "--dry-run --port loopback --virtual-cores 3";
    let access = "--allow-uid 4001 --shm-mode 0755 --lent-max 30 --keep-caps net_raw";
    let words = plan.split(' ').chain(access.split(' '));
    let out = space
        .command(compat_tests::daemon::binary())
        .args(words)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{said}");
    for what in [
        "dataplane on",
        "3 virtual runtime cores",
        "loopback",
        "ingress",
        "steering: flow-table, sticky, 700000 flow entries",
        "shm-gid: iokerneld's own",
        "allow-uid: 4001",
        "allow-gid: none",
        "lent-max: 30 %",
        "seccomp: ",
        "keep-caps: NET_RAW",
    ] {
        assert!(said.contains(what), "{what} in {said}");
    }
    let warned = String::from_utf8_lossy(&out.stderr);
    assert!(warned.contains("can attach"), "{warned}");
    assert_eq!(space.segments(), Vec::<String>::new());
}

#[cfg(feature = "dpdk")]
#[test]
fn a_dpdk_that_cannot_start_is_explained() {
    let case = "DPDK's refusals";
    let Some(space) = world(case) else { return };
    if !compat_tests::namespace::is_root() {
        return skip(case, "needs root, as DPDK does");
    }
    for (eal, says) in [
        (&["--no-pci"][..], "no DPDK port 0"),
        (&["--no-pci", "-l", "0"], "--dataplane-core"),
        (&["--no-pci", "--vdev=net_nonsense0"], "net_nonsense0"),
        (
            &["--no-pci", "--vdev=net_af_packet0,iface=gone"],
            "No such device",
        ),
    ] {
        let words: Vec<&str> = ["--no-huge", "--"].iter().chain(eal).copied().collect();
        refused(&space, &words, FAILURE, says);
    }
    let words = [
        "--no-huge",
        "--port",
        "dpdk:7",
        "--",
        "--no-pci",
        "--vdev=net_null0",
    ];
    refused(&space, &words, FAILURE, "no DPDK port 7");
}
