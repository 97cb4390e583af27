//! The loop against runtimes in the same process.

mod faults;
mod hoarders;
mod joins;
#[cfg(loom)]
mod park_wake;
mod sending;
mod shares;
mod steering;
mod wakes;

use crate::abi::types::{RX_JOIN, RX_NET_COMPLETE, RX_NET_RECV};
use crate::control::{DetachReason, Fault, ToControl};
use crate::ids::KthreadIdx;
use crate::stats::{Counter, Held};
use crate::testing::{Peer, World, udp_frame};

const RECV: u64 = RX_NET_RECV as u64;
const COMPLETE: u64 = RX_NET_COMPLETE as u64;
const JOIN: u64 = RX_JOIN as u64;
/// Enough turns for any departure here.
const MANY: usize = 400;

fn fault_of(world: &mut World) -> Fault {
    world.turns(MANY);
    match world.detached() {
        Some(ToControl::Detached {
            reason: DetachReason::Fault(fault),
            ..
        }) => fault,
        other => panic!("no fault but {other:?}"),
    }
}

/// The echo runtime that must notice nothing: gets a packet and returns it.
fn still_served(world: &mut World, slot: u16, peer: &mut Peer) {
    assert!(world.receive(slot, 1));
    world.turns(2);
    let msg = peer.recv(0).expect("a packet");
    assert_eq!(msg.cmd, RECV);
    let tag = world.rx_hdr(msg.payload).completion_data;
    peer.give_back(0, tag);
    world.turns(2);
}

#[test]
fn the_first_kthread_to_wake_is_number_0() {
    let mut world = World::new(4);
    let peer = world.attach(0, 3, 1);
    assert_eq!(peer.woken(0), Some(0));
    assert_eq!((peer.woken(1), peer.woken(2)), (None, None));
}

#[test]
fn a_packet_arrives_with_its_header_and_its_buffer_returns() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    let free = world.dataplane.port().free_bufs();
    assert!(world.receive(0, 77));
    world.turns(1);
    let msg = peer.recv(0).expect("a packet");
    let hdr = world.rx_hdr(msg.payload);
    assert_eq!(
        (msg.cmd, hdr.len, hdr.rss_hash, hdr.csum_type),
        (RECV, 60, 77, 1)
    );
    assert_eq!(world.dataplane.port().free_bufs(), free - 1);
    peer.give_back(0, hdr.completion_data);
    world.turns(1);
    assert_eq!(world.dataplane.port().free_bufs(), free);
}

#[test]
fn a_burst_keeps_its_order() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    for flow in 0..200 {
        assert!(world.receive(0, flow));
    }
    world.turns(4);
    for flow in 0..200 {
        let msg = peer.recv(0).expect("a packet");
        assert_eq!(world.rx_hdr(msg.payload).rss_hash, flow);
    }
}

#[test]
fn frames_that_no_runtime_may_get_are_dropped_and_counted() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    let free = world.dataplane.port().free_bufs();
    assert!(world.receive(9, 1), "nobody's address");
    let port = world.dataplane.port_mut();
    let mut frame = [0_u8; 2000];
    frame[..6].copy_from_slice(&crate::testing::mac(0).0);
    assert!(port.receive(&frame[..1515], 1), "too long");
    assert!(port.receive(&frame[..13], 1), "too short");
    frame[0] = 1;
    assert!(port.receive(&frame[..60], 1), "multicast");
    world.turns(1);
    assert_eq!(world.count(Counter::RxUnregisteredMac), 1);
    assert_eq!(world.count(Counter::RxBadLength), 2);
    assert_eq!(world.count(Counter::RxUnhandled), 1);
    assert_eq!(world.dataplane.port().free_bufs(), free);
    still_served(&mut world, 0, &mut peer);
}

#[test]
fn a_full_rxq_drops_and_frees() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    let free = world.dataplane.port().free_bufs();
    for flow in 0..5000 {
        assert!(world.receive(0, flow));
    }
    world.turns(100);
    // 4096 slots; the rest has no place.
    assert_eq!(world.count(Counter::RxUnicastFail), 904);
    assert_eq!(world.dataplane.port().free_bufs(), free - 4096);
    assert!(peer.recv(0).is_some());
}

