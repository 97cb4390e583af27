//! The paper's example, and what each policy makes of a lost and of an added core.

use super::bed::{Bed, spec};
use crate::ids::{CoreId, KthreadIdx, Micros};
use crate::stats::SteerCounter;
use crate::steering::{Affinity, Policy, SteeringSpec};

const WITH_HOMES: [Policy; 3] = [Policy::FlowTable, Policy::Buckets, Policy::Hybrid];

/// Four kthreads on cores 10 to 13, and the flows 4 to 7, of which each sent a packet.
fn four(spec: &SteeringSpec) -> (Bed, Vec<u16>) {
    let mut bed = Bed::new(spec, 8);
    for n in 0..4 {
        bed.grant(n, 10 + n, None);
    }
    let went = kthreads(&mut bed);
    bed.take_all();
    (bed, went)
}

fn kthreads(bed: &mut Bed) -> Vec<u16> {
    let went = bed.receive(&[4, 5, 6, 7]);
    went.iter().map(|w| w.kthread.0).collect()
}

#[test]
fn a_fifth_kthread_moves_every_flow_under_modulo_and_none_under_the_tables() {
    let (mut bed, before) = four(&spec(Policy::Modulo));
    assert_eq!(before, [0, 1, 2, 3]);
    bed.grant(4, 14, None);
    assert_eq!(kthreads(&mut bed), [4, 0, 1, 2]);

    for policy in WITH_HOMES {
        let (mut bed, before) = four(&spec(policy));
        assert_eq!(before, [0, 1, 2, 3], "{}", policy.name());
        bed.grant(4, 14, None);
        assert_eq!(kthreads(&mut bed), before, "{}", policy.name());
        assert_eq!(bed.count(SteerCounter::ChangedCore), 0);
    }
    // Of eight slots, 4 to 7 belong to kthreads 4 to 7, which are parked but the first.
    let (mut bed, before) = four(&spec(Policy::KthreadTable));
    bed.grant(4, 14, None);
    let after = kthreads(&mut bed);
    assert_eq!(after[0], 4, "its own slot");
    assert_eq!(after[1..], before[1..]);
}

#[test]
fn a_lost_core_moves_its_flow_alone_and_only_once() {
    for policy in WITH_HOMES {
        let (mut bed, before) = four(&spec(policy));
        // Its kthread leaves a packet behind.
        bed.one(6);
        bed.park(2);
        let after = kthreads(&mut bed);
        assert_eq!(bed.count(SteerCounter::CouldOvertake), 1);
        assert_ne!(after[2], 2);
        for i in [0, 1, 3] {
            assert_eq!(after[i], before[i], "{}", policy.name());
        }
        assert_eq!(bed.count(SteerCounter::MovedCoreLost), 1);
        // The core comes back: the flow has another home now.
        bed.grant(2, 12, None);
        assert_eq!(kthreads(&mut bed), after);
        assert_eq!(bed.count(SteerCounter::ChangedCore), 1);
    }
}

#[test]
fn a_flow_stays_on_its_core_also_with_another_kthread() {
    for policy in WITH_HOMES {
        let (mut bed, _) = four(&spec(policy));
        bed.park(2);
        bed.grant(7, 12, None);
        assert_eq!(kthreads(&mut bed), [0, 1, 7, 3], "{}", policy.name());
        assert_eq!(bed.count(SteerCounter::ChangedCore), 0);
    }
}

#[test]
fn strict_affinity_wakes_the_home_core_or_moves_the_flow() {
    for policy in WITH_HOMES {
        let strict = SteeringSpec {
            affinity: Affinity::Strict,
            ..spec(policy)
        };
        let (mut bed, before) = four(&strict);
        bed.park(2);
        bed.generous = true;
        let after = bed.receive(&[4, 5, 6, 7]);
        assert_eq!(after[2].core, CoreId(12), "{}", policy.name());
        assert_eq!(bed.count(SteerCounter::StrictWakes), 1);
        assert_eq!(bed.count(SteerCounter::ChangedCore), 0);

        let woken = after[2].kthread.0;
        bed.park(woken);
        bed.generous = false;
        let after = kthreads(&mut bed);
        assert_eq!(
            [after[0], after[1], after[3]],
            [before[0], before[1], before[3]]
        );
        assert_eq!(bed.count(SteerCounter::MovedStrict), 1);
        // It is asked for once: the flow has another home.
        bed.generous = true;
        assert_eq!(kthreads(&mut bed), after);
        assert_eq!(bed.count(SteerCounter::StrictWakes), 1);
        assert_eq!(bed.count(SteerCounter::MovedCoreLost), 0);
    }
}

#[test]
fn an_added_core_relieves_the_one_that_stood_still_and_no_other() {
    for policy in WITH_HOMES {
        let mut bed = Bed::new(&spec(policy), 3);
        bed.grant(0, 10, None);
        bed.grant(1, 11, None);
        // Spread, so that no flow is heavy and buckets are mostly of one flow.
        let flows: Vec<u32> = (0..4000)
            .map(|i: u32| i.wrapping_mul(0x0100_0193))
            .collect();
        let before = bed.receive(&flows);
        bed.grant(2, 12, Some(0));
        let after = bed.receive(&flows);
        let again = bed.receive(&flows);
        assert_eq!(after, again, "each flow moves once");
        let (mut from, mut moved) = (0_u64, 0_u64);
        for (b, a) in before.iter().zip(&after) {
            if b.core == CoreId(10) {
                from += 1;
                moved += u64::from(a.core == CoreId(12));
            }
            assert!(a.core == b.core || (b.core, a.core) == (CoreId(10), CoreId(12)));
        }
        assert!(
            moved * 2 <= from + from / 10,
            "{moved} of {from}: no more than even"
        );
        assert!(
            moved * 3 >= from,
            "{moved} of {from}: the new core has work"
        );
    }
}

