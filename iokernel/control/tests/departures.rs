//! How runtimes leave, and what is left of them; how the control thread ends.

use std::sync::atomic::Ordering;

use rustix::net::SendFlags;

use super::harness::{Harness, config};
use crate::abi::shm::ShmRegion;
use crate::control::messages::{DetachReason, channel};
use crate::control::test_runtime::{
    TestRuntime, alone, gettid, is_closed, private_namespaces, take_away,
};
use crate::control::{Fault, Server, kthreads, sysv};
use crate::ids::KthreadIdx;
use crate::stats::{ControlCounter, SteerCounter};
use crate::testing::skip;

/// What a runtime did wrong.
const FAULT: Fault = Fault::BadCommand {
    kthread: KthreadIdx(0),
    cmd: 99,
};

#[test]
fn departures_leave_nothing_behind() {
    if !alone("control::tests::departures::departures_leave_nothing_behind") {
        return;
    }
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let runtime = TestRuntime::new(4).with_header(|hdr| hdr.sched_cfg.guaranteed_cores = 4);
    let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let segments = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("/SYSV")).count()
    };
    let before = (fds(), segments());
    for _ in 0..100 {
        let connection = runtime.register();
        h.until_attached(1);
        drop(connection);
        h.until_attached(0);
        h.until("it is dropped", |h| {
            h.stats.attached.load(Ordering::Relaxed) == 0
        });
    }
    assert_eq!((fds(), segments()), before);
}

#[test]
fn segments_of_runtimes_that_are_gone_or_broken_go() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    // Alive, then gone: it maps its region no more.
    let mut runtime = TestRuntime::new(1);
    for _ in 0..2 {
        let connection = runtime.register();
        h.until_attached(1);
        drop(connection);
        h.until_attached(0);
    }
    let connection = runtime.register();
    h.until_attached(1);
    runtime.region = ShmRegion::private(4096).unwrap();
    drop(connection);
    h.until_attached(0);
    let removed = |r: &TestRuntime| sysv::find(r.key.cast_signed()).is_err();
    h.until("its segment is removed", |_| removed(&runtime));
    // Alive, and detached for a fault.
    let runtime = TestRuntime::new(1);
    let _connection = runtime.register();
    h.until_attached(1);
    h.give_back(h.procs[0].id, DetachReason::Fault(FAULT));
    h.until("its segment is removed", |_| removed(&runtime));
    assert_eq!(runtime.header().thread_count, 1, "its own mapping stays");
}

#[test]
fn a_fault_closes_the_connection_and_is_logged() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let runtime = TestRuntime::new(1);
    let connection = runtime.register();
    h.until_attached(1);
    h.give_back(h.procs[0].id, DetachReason::Fault(FAULT));
    h.until("its connection is closed", |_| is_closed(&connection));
    h.until("it is counted", |h| {
        h.stats.faults.load(Ordering::Relaxed) == 1
    });
    let line = h.last_line();
    assert!(line.contains("unknown command 0x63"), "{line}");
}

#[test]
fn what_was_counted_of_its_steering_is_logged_when_it_left() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let runtime = TestRuntime::new(1);
    let connection = runtime.register();
    h.until_attached(1);
    h.procs[0].steer_stats.add(SteerCounter::Packets, 7);
    h.procs[0].steer_stats.add(SteerCounter::MovedRule, 2);
    drop(connection);
    h.until_attached(0);
    h.until("it is logged", |h| h.last_line().contains("steering"));
    let line = h.last_line();
    assert!(
        line.ends_with(" steering: ST_PACKETS 7, ST_MOVED_RULE 2"),
        "{line}"
    );
    assert_eq!(h.directory.totals().get(SteerCounter::Packets), 7);
}

/// CPUs that a thread may run on.
fn affinity(tid: i32) -> Vec<u16> {
    let set = rustix::thread::sched_getaffinity(rustix::process::Pid::from_raw(tid)).unwrap();
    (0..1024)
        .filter(|&cpu| set.is_set(usize::from(cpu)))
        .collect()
}

