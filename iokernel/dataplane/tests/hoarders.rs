//! Runtimes that keep what they are lent: nobody else notices.

use crate::abi::ingress::INGRESS_BUFS;
use crate::ids::Mac;
use crate::stats::Counter;
use crate::testing::{Peer, World, mac, udp_frame};

/// What a lone hoarder gets.
const LENT_MAX: u32 = INGRESS_BUFS / 4;

/// Takes all messages of kthread 0 and returns the buffers; how many.
fn take_and_return(world: &World, peer: &mut Peer) -> u32 {
    let mut taken = 0;
    while let Some(msg) = peer.recv(0) {
        let tag = world.rx_hdr(msg.payload).completion_data;
        peer.give_back(0, tag);
        taken += 1;
    }
    taken
}

#[test]
fn one_that_keeps_every_broadcast_stops_nobody_elses() {
    let mut world = World::new(2);
    let mut good = world.attach(0, 1, 1);
    let mut hoarder = world.attach(1, 1, 1);
    let frame = udp_frame(Mac::BROADCAST, 5);
    let mut got = 0;
    let broadcasts = LENT_MAX + 1000;
    for n in 0..broadcasts {
        assert!(world.dataplane.port_mut().receive(&frame, 5));
        if n % 32 == 0 {
            world.turns(1);
            got += take_and_return(&world, &mut good);
            while hoarder.recv(0).is_some() {}
        }
    }
    world.turns(4);
    got += take_and_return(&world, &mut good);
    assert_eq!(got, broadcasts);
    assert_eq!(world.count(Counter::RxBroadcastFail), 1000);
}

#[test]
fn one_that_keeps_every_packet_gets_a_quarter_of_the_buffers() {
    let mut world = World::new(2);
    let mut good = world.attach(0, 1, 1);
    let mut hoarder = world.attach(1, 1, 1);
    let free = world.dataplane.port().free_bufs();
    for n in 0..LENT_MAX + 500 {
        assert!(world.receive(1, n));
        if n % 32 == 0 {
            world.turns(1);
            while hoarder.recv(0).is_some() {}
        }
    }
    world.turns(4);
    assert_eq!(world.count(Counter::RxLentMax), 500);
    let kept = usize::try_from(LENT_MAX).expect("64 bits");
    assert_eq!(world.dataplane.port().free_bufs(), free - kept);
    assert!(world.receive(0, 1));
    world.turns(1);
    assert_eq!(take_and_return(&world, &mut good), 1);
}

#[test]
fn returned_buffers_make_room_for_more() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    let mut last = 0;
    for n in 0..LENT_MAX {
        assert!(world.receive(0, n));
        if n % 32 == 31 {
            world.turns(1);
            while let Some(msg) = peer.recv(0) {
                last = world.rx_hdr(msg.payload).completion_data;
            }
        }
    }
    assert!(world.receive(0, 1));
    world.turns(1);
    assert_eq!(peer.recv(0), None, "one too many");
    peer.give_back(0, last);
    world.turns(1);
    assert!(world.receive(0, 1));
    world.turns(1);
    assert!(peer.recv(0).is_some());
}

/// Under a fixed quarter four of these would have taken all there is.
#[test]
fn six_hoarders_together_leave_buffers_for_who_returns_them() {
    let mut world = World::new(7);
    let mut good = world.attach(0, 1, 1);
    let mut hoarders: Vec<_> = (1..=6).map(|slot| world.attach(slot, 1, 0)).collect();
    for n in 0..LENT_MAX {
        // Each was refused some: they have all they get.
        if world.count(Counter::RxLentMax) > 1000 {
            break;
        }
        for slot in 1..=6 {
            // The port has buffers for whatever may come.
            let port = world.dataplane.port_mut();
            assert!(
                port.receive_again(mac(slot), n, 60),
                "hoarders took the last buffer"
            );
        }
        if n % 8 == 0 {
            world.turns(1);
            for hoarder in &mut hoarders {
                while hoarder.recv(0).is_some() {}
            }
        }
    }
    world.turns(4);
    assert!(world.count(Counter::RxLentMax) > 0);
    let free = world.dataplane.port().free_bufs();
    assert!(free > (INGRESS_BUFS / 8) as usize, "{free} left");
    let mut got = 0;
    for n in 0..1000 {
        assert!(world.receive(0, n));
        world.turns(1);
        got += take_and_return(&world, &mut good);
    }
    world.turns(1);
    assert_eq!(got, 1000);
}

/// Copies to a thousand runtimes are not made for each of 64 broadcasts in one turn.
#[test]
fn a_burst_of_broadcasts_ends_after_so_many_copies() {
    use crate::dataplane::rx::BROADCAST_COPIES;
    let runtimes = 100;
    let mut world = World::new(runtimes);
    let _peers: Vec<_> = (0..runtimes).map(|slot| world.attach(slot, 1, 1)).collect();
    let frame = udp_frame(Mac::BROADCAST, 5);
    for _ in 0..64 {
        assert!(world.dataplane.port_mut().receive(&frame, 5));
    }
    world.turns(1);
    let copies = world.count(Counter::RxDelivered);
    let whole = BROADCAST_COPIES.div_ceil(runtimes.into()) * usize::from(runtimes);
    assert_eq!(copies, whole as u64);
    assert_eq!(world.count(Counter::RxBroadcastFail), 64 * 100 - copies);
}