#[test]
fn hybrid_moves_a_heavy_flow_alone() {
    let mut bed = Bed::new(&spec(Policy::Hybrid), 2);
    bed.grant(0, 10, None);
    let mice: Vec<u32> = (0..300).map(|i: u32| i.wrapping_mul(0x0100_0193)).collect();
    let elephant = 0xdead_beef;
    let all = |bed: &mut Bed| {
        let mut went = Vec::new();
        for mouse in &mice {
            went.push(bed.one(*mouse));
            bed.one(elephant);
        }
        bed.take_all();
        went
    };
    let before = all(&mut bed);
    bed.grant(1, 11, Some(0));
    assert_eq!(all(&mut bed), before, "no mouse moves");
    assert_eq!(bed.one(elephant).core, CoreId(11));
    assert_eq!(bed.count(SteerCounter::MovedRelief), 1);
    assert_eq!(bed.count(SteerCounter::Flows), 1, "one exception");
    // Its core is lost: it goes where its bucket is at home, and stays there.
    bed.park(1);
    assert_eq!(bed.one(elephant).core, CoreId(10));
    bed.grant(1, 11, None);
    assert_eq!(bed.one(elephant).core, CoreId(10));
}

#[test]
fn the_watch_sees_what_moves_under_any_policy() {
    for policy in Policy::ALL {
        let watched = SteeringSpec {
            watch_flows: true,
            ..spec(policy)
        };
        let (mut bed, before) = four(&watched);
        bed.receive(&[4, 5, 6, 7]);
        bed.grant(4, 14, None);
        bed.park(1);
        let after = kthreads(&mut bed);
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count() as u64;
        assert_eq!(
            bed.count(SteerCounter::ChangedCore),
            changed,
            "{}",
            policy.name()
        );
        // All of them left an untaken packet behind.
        assert_eq!(bed.count(SteerCounter::CouldOvertake), changed);
    }
}

#[test]
fn a_relief_that_ends_within_a_burst_ends_for_all_of_it() {
    for flow in 1..5 {
        let bed = || {
            let mut bed = Bed::new(&spec(Policy::FlowTable), 2);
            bed.grant(0, 10, None);
            bed.receive(&[flow, flow + 100]);
            bed.grant(1, 11, Some(0));
            bed
        };
        let (mut one, mut all) = (bed(), bed());
        let single: Vec<_> = (0..8).map(|_| one.one(flow)).collect();
        assert_eq!(all.receive(&[flow; 8]), single);
    }
}

#[test]
fn forgotten_flows_are_counted_and_have_no_home() {
    let mut bed = Bed::new(&spec(Policy::FlowTable), 2);
    bed.grant(0, 10, None);
    let crowd = crate::steering::table::crowd(77, 50);
    bed.receive(&crowd);
    assert_eq!(bed.count(SteerCounter::Inserts), 50);
    assert_eq!(
        bed.count(SteerCounter::Evictions),
        18,
        "32 places in two lines"
    );
    assert_eq!(bed.count(SteerCounter::Flows), 32);
    assert_eq!(bed.steering.at_home(), 32);
    // A hand goes round; 300 s is when a flow is forgotten at last.
    for _ in 0..20_000 {
        bed.now = Micros(bed.now.0 + 200_000);
        let stats = bed.stats.clone();
        bed.steering.housekeep(bed.now, &stats, |_| 0);
    }
    assert_eq!(bed.count(SteerCounter::AgedOut), 32);
    assert_eq!(bed.count(SteerCounter::Flows), 0);
    assert_eq!(bed.steering.at_home(), 0);
}

#[test]
fn a_heavy_flow_that_falls_silent_does_not_keep_all_others_waiting() {
    let mut bed = Bed::new(&spec(Policy::Hybrid), 2);
    bed.grant(0, 10, None);
    for mouse in 0..300_u32 {
        bed.receive(&[0xdead_beef]);
        bed.receive(&[mouse]);
    }
    bed.take_all();
    bed.grant(1, 11, Some(0));
    bed.now = Micros(bed.now.0 + 1_000_000);
    let stats = bed.stats.clone();
    bed.steering.housekeep(bed.now, &stats, |_| 0);
    // It is not moved any more.
    assert_eq!(bed.one(0xdead_beef).core, CoreId(10));
}

#[test]
fn the_watch_does_not_know_a_core_for_packets_that_wait() {
    let mut bed = Bed::new(
        &SteeringSpec {
            watch_flows: true,
            ..spec(Policy::Modulo)
        },
        3,
    );
    bed.steering.queued(7, KthreadIdx(2), &mut bed.queues);
    bed.grant(2, 12, None);
    bed.one(7);
    assert_eq!(bed.count(SteerCounter::ChangedCore), 0);
}

#[test]
fn the_greatest_imbalance_stays_and_the_last_does_not() {
    let mut bed = Bed::new(&spec(Policy::Modulo), 2);
    bed.grant(0, 10, None);
    bed.grant(1, 11, None);
    let mut look = |us: u64, received: [u64; 2]| {
        let stats = bed.stats.clone();
        bed.steering
            .housekeep(Micros(us), &stats, |k| received[k.index()]);
        (
            bed.count(SteerCounter::Imbalance),
            bed.count(SteerCounter::ImbalanceMax),
        )
    };
    assert_eq!(look(1_000_000, [30, 10]), (1500, 1500));
    assert_eq!(look(2_000_000, [40, 20]), (1000, 1500));
}
