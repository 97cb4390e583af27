//! Packets of a flow that overtake each other.

#![allow(clippy::tests_outside_test_module, reason = "an integration test")]

use calisto_sim::{Report, Scenario, Service, Steering, run};

/// Few flows that send much, at half of what the cores can do; no matter where a packet goes.
fn busy(cores: u16) -> Report {
    let mut scenario = Scenario {
        cores,
        steering: Steering::from_label("modulo").unwrap(),
        packets: 30_000,
        ..Scenario::default()
    };
    let load = scenario.procs[0].load.as_mut().unwrap();
    load.flows = 20;
    load.service = Service::Exponential { ns: 10_000.0 };
    load.rate = f64::from(cores) * 40_000.0;
    run(&scenario).unwrap()
}

#[test]
fn packets_overtake_each_other_where_cores_come_and_go() {
    let report = &busy(10).procs[0];
    assert!(report.moves.changed_core > 1000, "{:?}", report.moves);
    assert!(report.reordered > 100, "{}", report.reordered);
}

#[test]
fn on_one_core_none_does() {
    let report = &busy(1).procs[0];
    assert_eq!(report.moves.changed_core, 0);
    assert_eq!(report.reordered, 0);
    // They did queue up.
    assert!(report.latency.p99_ns > 30_000, "{:?}", report.latency);
}
