//! The order guard: no packet of a flow overtakes another, whatever its kthreads do.

use std::collections::HashMap;

use super::{HOMES, Runner, SLOT, spec};
use crate::abi::shm::ShmPtr;
use crate::abi::types::{RX_NET_RECV, rx_net_hdr};
use crate::stats::{Counter, SteerCounter};
use crate::steering::{Affinity, Policy, SteeringSpec};
use crate::testing::{mac, udp_frame};

/// Where a frame says which one it is: behind its headers.
const NUMBER_AT: usize = 42;

/// Packets under way, and kthreads that do what chance tells them.
struct Chaos {
    runner: Runner,
    running: Vec<bool>,
    state: u64,
    sent: u32,
    newest: HashMap<u32, u32>,
    taken: u32,
    overtaken: u32,
}

impl Chaos {
    /// With a runtime of which one kthread runs.
    fn new(runner: Runner, seed: u64) -> Chaos {
        let kthreads = runner.peer.kthreads.len();
        let mut running = vec![false; kthreads];
        running[runner.on(0)] = true;
        Chaos {
            runner,
            running,
            state: seed | 1,
            sent: 0,
            newest: HashMap::new(),
            taken: 0,
            overtaken: 0,
        }
    }

    /// A number below `n`.
    fn below(&mut self, n: u32) -> u32 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.state >> 33).expect("31 bits") % n
    }

    fn send(&mut self, hash: u32) {
        let mut frame = udp_frame(mac(0), hash);
        self.sent += 1;
        frame[NUMBER_AT..NUMBER_AT + 4].copy_from_slice(&self.sent.to_ne_bytes());
        let port = self.runner.world.dataplane.port_mut();
        assert!(port.receive(&frame, hash));
    }

    /// A kthread takes one message. False if it has none.
    fn take(&mut self, kthread: usize) -> bool {
        let Some(msg) = self.runner.peer.recv(kthread) else {
            return false;
        };
        if msg.cmd != u64::from(RX_NET_RECV) {
            return true;
        }
        let hdr = self.runner.world.rx_hdr(msg.payload);
        let data = msg.payload + size_of::<rx_net_hdr>() as u64;
        let at = ShmPtr(data + NUMBER_AT as u64);
        let number: u32 = self.runner.world.ingress.read(at).expect("in the region");
        let newest = self.newest.entry(hdr.rss_hash).or_default();
        self.overtaken += u32::from(number < *newest);
        *newest = number.max(*newest);
        self.taken += 1;
        self.runner.peer.give_back(kthread, hdr.completion_data);
        true
    }

    fn step(&mut self, flows: u32) {
        for _ in 0..self.below(20) {
            let hash = self.below(flows) * 0x0101_0101;
            self.send(hash);
        }
        self.runner.world.turns(1);
        if self.below(3) == 0 {
            self.runner.tick();
        }
        for kthread in 0..self.running.len() {
            if self.runner.peer.woken(kthread).is_some() {
                self.running[kthread] = true;
            }
            if !self.running[kthread] {
                continue;
            }
            let mut empty = false;
            for _ in 0..self.below(24) {
                empty = !self.take(kthread);
            }
            if empty && self.below(4) == 0 {
                self.running[kthread] = false;
                self.runner.peer.park(kthread, 0);
            }
        }
    }

    /// Everything is taken, and nobody parks.
    fn drain(&mut self) {
        loop {
            self.runner.world.turns(2);
            let kthreads = 0..self.running.len();
            if kthreads.filter(|k| self.take(*k)).count() == 0 {
                return;
            }
        }
    }
}

fn chaos(spec: SteeringSpec, seed: u64) -> Chaos {
    let mut chaos = Chaos::new(Runner::new(spec, 5, 1), seed);
    for _ in 0..3000 {
        chaos.step(24);
    }
    chaos.drain();
    let count = |c| chaos.runner.world.count(c);
    let dropped = count(Counter::RxUnicastFail);
    assert_eq!(u64::from(chaos.taken) + dropped, u64::from(chaos.sent));
    assert!(count(Counter::Parks) > 100, "{}", count(Counter::Parks));
    assert!(chaos.runner.count(SteerCounter::MovedRelief) > 0);
    chaos
}

#[test]
fn no_packet_overtakes_another_with_the_order_guard() {
    for policy in HOMES {
        for affinity in [Affinity::Sticky, Affinity::Strict] {
            for seed in 1..4 {
                let guarded = SteeringSpec {
                    order_guard: true,
                    affinity,
                    ..spec(policy)
                };
                let chaos = chaos(guarded, seed);
                assert_eq!(chaos.overtaken, 0, "{policy:?}, {affinity:?}, seed {seed}");
                let could = chaos.runner.count(SteerCounter::CouldOvertake);
                assert_eq!(could, 0, "{policy:?}, {affinity:?}, seed {seed}");
            }
        }
    }
}

#[test]
fn without_the_guard_packets_overtake_and_the_watch_knows() {
    for policy in HOMES {
        let chaos = chaos(spec(policy), 1);
        assert!(chaos.overtaken > 0, "{policy:?}");
        assert!(chaos.runner.count(SteerCounter::CouldOvertake) > 0);
    }
}

/// A relief comes when an rxq is full, and then the flow's newest packet is one that was
/// dropped: those before it are still there.
#[test]
fn the_guard_holds_for_a_flow_whose_newest_packet_was_dropped() {
    for policy in [Policy::FlowTable, Policy::Buckets] {
        let guarded = SteeringSpec {
            order_guard: true,
            ..spec(policy)
        };
        let mut chaos = Chaos::new(Runner::new(guarded, 2, 1), 1);
        let send_all = |chaos: &mut Chaos, rounds: u32| {
            for n in 0..rounds * 64 {
                chaos.send(n % 64 * 0x0101_0101);
            }
            chaos.runner.world.turns(rounds as usize);
        };
        // 4096 slots, and 64 packets too many.
        send_all(&mut chaos, 65);
        assert_eq!(chaos.runner.world.count(Counter::RxUnicastFail), 64);
        chaos.runner.congest(0);
        assert_eq!(chaos.runner.world.dataplane.arbiter.active(SLOT).len(), 2);
        send_all(&mut chaos, 1);
        assert_eq!(
            chaos.runner.count(SteerCounter::MovedRelief),
            0,
            "{policy:?}: all have packets in the full rxq"
        );
        // The second kthread is quicker.
        let quick = chaos.runner.on(1);
        while chaos.take(quick) {}
        chaos.drain();
        assert_eq!(chaos.overtaken, 0, "{policy:?}");
        // Now they may go; most of them a packet later, for the marks of those that were
        // dropped are other packets' by now.
        send_all(&mut chaos, 1);
        chaos.drain();
        send_all(&mut chaos, 1);
        let moved = chaos.runner.count(SteerCounter::MovedRelief);
        assert!((10..=32).contains(&moved), "{policy:?}: {moved} moved");
    }
}
