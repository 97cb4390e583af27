//! Nothing is lost, and nothing waits beside an idle core.

#![allow(clippy::tests_outside_test_module, reason = "an integration test")]

use calisto_sim::{Batch, Ends, Load, Machine, Proc, Scenario, Service, Steering, run};
use proptest::prelude::*;

const LABELS: [&str; 8] = [
    "modulo",
    "kthread-table",
    "flow-table",
    "flow-table-strict",
    "flow-table-guard",
    "buckets",
    "hybrid",
    "hybrid-strict-guard",
];

fn total(ends: &Ends) -> u64 {
    ends.answered + ends.nic_drops + ends.rxq_drops + ends.unfinished
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Under any policy and load, with and without a second runtime that loses its cores all
    /// the time: every packet ends once, and with time enough and room enough is answered.
    #[test]
    fn every_packet_ends_once(
        label in prop::sample::select(&LABELS[..]),
        cores in 1_u16..14,
        utilisation in 0.05_f64..1.5,
        service in 500.0_f64..50_000.0,
        flows in 1_u32..5000,
        batch in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let load = Load {
            rate: utilisation * f64::from(cores) * 1e9 / service,
            flows,
            service: Service::Exponential { ns: service },
            ..Load::default()
        };
        let mut procs = vec![Proc {
            guaranteed: if batch { cores } else { 0 },
            load: Some(load),
            ..Proc::default()
        }];
        if batch {
            procs.push(Proc {
                name: "batch".into(),
                load: None,
                batch: Some(Batch::default()),
                ..Proc::default()
            });
        }
        let mut machine = Machine::m510();
        (machine.dispatcher.nic_ring, machine.runtime.rxq_slots) = (1 << 20, 1 << 20);
        let report = run(&Scenario {
            machine,
            cores,
            steering: Steering::from_label(label).unwrap(),
            procs,
            packets: 5000,
            warmup: 0.0,
            drain_seconds: 100.0,
            seed,
            ..Scenario::default()
        }).unwrap();
        let ends = &report.procs[0].ends;
        prop_assert_eq!(ends.arrived, 5000);
        prop_assert_eq!(ends.answered, 5000);
        prop_assert_eq!(report.procs[0].latency.count, 5000);
    }
}

#[test]
fn what_finds_no_room_is_counted_once() {
    let mut scenario = Scenario {
        cores: 2,
        packets: 50_000,
        ..Scenario::default()
    };
    scenario.set_rate(2e6);
    scenario.machine.runtime.rxq_slots = 64;
    let ends = run(&scenario).unwrap().procs[0].ends;
    assert_eq!(ends.arrived, 50_000);
    assert_eq!(total(&ends), 50_000);
    assert!(ends.rxq_drops > 10_000, "{ends:?}");
    // A dispatcher that cannot follow.
    scenario.machine.dispatcher.rx_packet_ns = 2000.0;
    let ends = run(&scenario).unwrap().procs[0].ends;
    assert_eq!(total(&ends), 50_000);
    assert!(ends.nic_drops > 10_000, "{ends:?}");
    // No time to finish.
    scenario.drain_seconds = 0.0;
    let ends = run(&scenario).unwrap().procs[0].ends;
    assert_eq!(total(&ends), 50_000);
    assert!(ends.unfinished > 0, "{ends:?}");
}

#[test]
fn time_on_cores_is_the_work_and_the_costs_of_it() {
    let mut scenario = Scenario {
        packets: 50_000,
        warmup: 0.0,
        ..Scenario::default()
    };
    let ns = 20_000.0;
    let load = scenario.procs[0].load.as_mut().unwrap();
    load.service = Service::Constant { ns };
    load.rate = 100_000.0;
    let report = run(&scenario).unwrap();
    let proc = &report.procs[0];
    let work = 50_000.0 * ns / (report.seconds * 1e9);
    // Of what is under way at the end, some is not counted.
    assert!(
        (proc.time.service / work - 1.0).abs() < 0.002,
        "{:?}, {work}",
        proc.time
    );
    let packets = 50_000.0 * scenario.machine.runtime.packet_ns / (report.seconds * 1e9);
    assert!(
        proc.time.softirq > packets * 0.998,
        "{:?}, {packets}",
        proc.time
    );
    // Working, looking for work, or on the way: no more than was held.
    assert!(
        proc.time.working() + proc.time.spin <= proc.cores * 1.001,
        "{proc:?}"
    );
}

/// A core that is idle takes what waits, after the arbiter's two looks and a wake.
#[test]
fn nothing_waits_for_long_beside_an_idle_core() {
    for label in LABELS {
        if label.ends_with("guard") {
            continue;
        }
        let mut scenario = Scenario {
            packets: 30_000,
            steering: Steering::from_label(label).unwrap(),
            ..Scenario::default()
        };
        let load = scenario.procs[0].load.as_mut().unwrap();
        // One long request blocks a core for a millisecond.
        load.service = Service::Bimodal1 { ns: 200_000.0 };
        load.rate = 25_000.0;
        let report = run(&scenario).unwrap();
        let d = &scenario.machine.dispatcher;
        let k = &scenario.machine.kernel;
        let wake = d.pin_ns + d.wake_ns + k.wake_latency_ns + k.move_latency_ns;
        // Three ticks: one that sees it come, one that sees it stand, one that passes over a
        // kthread just woken. All twice: who is woken first may be needed for another.
        let bound = 2.0 * (3.0 * 5000.0 + wake + 5000.0);
        #[allow(clippy::cast_precision_loss, reason = "microseconds")]
        let longest = report.longest_idle_while_waiting_ns as f64;
        assert!(longest < bound, "{label}: {longest} of {bound} ns");
        let grants = &report.procs[0].grants;
        assert!(grants.runqueue + grants.rxq > 100, "{label}: {grants:?}");
    }
}
