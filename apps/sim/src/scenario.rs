//! What is simulated: a host, its runtimes, their load.
//!
//! A [`Scenario`] together with its seed decides everything: the same one gives the same
//! [`Report`](crate::Report), byte for byte. Arrivals, flows and service times are drawn
//! from streams of their own, so scenarios that differ in policy alone see the same packets.

use calisto::steering::{Affinity, Policy, SteeringSpec};
use serde::{Deserialize, Serialize};

use crate::error::SimError;
use crate::machine::Machine;

/// Most runtime cores, and most kthreads of a runtime.
pub const MAX_CORES: u16 = 256;
/// Most packets of a run: days of computing.
pub const MAX_PACKETS: u64 = 1_000_000_000_000;
/// Most flows of a runtime.
pub const MAX_FLOWS: u32 = 100_000_000;

/// One simulated run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// A name for reports.
    pub name: String,
    /// The machine, with all costs. In a file also a name, or the name of a file.
    #[serde(deserialize_with = "machine_or_name")]
    pub machine: Machine,
    /// Runtime cores, 1 to [`MAX_CORES`]; the dispatcher's is besides.
    pub cores: u16,
    /// How packets are steered, in every runtime.
    pub steering: Steering,
    /// The runtimes.
    pub procs: Vec<Proc>,
    /// Packets to simulate, all runtimes together, [`MAX_PACKETS`] at most; 0: no limit but
    /// `seconds`.
    pub packets: u64,
    /// Simulated seconds in which packets arrive; 0: no limit but `packets`.
    pub seconds: f64,
    /// Share of the packets, or of the seconds, that comes first and is not reported.
    pub warmup: f64,
    /// Simulated seconds that the last packets have to be answered in.
    pub drain_seconds: f64,
    /// For all random streams.
    pub seed: u64,
    /// Leave out the dispatcher's ticks that cannot decide anything. The result is the
    /// same; false is for the test of that.
    pub skip_idle_ticks: bool,
}

/// How packets are steered: the daemon's options of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Steering {
    /// `modulo`, `kthread-table`, `flow-table`, `buckets`, `hybrid`, or an alias.
    #[serde(with = "policy_name")]
    pub policy: Policy,
    /// Strict affinity: a lost home core is woken if it is idle. Only policies with homes.
    pub strict: bool,
    /// A flow moves only when its old kthread has taken its last packet.
    pub order_guard: bool,
    /// Flows that a table has room for; 0: as many as the runtime has flows, at least the default.
    pub flow_entries: u32,
    /// Seconds after which a silent flow may be forgotten.
    pub flow_idle_seconds: u32,
}

/// A runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proc {
    /// A name for reports.
    pub name: String,
    /// Its kthreads; 0: as many as there are cores.
    pub kthreads: u16,
    /// Cores that it gets whenever it wants them, if need be from others.
    pub guaranteed: u16,
    /// Requests that come from the network; none if a file does not say.
    #[serde(default)]
    pub load: Option<Load>,
    /// Work that never ends.
    pub batch: Option<Batch>,
}

/// Open-loop requests: one packet in, one packet out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// Packets a second, in the mean.
    pub rate: f64,
    /// When they come.
    pub arrivals: Arrivals,
    /// Flows that there are.
    pub flows: u32,
    /// Which flow sends.
    pub popularity: Popularity,
    /// Flows a second that end, each of which makes place for a new one.
    pub churn: f64,
    /// What the application does for a request, without waiting for the flow's state.
    pub service: Service,
    /// Bytes of state of each flow that a request touches.
    pub state_bytes: u32,
    /// Share of those that it writes, 0 to 1.
    pub write_share: f64,
    /// Bytes besides (packet, stack, the application's own data) that a request brings
    /// into the core's private cache, and so pushes out. The time for them is in the
    /// service time and the runtime's costs.
    pub other_bytes: u32,
}

/// Threads that compute without end, in slices, after each of which they yield.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Uthreads; 0: as many as kthreads.
    pub threads: u32,
    /// Nanoseconds of a slice.
    pub slice_ns: u64,
    /// Bytes a microsecond that it brings into the private cache.
    pub bytes_per_us: u32,
}

