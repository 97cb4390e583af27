//! The polling loop allocates nothing in its steady state.
//!
//! A counting allocator watches this thread while runtimes receive, echo,
//! return, park and are woken.

#![allow(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use calisto::abi::types::RX_NET_RECV;
use calisto::ids::CoreId;
use calisto::stats::Counter;
use calisto::steering::rules::{Rule, RuleSet};
use calisto::testing::{Peer, World, mac, udp_frame};

thread_local! {
    /// Allocations counted so far, or `None` while nobody counts.
    static COUNTED: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Counting;

// SAFETY: the system's allocator does everything; a Cell without destructor counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNTED.with(|n| n.set(n.get().map(|n| n + 1)));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        COUNTED.with(|n| n.set(n.get().map(|n| n + 1)));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted(f: impl FnOnce()) -> u64 {
    COUNTED.with(|n| n.set(Some(0)));
    f();
    COUNTED.with(|n| n.take()).expect("set above")
}

/// One round: everybody gets packets, echoes and returns them; one parks.
fn round(world: &mut World, peers: &mut [Peer], n: u32) {
    let frame = udp_frame(mac(99), 7);
    for flow in 0..20 {
        for slot in 0..3 {
            world.receive(slot, flow * n);
        }
    }
    world.receive(77, 1);
    world.turns(4);
    for (i, peer) in peers.iter_mut().enumerate() {
        for kthread in 0..2 {
            let mut buf = 0;
            while let Some(msg) = peer.recv(kthread) {
                if msg.cmd == u64::from(RX_NET_RECV) {
                    let tag = world.rx_hdr(msg.payload).completion_data;
                    peer.give_back(kthread, tag);
                    peer.send(kthread, buf, &frame, 0);
                    buf += 1;
                }
            }
            // Kthreads that were woken park again after a few rounds.
            if peer.woken(kthread).is_some() && n % 4 == u32::try_from(i).expect("three") {
                peer.park(kthread, 0);
            }
            peer.set_runqueue(kthread, n, n - u32::from(n.is_multiple_of(3)));
        }
    }
    world.turns(4);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_state_allocates_nothing() {
        assert!(counted(|| drop(Box::new(1))) >= 1, "the counter counts");
        let mut world = World::new(4);
        let mut peers: Vec<Peer> = (0..3).map(|slot| world.attach(slot, 2, 1)).collect();
        for n in 1..50 {
            round(&mut world, &mut peers, n);
        }
        let before = world.count(Counter::RxDelivered);
        let allocations = counted(|| {
            for n in 50..2000 {
                round(&mut world, &mut peers, n);
            }
        });
        assert_eq!(allocations, 0);
        assert!(world.count(Counter::RxDelivered) > before + 10_000);
        assert!(world.count(Counter::TxPulled) > 10_000);
        assert!(world.count(Counter::Adjusts) > 100);
        assert!(world.count(Counter::Parks) > 0 && world.count(Counter::Wakes) > 3);
    }

    #[test]
    fn a_change_of_rules_allocates_and_frees_nothing_in_the_loop() {
        let mut world = World::new(4);
        let set = |hash| {
            let core = CoreId(1);
            RuleSet::build([Rule { hash, core }]).unwrap()
        };
        world.set_rules(set(1));
        for hash in 2..10 {
            world.rules.send(set(hash)).expect("the last is in force");
            assert_eq!(counted(|| world.turns(2)), 0);
            assert!(world.rules.settled());
        }
    }

    #[test]
    fn arrivals_and_departures_allocate_nothing_in_the_loop() {
        let mut world = World::new(4);
        let _resident = world.attach(0, 2, 1);
        for slot in 1..20 {
            let (_peer, proc) = World::peer(slot, 3, 1);
            let allocations = counted(|| {
                world.admit(proc);
                for flow in 0..40 {
                    world.receive(slot, flow);
                }
                world.turns(4);
                world.hang_up(slot);
                world.turns(300);
            });
            assert_eq!(allocations, 0);
            assert!(world.detached().is_some());
        }
    }
}
