//! A runtime that wants all of the loop gets its share of a turn, and others theirs in
//! the same turn. No clock: turns are counted.

use super::JOIN;
use crate::control::DetachReason;
use crate::dataplane::commands::CMD_BURST_SIZE;
use crate::dataplane::tx::TX_SHARE;
use crate::ids::{CoreId, Mac, ProcSlot};
use crate::port::TX_BURST_SIZE;
use crate::stats::Counter;
use crate::testing::{Peer, World, mac, udp_frame};
use crate::time::Ticks;

/// Kthreads of the offender.
const MANY: u16 = 6;

/// A good runtime in slot 0 with a kthread, and one in slot 1 whose many all run.
fn good_and_greedy() -> (World, Peer, Peer) {
    let mut world = World::new(1 + MANY);
    world.dataplane.next_adjust = Ticks(u64::MAX);
    let good = world.attach(0, 1, 1);
    let greedy = world.attach(1, MANY.into(), MANY);
    for core in 2..=MANY {
        let dataplane = &mut world.dataplane;
        let decisions = &mut dataplane.decisions;
        let woken = dataplane
            .arbiter
            .wake_on(ProcSlot(1), CoreId(core), decisions);
        assert!(woken.is_some(), "core {core} is idle");
        dataplane.apply();
    }
    assert_eq!(world.dataplane.polled.len(), 1 + usize::from(MANY));
    (world, good, greedy)
}

/// A frame that is told from others by its length.
fn padded(slot: u16) -> Vec<u8> {
    let mut frame = udp_frame(mac(9), 1).to_vec();
    frame.resize(100 + usize::from(slot), 0);
    frame
}

#[test]
fn a_packet_goes_in_the_turn_in_which_it_is_sent_whoever_floods() {
    let (mut world, mut good, mut greedy) = good_and_greedy();
    let frame = udp_frame(mac(9), 1);
    assert!(greedy.send(0, 0, &frame, 0));
    let at = greedy.egress(0);
    for turn in 0..50 {
        for kthread in 0..MANY.into() {
            while greedy.send_raw(kthread, 0, at) {}
        }
        assert!(good.send(0, 0, &padded(0), 0));
        let before = world.dataplane.port().sent.len();
        world.turns(1);
        let sent = &world.dataplane.port().sent[before..];
        assert_eq!(sent.len(), TX_BURST_SIZE, "no room is wasted");
        let own = padded(0).len();
        let own = sent.iter().filter(|&&len| usize::from(len) == own);
        assert_eq!(own.count(), 1, "turn {turn}");
        while good.recv(0).is_some() {}
        for kthread in 0..MANY.into() {
            while greedy.recv(kthread).is_some() {}
        }
    }
}

#[test]
fn five_floods_and_a_packet_each_have_the_same_share() {
    // One more than shares fit into a burst: they take turns.
    let floods = u16::try_from(TX_BURST_SIZE / TX_SHARE + 1).unwrap();
    let mut world = World::new(floods);
    world.dataplane.next_adjust = Ticks(u64::MAX);
    let mut peers: Vec<_> = (0..floods).map(|slot| world.attach(slot, 1, 1)).collect();
    for _ in 0..usize::from(floods) * 10 {
        for (slot, peer) in (0..).zip(&mut peers) {
            for buf in 0..16 {
                peer.send(0, buf, &padded(slot), 0);
            }
            while peer.recv(0).is_some() {}
        }
        world.turns(1);
    }
    let sent = &world.dataplane.port().sent;
    let of = |slot| {
        let own = padded(slot).len();
        let own = sent.iter().filter(|&&len| usize::from(len) == own);
        own.count()
    };
    let counts: Vec<_> = (0..floods).map(of).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 2 * TX_SHARE, "{counts:?}");
}

#[test]
fn a_command_is_taken_in_the_turn_in_which_it_is_sent_whoever_floods() {
    let (mut world, mut good, mut greedy) = good_and_greedy();
    // What it returns was lent to it.
    let mut tags = Vec::new();
    for n in 0..3000 {
        assert!(world.receive(1, n));
        if n % 64 == 63 {
            world.turns(1);
        }
    }
    world.turns(2);
    for kthread in 0..MANY.into() {
        while let Some(msg) = greedy.recv(kthread) {
            tags.push(world.rx_hdr(msg.payload).completion_data);
        }
    }
    let mut kthreads = (0..usize::from(MANY)).cycle();
    for tag in tags {
        greedy.give_back(kthreads.next().unwrap(), tag);
    }
    for turn in 0..20 {
        assert!(world.receive(0, 1));
        // Takes commands too: those of the flood.
        world.turns(1);
        let msg = good.recv(0).expect("a packet");
        good.give_back(0, world.rx_hdr(msg.payload).completion_data);
        let before = world.count(Counter::CommandsPulled);
        world.turns(1);
        let taken = world.count(Counter::CommandsPulled) - before;
        assert_eq!(taken, CMD_BURST_SIZE as u64, "no room is wasted");
        let waiting = good.kthreads[0].txcmdq.poll_in_flight().unwrap();
        assert_eq!(waiting, 0, "turn {turn}");
    }
}

#[test]
fn a_runtime_parks_one_kthread_a_turn_where_others_wait() {
    let (mut world, _good, mut greedy) = good_and_greedy();
    for kthread in 0..MANY.into() {
        while greedy.woken(kthread).is_some() {}
        greedy.park(kthread, 0);
    }
    for parked in 1..=u64::from(MANY) {
        world.turns(1);
        assert_eq!(world.count(Counter::Parks), parked);
    }
}

#[test]
fn the_only_runtime_has_all_of_a_turn() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    let frame = udp_frame(mac(9), 1);
    for buf in 0..100 {
        assert!(peer.send(0, buf, &frame, 0));
    }
    world.turns(1);
    assert_eq!(world.dataplane.port().sent.len(), TX_BURST_SIZE);
}

#[test]
fn a_runtime_that_leaves_is_none_to_share_with() {
    let (mut world, mut good, greedy) = good_and_greedy();
    assert_eq!(world.dataplane.runtimes_polled, 2);
    world.hang_up(1);
    world.turns(super::MANY);
    assert!(world.detached().is_some());
    drop(greedy);
    assert_eq!(world.dataplane.runtimes_polled, 1);
    // A kthread that parks with nothing to send is polled no more.
    while good.woken(0).is_some() {}
    good.park(0, 0);
    world.turns(2);
    assert_eq!(world.dataplane.runtimes_polled, 0);
    let frame = udp_frame(Mac::BROADCAST, 5);
    assert!(world.dataplane.port_mut().receive(&frame, 5));
    world.turns(2);
    assert_eq!(world.dataplane.runtimes_polled, 1);
    assert!(good.recv(0).is_some_and(|msg| msg.cmd != JOIN));
}

/// Those that end at once are seen off a few in each turn.
#[test]
fn departures_are_bounded_in_each_turn() {
    let runtimes = 40;
    let mut world = World::new(runtimes);
    let peers: Vec<_> = (0..runtimes).map(|slot| world.attach(slot, 1, 1)).collect();
    for slot in 0..runtimes {
        let reason = DetachReason::HungUp;
        world.dataplane.detach(ProcSlot(slot), reason);
    }
    // Kthreads are let go of by tx, at the end of a turn.
    world.turns(1);
    assert!(world.detached().is_none());
    let mut gone = Vec::new();
    for _ in 0..3 {
        world.turns(1);
        let now = std::iter::from_fn(|| world.detached()).count();
        gone.push(now);
    }
    assert_eq!(gone, [16, 16, 8]);
    drop(peers);
}
