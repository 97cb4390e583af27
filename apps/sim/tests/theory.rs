//! Queues of which theory knows everything.

#![allow(clippy::tests_outside_test_module, reason = "an integration test")]

use calisto_sim::{Arrivals, Load, Machine, Proc, Report, Scenario, Service, run};

const NS: f64 = 100_000.0;

/// `cores` servers without costs, busy for a share `rho` of the time.
fn queue(cores: u16, rho: f64, service: Service) -> Report {
    let load = Load {
        rate: rho * f64::from(cores) * 1e9 / service.mean_ns(),
        arrivals: Arrivals::Poisson,
        flows: 10_000,
        service,
        ..Load::default()
    };
    let scenario = Scenario {
        machine: Machine::ideal(cores),
        cores,
        procs: vec![Proc {
            load: Some(load),
            ..Proc::default()
        }],
        packets: 300_000,
        drain_seconds: 10.0,
        ..Scenario::default()
    };
    run(&scenario).unwrap()
}

/// The simulated mean is within its own confidence interval (three times it, of 95 %, so that
/// one of a million seeds fails), and that is narrow enough to say something.
fn assert_mean(report: &Report, theory: f64) {
    let latency = &report.procs[0].latency;
    assert!(latency.mean_ci95_ns < 0.03 * theory, "{latency:?}");
    assert!(
        (latency.mean_ns - theory).abs() < 3.0 * latency.mean_ci95_ns.max(0.002 * theory),
        "{} ns, in theory {theory} ns ({latency:?})",
        latency.mean_ns
    );
}

fn assert_near(what: &str, got: f64, theory: f64, tolerance: f64) {
    assert!(
        (got / theory - 1.0).abs() < tolerance,
        "{what}: {got}, in theory {theory}"
    );
}

#[test]
#[allow(clippy::cast_precision_loss, reason = "nanoseconds")]
fn m_m_1() {
    for rho in [0.3, 0.7] {
        let report = queue(1, rho, Service::Exponential { ns: NS });
        // The time in the system is exponential with this mean.
        let mean = NS / (1.0 - rho);
        assert_mean(&report, mean);
        let latency = &report.procs[0].latency;
        // 2.5 % is what 3000 packets beyond p99, in clumps, leave uncertain.
        assert_near("p50", latency.p50_ns as f64, mean * 2_f64.ln(), 0.03);
        assert_near("p99", latency.p99_ns as f64, mean * 100_f64.ln(), 0.08);
        assert_near("busy", report.procs[0].time.service, rho, 0.01);
    }
}

#[test]
fn m_d_1() {
    for rho in [0.3, 0.7] {
        let report = queue(1, rho, Service::Constant { ns: NS });
        // Pollaczek and Khinchine.
        assert_mean(&report, NS + NS * rho / (2.0 * (1.0 - rho)));
    }
}

#[test]
fn m_g_1() {
    let (rho, ns) = (0.5, NS);
    let report = queue(1, rho, Service::Bimodal1 { ns });
    // The second moment: 0.9 * 0.25 + 0.1 * 30.25 of the mean's square.
    let second = 0.9 * 0.25 + 0.1 * 30.25;
    assert_mean(&report, NS + rho * NS * second / (2.0 * (1.0 - rho)));
}

#[test]
fn stealing_makes_several_queues_nearly_one() {
    let (k, rho) = (4.0, 0.7);
    let report = queue(4, rho, Service::Exponential { ns: NS });
    // Erlang's C for four servers with 2.8 of them busy.
    let a: f64 = k * rho;
    let below = 1.0 + a + a * a / 2.0 + a * a * a / 6.0;
    let all = a.powi(4) / 24.0 / (1.0 - rho);
    let one_queue = NS * (1.0 + all / (below + all) / (k * (1.0 - rho)));
    let own_queues = NS / (1.0 - rho);
    let mean = report.procs[0].latency.mean_ns;
    let ci = report.procs[0].latency.mean_ci95_ns;
    assert!(
        mean > one_queue - 3.0 * ci,
        "{mean} beats M/M/4: {one_queue}"
    );
    // Far nearer to one queue than to four: cores are added some microseconds late.
    let distance = (mean - one_queue) / (own_queues - one_queue);
    assert!(
        distance < 0.15,
        "{mean}: between {one_queue} and {own_queues}"
    );
}
