//! What a packet costs that has the host to itself: the sum of the file's numbers along its path.

#![allow(clippy::tests_outside_test_module, reason = "an integration test")]

use calisto_sim::{
    Arrivals, Batch, Load, Machine, Proc, ProcReport, Scenario, Service, Steering, run,
};

const SERVICE_NS: f64 = 10_000.0;
const STATE_LINES: u32 = 16;

/// Where ticks cost nothing: whether a packet comes in the middle of one is chance.
fn machine() -> Machine {
    let mut machine = Machine::m510();
    machine.dispatcher.tick_ns = 0.0;
    machine.dispatcher.tick_kthread_ns = 0.0;
    machine
}

/// A server on one core that answers a packet of its one flow each millisecond, and so has
/// parked long before the next; other runtimes were there before it.
fn lone_packets(mut procs: Vec<Proc>, guaranteed: u16) -> ProcReport {
    procs.push(Proc {
        guaranteed,
        load: Some(Load {
            rate: 1000.0,
            arrivals: Arrivals::Regular,
            flows: 1,
            service: Service::Constant { ns: SERVICE_NS },
            state_bytes: STATE_LINES * 64,
            ..Load::default()
        }),
        ..Proc::default()
    });
    let report = run(&Scenario {
        machine: machine(),
        cores: 1,
        procs,
        packets: 200,
        steering: Steering::from_label("modulo").unwrap(),
        ..Scenario::default()
    });
    report.unwrap().procs.pop().unwrap()
}

/// From the NIC until the dispatcher knows which runtime it is for.
fn received(machine: &Machine) -> f64 {
    let d = &machine.dispatcher;
    d.poll_ns / 2.0 + d.rx_burst_ns + d.rx_packet_ns + d.steer.modulo_ns
}

/// From writing the eventfd until the reply leaves.
fn woken_and_answered(machine: &Machine) -> f64 {
    let (d, r, c) = (&machine.dispatcher, &machine.runtime, &machine.cache);
    let woken = d.wake_ns + machine.kernel.wake_latency_ns;
    let softirq = r.switch_ns + r.softirq_ns + r.packet_ns;
    // The core has the state since the packet before.
    let state = c.private_ns + f64::from(STATE_LINES - 1) * c.private_line_ns;
    let request = r.switch_ns + state + SERVICE_NS + r.tx_ns;
    woken + softirq + request + d.poll_ns / 2.0 + d.tx_packet_ns
}

/// To the nanosecond: a step of the simulation is rounded.
fn assert_latency(report: &ProcReport, expected: f64) {
    let mean = report.latency.mean_ns;
    assert_eq!(report.latency.count, 180);
    assert!((mean - expected).abs() < 1.0, "{mean} of {expected} ns");
}

#[test]
fn a_packet_for_a_parked_runtime_waits_for_its_wake() {
    let report = lone_packets(Vec::new(), 0);
    let machine = machine();
    assert_latency(&report, received(&machine) + woken_and_answered(&machine));
    assert!(report.grants.packet > 170, "{:?}", report.grants);
    assert_eq!(report.grants.preempting, 0);
}

#[test]
fn a_packet_for_a_runtime_whose_core_another_has_waits_for_the_signal_and_the_park_too() {
    let batch = Proc {
        name: "batch".into(),
        load: None,
        batch: Some(Batch {
            threads: 1,
            bytes_per_us: 0,
            ..Batch::default()
        }),
        ..Proc::default()
    };
    let report = lone_packets(vec![batch], 1);
    let machine = machine();
    let (d, k) = (&machine.dispatcher, &machine.kernel);
    let signalled = d.signal_ns + k.signal_latency_ns;
    let parked = machine.runtime.park_ns + d.poll_ns / 2.0 + d.command_ns;
    let expected = received(&machine) + signalled + parked + woken_and_answered(&machine);
    assert_latency(&report, expected);
    assert!(report.grants.preempting > 170, "{:?}", report.grants);
}
