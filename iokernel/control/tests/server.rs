//! The control thread with real sockets and segments.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::net::SendFlags;

use super::harness::Harness;
use crate::control::admission::Admission;
use crate::control::server::MAX_PENDING;
use crate::control::test_runtime::{
    TestRuntime, alone, become_user, connect, is_closed, may_become_another, send_fds,
};
use crate::control::{DetachReason, Fault};
use crate::ids::KthreadIdx;
use crate::stats::ControlCounter;

#[test]
fn a_runtime_attaches_and_leaves() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let runtime = TestRuntime::new(3).with_header(|hdr| hdr.sched_cfg.guaranteed_cores = 2);
    let connection = runtime.register();
    h.until_attached(1);
    assert_eq!(h.procs[0].mac.0, runtime.header().mac);
    assert_eq!(h.procs[0].pid, std::process::id().cast_signed());
    assert_eq!(h.procs[0].kthreads.len(), 3);
    assert_eq!(h.procs[0].guaranteed_cores, 2);
    h.until("its guarantee is reserved", |h| h.reserved() == 2);
    assert!(!is_closed(&connection));
    let entries = h.directory.attached();
    let [entry] = &entries[..] else {
        panic!("one is attached: {entries:?}");
    };
    assert_eq!((entry.id, entry.mac), (h.procs[0].id, h.procs[0].mac));
    assert_eq!((entry.kthreads, entry.guaranteed_cores), (3, 2));
    drop(connection);
    h.until_attached(0);
    h.until("its guarantee is free", |h| h.reserved() == 0);
    // Row 20: who it was is in the log.
    let (pid, uid) = (std::process::id(), rustix::process::geteuid().as_raw());
    let who = format!(
        "pid {pid} (uid {uid}, {}) left",
        crate::ids::Mac(runtime.header().mac)
    );
    assert_eq!(h.last_line(), who);
    assert!(h.directory.attached().is_empty());
}

#[test]
fn a_slot_is_used_again_with_another_generation() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let runtime = TestRuntime::new(1);
    let connection = runtime.register();
    h.until_attached(1);
    let first = h.procs[0].id;
    drop(connection);
    h.until_attached(0);
    let _connection = runtime.register();
    h.until_attached(1);
    assert_eq!(h.procs[0].id.slot, first.slot);
    assert_ne!(h.procs[0].id.generation, first.generation);
}

#[test]
fn two_hundred_runtimes_are_attached_at_once() {
    // Row 11: upstream's table of addresses is full at 128.
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    crate::control::fd_limit::raise_fd_limit();
    let runtimes: Vec<TestRuntime> = (0..200).map(|_| TestRuntime::new(1)).collect();
    let connections: Vec<OwnedFd> = runtimes.iter().map(TestRuntime::register).collect();
    h.until_attached(200);
    drop(connections);
    h.until_attached(0);
}

#[test]
fn a_hang_up_at_any_byte_harms_nobody() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let runtime = TestRuntime::new(1);
    let mut bytes = runtime.key.to_le_bytes().to_vec();
    bytes.extend(runtime.len.to_le_bytes());
    for sent in 0..=12 {
        let connection = connect();
        if sent > 0 {
            rustix::net::send(&connection, &bytes[..sent], SendFlags::NOSIGNAL).unwrap();
        }
        drop(connection);
        h.until_refused(sent as u64 + 1);
        assert!(
            h.last_line()
                .contains(&format!("hung up after {sent} of 13 bytes"))
        );
    }
    let _connection = runtime.register();
    h.until_attached(1);
}

#[test]
fn a_registration_byte_by_byte_is_admitted() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let runtime = TestRuntime::new(2);
    let mut bytes = runtime.key.to_le_bytes().to_vec();
    bytes.extend(runtime.len.to_le_bytes());
    let connection = connect();
    for byte in bytes {
        rustix::net::send(&connection, &[byte], SendFlags::NOSIGNAL).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    send_fds(&connection, b"x", &runtime.fds).unwrap();
    h.until_attached(1);
}

#[test]
fn a_silent_peer_delays_nobody_and_is_refused_in_the_end() {
    // Row 15. Takes the 10 s of the deadline.
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let silent = connect();
    let leaver = TestRuntime::new(1);
    let leaving = leaver.register();
    h.until_attached(1);
    let runtime = TestRuntime::new(1);
    let _connection = runtime.register();
    h.until_attached(2);
    drop(leaving);
    h.until_attached(1);
    assert_eq!(h.refused(), 0);
    h.until_refused(1);
    assert!(is_closed(&silent));
    assert!(
        h.last_line()
            .contains("silent for 10 s after 0 of 13 bytes"),
        "{}",
        h.last_line()
    );
}

