//! Joins: what a parked kthread left reaches another, also through a full rxq.

use super::JOIN;
use crate::dataplane::completions::OVERFLOW_BATCH_DRAIN;
use crate::ids::ProcSlot;
use crate::stats::Counter;
use crate::testing::{Peer, World};
use crate::time::Ticks;

/// A runtime on two cores with both kthreads active, kthread 0's rxq full.
fn full(world: &mut World) -> Peer {
    let peer = world.attach(0, 2, 2);
    // All packets before the arbiter's next round, and no round after kthread 1 runs.
    world.dataplane.next_adjust = Ticks(u64::MAX);
    for flow in 0..4096 {
        assert!(world.receive(0, flow));
    }
    world.turns(64);
    world.dataplane.next_adjust = Ticks(0);
    for _ in 0..1_000_000 {
        world.turns(1);
        if world.count(Counter::Wakes) == 2 {
            break;
        }
    }
    assert_eq!(peer.woken(1), Some(1));
    world.dataplane.next_adjust = Ticks(u64::MAX);
    peer
}

/// Empties kthread 0's rxq, with turns in between; the payloads of the joins in it.
fn joined(world: &mut World, peer: &mut Peer) -> Vec<u64> {
    let mut joins = Vec::new();
    for _ in 0..5000 {
        joins.extend(peer.recv(0).filter(|m| m.cmd == JOIN).map(|m| m.payload));
        world.turns(1);
    }
    joins
}

#[test]
fn a_join_waits_for_room() {
    let mut world = World::new(2);
    let mut peer = full(&mut world);
    peer.park(1, 0xabcd);
    world.turns(2);
    assert_eq!(world.count(Counter::Parks), 1);
    assert_eq!(joined(&mut world, &mut peer), [0xabcd]);
    assert_eq!(world.count(Counter::RxJoinFail), 0);
}

#[test]
fn joins_that_wait_are_gone_with_their_runtime() {
    let mut world = World::new(2);
    let mut peer = full(&mut world);
    peer.park(1, 0xabcd);
    world.turns(2);
    world.hang_up(0);
    world.turns(400);
    assert!(world.detached().is_some());
    let mut next = world.attach(0, 1, 1);
    world.turns(10);
    assert_eq!(next.recv(0), None);
}

#[test]
fn joins_of_one_turn_are_no_more_than_a_batch() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    // More than a runtime of one kthread can make wait, as one of 256 may.
    let waiting = OVERFLOW_BATCH_DRAIN as u64 + 6;
    let slot = ProcSlot(0);
    world.dataplane.proc(slot).joins.extend(0..waiting);
    world.dataplane.proc(slot).overflow.push_back(0xc0);
    world.dataplane.proc(slot).notes.uncompleted += 1;
    world.dataplane.try_again(slot);
    let mut sent = |world: &mut World| {
        assert!(world.dataplane.drain_overflows());
        std::iter::from_fn(|| peer.recv(0)).collect::<Vec<_>>()
    };
    let first = sent(&mut world);
    assert_eq!(first.len(), OVERFLOW_BATCH_DRAIN);
    assert!(first.iter().all(|m| m.cmd == JOIN));
    assert_eq!(world.count(Counter::CompletionDrained), 0);
    let rest = sent(&mut world);
    let joins = rest.iter().filter(|m| m.cmd == JOIN).count();
    assert_eq!((joins, rest.len()), (6, 7));
    assert_eq!(world.count(Counter::CompletionDrained), 1);
    assert!(world.dataplane.overflowing.is_empty());
}
