//! Wakes that must not be lost, and wakes that fail.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

use crate::control::{DetachReason, Fault, ToControl};
use crate::ids::Mac;
use crate::stats::Counter;
use crate::testing::{Peer, World, udp_frame};
use crate::time::Ticks;

/// A kthread that is preempted by signal here is this process.
fn survive_preemption() {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(libc::SIGUSR1, flag).expect("SIGUSR1 may be handled");
}

/// The kthread parks of its own accord with a packet on its way, while its core is
/// wanted by another runtime, and its sibling is parked already.
#[test]
fn a_packet_that_crosses_a_preempted_park_wakes_the_runtime_again() {
    survive_preemption();
    let mut world = World::new(2);
    let mut peer = world.attach(0, 2, 0);
    peer.set_runqueue(0, 5, 0);
    for _ in 0..1_000_000 {
        world.turns(1);
        if world.count(Counter::Wakes) == 2 {
            break;
        }
    }
    assert_eq!((peer.woken(0), peer.woken(1)), (Some(0), Some(1)));
    peer.set_runqueue(0, 5, 5);
    let rival = world.attach(1, 1, 1);
    assert_eq!(world.count(Counter::Preempts), 1, "of kthread 0, on core 0");
    std::thread::sleep(Duration::from_micros(100));
    world.turns(3);

    // The next round of the arbiter comes later than both parks.
    world.dataplane.next_adjust = Ticks(u64::MAX);
    // An even hash: to kthread 0 of two.
    assert!(world.receive(0, 2));
    world.turns(1);
    peer.park(1, 0);
    world.turns(2);
    peer.park(0, 0);
    world.turns(2);
    assert_eq!(world.count(Counter::Parks), 2);
    assert_eq!(rival.woken(0), Some(0));
    world.dataplane.next_adjust = Ticks(0);
    world.turns(2);
    assert_eq!(peer.woken(0), Some(1), "core 1 is idle");
    assert!(peer.recv(0).is_some());
    peer.park(0, 0);
    world.turns(2);
    std::thread::sleep(Duration::from_micros(100));
    world.turns(3);
    assert_eq!(peer.woken(0), None, "it has read everything");
    assert_eq!(world.count(Counter::Parks), 3);
}

/// A thread that ends when it is told to.
struct Mortal {
    tid: i32,
    lives: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Mortal {
    fn new() -> Mortal {
        let (lives, end) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            tell.send(tid).expect("the test waits for it");
            let _ = end.recv();
        });
        let tid = told.recv().expect("the thread tells it");
        Mortal { tid, lives, thread }
    }

    /// Ends it, and waits until the kernel has no such thread any more.
    fn die(self) -> i32 {
        drop(self.lives);
        self.thread.join().expect("it only waits");
        let entry = format!("/proc/self/task/{}", self.tid);
        while std::path::Path::new(&entry).exists() {
            std::thread::yield_now();
        }
        self.tid
    }
}

/// Attaches a runtime without guarantee whose one kthread is of thread `tid`.
fn attach_as(world: &mut World, slot: u16, tid: i32) -> Peer {
    let (peer, mut proc) = World::peer(slot, 1, 0);
    proc.kthreads[0].tid = tid;
    world.admit(proc);
    peer
}

/// More than one round's decisions, each of which leads to the next.
#[test]
fn hundreds_of_waiting_runtimes_may_die_at_once() {
    const DEAD: u16 = 600;
    let mut world = World::pinned(1);
    let mut first = world.attach(0, 1, 1);
    let tid = Mortal::new().die();
    let _dead: Vec<_> = (1..=DEAD)
        .map(|slot| attach_as(&mut world, slot, tid))
        .collect();
    assert_eq!(world.count(Counter::Faults), 0, "none had a core yet");
    assert_eq!(first.woken(0), Some(0), "to run");
    first.park(0, 0);
    // One failure a turn, and then its slot is given back.
    world.turns(usize::from(DEAD) + 100);
    assert_eq!(world.count(Counter::Faults), u64::from(DEAD));
    let mut gone = 0;
    while let Some(ToControl::Detached { reason, .. }) = world.detached() {
        let fault = matches!(reason, DetachReason::Fault(Fault::ThreadGone { .. }));
        assert!(fault, "{reason:?}");
        gone += 1;
    }
    assert_eq!(gone, DEAD);
    assert!(world.receive(0, 1));
    world.turns(1);
    assert_eq!(first.woken(0), Some(0), "the core is free again");
}

#[test]
fn a_broadcast_skips_nobody_when_a_wake_fails() {
    let mut world = World::pinned(4);
    let mortal = Mortal::new();
    let mut dead = attach_as(&mut world, 0, mortal.tid);
    dead.park(0, 0);
    world.turns(2);
    let mut others: Vec<Peer> = (1..=2).map(|slot| world.attach(slot, 1, 0)).collect();
    mortal.die();
    // Its core, 0, has been taken: to be woken it must be pinned to another.
    let frame = udp_frame(Mac::BROADCAST, 5);
    assert!(world.dataplane.port_mut().receive(&frame, 5));
    world.turns(2);
    assert_eq!(world.count(Counter::Faults), 1);
    for other in &mut others {
        assert!(other.recv(0).is_some());
    }
}
