//! The paper's example, step by step; and counts of whole runs.

use calisto::ids::CoreId;

use super::proc::index;
use super::{InFlight, Sim};
use crate::machine::Machine;
use crate::scenario::{Load, Proc, Scenario, Steering};

/// Flows 4, 5, 6 and 7 by their hashes, on four kthreads; a fifth is woken. How many of them
/// are on another core after that?
fn moved_by_a_fifth(label: &str) -> usize {
    let scenario = Scenario {
        machine: Machine::ideal(5),
        cores: 5,
        steering: Steering::from_label(label).unwrap(),
        procs: vec![Proc {
            load: Some(Load {
                flows: 8,
                ..Load::default()
            }),
            ..Proc::default()
        }],
        ..Scenario::default()
    };
    let mut sim = Sim::new(&scenario).unwrap();
    let wake = |sim: &mut Sim, core| {
        let woken = sim
            .arbiter
            .wake_on(Sim::slot(0), CoreId(core), &mut sim.decisions);
        assert!(woken.is_some(), "core {core} is idle");
        sim.apply();
    };
    let receive = |sim: &mut Sim| -> Vec<u16> {
        for flow in 4..8 {
            sim.dispatcher.nic.push_back(InFlight {
                at: 0,
                flow,
                service: 1000,
                hash: flow,
                seq: 0,
                proc: index(0),
                counts: true,
            });
        }
        sim.steer(4);
        sim.procs[0].flows[4..]
            .iter()
            .map(|flow| { *flow }.steered(CoreId(0)).unwrap().0)
            .collect()
    };
    // The first kthread is launched on core 0.
    sim.launch();
    for core in 1..4 {
        wake(&mut sim, core);
    }
    let before = receive(&mut sim);
    let mut distinct = before.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 4, "{label}: one flow a core");
    wake(&mut sim, 4);
    let after = receive(&mut sim);
    let counted = sim.procs[0].meter.counts.changed_core;
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert_eq!(counted, moved as u64, "{label}");
    moved
}

#[test]
fn a_fifth_kthread_moves_all_flows_under_modulo_and_none_with_homes() {
    assert_eq!(moved_by_a_fifth("modulo"), 4);
    for label in ["flow-table", "flow-table-strict", "flow-table-guard"] {
        assert_eq!(moved_by_a_fifth(label), 0, "{label}");
    }
}

/// The simulator sees each packet's core, the daemon's code counts why it moved flows. Over a
/// whole run they are the same, whatever the costs. The report may have fewer: its time ends when
/// the last packet has come, and that one is steered after it.
#[test]
fn counts_of_moves_agree_with_the_daemons_own() {
    for label in ["flow-table", "flow-table-strict"] {
        for (seed, rx_packet_ns, wake_latency_ns) in [
            (1, 50.0, 3500.0),
            (2, 50.0, 3500.0),
            (3, 5000.0, 3500.0),
            (4, 50.0, 0.0),
            (5, 50.0, 50_000.0),
        ] {
            let mut scenario = Scenario {
                steering: Steering::from_label(label).unwrap(),
                packets: 30_000,
                warmup: 0.0,
                seed,
                ..Scenario::default()
            };
            scenario.machine.dispatcher.rx_packet_ns = rx_packet_ns;
            scenario.machine.kernel.wake_latency_ns = wake_latency_ns;
            let load = scenario.procs[0].load.as_mut().unwrap();
            (load.flows, load.rate) = (1000, 100_000.0);
            let mut sim = Sim::new(&scenario).unwrap();
            sim.run();
            let report = sim.report(&scenario).procs.swap_remove(0);
            assert_eq!(report.ends.answered, 30_000, "{:?}", report.ends);
            let (counts, moves) = (sim.procs[0].meter.counts, report.moves);
            let daemons = moves.core_lost + moves.relief + moves.strict;
            assert_eq!(counts.changed_core, daemons, "{label}, {seed}: {moves:?}");
            assert!(daemons > 20, "{label}, {seed}: {moves:?}");
            assert_eq!((moves.inserts, moves.hits), (1000, 29_000), "{label}");
            assert_eq!(counts.known, moves.hits, "{label}, {seed}");
            let after = counts.known - moves.known;
            assert!(after > 0, "the last packet: {label}, {seed}");
            let changed_after = counts.changed_core - moves.changed_core;
            assert!(changed_after <= after, "{label}, {seed}: {moves:?}");
        }
    }
}
