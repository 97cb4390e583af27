//! What holds for every sequence of packets and core events.

use std::collections::HashMap;

use proptest::prelude::*;

use super::bed::{Bed, CORES, Went, spec};
use crate::ids::{CoreId, KthreadIdx, Micros};
use crate::stats::SteerCounter;
use crate::steering::buckets::bucket;
use crate::steering::table::{Vectors, crowd};
use crate::steering::{Affinity, Policy, RELIEF_SPAN, SteeringSpec};

const KTHREADS: u16 = 12;
/// Few flows, so that each sends often.
const FLOWS: usize = 300;

#[derive(Debug, Clone)]
enum Event {
    /// A kthread gets a core; a third relieves.
    Grant(u16, u16, Option<u16>),
    Park(u16),
    /// Packets of these flows.
    Packets(Vec<usize>),
    /// A kthread takes some.
    Take(u16, usize),
    /// Time goes by, microseconds.
    Wait(u64),
    /// Cores that are asked for are given, or not.
    Generous(bool),
}

fn events(relief: bool) -> impl Strategy<Value = Vec<Event>> {
    let kthread = 0..KTHREADS;
    let stood = if relief {
        prop::option::of(0..KTHREADS).boxed()
    } else {
        Just(None).boxed()
    };
    let event = prop_oneof![
        3 => (kthread.clone(), 0..CORES, stood).prop_map(|(k, c, s)| Event::Grant(k, c, s)),
        2 => kthread.clone().prop_map(Event::Park),
        6 => prop::collection::vec(0..FLOWS, 1..64).prop_map(Event::Packets),
        4 => (kthread, 0..100_usize).prop_map(|(k, n)| Event::Take(k, n)),
        1 => (0..RELIEF_SPAN.0).prop_map(Event::Wait),
        1 => any::<bool>().prop_map(Event::Generous),
    ];
    prop::collection::vec(event, 1..200)
}

fn hashes() -> Vec<u32> {
    (0..u32::try_from(FLOWS).unwrap())
        .map(|i| i.wrapping_mul(0x0100_0193))
        .collect()
}

fn specs() -> impl Strategy<Value = SteeringSpec> {
    let policy = prop::sample::select(Policy::ALL.to_vec());
    (policy, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(policy, strict, guard, watch)| SteeringSpec {
            affinity: if strict {
                Affinity::Strict
            } else {
                Affinity::Sticky
            },
            order_guard: guard,
            watch_flows: watch,
            ..spec(policy)
        },
    )
}

/// Lets events happen, packets in bursts. Where each packet went.
fn happen_in_bursts(bed: &mut Bed, flows: &[u32], events: &[Event]) -> Vec<Went> {
    let mut all = Vec::new();
    for event in events {
        match event {
            Event::Packets(which) if !bed.active.is_empty() => {
                let burst: Vec<u32> = which.iter().map(|&i| flows[i]).collect();
                all.extend(bed.receive(&burst));
            }
            other => happen(bed, flows, std::slice::from_ref(other), |_, _| {}),
        }
    }
    all
}

/// Lets events happen, and `see` where each packet went.
fn happen(
    bed: &mut Bed,
    flows: &[u32],
    events: &[Event],
    mut see: impl FnMut(&mut Bed, &Seen<'_>),
) {
    for event in events {
        match event {
            Event::Grant(kthread, core, stood) => bed.grant(*kthread, *core, *stood),
            Event::Park(kthread) => bed.park(*kthread),
            Event::Take(kthread, n) => bed.take(*kthread, *n),
            Event::Wait(us) => bed.now = Micros(bed.now.0 + us),
            Event::Generous(yes) => bed.generous = *yes,
            Event::Packets(which) if !bed.active.is_empty() => {
                for &i in which {
                    let flow = flows[i];
                    let before = bed.last.get(&flow).copied();
                    let active = bed.active.clone();
                    let waits = before
                        .is_some_and(|b| bed.queues.0[b.kthread.index()].lying.contains(&flow));
                    let went = bed.one(flow);
                    see(
                        bed,
                        &Seen {
                            flow,
                            before,
                            went,
                            active: &active,
                            waits,
                        },
                    );
                }
            }
            Event::Packets(_) => {}
        }
    }
}

/// A packet, and the world just before it.
struct Seen<'a> {
    flow: u32,
    before: Option<Went>,
    went: Went,
    active: &'a [(KthreadIdx, CoreId)],
    /// An earlier packet of the flow lies where the last one went.
    waits: bool,
}

