//! Packets to a port that does not take them at once, for runtimes that do not
//! take their completions.

use super::COMPLETE;
use crate::stats::{Counter, Held};
use crate::testing::{World, udp_frame};

#[test]
fn a_port_that_takes_little_gets_everything_in_the_end() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    world.dataplane.port_mut().takes = 3;
    let frame = udp_frame(crate::testing::mac(9), 1);
    for buf in 0..200 {
        assert!(peer.send(0, buf, &frame, 0));
    }
    world.turns(80);
    assert_eq!(world.dataplane.port().sent.len(), 200);
    assert!(world.count(Counter::TxBackpressure) > 0);
}

/// Five descriptors, all in use: nothing is offered, so nothing is refused.
#[test]
fn a_port_without_room_refuses_nothing() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    let port = world.dataplane.port_mut();
    (port.descriptors, port.auto_done) = (5, false);
    let frame = udp_frame(crate::testing::mac(9), 1);
    for buf in 0..8 {
        assert!(peer.send(0, buf, &frame, 0));
    }
    world.turns(10);
    assert_eq!(world.dataplane.port().sent.len(), 5);
    assert_eq!(world.count(Counter::TxBackpressure), 0);
    world.dataplane.port_mut().finish(5);
    // Of the last three the device takes one at each of three flushes: 2 + 1 refused.
    world.dataplane.port_mut().takes = 1;
    world.turns(10);
    assert_eq!(world.dataplane.port().sent.len(), 8);
    assert_eq!(world.count(Counter::TxBackpressure), 3);
}

#[test]
fn a_runtime_that_takes_no_completions_is_throttled_not_lost() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    let frame = udp_frame(crate::testing::mac(9), 1);
    assert!(peer.send(0, 0, &frame, 0));
    let at = peer.egress(0);
    let mut sent = 1;
    for _ in 0..3000 {
        while peer.send_raw(0, 0, at) {
            sent += 1;
        }
        world.turns(1);
    }
    assert!(world.count(Counter::TxThrottled) > 0);
    // 4096 completions lie in the rxq, 65,536 packets may be uncompleted besides;
    // of those that were not accepted 4096 wait in the ring.
    let accepted = world.dataplane.port().sent.len();
    assert!(accepted <= 4096 + 65_536, "{accepted} accepted");
    assert!(sent <= accepted + 4096, "{sent} sent");
    let mut completed = 0;
    for _ in 0..400_000 {
        match peer.recv(0) {
            Some(msg) => completed += usize::from(msg.cmd == COMPLETE),
            None => world.turns(1),
        }
        if completed == sent {
            return;
        }
    }
    panic!("{completed} completions of {sent} packets");
}

/// As drivers do that look for sent frames only when they need room for others.
#[test]
fn what_a_lazy_device_has_sent_comes_back_though_nobody_sends_more() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    let port = world.dataplane.port_mut();
    (port.auto_done, port.lazy) = (false, true);
    let frame = udp_frame(crate::testing::mac(9), 1);
    for buf in 0..3 {
        assert!(peer.send(0, buf, &frame, 0));
    }
    world.turns(1);
    assert_eq!(world.dataplane.port().in_device(), 3);
    // A round of the gauges finds them, the next that they stand still.
    for _ in 0..3 {
        world.held(Held::TxInFlight);
    }
    assert_eq!(world.count(Counter::CompletionEnqueued), 3);
    assert_eq!(world.held(Held::TxInFlight), 0);
}
