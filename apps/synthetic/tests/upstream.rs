//! Ours and upstream's `synthetic`, over the wire, both ways.
//!
//! `SHENANGO_DIR` names a built upstream tree; without it every case is skipped.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

mod common;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use common::{Row, assert_samples, listening, rows, spawn, world};
use compat_tests::child::Child;
use compat_tests::upstream::{RuntimeConfig, Suite, Tree, assert_success};

/// A watchdog, ten times what a quiet machine needs.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);
const LINUX: &str = "127.0.0.1:5000";
const SERVER: &str = "192.168.1.3:5000";

fn theirs(case: &str) -> Option<PathBuf> {
    Tree::find(case)?.program(case, "apps/synthetic/target/release/synthetic")
}

fn ours() -> PathBuf {
    env!("CARGO_BIN_EXE_synthetic").into()
}

fn args(addr: &str, config: Option<OsString>, options: &str) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![addr.into()];
    args.extend(config.into_iter().flat_map(|c| ["--config".into(), c]));
    args.extend(options.split_whitespace().map(OsString::from));
    args
}

/// Asserts a table of theirs with answers to all that was sent.
fn assert_their_table(lines: &[String]) {
    let rows: Vec<Row> = rows(lines, "zero");
    assert_eq!(rows.len(), 1, "{lines:?}");
    assert!(rows[0].actual > 0, "{lines:?}");
    assert_eq!(rows[0].dropped, 0, "{lines:?}");
}

/// Both on Linux sockets.
fn on_linux(transport: &str) {
    let case = format!("synthetic and upstream's on Linux over {transport}");
    let Some(theirs) = theirs(&case) else { return };
    let serve = format!("--mode linux-server --transport {transport}");
    let ask = format!(
        "--mode linux-client --transport {transport} --mpps 0.002 --samples 1 --runtime 2 --rampup 0"
    );
    let Some(space) = world(&case) else { return };
    let mut server = spawn(
        space
            .command("stdbuf")
            .args(["-oL"])
            .arg(&theirs)
            .args(args(LINUX, None, &serve)),
    );
    server.wait_line(|l| l.starts_with("Bound to"));
    let ask_ours = args(LINUX, None, &format!("{ask} --pause 0"));
    assert_samples(spawn(space.command(ours()).args(ask_ours)), 1);
    server.kill();

    let Some(space) = world(&case) else { return };
    let mut server = listening(spawn(space.command(ours()).args(args(LINUX, None, &serve))));
    // In real time: its sleeps overshoot the times of most requests even so.
    let mut command = space.command("chrt");
    command.args(["-f", "1"]).arg(&theirs);
    let mut client = spawn(command.args(args(LINUX, None, &ask)));
    let status = client.wait_at_most(PATIENCE).expect("it ends");
    assert!(status.success(), "{:?}", client.lines());
    assert_their_table(&client.lines());
    server.kill();
}

#[test]
fn udp_on_linux() {
    on_linux("udp");
}

#[test]
fn tcp_on_linux() {
    on_linux("tcp");
}

/// A server and a client on runtimes of two hosts. Returns the client when it has
/// begun, and what must outlive it.
fn between_two_hosts(
    case: &str,
    server: &Path,
    client: &Path,
    transport: &str,
    options: &str,
) -> Option<(Suite, Suite, Child, Child)> {
    let (a, b) = Suite::two_hosts(case)?;
    let config = a.config(&RuntimeConfig::new(3));
    let serve = format!("--mode spawner-server --transport {transport}");
    let server = a.start(server, &args(SERVER, Some(config), &serve));
    // Theirs says so in the runtime's log.
    server.wait_line(|l| l.contains("spawning") || l.starts_with("Bound to"));
    // Their client busy-waits for its send times: it wants a kthread that spins.
    let config = b.config(&RuntimeConfig::new(4).spinning(1));
    let ask = format!(
        "--mode runtime-client --transport {transport} --mpps 0.004 --samples 1 --runtime 3 --rampup 0 {options}"
    );
    let client = b.start(client, &args(SERVER, Some(config), &ask));
    Some((a, b, server, client))
}

fn our_client(transport: &str) {
    let case = format!("our synthetic asks upstream's over {transport}");
    let Some(theirs) = theirs(&case) else { return };
    let options = "--pause 0 --patience 20";
    let Some((a, b, mut server, client)) =
        between_two_hosts(&case, &theirs, &ours(), transport, options)
    else {
        return;
    };
    assert_samples(client, 1);
    server.kill();
    a.host.finish();
    b.host.finish();
}

fn their_client(transport: &str) {
    let case = format!("upstream's synthetic asks ours over {transport}");
    let Some(theirs) = theirs(&case) else { return };
    let Some((a, b, mut server, client)) =
        between_two_hosts(&case, &ours(), &theirs, transport, "")
    else {
        return;
    };
    assert_their_table(&assert_success(client, PATIENCE));
    server.kill();
    a.host.finish();
    b.host.finish();
}

#[test]
fn our_client_asks_their_server_over_udp() {
    our_client("udp");
}

#[test]
fn our_client_asks_their_server_over_tcp() {
    our_client("tcp");
}

#[test]
fn their_client_asks_our_server_over_udp() {
    their_client("udp");
}

#[test]
fn their_client_asks_our_server_over_tcp() {
    their_client("tcp");
}

/// Our Linux client asks their runtime, through a wire.
#[test]
fn from_linux_to_their_runtime() {
    let case = "our synthetic on Linux asks upstream's runtime";
    let Some(theirs) = theirs(case) else { return };
    let Some((suite, peer)) = Suite::one_host(case, 1, &[]) else {
        return;
    };
    let config = suite.config(&RuntimeConfig::new(3));
    for transport in ["udp", "tcp"] {
        let serve = format!("--mode spawner-server --transport {transport}");
        let mut server = suite.start(&theirs, &args(SERVER, Some(config.clone()), &serve));
        server.wait_line(|l| l.contains("spawning"));
        let ask = format!(
            "--mode linux-client --transport {transport} --mpps 0.002 --samples 1 --runtime 2 --rampup 0 --pause 0 --patience 20"
        );
        let mut command = peer.command(env!("CARGO_BIN_EXE_synthetic"));
        assert_samples(spawn(command.args(args(SERVER, None, &ask))), 1);
        server.kill();
    }
    suite.host.finish();
}