/// What moves together: a flow, or its bucket.
fn group(policy: Policy, flow: u32) -> u32 {
    match policy {
        Policy::Buckets | Policy::Hybrid => u32::try_from(bucket(flow)).unwrap(),
        _ => flow,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn only_active_kthreads_are_named_and_packets_are_counted(
        spec in specs(), events in events(true),
    ) {
        // Bed::receive looks at each.
        let mut bed = Bed::new(&spec, KTHREADS);
        let mut packets = 0;
        happen(&mut bed, &hashes(), &events, |_, _| packets += 1);
        prop_assert_eq!(bed.count(SteerCounter::Packets), packets);
        if spec.policy == Policy::FlowTable {
            let (hits, inserts) = (SteerCounter::Hits, SteerCounter::Inserts);
            prop_assert_eq!(bed.count(hits) + bed.count(inserts), packets);
            let flows = bed.last.len() as u64;
            prop_assert_eq!(bed.count(SteerCounter::Flows), flows);
            prop_assert_eq!(bed.count(SteerCounter::Evictions), 0);
        }
    }

    #[test]
    fn the_same_input_gives_the_same_output(spec in specs(), events in events(true)) {
        let run = || {
            let mut bed = Bed::new(&spec, KTHREADS);
            let mut all = Vec::new();
            happen(&mut bed, &hashes(), &events, |_, seen| all.push(seen.went));
            (all, SteerCounter::ALL.iter().map(|c| bed.count(*c)).collect::<Vec<_>>())
        };
        prop_assert_eq!(run(), run());
    }

    /// Under parks, reliefs, evictions too: of a crowd that fills two lines and more.
    #[test]
    fn bursts_are_steered_like_single_packets(
        spec in specs(), events in events(true), crowded: bool,
    ) {
        let crowd = crowd(77, 60);
        let flows = if crowded {
            (0..FLOWS).map(|i| crowd[i % crowd.len()]).collect()
        } else {
            hashes()
        };
        let mut beds = [Bed::new(&spec, KTHREADS), Bed::new(&spec, KTHREADS)];
        let mut single = Vec::new();
        happen(&mut beds[0], &flows, &events, |_, seen| single.push(seen.went));
        let bursts = happen_in_bursts(&mut beds[1], &flows, &events);
        // A heavy flow is looked for among one packet of each burst.
        if spec.policy != Policy::Hybrid {
            prop_assert_eq!(bursts, single);
        }
    }

    #[test]
    fn all_vectors_steer_alike(spec in specs(), events in events(true)) {
        let mut all = Vec::new();
        for vectors in Vectors::available() {
            let mut bed = Bed::new(&spec, KTHREADS);
            bed.steering.use_vectors(vectors);
            all.push(happen_in_bursts(&mut bed, &hashes(), &events));
        }
        prop_assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    }

    /// Growth moves nothing, and a lost core only its own: without relief a flow moves
    /// only if its proc has not the core that it was on.
    #[test]
    fn without_relief_only_flows_of_a_lost_core_move(spec in specs(), events in events(false)) {
        prop_assume!(spec.policy.has_homes());
        let mut bed = Bed::new(&spec, KTHREADS);
        let mut homes: HashMap<u32, CoreId> = HashMap::new();
        let mut wrong = None;
        happen(&mut bed, &hashes(), &events, |bed, seen| {
            let home = homes.insert(group(spec.policy, seen.flow), seen.went.core);
            if let Some(home) = home
                && home != seen.went.core
                && seen.active.iter().any(|(_, c)| *c == home)
            {
                wrong = Some((seen.flow, home, seen.went, bed.active.clone()));
            }
        });
        prop_assert!(wrong.is_none(), "{:?}", wrong);
        prop_assert_eq!(bed.count(SteerCounter::MovedRelief), 0);
    }

    /// With it, to the core that was added, and in no larger number than was promised.
    #[test]
    fn relief_moves_flows_to_added_cores_only(events in events(true)) {
        let mut bed = Bed::new(&spec(Policy::FlowTable), KTHREADS);
        let mut wrong = None;
        let mut moved = 0;
        happen(&mut bed, &hashes(), &events, |_, seen| {
            if let Some(before) = seen.before
                && before.core != seen.went.core
                && seen.active.iter().any(|(_, c)| *c == before.core)
            {
                moved += 1;
                // Only while more flows are at home there than where they went.
                if seen.active.len() < 2 {
                    wrong = Some(seen.flow);
                }
            }
        });
        prop_assert!(wrong.is_none());
        prop_assert_eq!(bed.count(SteerCounter::MovedRelief), moved);
        let grants = events.iter().filter(|e| matches!(e, Event::Grant(_, _, Some(_)))).count();
        prop_assert!(moved <= (grants * FLOWS / 2) as u64);
    }

    #[test]
    fn homes_of_new_flows_differ_by_one_at_most(events in events(true)) {
        let mut bed = Bed::new(&spec(Policy::FlowTable), KTHREADS);
        let mut new: HashMap<CoreId, u32> = HashMap::new();
        let mut set = Vec::new();
        let mut worst = 0;
        happen(&mut bed, &hashes(), &events, |bed, seen| {
            if set != bed.active {
                set.clone_from(&bed.active);
                new = set.iter().map(|(_, core)| (*core, 0)).collect();
            }
            if seen.before.is_none() {
                *new.get_mut(&seen.went.core).expect("active") += 1;
            }
            let most = new.values().max().copied().unwrap_or(0);
            let least = new.values().min().copied().unwrap_or(0);
            worst = worst.max(most - least);
        });
        prop_assert!(worst <= 1, "{}", worst);
    }

    /// With the guard: while a kthread has an untaken packet of a flow, and runs since,
    /// no other kthread gets the flow's next.
    #[test]
    fn with_the_order_guard_nothing_overtakes(spec in specs(), events in events(true)) {
        prop_assume!(spec.policy.has_homes());
        let spec = SteeringSpec { order_guard: true, ..spec };
        let mut bed = Bed::new(&spec, KTHREADS);
        let wrong = overtaking(&mut bed, &hashes(), &events);
        prop_assert!(wrong.is_none(), "{:?}", wrong);
        prop_assert!(bed.count(SteerCounter::Evictions) == 0);
    }

    /// The same where flows crowd into one line and push each other out: a flow with a
    /// packet under way is not forgotten, as long as another can be.
    #[test]
    fn with_the_order_guard_nothing_overtakes_in_a_full_line(events in events(true)) {
        let spec = SteeringSpec { order_guard: true, ..spec(Policy::FlowTable) };
        let mut bed = Bed::new(&spec, KTHREADS);
        let crowd: Vec<u32> = crowd(77, 36);
        let flows: Vec<u32> = (0..FLOWS).map(|i| crowd[i % crowd.len()]).collect();
        // At most fifteen packets lie anywhere, of 32 flows that have an entry.
        let mut tidy = Vec::new();
        for event in events {
            if let Event::Packets(which) = event {
                for few in which.chunks(15) {
                    tidy.push(Event::Packets(few.to_vec()));
                    tidy.extend((0..KTHREADS).map(|k| Event::Take(k, 99)));
                }
            } else {
                tidy.push(event);
            }
        }
        let wrong = overtaking(&mut bed, &flows, &tidy);
        prop_assert!(wrong.is_none(), "{:?}", wrong);
    }
}

/// The first packet that could overtake another although that one's kthread has run
/// ever since.
fn overtaking(bed: &mut Bed, flows: &[u32], events: &[Event]) -> Option<(u32, Went, Went)> {
    let mut wrong = None;
    // Packets that a kthread parked with are not its any more: others take them.
    let mut events_seen = 0;
    for event in events {
        events_seen += 1;
        if let Event::Park(kthread) = event {
            bed.queues.0[usize::from(*kthread)].lying.clear();
        }
        happen(bed, flows, std::slice::from_ref(event), |_, seen| {
            if let Some(before) = seen.before
                && before.kthread != seen.went.kthread
                && seen.waits
            {
                wrong = wrong.or(Some((seen.flow, before, seen.went)));
            }
        });
    }
    assert_eq!(events_seen, events.len());
    wrong
}
