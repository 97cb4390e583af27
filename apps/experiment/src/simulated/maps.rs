//! Where affinity pays: live flows, bytes of state, how fast cores change.
//!
//! Two hosts of ten cores of their own (no hyperthreads), at 60 % of what they can
//! do. *Calm*: one runtime, Poisson arrivals. *Restless*: the load comes in bursts,
//! and a batch runtime takes every core that is free, so each burst preempts it.

use anyhow::Result;
use calisto_sim::{Arrivals, Batch, Load, Proc, Scenario, Service};

use super::paper::{Size, server};
use super::{Cell, Plan};

/// Cores of these hosts.
const CORES: u16 = 10;
/// The load, of what the cores could do if nothing but service took time.
const SHARE: f64 = 0.6;
/// Work of a request besides its state, nanoseconds: little, as in a key-value store.
const SERVICE_NS: f64 = 2_000.0;
/// Live flows.
pub(crate) const FLOWS: [u32; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];
/// Bytes of state of each.
pub(crate) const STATE_BYTES: [u32; 4] = [64, 1024, 4096, 16_384];
/// What is compared.
pub(crate) const POLICIES: [&str; 3] = ["modulo", "kthread-table", "sticky"];

/// How fast cores change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// One runtime, Poisson arrivals.
    Calm,
    /// Bursts against a batch runtime.
    Restless,
}

impl Pace {
    /// Both.
    pub(crate) const ALL: [Pace; 2] = [Pace::Calm, Pace::Restless];

    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Pace::Calm => "calm",
            Pace::Restless => "restless",
        }
    }
}

/// One host of the map.
pub(crate) fn host(pace: Pace, flows: u32, state_bytes: u32, size: Size) -> Scenario {
    let rate = SHARE * f64::from(CORES) * 1e9 / (SERVICE_NS + RUNTIME_NS);
    let load = Load {
        rate,
        flows,
        state_bytes,
        service: Service::Exponential { ns: SERVICE_NS },
        arrivals: match pace {
            Pace::Calm => Arrivals::Poisson,
            Pace::Restless => Arrivals::OnOff {
                factor: 1.5,
                on_us: 100.0,
                off_us: 100.0,
            },
        },
        ..Load::default()
    };
    let mut procs = vec![Proc {
        guaranteed: CORES,
        load: Some(load),
        ..Proc::default()
    }];
    if pace == Pace::Restless {
        procs.push(Proc {
            name: "batch".into(),
            load: None,
            batch: Some(Batch::default()),
            ..Proc::default()
        });
    }
    Scenario {
        name: format!("{} {flows} flows of {state_bytes} bytes", pace.name()),
        machine: server(),
        cores: CORES,
        procs,
        packets: size.packets,
        ..Scenario::default()
    }
}

/// What the runtime itself takes for a request, about, nanoseconds.
const RUNTIME_NS: f64 = 700.0;

/// All cells of one pace and one size of state; `x` is the number of flows.
pub(crate) fn row(pace: Pace, state_bytes: u32, size: Size) -> Result<Vec<Cell>> {
    Plan {
        name: &format!("where it pays: {}, {state_bytes} bytes", pace.name()),
        policies: &POLICIES,
        xs: &FLOWS.map(f64::from),
        seeds: size.seeds,
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the numbers of FLOWS"
        )]
        scenario: &|flows| host(pace, flows as u32, state_bytes, size),
    }
    .run()
}

/// Lengths of the bursts and of the pauses between them, microseconds: the shorter, the faster
/// cores change.
pub(crate) const BURSTS_US: [f64; 6] = [20.0, 50.0, 200.0, 1_000.0, 5_000.0, 20_000.0];

/// Restless hosts whose bursts are longer and longer; `x` is their length in microseconds.
pub(crate) fn bursts(flows: u32, state_bytes: u32, size: Size) -> Result<Vec<Cell>> {
    Plan {
        name: &format!("bursts: {flows} flows of {state_bytes} bytes"),
        policies: &POLICIES,
        xs: &BURSTS_US,
        seeds: size.seeds,
        scenario: &|length| {
            let mut scenario = host(Pace::Restless, flows, state_bytes, size);
            for load in scenario.procs.iter_mut().filter_map(|p| p.load.as_mut()) {
                load.arrivals = Arrivals::OnOff {
                    factor: 1.5,
                    on_us: length,
                    off_us: length,
                };
            }
            scenario
        },
    }
    .run()
}