#[test]
fn a_broadcast_reaches_everybody_and_is_freed_by_the_last() {
    let mut world = World::new(3);
    let mut peers: Vec<Peer> = (0..3).map(|n| world.attach(n, 1, 1)).collect();
    let free = world.dataplane.port().free_bufs();
    let frame = udp_frame(crate::ids::Mac::BROADCAST, 5);
    assert!(world.dataplane.port_mut().receive(&frame, 5));
    world.turns(1);
    for peer in &mut peers {
        assert_eq!(world.dataplane.port().free_bufs(), free - 1);
        let msg = peer.recv(0).expect("the broadcast");
        let tag = world.rx_hdr(msg.payload).completion_data;
        peer.give_back(0, tag);
        world.turns(1);
    }
    assert_eq!(world.dataplane.port().free_bufs(), free);
}

#[test]
fn each_packet_is_completed_once_also_through_the_overflow_list() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    let frame = udp_frame(crate::testing::mac(9), 1);
    // Fill the rxq to the brim, so that completions overflow.
    for flow in 0..4096 {
        assert!(world.receive(0, flow));
    }
    world.turns(70);
    for buf in 0..100 {
        assert!(peer.send(0, buf, &frame, 0));
    }
    world.turns(10);
    assert_eq!(world.dataplane.port().sent.len(), 100);
    assert_eq!(world.count(Counter::TxCompletionOverflow), 100);
    let mut completed = vec![0; 100];
    for _ in 0..5000 {
        if let Some(msg) = peer.recv(0)
            && msg.cmd == COMPLETE
        {
            completed[usize::try_from(msg.payload).expect("a buffer")] += 1;
        }
        world.turns(1);
    }
    assert_eq!(completed, vec![1; 100]);
}

#[test]
fn a_park_frees_the_core_and_the_next_packet_wakes_a_kthread() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    assert_eq!(peer.woken(0), Some(0));
    peer.park(0, 0);
    world.turns(2);
    assert_eq!(world.count(Counter::Parks), 1);
    assert!(world.receive(0, 1));
    world.turns(1);
    assert_eq!(peer.woken(0), Some(0));
}

#[test]
fn a_park_with_messages_on_their_way_does_not_stand() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    assert_eq!(peer.woken(0), Some(0));
    assert!(world.receive(0, 1));
    world.turns(1);
    peer.park(0, 0);
    world.turns(2);
    assert_eq!(world.count(Counter::ParksRefused), 1);
    assert_eq!(peer.woken(0), Some(0), "woken again");
}

#[test]
fn what_a_parked_kthread_left_is_joined_by_another() {
    let mut world = World::new(2);
    let mut peer = world.attach(0, 2, 2);
    // Kthread 0's run queue stands still for two looks: the second kthread is granted.
    peer.set_runqueue(0, 5, 0);
    for _ in 0..1_000_000 {
        world.turns(1);
        if world.count(Counter::Wakes) == 2 {
            break;
        }
    }
    assert_eq!(peer.woken(1), Some(1));
    peer.park(1, 0xabcd);
    world.turns(2);
    let msg = peer.recv(0).expect("a join");
    assert_eq!((msg.cmd, msg.payload), (JOIN, 0xabcd));
    assert_eq!(peer.recv(1), None);
}

#[test]
fn everything_a_departed_runtime_held_comes_back() {
    let mut world = World::new(2);
    let free = world.dataplane.port().free_bufs();
    let mut other = world.attach(1, 1, 1);
    let mut peer = world.attach(0, 1, 1);
    for flow in 0..300 {
        assert!(world.receive(0, flow));
    }
    let frame = udp_frame(crate::ids::Mac::BROADCAST, 5);
    assert!(world.dataplane.port_mut().receive(&frame, 5));
    world.turns(6);
    world.dataplane.port_mut().auto_done = false;
    assert!(peer.send(0, 1, &udp_frame(crate::testing::mac(9), 1), 0));
    world.turns(2);
    world.hang_up(0);
    world.turns(MANY);
    assert!(world.detached().is_none(), "the device holds a packet");
    world.dataplane.port_mut().finish(1);
    world.turns(MANY);
    let Some(ToControl::Detached { proc, reason }) = world.detached() else {
        panic!("not detached");
    };
    assert_eq!((proc.id.slot.0, reason), (0, DetachReason::HungUp));
    assert_eq!(world.count(Counter::RxReclaimed), 301);
    let msg = other.recv(0).expect("the broadcast");
    let tag = world.rx_hdr(msg.payload).completion_data;
    other.give_back(0, tag);
    world.turns(2);
    assert_eq!(world.dataplane.port().free_bufs(), free);
}

