//! Upstream's load generator and server, unmodified, on our daemon.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use compat_tests::child::Child;
use compat_tests::upstream::{RuntimeConfig, Suite, Tree, assert_success};

/// A watchdog, ten times what a quiet machine needs.
const PATIENCE: Duration = Duration::from_secs(300);
const SERVER: &str = "192.168.1.3:5000";
/// How the table of samples begins.
const HEADER: &str = "Distribution, Target, Actual, Dropped, Never Sent, Median";

fn program(case: &str) -> Option<PathBuf> {
    Tree::find(case)?.program(case, "apps/synthetic/target/release/synthetic")
}

/// The server's address, a configuration if there is one, and options by words.
fn args(config: Option<OsString>, options: &str) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![SERVER.into()];
    args.extend(config.into_iter().flat_map(|c| ["--config".into(), c]));
    args.extend(options.split_whitespace().map(OsString::from));
    args
}

/// Asserts `samples` lines of measurement: answers to every request sent.
fn assert_samples(lines: &[String], samples: usize) {
    let said = lines.join("\n");
    assert!(
        lines.iter().any(|l| l.starts_with(HEADER)),
        "no table:\n{said}"
    );
    let rows: Vec<Vec<&str>> = lines
        .iter()
        .filter(|l| l.starts_with("zero, "))
        .map(|l| l.split(", ").collect())
        .collect();
    assert_eq!(rows.len(), samples, "samples:\n{said}");
    for row in rows {
        let number = |i: usize| row[i].parse::<u64>().expect("a count");
        let (actual, dropped) = (number(2), number(3));
        assert!(actual > 0, "nothing was answered:\n{said}");
        assert_eq!(dropped, 0, "requests without answer:\n{said}");
    }
}

/// Client and server on two hosts.
fn between_two_hosts(transport: &str) {
    let case = format!("upstream synthetic over {transport}");
    let Some(program) = program(&case) else {
        return;
    };
    let Some((a, b)) = Suite::two_hosts(&case) else {
        return;
    };
    let config = a.config(&RuntimeConfig::new(3));
    let serve = format!("--mode spawner-server --transport {transport}");
    let mut server = a.start(&program, &args(Some(config), &serve));
    server.wait_line(|l| l.contains("spawning"));
    // The client busy-waits for its send times: it wants a kthread that spins.
    let config = b.config(&RuntimeConfig::new(4).spinning(1));
    // No ramp-up: a busy machine sends nothing in one of its steps, and then
    // the client leaves out the sample.
    let ask = format!(
        "--mode runtime-client --transport {transport} --mpps 0.005 --samples 2 --runtime 4 --rampup 0"
    );
    let client = b.start(&program, &args(Some(config), &ask));
    assert_samples(&assert_success(client, PATIENCE), 2);
    server.kill();
    a.host.finish();
    b.host.finish();
}

#[test]
fn udp_between_two_hosts() {
    between_two_hosts("udp");
}

#[test]
fn tcp_between_two_hosts() {
    between_two_hosts("tcp");
}

/// Linux asks a runtime.
fn from_linux(transport: &str) {
    let case = format!("upstream synthetic from Linux over {transport}");
    let Some(program) = program(&case) else {
        return;
    };
    let Some((suite, peer)) = Suite::one_host(&case, 1, &[]) else {
        return;
    };
    let config = suite.config(&RuntimeConfig::new(3));
    let serve = format!("--mode spawner-server --transport {transport}");
    let mut server = suite.start(&program, &args(Some(config), &serve));
    server.wait_line(|l| l.contains("spawning"));
    let ask = format!(
        "--mode linux-client --transport {transport} --mpps 0.002 --samples 1 --runtime 4 --rampup 0"
    );
    // In real time: its sleeps overshoot the times of most requests even so.
    let mut command = peer.command("chrt");
    command
        .args(["-f", "1"])
        .arg(&program)
        .args(args(None, &ask));
    let mut client = Child::spawn("linux-client", &mut command).expect("chrt is installed");
    let status = client.wait_at_most(PATIENCE).expect("it ends");
    assert!(status.success(), "{status}:\n{}", client.lines().join("\n"));
    assert_samples(&client.lines(), 1);
    server.kill();
    suite.host.finish();
}

#[test]
fn udp_from_linux() {
    from_linux("udp");
}

#[test]
fn tcp_from_linux() {
    from_linux("tcp");
}

/// Its own client and server in one runtime: hangs unless cores are granted on
/// congestion.
#[test]
fn local_client_gets_cores() {
    let case = "upstream synthetic in one runtime";
    let Some(program) = program(case) else { return };
    let Some((mut suite, _peer)) = Suite::one_host(case, 1, &["--virtual-cores", "4"]) else {
        return;
    };
    suite.fake_cpus(8);
    let config = suite.config(&RuntimeConfig::new(3).kthreads(3, 3));
    let ask = "--mode local-client --mpps 0.002 --samples 1 --runtime 4";
    let client = suite.start(&program, &args(Some(config), ask));
    assert_samples(&assert_success(client, PATIENCE), 1);
    suite.host.finish();
}