#[test]
fn many_silent_peers_give_way() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let silent: Vec<OwnedFd> = (0..MAX_PENDING + 20).map(|_| connect()).collect();
    let runtime = TestRuntime::new(1);
    let _connection = runtime.register();
    h.until_attached(1);
    // 84 silent ones and this one in 64 places: 21 had to give way, the oldest first.
    assert!(h.refused() >= 21, "{}", h.refused());
    assert!(is_closed(&silent[0]));
    assert!(
        h.log()
            .iter()
            .any(|line| line.contains("gave way to others"))
    );
    assert!(!is_closed(&silent[MAX_PENDING + 19]));
}

#[test]
fn an_address_in_use_is_refused_and_its_holder_keeps_it() {
    // Row 10.
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let first = TestRuntime::new(1);
    let mac = first.header().mac;
    let connection = first.register();
    h.until_attached(1);
    let second = TestRuntime::new(1).with_header(|hdr| hdr.mac = mac);
    let refused = second.register();
    h.until_refused(1);
    h.until("its connection is closed", |_| is_closed(&refused));
    assert!(
        h.last_line().contains("is that of pid"),
        "{}",
        h.last_line()
    );
    assert!(!is_closed(&connection));
    assert_eq!(h.procs.len(), 1);
    drop(connection);
    h.until_attached(0);
    let _again = second.register();
    h.until_attached(1);
}

#[test]
fn a_segment_in_use_is_refused() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let runtime = TestRuntime::new(1);
    let _connection = runtime.register();
    h.until_attached(1);
    let runtime = runtime.with_header(|hdr| hdr.mac[1] = 77);
    let _refused = runtime.register();
    h.until_refused(1);
    assert!(
        h.last_line().contains("which is attached"),
        "{}",
        h.last_line()
    );
}

#[test]
fn a_restarted_runtime_waits_for_its_predecessor_to_leave() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let first = TestRuntime::new(1).with_header(|hdr| hdr.sched_cfg.guaranteed_cores = 4);
    let mac = first.header().mac;
    let connection = first.register();
    h.until_attached(1);
    h.hold = true;
    drop(connection);
    h.until("its departure", |h| h.held.len() == 1);
    let second = TestRuntime::new(1).with_header(|hdr| {
        hdr.mac = mac;
        hdr.sched_cfg.guaranteed_cores = 4;
    });
    let connection = second.register();
    std::thread::sleep(Duration::from_millis(50));
    h.pump();
    assert_eq!(
        (h.procs.len(), h.refused()),
        (1, 0),
        "neither admitted nor refused yet"
    );
    h.release();
    h.until("the second is attached", |h| h.procs.len() == 1);
    assert!(!is_closed(&connection));
    // A dataplane that keeps the first for ever: the next one is refused after all.
    h.hold = true;
    drop(connection);
    h.until("its departure", |h| h.held.len() == 1);
    let third = TestRuntime::new(1).with_header(|hdr| hdr.mac = mac);
    let _refused = third.register();
    h.until_refused(1);
    h.release();
}

#[test]
fn guarantees_beyond_all_cores_are_refused() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let guaranteed = |n| TestRuntime::new(1).with_header(|hdr| hdr.sched_cfg.guaranteed_cores = n);
    let three = guaranteed(3);
    let connection = three.register();
    h.until_attached(1);
    for (i, n) in [2, 5, u32::MAX].into_iter().enumerate() {
        let runtime = guaranteed(n);
        let _refused = runtime.register();
        h.until_refused(i as u64 + 1);
        let line = h.last_line();
        assert!(
            line.contains(&format!("wants {n} guaranteed cores; 3 of 4")),
            "{line}"
        );
    }
    let one = guaranteed(1);
    let _one = one.register();
    h.until_attached(2);
    drop(connection);
    h.until_attached(1);
    h.until("three are free", |h| h.reserved() == 1);
}

