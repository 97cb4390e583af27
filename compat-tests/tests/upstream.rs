//! Upstream's own programs, unmodified, on our daemon: one case a row of what
//! each of them does on upstream's.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use std::ffi::OsString;
use std::time::Duration;

use compat_tests::child::Child;
use compat_tests::skip::skip;
use compat_tests::upstream::{RuntimeConfig, SUCCESS, Suite, Tree, assert_success};
use compat_tests::veth::must;

/// Watchdogs, ten times what a quiet machine needs.
const SHORT: Duration = Duration::from_secs(120);
const LONG: Duration = Duration::from_secs(900);

/// A program that needs no I/O kernel: proof that the tree itself works here.
fn needs_no_daemon(name: &str) {
    let case = format!("upstream {name}");
    let Some(program) = Tree::find(&case).and_then(|t| t.program(&case, &format!("tests/{name}")))
    else {
        return;
    };
    let mut command = std::process::Command::new(program);
    let mut child = Child::spawn(name, &mut command).expect("the program runs");
    let status = child.wait_at_most(SHORT).expect("it ends");
    assert!(
        status.success(),
        "{name}: {status}:\n{}",
        child.lines().join("\n")
    );
}

/// A program of one runtime with one kthread; a line of it must hold `says`.
fn one_runtime(name: &str, patience: Duration, says: &str) {
    let case = format!("upstream {name}");
    let Some(program) = Tree::find(&case).and_then(|t| t.program(&case, &format!("tests/{name}")))
    else {
        return;
    };
    let Some((suite, _peer)) = Suite::one_host(&case, 1, &[]) else {
        return;
    };
    let config = suite.config(&RuntimeConfig::new(3));
    let lines = assert_success(suite.start(&program, &[config]), patience);
    assert!(
        lines.iter().any(|l| l.contains(says)),
        "{name} never said {says:?}:\n{}",
        lines.join("\n")
    );
    suite.host.finish();
}

#[test]
fn base_tests_pass() {
    for name in ["lrpc", "gen", "hello", "thread"] {
        needs_no_daemon(&format!("test_base_{name}"));
    }
}

#[test]
fn runtime_threads() {
    one_runtime(
        "test_runtime_threads",
        SHORT,
        "threads / second, efficiency",
    );
}

#[test]
fn runtime_mutexes() {
    one_runtime("test_runtime_mutexes", SHORT, "messages / second");
}

#[test]
fn runtime_timer() {
    one_runtime("test_runtime_timer", SHORT, "timeouts / second");
}

#[test]
fn runtime_rcu() {
    one_runtime("test_runtime_rcu", SHORT, "readers finished.");
}

#[test]
fn runtime_smalloc() {
    one_runtime("test_runtime_smalloc", LONG, "cycles");
}

#[test]
fn kthread_wakeup() {
    one_runtime("test_kthread_wakeup", LONG, "ran 500000 threads");
}

#[test]
fn many_threads() {
    let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    if maps.trim().parse().unwrap_or(0) < 110_000 {
        skip(
            "upstream test_many_threads",
            "needs sysctl vm.max_map_count=262144",
        );
        return;
    }
    one_runtime("test_many_threads", SHORT, SUCCESS);
}

/// It waits for half an hour of RCU grace periods, by its own design: what can
/// be seen is that it attaches and goes on.
#[test]
fn kthread_attach_goes_on() {
    let case = "upstream test_kthread_attach";
    let Some(program) = Tree::find(case).and_then(|t| t.program(case, "tests/test_kthread_attach"))
    else {
        return;
    };
    let Some((mut suite, _peer)) = Suite::one_host(case, 1, &[]) else {
        return;
    };
    let config = suite.config(&RuntimeConfig::new(3));
    let mut child = suite.start(&program, &[config]);
    suite.host.daemon().wait_log("02:00:00:00:00:03");
    std::thread::sleep(Duration::from_secs(10));
    assert!(
        child.try_status().is_none(),
        "it ended:\n{}",
        child.lines().join("\n")
    );
    assert!(suite.host.daemon().is_running());
    child.kill();
    suite.host.finish();
}

#[test]
fn multiple_runtimes() {
    let case = "upstream test_multiple_runtimes";
    let Some(program) =
        Tree::find(case).and_then(|t| t.program(case, "tests/test_multiple_runtimes"))
    else {
        return;
    };
    let Some((suite, _peer)) = Suite::one_host(case, 2, &[]) else {
        return;
    };
    // With one runtime core only one of them can have a guarantee.
    let first = suite.config(&RuntimeConfig::new(3));
    let second = suite.config(&RuntimeConfig::new(5).kthreads(1, 0));
    let mut parent = suite.start(&program, &[first, second]);
    // The parent ends first, whatever happens; its children's ends close the output.
    assert!(parent.wait().success());
    let lines = parent.lines();
    for wanted in ["exiting runtime", SUCCESS] {
        let said = lines.iter().filter(|l| l.contains(wanted)).count();
        assert_eq!(said, 2, "{wanted:?} of each child:\n{}", lines.join("\n"));
    }
    suite.host.finish();
}

#[test]
fn ping_both_ways() {
    let case = "upstream test_ping";
    let Some(program) = Tree::find(case).and_then(|t| t.program(case, "tests/test_ping")) else {
        return;
    };
    let Some((suite, peer)) = Suite::one_host(case, 1, &[]) else {
        return;
    };
    if peer.command("ping").arg("-V").output().is_err() {
        skip(case, "ping is not installed");
        return;
    }
    let config = RuntimeConfig::new(3);
    let child = suite.start(&program, &[suite.config(&config)]);
    // Its own pings go to 192.168.1.2, which is Linux.
    child.wait_line(|l| l.contains("spawning"));
    must(
        peer.command("ping")
            .args(["-q", "-n", "-c", "5", "-i", "0.2", "-w", "60", &config.ip()]),
    );
    assert_success(child, SHORT);
    suite.host.finish();
}

/// Request and response between two runtimes on two hosts.
#[test]
fn netperf() {
    let case = "upstream netperf";
    let Some(program) = Tree::find(case).and_then(|t| t.program(case, "tests/netperf")) else {
        return;
    };
    let Some((a, b)) = Suite::two_hosts(case) else {
        return;
    };
    let (server, client) = (RuntimeConfig::new(3), RuntimeConfig::new(4));
    let ip = server.ip();
    let args = |config: OsString, mode: &str, seconds: &str, bytes: &str| -> Vec<OsString> {
        let rest = [mode, "1", &ip, seconds, bytes, "1"].map(OsString::from);
        std::iter::once(config).chain(rest).collect()
    };
    let mut serving = a.start(&program, &args(a.config(&server), "SERVER", "0", "64"));
    serving.wait_line(|l| l.contains("spawning"));
    let config = b.config(&client);
    let asking = b.start(&program, &args(config, "CLIENT", "4", "64"));
    let lines = assert_success(asking, SHORT);
    let rate = lines.iter().find_map(|l| {
        let (_, rest) = l.split_once("measured ")?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    });
    assert!(rate.is_some_and(|r| r > 0.0), "{}", lines.join("\n"));
    serving.kill();
    a.host.finish();
    b.host.finish();
}
