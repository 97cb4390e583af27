//! Wakes that must not be lost, and wakes that fail.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::stats::Counter;
use crate::testing::World;
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
