//! Runtimes on one host, over the loopback port: packets.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use compat_tests::{Host, Runtime};

#[test]
fn udp_comes_back_intact_and_in_order() {
    let Some(host) = Host::loopback("UDP over loopback") else {
        return;
    };
    let echo = host.start(Runtime::echo(1));
    let sender = host.start(Runtime::sender(2).to(1).count(20_000).set("flows", 16));
    let report = sender.wait();
    report.assert_good();
    report.assert_zero(&["lost", "bad_replies", "corrupt", "reordered", "unexpected"]);
    assert_eq!(report.get("replies"), 20_000);
    let echoed = echo.stop();
    echoed.assert_good();
    assert_eq!(echoed.get("udp_echoes"), 20_000);
    assert_eq!(echoed.get("completions"), 20_000);
    host.finish();
}

#[test]
fn frames_of_every_size_come_back() {
    let Some(host) = Host::loopback("frames of every size") else {
        return;
    };
    let echo = host.start(Runtime::echo(1));
    // UDP payloads of 24 to 1472 bytes are 1449 sizes; twice each.
    let sizes = Runtime::sender(2).to(1).set("bytes", 0).count(2 * 1449);
    let report = host.start(sizes).wait();
    report.assert_good();
    report.assert_zero(&["lost", "bad_replies", "corrupt"]);
    assert_eq!(report.get("replies"), 2 * 1449);
    echo.stop().assert_good();
    host.finish();
}

#[test]
fn tcp_checksums_are_filled_in() {
    let Some(host) = Host::loopback("TCP checksums") else {
        return;
    };
    let echo = host.start(Runtime::echo(1));
    let syns = Runtime::sender(2).to(1).set("tcp", 1).set("flows", 50);
    // Both sides verify IPv4 and TCP checksums, and the 5-tuple's hash.
    let report = host.start(syns.count(5000)).wait();
    report.assert_good();
    report.assert_zero(&["lost", "bad_replies", "unexpected"]);
    assert_eq!(report.get("replies"), 5000);
    let echoed = echo.stop();
    echoed.assert_good();
    assert_eq!(echoed.get("rx_hash_checked"), 5000);
    host.finish();
}

#[test]
fn a_broadcast_reaches_every_other_runtime_once() {
    let Some(host) = Host::loopback("broadcast over loopback") else {
        return;
    };
    let listeners: Vec<_> = (1..=3)
        .map(|n| host.start(Runtime::listener(n).set("guaranteed", 0)))
        .collect();
    let sender = host.start(Runtime::sender(9).to_all().count(1000));
    let sent = sender.wait();
    sent.assert_good();
    assert_eq!(sent.get("rx_broadcast"), 0, "its own broadcast came back");
    for listener in listeners {
        let report = listener.stop();
        report.assert_good().assert_zero(&["probes_repeated"]);
        assert_eq!(report.get("probes"), 1000);
    }
    host.finish();
}

#[test]
fn several_kthreads_lose_and_spoil_nothing() {
    let Some(host) = Host::loopback("several kthreads") else {
        return;
    };
    let echo = host.start(Runtime::echo(1).kthreads(3, 2));
    let sender = Runtime::sender(2).to(1).kthreads(2, 2).count(50_000);
    let report = host
        .start(sender.set("flows", 200).set("window", 500))
        .wait();
    // Flows change kthreads as cores come and go, so order is not asked for.
    report.assert_good();
    report.assert_zero(&["lost", "bad_replies", "corrupt", "unexpected"]);
    assert_eq!(report.get("replies"), 50_000);
    echo.stop().assert_good();
    host.finish();
}

#[test]
fn pairs_of_runtimes_do_not_disturb_each_other() {
    let Some(host) = Host::loopback("several pairs") else {
        return;
    };
    let echoes: Vec<_> = (1..=4)
        .map(|n| host.start(Runtime::echo(n).set("guaranteed", 0)))
        .collect();
    let senders: Vec<_> = (1..=4)
        .map(|n| {
            host.start(
                Runtime::sender(10 + n)
                    .to(n)
                    .set("guaranteed", 0)
                    .count(5000),
            )
        })
        .collect();
    for sender in senders {
        let report = sender.wait();
        report.assert_good();
        report.assert_zero(&["lost", "bad_replies", "corrupt", "reordered"]);
        assert_eq!(report.get("replies"), 5000);
    }
    for echo in echoes {
        let report = echo.stop();
        report.assert_good();
        assert_eq!(report.get("udp_echoes"), 5000);
    }
    host.finish();
}

#[test]
fn completions_come_back_once_however_few_buffers_there_are() {
    let Some(host) = Host::loopback("few egress buffers") else {
        return;
    };
    let listener = host.start(Runtime::listener(1));
    // Sixteen buffers in a ring of eight, as fast as it goes: each is used
    // some thousand times, and a completion too many or too few would show.
    let flood = Runtime::sender(2).to(1).set("flood", 1).set("ring", 8);
    let report = host
        .start(flood.set("egress-bufs", 16).count(30_000))
        .wait();
    report.assert_good();
    assert_eq!(report.get("completions"), 30_000);
    listener.stop().assert_good();
    host.finish();
}