/// When packets come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Arrivals {
    /// Independent of each other.
    Poisson,
    /// At equal distances.
    Regular,
    /// Poisson with two rates in turn; both phases last exponential times.
    OnOff {
        /// The rate while on, in multiples of the mean rate.
        factor: f64,
        /// Mean length of a phase of the high rate, microseconds.
        on_us: f64,
        /// Mean length of the rest between, microseconds. Its rate is what makes the mean
        /// come out right: `factor * on / (on + off)` must not be above 1.
        off_us: f64,
    },
}

/// Which flow sends a packet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Popularity {
    /// Each as often.
    Uniform,
    /// In proportion to rank^-exponent.
    Zipf {
        /// Above 0.
        exponent: f64,
    },
    /// A few flows together send a share; the others the rest, each as often.
    HeavyHitters {
        /// How many.
        flows: u32,
        /// Their share of the packets, 0 to 1.
        share: f64,
    },
}

/// How long a request's own work takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Service {
    /// Always the same.
    Constant {
        /// Nanoseconds.
        ns: f64,
    },
    /// Exponential.
    Exponential {
        /// Mean, nanoseconds.
        ns: f64,
    },
    /// Nine of ten take half the mean, the tenth 5.5 times. (Upstream's synthetic `bimodal1`.)
    Bimodal1 {
        /// Mean, nanoseconds.
        ns: f64,
    },
    /// 999 of 1000 take half the mean, the last 500.5 times. (Upstream's synthetic `bimodal2`.)
    Bimodal2 {
        /// Mean, nanoseconds.
        ns: f64,
    },
    /// Log-normal.
    LogNormal {
        /// Mean, nanoseconds.
        ns: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
}

impl Service {
    /// The mean, nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        match *self {
            Service::Constant { ns }
            | Service::Exponential { ns }
            | Service::Bimodal1 { ns }
            | Service::Bimodal2 { ns }
            | Service::LogNormal { ns, .. } => ns,
        }
    }
}

impl Default for Scenario {
    fn default() -> Scenario {
        Scenario {
            name: String::new(),
            machine: Machine::m510(),
            cores: 10,
            steering: Steering::default(),
            procs: vec![Proc::default()],
            packets: 1_000_000,
            seconds: 0.0,
            warmup: 0.1,
            drain_seconds: 0.1,
            seed: 1,
            skip_idle_ticks: true,
        }
    }
}

impl Default for Steering {
    fn default() -> Steering {
        Steering {
            policy: Policy::default(),
            strict: false,
            order_guard: false,
            flow_entries: 0,
            flow_idle_seconds: 300,
        }
    }
}

impl Default for Proc {
    fn default() -> Proc {
        Proc {
            name: "server".into(),
            kthreads: 0,
            guaranteed: 0,
            load: Some(Load::default()),
            batch: None,
        }
    }
}

impl Default for Load {
    fn default() -> Load {
        Load {
            rate: 14_000.0,
            arrivals: Arrivals::Poisson,
            flows: 700_000,
            popularity: Popularity::Uniform,
            churn: 0.0,
            service: Service::Exponential { ns: 10_000.0 },
            state_bytes: 1024,
            write_share: 0.5,
            other_bytes: 2048,
        }
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch {
            threads: 0,
            slice_ns: 100_000,
            bytes_per_us: 1000,
        }
    }
}

impl Steering {
    /// What the daemon's code is given, for a runtime of so many flows.
    pub fn spec(&self, flows: u32) -> SteeringSpec {
        let default = SteeringSpec::default();
        SteeringSpec {
            policy: self.policy,
            affinity: if self.strict {
                Affinity::Strict
            } else {
                Affinity::Sticky
            },
            flow_entries: match self.flow_entries {
                0 => flows.max(default.flow_entries),
                given => given,
            }
            .min(calisto::steering::spec::FLOW_ENTRIES_MAX),
            flow_idle: calisto::ids::Micros(u64::from(self.flow_idle_seconds) * 1_000_000),
            order_guard: self.order_guard,
            watch_flows: false,
        }
    }

