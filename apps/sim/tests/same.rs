//! The same scenario gives the same report, and other policies the same packets.

#![allow(clippy::tests_outside_test_module, reason = "an integration test")]

use calisto_sim::{Batch, Load, Machine, Proc, Report, Scenario, Service, Steering, run};

const LABELS: [&str; 6] = [
    "modulo",
    "kthread-table",
    "flow-table",
    "flow-table-strict",
    "buckets",
    "hybrid-guard",
];

/// Two runtimes that answer, one of them with a guarantee, and one that computes.
fn crowded(label: &str) -> Scenario {
    let load = |rate: f64, flows: u32| Load {
        rate,
        flows,
        service: Service::Exponential { ns: 15_000.0 },
        ..Load::default()
    };
    let proc = |name: &str, guaranteed, load| Proc {
        name: name.into(),
        guaranteed,
        load: Some(load),
        ..Proc::default()
    };
    Scenario {
        steering: Steering::from_label(label).unwrap(),
        procs: vec![
            proc("guaranteed", 6, load(60_000.0, 3000)),
            proc("other", 0, load(20_000.0, 500)),
            Proc {
                name: "batch".into(),
                load: None,
                batch: Some(Batch::default()),
                ..Proc::default()
            },
        ],
        packets: 8000,
        ..Scenario::default()
    }
}

fn text(report: &Report) -> String {
    serde_json::to_string(report).unwrap()
}

#[test]
fn a_seed_decides_everything() {
    for label in LABELS {
        let mut scenario = crowded(label);
        let first = text(&run(&scenario).unwrap());
        assert_eq!(first, text(&run(&scenario).unwrap()), "{label}");
        scenario.seed += 1;
        assert_ne!(first, text(&run(&scenario).unwrap()), "{label}");
    }
}

#[test]
fn ticks_that_are_left_out_would_have_decided_nothing() {
    let paper = |label| Scenario {
        steering: Steering::from_label(label).unwrap(),
        packets: 4000,
        ..Scenario::default()
    };
    for label in LABELS {
        for mut scenario in [crowded(label), paper(label)] {
            scenario.machine.dispatcher.tick_ns = 700.0;
            let mut with = run(&scenario).unwrap();
            scenario.skip_idle_ticks = false;
            let mut without = run(&scenario).unwrap();
            // The dispatcher's own time is not that of a busy one while it is left out.
            (with.dispatcher_busy, without.dispatcher_busy) = (0.0, 0.0);
            assert_eq!(text(&with), text(&without), "{label}");
        }
    }
}

#[test]
fn policies_see_the_same_packets() {
    let seen: Vec<(u64, f64)> = LABELS
        .iter()
        .map(|label| {
            let report = run(&Scenario {
                warmup: 0.0,
                ..crowded(label)
            })
            .unwrap();
            (report.procs[0].ends.arrived, report.seconds)
        })
        .collect();
    assert!(
        seen.windows(2).all(|pair| pair[0].0 == pair[1].0),
        "{seen:?}"
    );
    // The last packet is found a moment earlier or later.
    assert!(
        seen.iter().all(|s| (s.1 - seen[0].1).abs() < 1e-4),
        "{seen:?}"
    );
}

#[test]
fn homes_keep_more_flows_at_home_than_modulo_and_so_more_state_in_private_caches() {
    // Few flows with much state, eight cores that are busy most of the time.
    let report = |label: &str| {
        let load = Load {
            rate: 900_000.0,
            flows: 400,
            state_bytes: 4096,
            other_bytes: 256,
            service: Service::Exponential { ns: 5000.0 },
            ..Load::default()
        };
        run(&Scenario {
            machine: Machine::named("server64").unwrap(),
            cores: 8,
            steering: Steering::from_label(label).unwrap(),
            procs: vec![Proc {
                load: Some(load),
                ..Proc::default()
            }],
            packets: 60_000,
            ..Scenario::default()
        })
        .unwrap()
        .procs
        .swap_remove(0)
    };
    let (modulo, table) = (report("modulo"), report("flow-table"));
    assert!(
        table.moves.changed_core * 2 < modulo.moves.changed_core,
        "{:?} {:?}",
        table.moves,
        modulo.moves
    );
    assert!(
        table.touches.private * 10 > modulo.touches.private * 12,
        "{:?} {:?}",
        table.touches,
        modulo.touches
    );
    assert!(table.time.state < modulo.time.state);
}

#[test]
fn hosts_have_up_to_256_cores() {
    let mut scenario = Scenario {
        machine: Machine::ideal(256),
        cores: 256,
        packets: 40_000,
        ..Scenario::default()
    };
    let load = scenario.procs[0].load.as_mut().unwrap();
    load.service = Service::Exponential { ns: 100_000.0 };
    // Half of them.
    load.rate = 1_280_000.0;
    let report = run(&scenario).unwrap();
    assert_eq!(report.procs[0].ends.answered, 40_000);
    let cores = report.procs[0].cores;
    assert!((100.0..256.0).contains(&cores), "{cores}");
}

/// `cargo test --release -p calisto-sim -- --ignored`: takes a second and 600 MB.
#[test]
#[ignore = "ten million flows"]
fn ten_million_flows() {
    let mut scenario = Scenario {
        packets: 1_000_000,
        ..Scenario::default()
    };
    let load = scenario.procs[0].load.as_mut().unwrap();
    (load.flows, load.rate) = (10_000_000, 500_000.0);
    let report = run(&scenario).unwrap();
    assert_eq!(report.procs[0].ends.answered, 1_000_000);
}
