//! Steering in the loop: each policy, with real queues, parks and grants.
//!
//! The arbiter's rounds are the test's to call ([`Runner::tick`]), so the same happens
//! in every run. Kthreads are named by the cores that they run on: which of those that
//! are parked comes next is the arbiter's business.

mod order;

use super::JOIN;
use crate::abi::types::RX_NET_RECV;
use crate::ids::{CoreId, KthreadIdx, Mac, Micros, ProcSlot};
use crate::port::hash::hash_frame;
use crate::stats::{Counter, SteerCounter, SteerStats};
use crate::steering::{Affinity, Policy, SteeringSpec};
use crate::testing::{Peer, World, mac, udp_frame};
use crate::time::Ticks;

const SLOT: ProcSlot = ProcSlot(0);
const HOMES: [Policy; 3] = [Policy::FlowTable, Policy::Buckets, Policy::Hybrid];

fn spec(policy: Policy) -> SteeringSpec {
    SteeringSpec {
        policy,
        flow_entries: 4096,
        watch_flows: true,
        ..SteeringSpec::default()
    }
}

/// A runtime that is guaranteed a core for each kthread, and a loop that stands still
/// between its turns.
struct Runner {
    world: World,
    peer: Peer,
    now: Micros,
}

impl Runner {
    /// Cores 0 to `active` - 1 have a kthread each, activated in that order.
    fn new(spec: SteeringSpec, kthreads: u16, active: u16) -> Runner {
        let mut world = World::new(kthreads);
        let (peer, proc) = World::steered_peer(0, kthreads.into(), kthreads, spec);
        world.dataplane.next_adjust = Ticks(u64::MAX);
        world.admit(proc);
        let mut runner = Runner {
            world,
            peer,
            now: Micros(1_000_000),
        };
        assert_eq!(runner.peer.woken(0), Some(0));
        for n in 1..active {
            runner.wake(n);
        }
        runner
    }

    /// Grants a core on behalf of no congested kthread.
    fn wake(&mut self, core: u16) {
        let dataplane = &mut self.world.dataplane;
        let woken = dataplane
            .arbiter
            .wake_on(SLOT, CoreId(core), &mut dataplane.decisions)
            .expect("the core is idle");
        dataplane.apply();
        let core_seen = self.peer.woken(woken.index());
        assert_eq!(core_seen, Some(u64::from(core)));
    }

    fn core_of(&self, kthread: usize) -> u16 {
        let kthread = KthreadIdx(u16::try_from(kthread).expect("few"));
        self.world.dataplane.arbiter.core_of(SLOT, kthread).0
    }

    /// The active kthread on a core.
    fn on(&self, core: u16) -> usize {
        let active = self.world.dataplane.arbiter.active(SLOT).iter();
        let mut active = active.map(|k| k.index());
        active
            .find(|k| self.core_of(*k) == core)
            .expect("a kthread is there")
    }

    /// A round of the arbiter.
    fn tick(&mut self) {
        self.now.0 += 5;
        let now = self.now;
        let dataplane = &mut self.world.dataplane;
        dataplane.housekeep(now);
        dataplane.adjust(now);
    }

    /// A run queue stands still until it has got its runtime another core.
    fn congest(&mut self, core: u16) {
        let (active, kthread) = (self.active(), self.on(core));
        self.peer.set_runqueue(kthread, 5, 0);
        // A look to remember, a look to compare; one more for a kthread just woken.
        for _ in 0..3 {
            if self.active() == active {
                self.tick();
            }
        }
        self.peer.set_runqueue(kthread, 5, 5);
        assert_eq!(self.active(), active + 1, "one was granted");
    }

    fn active(&self) -> usize {
        self.world.dataplane.arbiter.active(SLOT).len()
    }

    /// A kthread with an empty rxq parks.
    fn park(&mut self, core: u16) {
        let (parks, kthread) = (self.world.count(Counter::Parks), self.on(core));
        while self.peer.woken(kthread).is_some() {}
        self.peer.park(kthread, 0);
        self.world.turns(2);
        assert_eq!(self.world.count(Counter::Parks), parks + 1, "it stands");
    }