#[test]
fn refused_registrations_leave_nothing_behind() {
    // Row 12: fds, mappings and guarantees, after 300 refusals at each stage.
    if !alone("control::tests::server::refused_registrations_leave_nothing_behind") {
        return;
    }
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let holder = TestRuntime::new(1).with_header(|hdr| hdr.sched_cfg.guaranteed_cores = 3);
    let _connection = holder.register();
    h.until_attached(1);
    h.until("its guarantee is reserved", |h| h.reserved() == 3);
    let mac = holder.header().mac;
    let runtimes = [
        TestRuntime::new(4).with_header(|hdr| hdr.magic = 0),
        TestRuntime::new(4).with_header(|hdr| hdr.sched_cfg.guaranteed_cores = 2),
        TestRuntime::new(4).with_header(|hdr| hdr.mac = mac),
        TestRuntime::new(4).with_spec(3, |spec| spec.tid = 1),
        TestRuntime::new(4).with_spec(3, |spec| spec.txcmdq.wb = u64::MAX),
    ];
    let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let segments = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("/SYSV")).count()
    };
    let before = (fds(), segments());
    for round in 0..60 {
        for (i, runtime) in runtimes.iter().enumerate() {
            drop(runtime.register());
            h.until_refused(round * 5 + i as u64 + 1);
        }
    }
    assert_eq!((fds(), segments()), before);
    assert_eq!(h.reserved(), 3);
    assert!(h.log().iter().all(|line| !line.contains('\n')));
    assert!(h.log().len() < 300, "refusals in the log are rate limited");
}

#[test]
fn another_users_runtime_attaches_with_its_own_segment_only() {
    // Row 18, through the socket: the user is that of the connecting thread.
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    if !may_become_another() {
        return;
    }
    let victim = TestRuntime::new(1);
    let (key, len) = (victim.key, victim.len);
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let stranger = std::thread::spawn(move || {
        become_user(4321);
        let mut own = TestRuntime::new(1);
        let right = own.register();
        let (own_key, own_len) = (own.key, own.len);
        (own.key, own.len) = (key, len);
        let wrong = own.register();
        (own.key, own.len) = (own_key, own_len);
        let _ = wait.recv();
        (right, wrong)
    });
    h.until_attached(1);
    assert_eq!(h.procs[0].uid, 4321);
    h.until_refused(1);
    let line = h.last_line();
    assert!(line.contains("(uid 4321) is refused: segment"), "{line}");
    drop(done);
    drop(stranger.join().unwrap());
    h.until_attached(0);
}

#[test]
fn the_watch_is_called_while_nothing_happens() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    h.until("watched", |h| h.watched.load(Ordering::Relaxed) >= 10);
}

#[test]
fn those_who_are_not_let_in_take_few_places() {
    let uid = rustix::process::geteuid().as_raw();
    let others = Admission {
        uids: Some(vec![uid + 1]),
        gids: None,
    };
    let Some(mut h) = Harness::start_for(others, 4, Vec::new()) else {
        return;
    };
    // Silent: not a byte of a registration is sent.
    let silent: Vec<OwnedFd> = (0..2 * MAX_PENDING).map(|_| connect()).collect();
    // The youngest have not given way to others, and nobody waited for the deadline.
    let (old, young) = silent.split_at(silent.len() - 8);
    h.until("others gave way", |_| old.iter().all(is_closed));
    assert!(h.last_line().contains("gave way"), "{}", h.last_line());
    let still = young.iter().filter(|c| !is_closed(c)).count();
    assert!(still > 0, "each has a moment to say who it is");
    // Who registers is refused for what it is. (The log has had its share of lines.)
    let refused = |h: &Harness, reason| h.stats.reasons.get(reason);
    assert_eq!(refused(&h, ControlCounter::RefusedUser), 0);
    let _connection = TestRuntime::new(1).register();
    h.until("it is refused", |h| {
        refused(h, ControlCounter::RefusedUser) == 1
    });
}

#[test]
fn whose_runtimes_make_the_loop_wait_waits_ever_longer() {
    let Some(mut h) = Harness::start(4) else {
        return;
    };
    let kthread = KthreadIdx(0);
    let mut waits = Vec::new();
    for _ in 0..3 {
        // Each with a segment of its own: that of an offender is removed.
        let runtime = TestRuntime::new(1);
        let began = Instant::now();
        let connection = runtime.register();
        h.until_attached(1);
        waits.push(began.elapsed());
        let blocked = DetachReason::Fault(Fault::WakeBlocked { kthread });
        h.give_back(h.procs[0].id, blocked);
        h.until("it is gone", |_| is_closed(&connection));
    }
    // The second time costs nothing yet, being the first one's; then 100 ms.
    assert!(waits[2] >= Duration::from_millis(100), "{waits:?}");
    // Some may wait, and more are refused.
    let refused = h.refused();
    let more: Vec<TestRuntime> = (0..5).map(|_| TestRuntime::new(1)).collect();
    let waiting: Vec<OwnedFd> = more.iter().map(TestRuntime::register).collect();
    h.until_refused(refused + 1);
    assert!(
        h.last_line().contains("try again later"),
        "{}",
        h.last_line()
    );
    drop(waiting);
}
