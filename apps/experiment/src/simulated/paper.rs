//! The paper's section 5 in the simulator, and the same past its loads.
//!
//! What is known of the paper's machine is in `m510.toml`. How long its requests
//! took is not: `service_ns` is upstream's example of 10 us of work.

use anyhow::Result;
use calisto_sim::{Load, Machine, Proc, Scenario, Service};

use super::{BASE, Cell, POLICIES, Plan};

/// Flows of the paper's experiment.
pub(crate) const FLOWS: u32 = 700_000;
/// Cores of the paper's experiment.
pub(crate) const CORES: u16 = 10;
/// Mean work of a request, nanoseconds.
pub(crate) const SERVICE_NS: f64 = 10_000.0;
/// Loads of its Figure 6, packets a second.
pub(crate) const FIGURE_6: [f64; 9] = [2e3, 4e3, 5e3, 6e3, 8e3, 10e3, 12e3, 13e3, 14e3];
/// Loads of its Figure 7.
pub(crate) const FIGURE_7: [f64; 9] =
    [10e3, 10.5e3, 11e3, 11.5e3, 12e3, 12.5e3, 13e3, 13.5e3, 14e3];
/// Load past the paper, shares of what the cores can do.
pub(crate) const SHARES: [f64; 9] = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95];

/// Flows of the host of 64 cores.
pub(crate) const MANY_CORES_FLOWS: u32 = 20_000;

/// How much of everything is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Packets of a run.
    pub(crate) packets: u64,
    /// Seeds.
    pub(crate) seeds: u64,
}

/// All policies.
pub(crate) fn policies() -> Vec<&'static str> {
    POLICIES.iter().map(|(name, _)| *name).collect()
}

/// The paper's host under `rate` packets a second.
pub(crate) fn host(rate: f64, size: Size) -> Scenario {
    Scenario {
        name: "paper".into(),
        machine: Machine::m510(),
        cores: CORES,
        procs: vec![Proc {
            guaranteed: CORES,
            load: Some(Load {
                rate,
                flows: FLOWS,
                service: Service::Exponential { ns: SERVICE_NS },
                ..Load::default()
            }),
            ..Proc::default()
        }],
        packets: size.packets,
        ..Scenario::default()
    }
}

/// One of the paper's figures.
pub(crate) fn figure(name: &str, rates: &[f64], size: Size) -> Result<Vec<Cell>> {
    Plan {
        name,
        policies: &policies(),
        xs: rates,
        seeds: size.seeds,
        scenario: &|rate| host(rate, size),
    }
    .run()
}

/// The paper's host without any state to touch: what no steering can do better than.
/// `x` is packets a second.
pub(crate) fn without_state(rates: &[f64], size: Size) -> Result<Vec<Cell>> {
    Plan {
        name: "the bound: flows without state",
        policies: &[BASE],
        xs: rates,
        seeds: size.seeds,
        scenario: &|rate| {
            let mut scenario = host(rate, size);
            for load in scenario.procs.iter_mut().filter_map(|p| p.load.as_mut()) {
                load.state_bytes = 0;
            }
            scenario
        },
    }
    .run()
}

/// What the paper does not say, at 12 thousand packets a second: mean work of a request in
/// nanoseconds, bytes of state of a flow.
pub(crate) const UNKNOWNS: [(f64, u32); 9] = [
    (1e3, 256),
    (1e3, 4096),
    (1e3, 65_536),
    (10e3, 256),
    (10e3, 4096),
    (10e3, 65_536),
    (100e3, 256),
    (100e3, 4096),
    (100e3, 65_536),
];

/// The paper's host for each of [`UNKNOWNS`]; `x` is the place in that list.
pub(crate) fn unknowns(size: Size) -> Result<Vec<Cell>> {
    variants(
        "what the paper does not say",
        &UNKNOWNS,
        size,
        |(ns, state_bytes), scenario| {
            for load in scenario.procs.iter_mut().filter_map(|p| p.load.as_mut()) {
                load.service = Service::Exponential { ns: *ns };
                load.state_bytes = *state_bytes;
            }
        },
    )
}