#[test]
fn gauges_are_back_where_they_were_when_a_runtime_has_gone() {
    const ALL: &[Held] = Held::ALL;
    let mut world = World::new(3);
    let before: Vec<u64> = ALL.iter().map(|g| world.held(*g)).collect();
    let mut peer = world.attach(0, 1, 1);
    for flow in 0..5 {
        assert!(world.receive(0, flow));
    }
    world.dataplane.port_mut().auto_done = false;
    assert!(peer.send(0, 1, &udp_frame(crate::testing::mac(9), 1), 0));
    assert_eq!(world.held(Held::BufsFree), before[0] - 5);
    for (gauge, value) in [
        (Held::BufsLent, 5),
        (Held::Addresses, 1),
        (Held::Runtimes, 1),
        (Held::CoresHeld, 1),
        (Held::KthreadsPolled, 1),
        (Held::TxInFlight, 1),
    ] {
        assert_eq!(world.held(gauge), value, "{}", gauge.label());
    }
    world.hang_up(0);
    assert_eq!(world.held(Held::Leaving), 1);
    assert_eq!(world.held(Held::TxInFlight), 1, "the device has it");
    world.dataplane.port_mut().finish(1);
    world.turns(MANY);
    assert!(world.detached().is_some());
    let after: Vec<u64> = ALL.iter().map(|g| world.held(*g)).collect();
    assert_eq!(after, before);
}

#[test]
fn packets_queued_before_a_hang_up_are_still_sent() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    let frame = udp_frame(crate::testing::mac(9), 1);
    for buf in 0..100 {
        assert!(peer.send(0, buf, &frame, 0));
    }
    world.hang_up(0);
    world.turns(MANY);
    assert!(world.detached().is_some());
    assert_eq!(world.dataplane.port().sent.len(), 100);
}

/// Rows 1 to 4 and 7 of the contract's list of what upstream gets wrong, and
/// stray parks: the offender alone is detached, with its reason.
#[test]
fn who_breaks_the_contract_goes_and_nobody_else_notices() {
    type Offence = fn(&mut Peer);
    type Verdict = fn(&Fault) -> bool;
    let cases: &[(&str, Offence, Verdict)] = &[
        (
            "unknown command",
            |p| assert!(p.command(0, 3, 0)),
            |f| matches!(f, Fault::BadCommand { cmd: 3, .. }),
        ),
        (
            "huge command",
            |p| assert!(p.command(0, 1 << 62, 0)),
            |f| matches!(f, Fault::BadCommand { .. }),
        ),
        (
            "command on txpktq",
            |p| assert!(p.send_raw(0, 1, 0)),
            |f| matches!(f, Fault::BadCommand { cmd: 1, .. }),
        ),
        (
            "packet at null",
            |p| assert!(p.send_raw(0, 0, u64::MAX)),
            |f| {
                matches!(
                    f,
                    Fault::BadPacketPointer {
                        offset: u64::MAX,
                        ..
                    }
                )
            },
        ),
        (
            "header over the end",
            |p| {
                let end = p.region.len() as u64;
                assert!(p.send_raw(0, 0, end - 17));
            },
            |f| matches!(f, Fault::BadPacketPointer { .. }),
        ),
        (
            "no length",
            |p| assert!(p.send(0, 0, &[], 0)),
            |f| matches!(f, Fault::BadPacketLength { len: 0, .. }),
        ),
        (
            "too long",
            |p| assert!(p.send(0, 0, &[0; 1519], 0)),
            |f| matches!(f, Fault::BadPacketLength { len: 1519, .. }),
        ),
        (
            "frame over the end",
            |p| {
                let at = p.region.len() as u64 - 40;
                let hdr = crate::abi::types::tx_net_hdr {
                    completion_data: 0,
                    len: 60,
                    olflags: 0,
                    pad: 0,
                };
                let to = crate::abi::shm::ShmPtr(at);
                p.region.write(to, hdr).expect("inside");
                assert!(p.send_raw(0, 0, at));
            },
            |f| matches!(f, Fault::BadPacketLength { len: 60, .. }),
        ),
        (
            "made-up tags",
            |p| (0..16).for_each(|n| p.give_back(0, 0x7f00_0000_0000 + n)),
            |f| matches!(f, Fault::BadTags { .. }),
        ),
        (
            "impossible write-back",
            |p| p.set_rxq_write_back(0, 9999),
            |f| matches!(f, Fault::BadWriteBack { .. }),
        ),
    ];
    for (name, offend, expected) in cases {
        let mut world = World::new(2);
        let mut bystander = world.attach(0, 1, 1);
        let free = world.dataplane.port().free_bufs();
        let mut offender = world.attach(1, 2, 1);
        assert!(world.receive(1, 1));
        world.turns(1);
        offend(&mut offender);
        // The congestion tick comes by the clock.
        std::thread::sleep(std::time::Duration::from_micros(50));
        let fault = fault_of(&mut world);
        assert!(expected(&fault), "{name}: {fault}");
        assert_eq!(world.dataplane.port().free_bufs(), free, "{name}");
        still_served(&mut world, 0, &mut bystander);
    }
}

