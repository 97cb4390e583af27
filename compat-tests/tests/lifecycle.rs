//! Runtimes and daemons that come and go, politely and not.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use compat_tests::{Host, Running, Runtime};

/// Runtime `to` answers `packets` UDP packets of runtime `from`.
fn answers(host: &Host, from: u16, to: u16, packets: u32) {
    let report = host
        .start(Runtime::sender(from).to(to).count(packets))
        .wait();
    report.assert_good();
    report.assert_zero(&["lost", "bad_replies", "corrupt"]);
    assert_eq!(report.get("replies"), u64::from(packets));
}

#[test]
fn a_killed_runtime_starts_again_with_its_mac() {
    let Some(host) = Host::loopback("kill -9 and restart") else {
        return;
    };
    let neighbour = host.start(Runtime::echo(7));
    for _ in 0..5 {
        let echo = host.start(Runtime::echo(1));
        answers(&host, 2, 1, 500);
        echo.kill();
    }
    let echo = host.start(Runtime::echo(1));
    answers(&host, 2, 1, 500);
    answers(&host, 2, 7, 500);
    echo.stop().assert_good();
    neighbour.stop().assert_good();
    host.finish();
}

#[test]
fn buffers_of_killed_runtimes_come_back() {
    let Some(host) = Host::loopback("buffers of killed runtimes") else {
        return;
    };
    let flood = Runtime::sender(2).to(1).set("flood", 1).set("bytes", 24);
    // 8 * 20,000 frames are more than the pool of 131,072 buffers.
    for _ in 0..8 {
        let hoarder = host.start(Runtime::listener(1).set("hold", 20_000));
        let flood = host.start(flood.clone());
        hoarder.wait_for("holding");
        hoarder.kill();
        flood.stop().assert_good();
    }
    let echo = host.start(Runtime::echo(1));
    answers(&host, 2, 1, 5000);
    echo.stop().assert_good();
    host.finish();
}

#[test]
fn a_runtime_is_let_in_right_after_another_left() {
    let Some(host) = Host::loopback_with("departures before arrivals", &["--virtual-cores", "1"])
    else {
        return;
    };
    // One core, and every one of them has it guaranteed.
    for n in 1..=20 {
        let echo = host.start(Runtime::echo(n));
        if n % 2 == 0 {
            echo.kill();
        } else {
            echo.stop().assert_good();
        }
    }
    host.finish();
}

#[test]
fn a_daemon_exits_cleanly_under_its_runtimes_and_starts_again() {
    let Some(mut host) = Host::loopback("exit and restart") else {
        return;
    };
    for _ in 0..3 {
        let orphans: Vec<Running> = [Runtime::echo(1), Runtime::burner(2), Runtime::parker(3)]
            .into_iter()
            .map(|r| host.start(r))
            .collect();
        answers(&host, 4, 1, 500);
        host.stop_daemon();
        for orphan in orphans {
            let report = orphan.wait();
            assert_eq!(report.get("hung_up"), 1);
        }
        let segments = host.space().segments();
        assert!(segments.is_empty(), "segments are left: {segments:?}");
        host.start_daemon();
    }
    let echo = host.start(Runtime::echo(1));
    answers(&host, 4, 1, 500);
    echo.stop().assert_good();
    host.finish();
}

#[test]
fn a_daemon_starts_on_what_a_killed_one_left() {
    let Some(mut host) = Host::loopback("restart after kill -9") else {
        return;
    };
    let echo = host.start(Runtime::echo(1));
    host.daemon().kill();
    assert_eq!(echo.wait().get("hung_up"), 1);
    host.start_daemon();
    let echo = host.start(Runtime::echo(1));
    answers(&host, 2, 1, 500);
    echo.stop().assert_good();
    host.finish();
}

#[test]
fn a_hundred_and_fifty_runtimes_run_at_once() {
    const RUNTIMES: u16 = 150;
    let Some(host) = Host::loopback("150 runtimes") else {
        return;
    };
    // Even ones listen, odd ones answer; none has a guarantee.
    let runtimes: Vec<Running> = (1..=RUNTIMES)
        .map(|n| {
            let runtime = if n % 2 == 0 {
                Runtime::listener(n)
            } else {
                Runtime::echo(n)
            };
            host.start(runtime.small().set("guaranteed", 0))
        })
        .collect();
    // The 129th is the first that upstream's table of addresses cannot hold.
    for n in [1, 75, 127, 129, 149] {
        answers(&host, 1000, n, 300);
    }
    let shout = host.start(Runtime::sender(1000).to_all().count(10));
    shout.wait().assert_good();
    for (n, runtime) in (1..=RUNTIMES).zip(runtimes) {
        let report = runtime.stop();
        report.assert_good();
        assert_eq!(report.get("rx_broadcast"), 10, "runtime {n}");
    }
    host.finish();
}

#[test]
fn a_runtime_that_is_refused_is_told_by_its_socket() {
    let Some(mut host) = Host::loopback("refusals") else {
        return;
    };
    let echo = host.start(Runtime::echo(1));
    // A MAC address that another has, and guarantees of 1 + 4 on 4 cores.
    for refused in [Runtime::echo(1), Runtime::echo(2).kthreads(4, 4)] {
        let report = host.spawn(refused).wait();
        assert_eq!(report.get("attached"), 0);
        assert_eq!(report.get("hung_up"), 1);
    }
    assert!(host.daemon().is_running());
    answers(&host, 3, 1, 500);
    echo.stop().assert_good();
    host.finish();
}