    /// Packets arrive and all of them are taken: the core on which each was.
    fn send(&mut self, hashes: impl IntoIterator<Item = u32>) -> Vec<u16> {
        let hashes: Vec<u32> = hashes.into_iter().collect();
        for burst in hashes.chunks(64) {
            for &hash in burst {
                assert!(self.world.receive(0, hash));
            }
            self.world.turns(1);
        }
        let mut got = std::collections::HashMap::new();
        for kthread in 0..self.peer.kthreads.len() {
            while let Some(msg) = self.peer.recv(kthread) {
                if msg.cmd == u64::from(RX_NET_RECV) {
                    let hdr = self.world.rx_hdr(msg.payload);
                    let core = self.core_of(kthread);
                    let before = got.insert(hdr.rss_hash, core);
                    assert_eq!(before.unwrap_or(core), core, "one flow, one core");
                    self.peer.give_back(kthread, hdr.completion_data);
                }
                self.world.turns(1);
            }
        }
        let core = |hash| *got.get(hash).expect("every packet arrives");
        hashes.iter().map(core).collect()
    }

    /// What is counted of the runtime.
    fn stats(&self) -> &SteerStats {
        let proc = self.world.dataplane.procs[SLOT.index()].as_ref();
        &proc.expect("it is attached").steer_stats
    }

    fn count(&self, counter: SteerCounter) -> u64 {
        self.stats().get(counter)
    }
}

/// The paper's example: four kthreads, hashes 4 to 7, and a fifth kthread wakes.
#[test]
fn a_fifth_kthread_moves_every_flow_under_modulo_and_none_that_has_a_home() {
    for policy in Policy::ALL {
        let mut runner = Runner::new(spec(policy), 5, 4);
        let before = runner.send(4..8);
        runner.wake(4);
        let after = runner.send(4..8);
        let (expected_before, expected_after, moved) = match policy {
            Policy::Modulo => ([0, 1, 2, 3], [4, 0, 1, 2], 4),
            // Slots 4, 0, 1, 2, modulo five before and after. Kthread 1 comes last: it gets
            // core 4, and its slot back, which was lent to kthread 0.
            Policy::KthreadTable => ([1, 0, 0, 3], [1, 0, 4, 3], 1),
            // New flows in turn; they stay.
            Policy::FlowTable | Policy::Buckets | Policy::Hybrid => ([0, 1, 2, 3], [0, 1, 2, 3], 0),
        };
        assert_eq!(before, expected_before, "{policy:?}");
        assert_eq!(after, expected_after, "{policy:?}");
        let changed = runner.count(SteerCounter::ChangedCore);
        assert_eq!(changed, moved, "{policy:?}: counted by the watch");
    }
}

/// The same, but the fifth came because the one on core 0 stood still, which has one
/// flow: to move it would help nobody.
#[test]
fn relief_leaves_a_lone_flow_where_it_is() {
    for policy in HOMES {
        let mut runner = Runner::new(spec(policy), 5, 4);
        let before = runner.send(4..8);
        runner.congest(0);
        assert_eq!(runner.send(4..8), before, "{policy:?}");
        assert_eq!(runner.count(SteerCounter::ChangedCore), 0, "{policy:?}");
    }
}

#[test]
fn relief_moves_half_of_the_congested_kthreads_flows_and_no_others() {
    const FLOWS: u32 = 400;
    for policy in HOMES {
        // Hashes whose buckets differ, so that a bucket is a flow.
        let flows = || (0..FLOWS).map(|n| n * 7919);
        let mut runner = Runner::new(spec(policy), 5, 4);
        let before = runner.send(flows());
        runner.congest(1);
        // Each flow moves with its next packet or not at all.
        let after = runner.send(flows());
        assert_eq!(runner.send(flows()), after, "{policy:?}");
        let mut moved = 0;
        for (from, to) in before.iter().zip(&after) {
            if from != to {
                assert_eq!((*from, *to), (1, 4), "{policy:?}");
                moved += 1;
            }
        }
        let at_one = before.iter().filter(|k| **k == 1).count() as u64;
        // A hash chooses, so somewhat less than half may go; a hybrid may move one
        // flow alone that it takes for heavy.
        let least = if policy == Policy::Hybrid { 1 } else { 20 };
        assert!(
            (least..=at_one / 2).contains(&moved),
            "{policy:?}: {moved} of {at_one}"
        );
        assert_eq!(runner.count(SteerCounter::MovedRelief), moved, "{policy:?}");
        assert_eq!(runner.count(SteerCounter::ChangedCore), moved, "{policy:?}");
    }
}