#[test]
fn a_second_park_without_a_wake_is_a_fault() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    // Packets that the port does not take keep the parked kthread's queues polled.
    world.dataplane.port_mut().takes = 0;
    let frame = udp_frame(crate::testing::mac(9), 1);
    for buf in 0..100 {
        assert!(peer.send(0, buf, &frame, 0));
    }
    world.turns(2);
    peer.park(0, 0);
    peer.park(0, 0);
    world.turns(4);
    world.dataplane.port_mut().takes = usize::MAX;
    let fault = fault_of(&mut world);
    let kthread = KthreadIdx(0);
    assert_eq!(fault, Fault::StrayPark { kthread });
}

#[test]
fn queues_of_a_kthread_that_does_not_run_are_not_read() {
    let mut world = World::new(2);
    let mut peer = world.attach(0, 2, 1);
    peer.park(1, 0);
    assert!(peer.command(1, 99, 0) && peer.send_raw(1, 99, 0));
    world.turns(MANY);
    assert_eq!(world.count(Counter::Faults), 0);
}

#[test]
fn one_bad_tag_is_counted_and_forgiven() {
    let mut world = World::new(1);
    let mut peer = world.attach(0, 1, 1);
    peer.give_back(0, 42);
    still_served(&mut world, 0, &mut peer);
    assert_eq!(world.count(Counter::RxBadTag), 1);
    assert!(world.detached().is_none());
}

#[test]
fn stopping_detaches_everybody_and_frees_every_buffer() {
    let mut world = World::new(2);
    let free = world.dataplane.port().free_bufs();
    let _a = world.attach(0, 1, 1);
    let _b = world.attach(1, 1, 1);
    for flow in 0..50 {
        assert!(world.receive(0, flow) && world.receive(1, flow));
    }
    world.turns(3);
    let stop = std::sync::atomic::AtomicBool::new(true);
    let World {
        dataplane,
        mut control,
        ..
    } = world;
    let stopped = dataplane.run(&stop);
    assert!(stopped.held.is_empty());
    assert_eq!(stopped.port.free_bufs(), free);
    let mut left = 0;
    while control.from_dataplane.pop().is_ok() {
        left += 1;
    }
    assert_eq!(left, 2);
}

/// Row 4: the length is read once, so a runtime that changes it meanwhile is
/// either served with a length that was checked, or detached.
#[test]
fn a_length_that_changes_while_it_is_read_is_read_once() {
    use crate::abi::shm::ShmPtr;
    use std::sync::atomic::{AtomicBool, Ordering};
    let frame = udp_frame(crate::testing::mac(9), 1);
    for _ in 0..20 {
        let mut world = World::new(1);
        let mut peer = world.attach(0, 1, 1);
        assert!(peer.send(0, 0, &frame, 0));
        let at = peer.egress(0);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let region = &peer.region;
            scope.spawn(|| {
                // tx_net_hdr.len lies at offset 8.
                while !stop.load(Ordering::Relaxed) {
                    for len in [60_u32, 1514, u32::MAX, 0, 60] {
                        region.write(ShmPtr(at + 8), len).expect("inside");
                    }
                }
            });
            for _ in 0..200 {
                peer.kthreads[0].txpktq.send(0, at);
                world.turns(1);
                while peer.kthreads[0].rxq.recv().is_some() {
                    peer.kthreads[0].rxq.write_back();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let sent = &world.dataplane.port().sent;
        assert!(sent.iter().all(|len| [60, 1514].contains(len)), "{sent:?}");
    }
}