/// A change of an assumed cost, and what it is called.
type OtherCost = (&'static str, fn(&mut Machine));

/// Changes of assumed costs.
pub(crate) const OTHER_COSTS: [OtherCost; 8] = [
    ("as in the file", |_| {}),
    ("wakes in a quarter of the time", |m| {
        m.kernel.wake_latency_ns /= 4.0
    }),
    ("wakes take four times as long", |m| {
        m.kernel.wake_latency_ns *= 4.0
    }),
    ("setting an affinity costs nothing", |m| {
        (m.dispatcher.pin_ns, m.kernel.move_latency_ns) = (0.0, 0.0);
    }),
    ("completions come five times as late", |m| {
        m.dispatcher.tx_done_ns *= 5.0
    }),
    ("receive processing takes four times as long", |m| {
        m.runtime.packet_ns *= 4.0
    }),
    (
        "a written line of another core takes four times as long",
        |m| {
            m.cache.dirty_ns *= 4.0;
            m.cache.dirty_line_ns *= 4.0;
        },
    ),
    ("hyperthreads do not slow each other", |m| {
        m.cache.sibling_factor = 1.0
    }),
];

/// The paper's host at 12 thousand packets a second with each of [`OTHER_COSTS`]; `x` is the
/// place in that list.
pub(crate) fn other_costs(size: Size) -> Result<Vec<Cell>> {
    variants(
        "other costs",
        &OTHER_COSTS,
        size,
        |(_, change), scenario| {
            change(&mut scenario.machine);
        },
    )
}

/// The paper's host at 12 thousand packets a second, changed for each of `list`; `x` is the place in it.
fn variants<T: Sync>(
    name: &str,
    list: &[T],
    size: Size,
    change: impl Fn(&T, &mut Scenario) + Sync,
) -> Result<Vec<Cell>> {
    let places: Vec<f64> = (0..list.len()).map(|i| i as f64).collect();
    Plan {
        name,
        policies: &[BASE, "paper-strict", "sticky"],
        xs: &places,
        seeds: size.seeds,
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place in the list"
        )]
        scenario: &|place| {
            let mut scenario = host(12_000.0, size);
            change(&list[place as usize], &mut scenario);
            scenario
        },
    }
    .run()
}

/// The paper's host up to saturation. `x` is the load as a share of `cores / service time`.
pub(crate) fn saturation(size: Size) -> Result<Vec<Cell>> {
    Plan {
        name: "to saturation",
        policies: &policies(),
        xs: &SHARES,
        seeds: size.seeds,
        // Two hyperthreads do less than two cores, and the runtime has its own costs.
        scenario: &|share| host(share * capacity(CORES) * M510_SHARE, size),
    }
    .run()
}

/// 64 cores. As many flows as send several times in a run: else each packet would be a new
/// flow's, which costs the dispatcher more. `x` as in [`saturation`].
pub(crate) fn many_cores(size: Size) -> Result<Vec<Cell>> {
    Plan {
        name: "64 cores",
        policies: &policies(),
        xs: &SHARES,
        seeds: size.seeds,
        scenario: &|share| {
            let mut scenario = host(share * capacity(64), size);
            scenario.name = "64 cores".into();
            scenario.machine = server();
            scenario.cores = 64;
            for proc in &mut scenario.procs {
                proc.guaranteed = 64;
                if let Some(load) = &mut proc.load {
                    load.flows = MANY_CORES_FLOWS;
                }
            }
            scenario
        },
    }
    .run()
}

/// What ten hyperthreads of the m510 do, of what ten cores would: 2 threads do 1.25 of one.
const M510_SHARE: f64 = 0.625;

/// Requests a second that `cores` could do if nothing but service took time.
fn capacity(cores: u16) -> f64 {
    f64::from(cores) * 1e9 / SERVICE_NS
}

/// A server of 64 cores for runtimes, without hyperthreads.
pub(crate) fn server() -> Machine {
    Machine::named("server64").expect("the machine comes with the simulator")
}