#[test]
fn a_park_moves_only_what_was_on_the_lost_core() {
    for policy in HOMES {
        let flows = || (0..300).map(|n| n * 7919);
        let mut runner = Runner::new(spec(policy), 4, 4);
        let before = runner.send(flows());
        runner.park(2);
        let after = runner.send(flows());
        for (from, to) in before.iter().zip(&after) {
            assert!(from == to || *from == 2, "{policy:?}: from {from} to {to}");
            assert_ne!(*to, 2, "{policy:?}");
        }
        // And it comes back with nothing.
        runner.wake(2);
        assert_eq!(runner.send(flows()), after, "{policy:?}");
    }
}

/// Upstream's and the published fork's completions take part in dispatch, and so shift
/// or overwrite what packets are steered by.
#[test]
fn completions_and_joins_touch_no_table() {
    for policy in Policy::ALL {
        let mut runner = Runner::new(spec(policy), 3, 3);
        let before = runner.send(0..60);
        let counted = runner.stats().to_string();
        let frame = udp_frame(mac(9), 1);
        let parking = runner.on(2);
        for buf in 0..200 {
            assert!(runner.peer.send(0, buf, &frame, 0));
        }
        runner.peer.park(parking, 0xabcd);
        runner.world.turns(20);
        let (mut completions, mut joins) = (0, 0);
        for kthread in (0..3).filter(|k| *k != parking) {
            while let Some(msg) = runner.peer.recv(kthread) {
                joins += u32::from(msg.cmd == JOIN);
                completions += u32::from(msg.cmd == super::COMPLETE);
            }
        }
        assert_eq!((completions, joins), (200, 1), "{policy:?}");
        assert_eq!(runner.stats().to_string(), counted, "{policy:?}");
        runner.wake(2);
        assert_eq!(runner.send(0..60), before, "{policy:?}");
    }
}

/// An IPv4 frame of 60 bytes for the runtime, with this protocol and fragment field.
fn ipv4(proto: u8, fragment: u16, ports: u8) -> [u8; 60] {
    let mut frame = udp_frame(mac(0), 0x0a00_0007);
    frame[20..22].copy_from_slice(&fragment.to_be_bytes());
    frame[23] = proto;
    frame[34..38].fill(ports);
    frame
}

#[test]
fn frames_without_ports_have_a_home_like_any_other() {
    const MORE: u16 = 0x2000;
    let mut arp = [0_u8; 60];
    arp[..6].copy_from_slice(&mac(0).0);
    arp[12..14].copy_from_slice(&[8, 6]);
    // All of a datagram: the first fragment has ports, the others data in their place.
    let fragments = [ipv4(17, MORE, 1), ipv4(17, MORE | 185, 2), ipv4(17, 370, 3)];
    let groups: [&[[u8; 60]]; 3] = [&[arp], &fragments, &[ipv4(1, 0, 4)]];
    for policy in Policy::ALL {
        let mut runner = Runner::new(spec(policy), 5, 4);
        let where_to = |runner: &mut Runner| -> Vec<Vec<usize>> {
            let mut one = |frame: &[u8; 60]| {
                let port = runner.world.dataplane.port_mut();
                assert!(port.receive(frame, hash_frame(frame)));
                runner.world.turns(1);
                let got = (0..5).find_map(|k| Some((k, runner.peer.recv(k)?)));
                let (kthread, msg) = got.expect("it is delivered");
                let tag = runner.world.rx_hdr(msg.payload).completion_data;
                runner.peer.give_back(kthread, tag);
                kthread
            };
            let group = |frames: &&[[u8; 60]]| frames.iter().map(&mut one).collect();
            groups.iter().map(group).collect()
        };
        let before = where_to(&mut runner);
        for group in &before {
            assert!(
                group.iter().all(|k| *k == group[0]),
                "{policy:?}: {group:?}"
            );
        }
        assert_eq!(where_to(&mut runner), before, "{policy:?}");
        runner.wake(4);
        if policy.has_homes() {
            assert_eq!(where_to(&mut runner), before, "{policy:?}");
        }
    }
}