    /// Its name: the policy's, with what is not by default.
    pub fn label(&self) -> String {
        let mut label = self.policy.name().to_owned();
        if self.strict {
            label += "-strict";
        }
        if self.order_guard {
            label += "-guard";
        }
        label
    }

    /// The one of this [`label`](Self::label), with all else by default.
    ///
    /// # Errors
    /// If no policy has that name.
    pub fn from_label(label: &str) -> Result<Steering, SimError> {
        let (rest, order_guard) = match label.strip_suffix("-guard") {
            Some(rest) => (rest, true),
            None => (label, false),
        };
        let (name, strict) = match rest.strip_suffix("-strict") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let name = if name == "paper" { "flow-table" } else { name };
        let policy = Policy::named(name).ok_or_else(|| SimError::UnknownPolicy(label.into()))?;
        let steering = Steering {
            policy,
            strict,
            order_guard,
            ..Steering::default()
        };
        steering.check()?;
        Ok(steering)
    }

    pub(crate) fn check(&self) -> Result<(), SimError> {
        if !self.policy.has_homes() && (self.strict || self.order_guard) {
            return Err(SimError::Scenario(format!(
                "policy {} knows no home cores, so neither strict affinity nor the order guard",
                self.policy.name()
            )));
        }
        if self.flow_idle_seconds == 0 {
            return Err(SimError::Scenario("flow_idle_seconds is 0".into()));
        }
        Ok(())
    }
}

impl Scenario {
    /// Reads a scenario from TOML.
    ///
    /// # Errors
    /// If it cannot be read, or [`check`](Self::check) refuses it.
    pub fn from_toml(text: &str) -> Result<Scenario, SimError> {
        let scenario: Scenario = toml::from_str(text)
            .map_err(|e| SimError::Toml(e.to_string().trim().replace('\n', " ")))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Kthreads of a runtime.
    pub fn kthreads(&self, proc: &Proc) -> u16 {
        if proc.kthreads == 0 {
            self.cores
        } else {
            proc.kthreads
        }
    }

    /// Packets a second of all runtimes.
    pub fn rate(&self) -> f64 {
        let loads = self.procs.iter().filter_map(|p| p.load.as_ref());
        loads.map(|l| l.rate).sum()
    }

    /// Sets the packets a second of all runtimes together, in the proportion that they have.
    pub fn set_rate(&mut self, rate: f64) {
        let factor = rate / self.rate();
        for load in self.procs.iter_mut().filter_map(|p| p.load.as_mut()) {
            load.rate *= factor;
        }
    }
}

fn machine_or_name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Machine, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Name(String),
        Whole(Box<Machine>),
    }
    match Either::deserialize(from)? {
        Either::Name(name) => Machine::load(&name).map_err(serde::de::Error::custom),
        Either::Whole(machine) => Ok(*machine),
    }
}

mod policy_name {
    use calisto::steering::Policy;
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(policy: &Policy, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(policy.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Policy, D::Error> {
        let name = String::deserialize(from)?;
        Policy::named(&name).ok_or_else(|| {
            let known = Policy::ALL.map(Policy::name).join(", ");
            de::Error::custom(format!("no policy '{name}': {known}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_that_come_along_can_be_simulated() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let mut seen = 0;
        for file in std::fs::read_dir(dir).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let scenario = Scenario::from_toml(&text).unwrap();
            // A scenario that was written can be read again, with the whole machine in it.
            let again = toml::to_string(&scenario).unwrap();
            assert_eq!(Scenario::from_toml(&again).unwrap(), scenario, "{path:?}");
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn labels_name_what_is_not_by_default() {
        for label in [
            "modulo",
            "flow-table",
            "hybrid-strict-guard",
            "buckets-guard",
        ] {
            assert_eq!(Steering::from_label(label).unwrap().label(), label);
        }
        assert!(Steering::from_label("paper-strict").unwrap().strict);
        for bad in ["modulo-strict", "kthread-table-guard", "round-robin"] {
            let error = Steering::from_label(bad).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
