//! DPDK's port on a veth pair, with Linux at the other end. Needs root.
#![allow(clippy::tests_outside_test_module, reason = "a test of its own")]

mod support;

use compat_tests::veth::PEER_IP;
use compat_tests::{Host, skip};
use support::linux::{pings_from_linux, tcp_from_linux, to_linux, udp_from_linux};
use support::{Example, mac};

#[test]
fn linux_is_answered() {
    let case = "Linux asks over a veth";
    let Some((host, peer)) = Host::veth(case) else {
        return;
    };
    let echo = Example::start(&host, "echo", 2, "--kthreads 4 --guaranteed 1");
    let datagrams = udp_from_linux(&peer);
    let connections = tcp_from_linux(&peer);
    let pings = if peer.command("ping").arg("-V").output().is_ok() {
        pings_from_linux(&peer)
    } else {
        skip::skip(case, "ping is not installed");
        0
    };
    let echo = echo.stop();
    assert_eq!(echo.get("datagrams"), datagrams);
    assert_eq!(echo.get("tcp_opened"), connections);
    assert_eq!(echo.get("pings"), pings);
    echo.assert_zero(&["bad_messages", "replies_failed", "dropped_fragments"]);
    host.finish();
}

#[test]
fn an_address_that_linux_has_is_refused() {
    let Some((host, _peer)) = Host::veth("an address of Linux") else {
        return;
    };
    let addr = PEER_IP.to_string();
    let rival = Example::spawn_as(&host, "client", &addr, &mac(2), "--flows 1 --requests 1");
    let (status, said) = rival.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("{addr} is in use by ")), "{said}");
    host.finish();
}

#[test]
fn linux_answers() {
    let Some((host, peer)) = Host::veth("Linux answers over a veth") else {
        return;
    };
    let client = to_linux(&host, &peer, "--kthreads 4 --guaranteed 1");
    assert_eq!(client.get("answered"), 500, "{client:?}");
    assert_eq!(client.get("connections_over"), 30, "{client:?}");
    client.assert_zero(&["connections_failed", "wrong", "bad_messages"]);
    host.finish();
}
