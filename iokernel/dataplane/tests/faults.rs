//! Faults of the machine, not of a runtime: nobody is blamed, and all goes on.

use std::time::Duration;

use super::{COMPLETE, MANY, still_served};
use crate::abi::types::TXCMD_PARKED_LAST;
use crate::control::{DetachReason, ToControl};
use crate::cores::topology::CpuId;
use crate::ids::Micros;
use crate::port::Port;
use crate::proc::MAX_UNCOMPLETED;
use crate::stats::{Counter, Held};
use crate::testing::{Peer, World, mac, udp_frame};
use crate::time::Ticks;

/// Turns the loop for so long.
fn turn_for(world: &mut World, time: Duration) {
    let end = std::time::Instant::now() + time;
    while std::time::Instant::now() < end {
        world.turns(1);
    }
}

/// Messages that a kthread got, by taking them all: completions.
fn completions(peer: &mut Peer) -> usize {
    std::iter::from_fn(|| peer.recv(0))
        .filter(|msg| msg.cmd == COMPLETE)
        .count()
}

#[test]
fn a_driver_that_takes_nothing_holds_its_senders_back_and_nobody_else() {
    let mut world = World::new(2);
    let mut sender = world.attach(0, 1, 1);
    let mut other = world.attach(1, 1, 1);
    world.dataplane.port_mut().takes = 0;
    let frame = udp_frame(mac(9), 1);
    assert!(sender.send(0, 0, &frame, 0));
    let at = sender.egress(0);
    let mut sent = 1;
    for _ in 0..200 {
        while sender.send_raw(0, 0, at) {
            sent += 1;
        }
        still_served(&mut world, 1, &mut other);
    }
    // One burst is in the port's hands; the rest waits in the runtime's own ring.
    assert!(sent < MAX_UNCOMPLETED, "{sent} packets were accepted");
    assert!(world.count(Counter::TxBackpressure) > 0);
    assert_eq!(completions(&mut sender), 0, "nothing is done");
    // A sender that leaves stays mapped as long as the driver has frames of it.
    world.hang_up(0);
    world.turns(MANY);
    assert!(world.detached().is_none());
    assert!(world.held(Held::TxInFlight) > 0);
    still_served(&mut world, 1, &mut other);
    world.dataplane.port_mut().takes = usize::MAX;
    world.turns(MANY);
    let Some(ToControl::Detached { reason, .. }) = world.detached() else {
        panic!("the driver takes frames again, and the sender is not let go");
    };
    assert_eq!(reason, DetachReason::HungUp);
    assert_eq!(world.dataplane.port().sent.len(), sent);
    assert_eq!(world.held(Held::TxInFlight), 0);
    assert_eq!(world.count(Counter::Faults), 0);
}

#[test]
fn a_drained_pool_stops_reception_only_and_only_until_buffers_come_back() {
    let mut world = World::new(1);
    let mut good = world.attach(0, 1, 1);
    assert!(world.receive(0, 1));
    let kept = world.dataplane.port_mut().drain();
    assert_eq!(world.held(Held::BufsFree), 0);
    assert!(
        !world.receive(0, 1),
        "the device has no buffer to receive into"
    );
    // What was received before is a loan like any other, and sending needs no buffer.
    world.turns(4);
    let arrived = good.recv(0).expect("what had arrived");
    for buf in 0..64 {
        assert!(good.send(0, buf, &udp_frame(mac(9), 1), 0));
    }
    world.turns(4);
    assert_eq!(completions(&mut good), 64);
    good.give_back(0, world.rx_hdr(arrived.payload).completion_data);
    world.turns(4);
    assert_eq!(world.held(Held::BufsFree), 1);
    world.dataplane.port_mut().release(&kept);
    still_served(&mut world, 0, &mut good);
    assert_eq!(world.count(Counter::Faults), 0);
}

/// A CPU that is offline, or was taken out of the cpuset.
#[test]
fn a_cpu_that_is_gone_is_nobodys_fault() {
    // Beyond any machine's, and within what the kernel lets be asked for.
    let mut world = World::on(CpuId(1023), 1);
    let mut peer = world.attach(0, 1, 1);
    assert_eq!(peer.woken(0), Some(0), "woken where it was");
    assert_eq!(world.count(Counter::PinsFailed), 1);
    still_served(&mut world, 0, &mut peer);
    peer.park(0, 0);
    world.turns(2);
    assert!(world.receive(0, 1));
    world.turns(1);
    assert_eq!(peer.woken(0), Some(0));
    assert_eq!(
        world.count(Counter::PinsFailed),
        2,
        "tried again at each wake"
    );
    assert_eq!(world.count(Counter::Pins), 0);
    assert!(world.detached().is_none());
}

/// The kthread parks until a timer; true if it is woken for it.
fn timer_fires(world: &mut World, peer: &mut Peer, between: impl FnOnce(&mut World)) -> bool {
    assert_eq!(peer.woken(0), Some(0));
    assert!(peer.command(0, u64::from(TXCMD_PARKED_LAST), 20_000));
    world.turns(2);
    assert_eq!(world.count(Counter::Parks), 1);
    between(world);
    // Ten times as long; and more, if turns are slow.
    turn_for(world, Duration::from_millis(200));
    peer.woken(0).is_some()
}

/// The processor's counter begins anew, as after a sleep to memory.
#[test]
fn timers_fire_and_cores_are_given_when_the_counter_goes_back() {
    let mut world = World::new(2);
    // Until now it was an hour further.
    let hour = world.dataplane.clock.span(Micros(3_600_000_000));
    let ahead = world.dataplane.clock.ahead(hour);
    let set = |world: &mut World| {
        world.dataplane.clock = ahead;
        let now = Ticks(world.dataplane.clock.ticks().0 + hour);
        world.dataplane.last_turn = now;
        world.dataplane.next_adjust = now;
        world.dataplane.now = ahead.at(now);
    };
    set(&mut world);
    let mut peer = world.attach(0, 2, 2);
    assert!(timer_fires(&mut world, &mut peer, set));
    assert!(world.count(Counter::ClockSetBack) >= 1);
    let rounds = world.count(Counter::Adjusts);
    peer.set_runqueue(0, 5, 0);
    turn_for(&mut world, Duration::from_millis(50));
    assert!(world.count(Counter::Adjusts) > rounds);
    assert!(peer.woken(1).is_some(), "congestion is seen as ever");
    assert_eq!(world.count(Counter::Faults), 0);
}

/// A long gap between two turns, as of a machine that was suspended.
#[test]
fn a_gap_of_hours_ends_in_one_round_and_blames_nobody() {
    let mut world = World::new(2);
    let mut peer = world.attach(0, 1, 1);
    let mut other = world.attach(1, 1, 1);
    let gap = world.dataplane.clock.span(Micros(5 * 3_600_000_000));
    assert!(timer_fires(&mut world, &mut peer, |world| {
        // It all happened five hours ago.
        let clock = &mut world.dataplane.clock;
        let before = Ticks(clock.ticks().0);
        clock.set_back(Ticks(before.0 + gap), before);
        let rounds = world.count(Counter::Adjusts);
        world.turns(1);
        assert!(
            world.count(Counter::Adjusts) <= rounds + 1,
            "no round for each 5 us"
        );
    }));
    still_served(&mut world, 1, &mut other);
    assert_eq!(world.count(Counter::Faults), 0);
    assert!(world.detached().is_none());
}
