//! Faults of the machine and of the daemon itself: what goes on, what waits, and that all
//! of it is over when the fault is. The table is docs/faults.md.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;

use compat_tests::child::eventually;
use compat_tests::cpuset::Cpuset;
use compat_tests::stopped::{Stopped, thread_named};
use compat_tests::storm::{Resources, stats};
use compat_tests::veth::{HOST_END, PEER_END, PEER_IP, must};
use compat_tests::{Host, Peer, Runtime, runtime, skip};

/// Longest wait for one answer, after which the question is asked again.
const RETRY: Duration = Duration::from_millis(200);

/// A sender whose `packets` take a while: bursts, and pauses between them.
fn leisurely(packets: u32) -> Runtime {
    let paced = [("window", 16), ("burst", 16), ("pause-us", 1000)];
    let sender = Runtime::sender(2).to(1).count(packets);
    paced.iter().fold(sender, |s, (k, v)| s.set(k, v))
}

/// Every packet was answered once, and as it should be.
fn assert_answered(report: &compat_tests::Report, packets: u32) {
    report.assert_good();
    report.assert_zero(&["lost", "bad_replies", "corrupt", "hung_up"]);
    assert_eq!(report.get("replies"), u64::from(packets));
}

fn faults(host: &Host) -> u64 {
    stats(host)["counters"]["FAULTS"].as_u64().unwrap_or(0)
}

/// What is held when runtime 1 has met the flow of [`leisurely`], and everybody else has left.
fn at_rest(host: &mut Host) -> Resources {
    host.start(leisurely(50)).wait().assert_good();
    alone(host)
}

/// What is held when nobody but runtime 1 is there, and it has parked.
fn alone(host: &mut Host) -> Resources {
    eventually("only runtime 1 is there", || {
        let held = Resources::of(host);
        held.get("runtimes (control thread)") == 1 && held.get("cores held") == 0
    });
    Resources::of(host)
}

/// Waits until what is held is what was `before`.
fn back_to(before: &Resources, host: &mut Host) {
    let mut after = Resources::of(host);
    for _ in 0..400 {
        if after.same_as(before) {
            return;
        }
        sleep(Duration::from_millis(50));
        after = Resources::of(host);
    }
    panic!("not everything has come back:\n{}", before.beside(&after));
}

/// Linux at the peer's end asks runtime 1 until it is answered.
fn until_answered(peer: &Peer) {
    // One port, so that it is one flow.
    let socket = peer.run(|| UdpSocket::bind((PEER_IP, 7000)).expect("the port is free"));
    socket.set_read_timeout(Some(RETRY)).expect("a timeout");
    eventually("runtime 1 answers", || {
        let mut buf = [0; 16];
        // While the link is down, Linux may refuse to send.
        socket.send_to(b"there?", (runtime::ip(1), 7)).is_ok()
            && socket.recv(&mut buf).is_ok_and(|n| &buf[..n] == b"there?")
    });
}

#[test]
fn a_link_that_goes_down_and_up_stops_nothing_else() {
    let Some((mut host, peer)) = Host::veth("the link goes down and up") else {
        return;
    };
    let echo = host.start(Runtime::echo(1));
    until_answered(&peer);
    let before = alone(&mut host);
    for far_end in [true, false] {
        let link = |state: &str| {
            let (mut ip, iface) = if far_end {
                (peer.command("ip"), PEER_END)
            } else {
                (host.command("ip"), HOST_END)
            };
            must(ip.args(["link", "set", iface, state]));
        };
        link("down");
        // Frames to nobody. The driver keeps what it cannot send, so they wait.
        let flood = host.start(Runtime::sender(2).to(9).set("flood", 1));
        sleep(Duration::from_millis(500));
        // The polling loop and the control thread work as ever.
        host.start(Runtime::listener(3)).stop().assert_good();
        link("up");
        until_answered(&peer);
        // Each frame was completed once.
        flood.stop().assert_good();
    }
    assert_eq!(faults(&host), 0);
    back_to(&before, &mut host);
    echo.stop().assert_good();
    host.finish();
}

