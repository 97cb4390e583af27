//! Beginnings and ends: each a clear line, and nothing left.
#![allow(clippy::tests_outside_test_module, reason = "a test of its own")]

mod support;

use compat_tests::child::eventually;
use compat_tests::host::Turn;
use compat_tests::{Host, Runtime, runtime};
use support::{Example, mac};

/// The one line that says why a program failed.
fn only_error(said: &str) -> &str {
    let mut lines = said.lines().filter(|l| l.starts_with("Error: "));
    let error = lines.next().expect("a failed example says why");
    assert_eq!(lines.next(), None, "one line is enough:\n{said}");
    // A panic's own, which the standard library prints, begins with a small letter.
    assert!(!said.contains("Stack backtrace"), "{said}");
    error
}

/// Segments that still have a key: the daemon's always, a runtime's until it was let in.
fn named_segments(host: &Host) -> usize {
    let segments = host.space().segments();
    let named = |s: &&String| !s.trim_start().starts_with("0 ");
    segments.iter().filter(named).count()
}

#[test]
fn without_an_iokernel_it_says_so_after_its_patience() {
    let Some(host) = Host::bare("no iokerneld", Turn::take()) else {
        return;
    };
    let idle = Example::spawn(&host, "exercise", 2, "--patience 0.3 idle");
    let (status, said) = idle.end();
    assert_eq!(status.code(), Some(1));
    let error = only_error(&said);
    assert!(error.contains("no iokerneld after 300ms"), "{error}");
    host.finish();
}

#[test]
fn an_iokernel_that_starts_later_is_waited_for() {
    let Some(mut host) = Host::loopback("a late iokerneld") else {
        return;
    };
    host.stop_daemon();
    let timers = Example::spawn(&host, "exercise", 2, "--patience 60 timers --count 3");
    host.start_daemon();
    assert!(timers.wait().get("done") >= 3);
    host.finish();
}

#[test]
fn an_iokernel_that_is_killed_ends_it_with_one_error() {
    // Asleep, spinning, and in the middle of callbacks.
    for options in [
        "idle",
        "--spin idle",
        "burn --pieces 100000000 --piece-ms 50",
    ] {
        let Some(mut host) = Host::loopback("iokerneld is killed") else {
            return;
        };
        let runtime = Example::start(&host, "exercise", 2, &format!("--kthreads 4 {options}"));
        host.daemon().wait_log("attached");
        eventually("the runtime runs", || named_segments(&host) == 1);
        host.daemon().kill();
        let (status, said) = runtime.end();
        assert_eq!(status.code(), Some(1), "{said}");
        let error = only_error(&said);
        assert!(error.contains("iokerneld hung up"), "{options}: {error}");
        // The killed daemon's own segment stays: the next one takes it away.
        host.start_daemon();
        host.finish();
    }
}

#[test]
fn a_refused_registration_is_said() {
    let Some(host) = Host::loopback("a refused runtime") else {
        return;
    };
    let greedy = "--kthreads 9 --guaranteed 9 idle";
    let (status, said) = Example::spawn(&host, "exercise", 2, greedy).end();
    assert_eq!(status.code(), Some(1));
    let error = only_error(&said);
    assert!(error.contains("its log says why"), "{error}");
    host.finish();
}

#[test]
fn an_address_that_a_c_runtime_has_is_refused() {
    let Some(host) = Host::loopback("a C runtime's address") else {
        return;
    };
    let holder = host.start(Runtime::echo(9));
    let rival = Example::spawn(&host, "client", 9, "--flows 1 --requests 1");
    assert_in_use(rival, &runtime::ip(9).to_string(), &runtime::mac(9));
    holder.stop().assert_good();
    host.finish();
}

#[test]
fn an_address_is_refused_by_a_runtime_that_sleeps() {
    let Some(host) = Host::loopback("a sleeping runtime's address") else {
        return;
    };
    let holder = Example::start(&host, "echo", 2, "--kthreads 2");
    // Their Ethernet addresses differ: it is not iokerneld that refuses it.
    let rival = Example::spawn_as(&host, "echo", "10.0.0.2", &mac(5), "--kthreads 2");
    assert_in_use(rival, "10.0.0.2", &mac(2));
    let client = "--flows 10 --window 4 --requests 100";
    let client = Example::start(&host, "client", 3, client).wait();
    assert_eq!(client.get("answered"), 100, "{client:?}");
    client.assert_zero(&["address_conflicts"]);
    holder.stop().assert_zero(&["address_conflicts"]);
    host.finish();
}

fn assert_in_use(rival: Example, addr: &str, mac: &str) {
    let (status, said) = rival.end();
    assert_eq!(status.code(), Some(1), "{said}");
    let wanted = format!("{addr} is in use by {mac}: give another address");
    assert!(only_error(&said).contains(&wanted), "{said}");
    assert!(!said.contains("started"), "{said}");
}

#[test]
fn a_panic_ends_the_runtime() {
    let Some(host) = Host::loopback("a panic") else {
        return;
    };
    let (status, said) = Example::spawn(&host, "exercise", 2, "panic").end();
    assert_eq!(status.code(), Some(1));
    let error = only_error(&said);
    assert!(
        error.contains("the application panicked on kthread "),
        "{error}"
    );
    host.finish();
}

#[test]
fn a_killed_runtime_leaves_nothing() {
    let Some(mut host) = Host::loopback("kill -9") else {
        return;
    };
    let runtime = Example::start(&host, "exercise", 2, "--kthreads 4 idle");
    host.daemon().wait_log("attached");
    eventually("the runtime runs", || named_segments(&host) == 1);
    drop(runtime);
    // Looks for segments and processes.
    host.finish();
}
