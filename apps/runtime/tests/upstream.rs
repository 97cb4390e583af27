//! The same on upstream's C iokernel, if there is one.
//!
//! `SHENANGO_IOKERNELD` names a program that runs it on the interface whose name it
//! is given, with checksums filled in if the port has no offload for that: a build
//! for this machine's DPDK, or a script around one. Needs root and huge pages.
#![allow(clippy::tests_outside_test_module, reason = "a test of its own")]

mod support;

use compat_tests::child::Child;
use compat_tests::host::{Turn, free_huge_pages};
use compat_tests::veth::{self, HOST_END};
use compat_tests::{Host, Peer, skip};
use support::Example;
use support::linux::{pings_from_linux, tcp_from_linux, to_linux, udp_from_linux};

/// Names upstream's iokernel.
const VAR: &str = "SHENANGO_IOKERNELD";
/// 256 for the ingress segment, 64 for DPDK, some for two runtimes.
const HUGE_PAGES: u64 = 340;

#[test]
fn upstreams_iokernel_serves_our_runtimes() {
    let case = "on upstream's iokernel";
    let Some(iokernel) = std::env::var_os(VAR) else {
        return skip::skip(case, &format!("{VAR} names none"));
    };
    let turn = Turn::take();
    if let Err(why) = veth::possible() {
        return skip::skip(case, &why);
    }
    if free_huge_pages() < HUGE_PAGES {
        return skip::skip(case, &format!("fewer than {HUGE_PAGES} free huge pages"));
    }
    let Some(host) = Host::bare(case, turn) else {
        return;
    };
    let peer = Peer::connect(host.space());
    let mut command = host.command(iokernel);
    command.arg(HOST_END);
    let mut daemon = Child::spawn("upstream's iokerneld", &mut command).expect("it can be run");

    let echo = "--kthreads 1 --guaranteed 1 --huge --patience 60";
    let echo = Example::start(&host, "echo", 2, echo);
    let datagrams = udp_from_linux(&peer);
    let connections = tcp_from_linux(&peer);
    pings_from_linux(&peer);
    // With the echo's, there is nothing left to guarantee on a machine of two CPUs.
    let client = to_linux(&host, &peer, "--kthreads 1 --guaranteed 0 --huge");
    assert_eq!(client.get("answered"), 500, "{client:?}");
    assert_eq!(client.get("connections_over"), 30, "{client:?}");
    client.assert_zero(&["connections_failed", "wrong", "bad_messages"]);
    assert!(daemon.try_status().is_none(), "upstream's iokernel ended");
    let echo = echo.stop();
    assert_eq!(echo.get("datagrams"), datagrams);
    assert_eq!(echo.get("tcp_opened"), connections);
    echo.assert_zero(&["bad_messages", "replies_failed"]);
}