#[test]
fn broadcasts_are_steered_and_wake_no_home() {
    for policy in HOMES {
        let strict = SteeringSpec {
            affinity: Affinity::Strict,
            ..spec(policy)
        };
        let mut runner = Runner::new(strict, 3, 3);
        let hash = 77;
        let home = runner.send([hash])[0];
        runner.park(home);
        let frame = udp_frame(Mac::BROADCAST, hash);
        assert!(runner.world.dataplane.port_mut().receive(&frame, hash));
        runner.world.turns(1);
        assert_eq!(runner.count(SteerCounter::StrictWakes), 0, "{policy:?}");
        let got = (0..3).find(|k| runner.peer.recv(*k).is_some());
        assert_ne!(runner.core_of(got.expect("it is delivered")), home);
    }
}

#[test]
fn strict_affinity_wakes_the_home_core_if_it_is_idle() {
    for policy in HOMES {
        let strict = SteeringSpec {
            affinity: Affinity::Strict,
            ..spec(policy)
        };
        let mut runner = Runner::new(strict, 4, 4);
        let before = runner.send(4..8);
        runner.park(3);
        runner.park(1);
        let after = runner.send(4..8);
        assert_eq!(runner.active(), 4, "{policy:?}");
        assert_eq!(runner.count(SteerCounter::StrictWakes), 2, "{policy:?}");
        assert_eq!(runner.count(SteerCounter::ChangedCore), 0, "{policy:?}");
        assert_eq!(after, before, "{policy:?}");
        // All are parked: the packet itself wakes its home.
        for core in 0..4 {
            runner.park(core);
        }
        assert_eq!(runner.send([6]), [before[2]], "{policy:?}");
        assert_eq!(runner.active(), 1, "{policy:?}");
        let woken = runner.on(before[2]);
        let core = Some(u64::from(before[2]));
        assert_eq!(runner.peer.woken(woken), core, "{policy:?}");
        assert_eq!(runner.count(SteerCounter::ChangedCore), 0, "{policy:?}");
    }
}

#[test]
fn strict_affinity_moves_flows_whose_core_another_runtime_has() {
    for policy in HOMES {
        let strict = SteeringSpec {
            affinity: Affinity::Strict,
            ..spec(policy)
        };
        // Two cores, and a second runtime takes the one that is left.
        let mut runner = Runner::new(strict, 2, 2);
        let before = runner.send([10, 11]);
        assert_eq!(before, [0, 1], "{policy:?}");
        runner.park(1);
        let other = runner.world.attach(1, 1, 0);
        assert_eq!(other.woken(0), Some(1), "{policy:?}");
        assert_eq!(runner.send([10, 11]), [0, 0], "{policy:?}");
        assert_eq!(runner.count(SteerCounter::MovedStrict), 1, "{policy:?}");
        assert_eq!(runner.count(SteerCounter::StrictWakes), 0, "{policy:?}");
    }
}

#[test]
fn a_full_rxq_moves_nobody() {
    for policy in Policy::ALL {
        let mut runner = Runner::new(spec(policy), 2, 2);
        let hash = 12;
        let core = runner.send([hash])[0];
        let free = runner.world.dataplane.port().free_bufs();
        for _ in 0..4196 {
            assert!(runner.world.receive(0, hash));
        }
        runner.world.turns(70);
        assert_eq!(
            runner.world.count(Counter::RxUnicastFail),
            100,
            "{policy:?}"
        );
        assert_eq!(runner.world.dataplane.port().free_bufs(), free - 4096);
        assert_eq!(runner.count(SteerCounter::ChangedCore), 0, "{policy:?}");
        assert_eq!(runner.send([hash]), [core], "{policy:?}: there is room");
        assert_eq!(runner.world.dataplane.port().free_bufs(), free);
    }
}
