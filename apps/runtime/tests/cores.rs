//! Parks, wakes, timers and preemption.
#![allow(clippy::tests_outside_test_module, reason = "a test of its own")]

mod support;

use std::time::Duration;

use compat_tests::Host;
use support::Example;

#[test]
fn a_runtime_sleeps_until_its_timers() {
    let Some(host) = Host::loopback("timers") else {
        return;
    };
    let timers = "--kthreads 2 --guaranteed 1 timers --count 100 --every-ms 5";
    let timers = Example::start(&host, "exercise", 2, timers).wait();
    // Two kthreads may come to it at the same time.
    assert!((100..=101).contains(&timers.get("done")), "{timers:?}");
    // It slept between any two rounds of them: nothing else would wake it.
    assert!(timers.get("parks_last") >= 40, "{timers:?}");
    timers.assert_zero(&["torn", "bad_messages", "preemptions"]);
    host.finish();
}

#[test]
fn a_spinning_runtime_never_parks() {
    let Some(host) = Host::loopback("spinning") else {
        return;
    };
    let timers = "--kthreads 1 --guaranteed 1 --spin timers --count 20";
    let timers = Example::start(&host, "exercise", 2, timers).wait();
    timers.assert_zero(&["parks", "preemptions"]);
    assert_eq!(timers.get("wakes"), 1);
    host.finish();
}

#[test]
fn burning_callbacks_are_preempted_and_come_to_their_end() {
    let Some(host) = Host::loopback("two burners") else {
        return;
    };
    // It takes all four cores, and has to give two of them up again and again.
    let greedy = "--kthreads 4 --guaranteed 1 burn --pieces 400";
    let greedy = Example::start(&host, "exercise", 2, greedy);
    let rival = "--kthreads 2 --guaranteed 2 burn --pieces 100 --rest-after 4";
    let rival = Example::start(&host, "exercise", 3, rival);
    let (rival, greedy) = (rival.wait(), greedy.wait());
    assert!(rival.get("done") >= 100);
    assert!(greedy.get("done") >= 400);
    greedy.assert_seen(&["preemptions", "preemptions_in_callback", "joins"]);
    // Guaranteed cores are never taken.
    rival.assert_zero(&["preemptions", "torn", "bad_messages"]);
    greedy.assert_zero(&["torn", "bad_messages"]);
    host.finish();
}

#[test]
fn what_a_preempted_kthread_left_is_answered() {
    let Some(host) = Host::loopback("echo beside a burner") else {
        return;
    };
    let echo = "--kthreads 4 --guaranteed 1 --work-us 200";
    let echo = Example::start(&host, "echo", 2, echo);
    let burner = "--kthreads 2 --guaranteed 2 burn --pieces 100000000 --rest-after 2";
    let burner = Example::start(&host, "exercise", 4, burner);
    let client = "--kthreads 1 --guaranteed 1 --flows 500 --window 64 --requests 5000";
    let client = Example::start(&host, "client", 3, client).wait();
    assert_eq!(client.get("answered"), 5000, "{client:?}");
    drop(burner);
    let echo = echo.stop();
    assert_eq!(echo.get("datagrams"), 5000);
    echo.assert_seen(&["preemptions", "taken_over"]);
    echo.assert_zero(&["bad_messages", "replies_failed"]);
    host.finish();
}

#[test]
fn a_parked_callback_ends_on_the_one_core_that_is_left() {
    let Some(host) = Host::loopback("echo on one core of four") else {
        return;
    };
    let echo = "--kthreads 4 --guaranteed 1 --work-us 2000";
    let echo = Example::start(&host, "echo", 2, echo);
    let client = "--kthreads 1 --guaranteed 1 --flows 500 --window 64 --requests 3000";
    let client = Example::start(&host, "client", 3, client);
    // The echo has taken what the burner is guaranteed, and is left with one core, in the
    // middle of its callbacks. The burner never rests.
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(300));
        let burner = "--kthreads 2 --guaranteed 2 burn --pieces 100000000";
        let burner = Example::start(&host, "exercise", 4, burner);
        std::thread::sleep(Duration::from_millis(700));
        drop(burner);
    }
    let client = client.wait();
    assert_eq!(client.get("answered"), 3000, "{client:?}");
    let echo = echo.stop();
    assert_eq!(echo.get("datagrams"), 3000);
    echo.assert_seen(&["preemptions_in_callback", "lends"]);
    echo.assert_zero(&["bad_messages", "replies_failed"]);
    host.finish();
}