#[test]
fn kthreads_leave_the_runtime_cores_with_and_without_pidfds() {
    let everywhere = affinity(gettid());
    let [park, _, ..] = everywhere[..] else {
        return skip("kthreads leave the runtime cores", "there is one CPU");
    };
    let Some(mut h) = Harness::start_with(4, vec![park]) else {
        return;
    };
    // Kthreads of their own, and a process whose number a dead kthread had before.
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = std::sync::Mutex::new(ended);
    std::thread::scope(|scope| {
        let tids = [(); 2].map(|()| {
            let (send, receive) = std::sync::mpsc::channel();
            let ended = &ended;
            scope.spawn(move || {
                send.send(gettid()).unwrap();
                let _ = ended.lock().unwrap().recv();
            });
            receive.recv().unwrap()
        });
        let mut stranger = std::process::Command::new("sleep").arg("60").spawn();
        let stranger = stranger.as_mut().unwrap();
        let foreign = stranger.id().cast_signed();
        let runtime = TestRuntime::new(3)
            .with_spec(0, |spec| spec.tid = tids[0])
            .with_spec(1, |spec| spec.tid = tids[1]);
        let _connection = runtime.register();
        h.until_attached(1);
        assert_eq!(tids.map(affinity), [[park], [park]], "pinned at first");
        // As if each had been given all cores; and as on Linux before 6.9.
        for tid in tids {
            let own = std::process::id().cast_signed();
            kthreads::pin_kthread(own, tid, None, &kthreads::cpu_set(&everywhere)).unwrap();
        }
        let id = h.procs[0].id;
        h.procs[0].kthreads[1].pidfd = None;
        h.procs[0].kthreads[2].pidfd = None;
        h.procs[0].kthreads[2].tid = foreign;
        h.give_back(id, DetachReason::Fault(FAULT));
        h.until("it is counted", |h| {
            h.stats.faults.load(Ordering::Relaxed) == 1
        });
        assert_eq!(tids.map(affinity), [[park], [park]]);
        assert_eq!(affinity(foreign), everywhere, "not a thread of the runtime");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        drop(end);
    });
}

#[test]
fn a_panic_of_the_control_thread_stops_the_daemon() {
    if !private_namespaces() {
        return;
    }
    let (mut config, _dataplane) = config(4);
    config.watch = Some(Box::new(|| panic!("on purpose")));
    let stop = config.stop.clone();
    assert!(Server::spawn(config).unwrap().join().is_err());
    assert!(
        stop.load(Ordering::Relaxed),
        "the polling loop is told to end"
    );
}

#[test]
fn something_sent_after_registering_is_a_departure() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let runtime = TestRuntime::new(1);
    let connection = runtime.register();
    h.until_attached(1);
    rustix::net::send(&connection, b"?", SendFlags::NOSIGNAL).unwrap();
    h.until_attached(0);
    h.until("its connection is closed", |_| is_closed(&connection));
    let said = |line: &String| line.ends_with("is detached: it sent more than its registration");
    assert!(h.log().iter().any(said), "{:?}", h.log());
    assert_eq!(h.stats.reasons.get(ControlCounter::FaultSocket), 1);
}

#[test]
fn those_who_come_and_go_a_lot_hide_no_fault() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    // More than the log's allowance of departures.
    for _ in 0..100 {
        let runtime = TestRuntime::new(1);
        let connection = runtime.register();
        h.until_attached(1);
        drop(connection);
        h.until_attached(0);
    }
    let offender = TestRuntime::new(1);
    let connection = offender.register();
    h.until_attached(1);
    h.give_back(h.procs[0].id, DetachReason::Fault(FAULT));
    h.until("its connection is closed", |_| is_closed(&connection));
    let left = h.log().iter().filter(|l| l.contains(" left")).count();
    assert!(left < 100, "departures are limited, or this shows nothing");
    let said = |line: &String| line.contains("unknown command 0x63");
    h.until("the fault is logged", |h| h.log().iter().any(said));
}

#[test]
fn a_runtime_whose_memory_is_gone_is_detached() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let runtime = TestRuntime::new(1);
    let connection = runtime.register();
    h.until_attached(1);
    // Stands for a page that cannot be had: a mapping of a shorter file in the region's place.
    take_away(&h.procs[0].region);
    let words = h.procs[0].kthreads[0].q_ptrs.rq_head();
    assert_eq!(words, 0, "the polling loop reads on");
    h.until_attached(0);
    h.until("its connection is closed", |_| is_closed(&connection));
    assert!(
        h.log()
            .iter()
            .any(|line| line.ends_with("pages of its region are gone")),
        "{:?}",
        h.log()
    );
    assert_eq!(h.stats.reasons.get(ControlCounter::FaultRegion), 1);
    let _again = runtime.register();
    h.until_attached(1);
}

#[test]
fn a_dataplane_that_ended_does_not_keep_the_thread() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let runtime = TestRuntime::new(1);
    let _connection = runtime.register();
    h.until_attached(1);
    h.stop.store(true, Ordering::Relaxed);
    // Both ends of the rings go, and the runtime with them.
    h.procs.clear();
    let (_, spare) = channel();
    drop(std::mem::replace(&mut h.dataplane, spare));
    h.thread.take().unwrap().join().unwrap();
    std::mem::forget(h);
}
