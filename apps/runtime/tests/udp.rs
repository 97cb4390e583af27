//! UDP over the loopback port, between our runtimes and C ones.
#![allow(clippy::tests_outside_test_module, reason = "a test of its own")]

mod support;

use compat_tests::{Host, Runtime, runtime};
use support::{Example, mac};

/// What must not happen where the network loses nothing.
const LOSSES: &[&str] = &[
    "wrong",
    "bad_messages",
    "dropped_malformed",
    "dropped_no_port",
    "dropped_queue_full",
];

#[test]
fn thousands_of_flows_are_echoed_and_none_is_lost() {
    for policy in ["flow-table", "modulo"] {
        let case = format!("UDP echo under {policy}");
        let options = ["--virtual-cores", "4", "--policy", policy];
        let Some(host) = Host::loopback_with(&case, &options) else {
            return;
        };
        let echo = Example::start(&host, "echo", 2, "--kthreads 4 --guaranteed 2");
        let client = "--kthreads 4 --guaranteed 2 --flows 3000 --requests 60000";
        let client = Example::start(&host, "client", 3, client).wait();
        assert_eq!(client.get("answered"), 60_000, "{client:?}");
        assert_eq!(client.get("datagrams"), 60_000);
        client.assert_zero(LOSSES);
        client.assert_seen(&["parks", "wakes"]);
        let echo = echo.stop();
        assert_eq!(echo.get("datagrams"), 60_000);
        echo.assert_zero(&LOSSES[1..]);
        host.finish();
    }
}

#[test]
fn more_flows_at_once_than_buffers_wait_for_their_turn() {
    let Some(host) = Host::loopback("more requests than buffers") else {
        return;
    };
    let echo = Example::start(&host, "echo", 2, "--kthreads 2");
    // 2000 at once, with 1024 egress buffers.
    let client = "--kthreads 1 --flows 2000 --window 2000 --requests 20000";
    let client = Example::start(&host, "client", 3, client).wait();
    assert_eq!(client.get("answered"), 20_000, "{client:?}");
    assert!(client.get("dropped_no_buffer") + client.get("dropped_unresolved") > 0);
    client.assert_zero(&LOSSES[..2]);
    echo.stop().assert_zero(&["bad_messages", "replies_failed"]);
    host.finish();
}

#[test]
fn a_c_runtime_answers_us() {
    let Some(host) = Host::loopback("UDP with a C runtime as server") else {
        return;
    };
    let echo = host.start(Runtime::echo(9).kthreads(2, 1));
    let to = runtime::ip(9);
    let options = format!("--kthreads 2 --flows 500 --requests 5000 --to {to}:7");
    let client = Example::start(&host, "client", 3, &options).wait();
    assert_eq!(client.get("answered"), 5000, "{client:?}");
    client.assert_zero(LOSSES);
    let report = echo.stop();
    report.assert_good();
    // It had to be asked for its address.
    report.assert_seen(&["arp_replies"]);
    host.finish();
}

#[test]
fn we_answer_a_c_runtime() {
    let Some(host) = Host::loopback("UDP with a C runtime as client") else {
        return;
    };
    let echo = Example::start(&host, "echo", 2, "--kthreads 4 --guaranteed 1");
    let sender = Runtime::sender(9)
        .set("peer-mac", mac(2))
        .set("peer-ip", "10.0.0.2")
        .count(5000);
    let report = host.start(sender).wait();
    report.assert_good();
    assert_eq!(report.get("replies"), 5000);
    let echo = echo.stop();
    assert_eq!(echo.get("datagrams"), 5000);
    echo.assert_zero(&["bad_messages", "dropped_malformed", "replies_failed"]);
    host.finish();
}

#[test]
fn a_destination_that_nobody_has_is_given_up() {
    let Some(host) = Host::loopback("no such neighbour") else {
        return;
    };
    // Nobody answers: the client ends when it has waited long enough.
    let client = "--flows 10 --window 10 --requests 10 --to 10.0.77.7:7";
    let client = Example::start(&host, "client", 3, client).wait();
    assert_eq!(client.get("answered"), 0);
    assert_eq!(client.get("dropped_unresolved"), 10, "{client:?}");
    host.finish();
}