#[test]
fn a_control_thread_that_stands_still_keeps_only_arrivals_and_departures_waiting() {
    const PACKETS: u32 = 2000;
    let case = "the control thread stands still";
    let Some(mut host) = Host::loopback(case) else {
        return;
    };
    let echo = host.start(Runtime::echo(1));
    let before = at_rest(&mut host);
    let sender = host.start(leisurely(PACKETS));
    let victim = host.start(Runtime::listener(3));
    let tid = thread_named(host.daemon_pid(), "control").expect("the control thread's name");
    let stopped = match Stopped::stop(tid) {
        Ok(stopped) => stopped,
        Err(e) => return skip(case, &format!("ptrace is not allowed here: {e}")),
    };
    let newcomer = host.spawn(Runtime::echo(4));
    victim.kill();
    assert_answered(&sender.wait(), PACKETS);
    assert!(!newcomer.said_attached(), "nobody is there to let it in");
    let held = stats(&host);
    assert_ne!(
        held["control"]["CONTROL_ATTACHED"], 1,
        "nobody is there to let them go"
    );
    drop(stopped);
    newcomer.attached().stop().assert_good();
    back_to(&before, &mut host);
    assert_eq!(faults(&host), 0);
    echo.stop().assert_good();
    host.finish();
}

#[test]
fn a_daemon_that_was_stopped_for_seconds_goes_on_as_before() {
    const PACKETS: u32 = 1000;
    let Some(mut host) = Host::loopback("the whole daemon stands still") else {
        return;
    };
    let echo = host.start(Runtime::echo(1));
    // Its timers go on, and it waits 15 s for an answer.
    let sender = host.start(leisurely(PACKETS));
    let parker = host.start(Runtime::parker(3).kthreads(2, 1));
    host.daemon().signal(libc::SIGSTOP);
    let newcomer = host.spawn(Runtime::echo(4));
    sleep(Duration::from_secs(3));
    assert!(!newcomer.said_attached());
    host.daemon().signal(libc::SIGCONT);
    assert_answered(&sender.wait(), PACKETS);
    newcomer.attached().stop().assert_good();
    parker.stop().assert_good();
    assert_eq!(faults(&host), 0);
    echo.stop().assert_good();
    let log = host.stop_daemon();
    let detached = |line: &&str| line.contains("is detached") && !line.ends_with("iokerneld ends");
    assert_eq!(log.lines().find(detached), None);
    host.finish();
}

/// To who pins kthreads, a CPU outside their cpuset is like one that went offline:
/// `sched_setaffinity` says EINVAL. (CPUs of a machine that others use are not for a test
/// to take away.)
#[test]
fn cpus_that_went_away_are_nobodys_fault() {
    const PACKETS: u32 = 500;
    let case = "CPUs that went away";
    let Some(host) = Host::loopback_with(case, &["--virtual-cores", "4", "--idle", "yield"]) else {
        return;
    };
    let mut host = host;
    let log = host.daemon().log();
    // "cores: dataplane on CPU N, ..." is the one where no runtime core is.
    let polling = log.split("dataplane on CPU ").nth(1);
    let polling = polling.and_then(|rest| rest.split(&[',', '\n', ' '][..]).next());
    let polling = polling.expect("the daemon says where it polls").to_owned();
    let set = match Cpuset::enter(&polling) {
        Ok(set) => set,
        Err(why) => return skip(case, &why),
    };
    let echo = host.start(Runtime::echo(1).set("park-after-us", 1));
    set.leave();
    // The polling thread's own CPU: the kernel moves it elsewhere, and it goes on.
    let main = i32::try_from(host.daemon_pid()).expect("a pid");
    compat_tests::child::run_anywhere(main);
    let report = host.start(leisurely(PACKETS)).wait();
    assert_answered(&report, PACKETS);
    let counters = stats(&host)["counters"].clone();
    assert_ne!(counters["PINS_FAILED"], serde_json::Value::Null);
    assert_eq!(faults(&host), 0);
    host.daemon().wait_log("and waits where it is");
    let report = echo.stop();
    assert_eq!(report.get("hung_up"), 0);
    assert_eq!(report.get("udp_echoes"), u64::from(PACKETS));
    drop(set);
    host.finish();
}

#[test]
fn a_runtime_that_finds_no_huge_pages_ends_and_nobody_notices() {
    let Some(mut host) = Host::loopback("no huge pages for a runtime") else {
        return;
    };
    let echo = host.start(Runtime::echo(1));
    let before = at_rest(&mut host);
    // 16 GiB of egress buffers, in pages of which the machine has not so many.
    let greedy = Runtime::echo(2).huge_pages(true);
    let (status, said) = host.spawn(greedy.set("egress-bufs", 1 << 23)).ended();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("huge pages"), "{said}");
    // One that comes with small pages is served.
    assert_answered(&host.start(leisurely(300)).wait(), 300);
    back_to(&before, &mut host);
    echo.stop().assert_good();
    host.finish();
}
