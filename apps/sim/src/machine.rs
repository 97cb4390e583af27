//! The machine: what there is, and what everything costs.
//!
//! Nothing in the engine is a cost of its own; all come from here, and a machine is a TOML
//! file (`machines/`, or what `calisto-sim measure` writes). Times are nanoseconds, sizes bytes.
//!
//! Cores are numbered as Linux does on a machine with hyperthreads: `0 .. physical` and, if
//! there are two threads to a core, `physical + i` is the sibling of `i`. The dispatcher has
//! the last physical core, sibling and all. Runtime cores are taken from 0 on, in pairs, so with ten of them and
//! hyperthreads there are five physical cores.

use std::path::Path;

use calisto::cores::arbiter::RuntimeCore;
use calisto::ids::CoreId;
use serde::{Deserialize, Serialize};

use crate::error::SimError;

/// A machine with its costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Cores and how they share.
    pub topology: Topology,
    /// Caches.
    pub cache: Cache,
    /// The dispatcher's costs.
    pub dispatcher: Dispatcher,
    /// The runtime's costs.
    pub runtime: Runtime,
    /// What the kernel takes to wake and to signal.
    pub kernel: Kernel,
}

/// Cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Physical cores, the dispatcher's among them.
    pub physical: u16,
    /// Threads of each: 1 or 2.
    pub threads: u16,
    /// Sockets; physical cores are dealt to them in blocks. Each has an L3.
    pub sockets: u16,
}

/// Where a flow's state can be, and how long it takes from there.
///
/// `X_ns` is the wait for the first line, `X_line_ns` for each further one of the same
/// object, which is less because several are under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Bytes of a core's own caches (L1d and L2 together as one).
    pub private_bytes: u64,
    /// Bytes of a socket's L3.
    pub l3_bytes: u64,
    /// In the core's own caches.
    pub private_ns: f64,
    /// Each further line.
    pub private_line_ns: f64,
    /// In the socket's L3.
    pub l3_ns: f64,
    /// Each further line.
    pub l3_line_ns: f64,
    /// Written by another core of the socket, and still in its caches.
    pub dirty_ns: f64,
    /// Each further line.
    pub dirty_line_ns: f64,
    /// In caches of another socket.
    pub far_ns: f64,
    /// Each further line.
    pub far_line_ns: f64,
    /// In memory.
    pub memory_ns: f64,
    /// Each further line.
    pub memory_line_ns: f64,
    /// What everything takes longer while the sibling works, 1 or more.
    pub sibling_factor: f64,
}

/// The dispatcher: one core that polls.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dispatcher {
    /// An empty turn of the loop: what comes is found after half of that, in the mean.
    pub poll_ns: f64,
    /// A burst received, whatever its size.
    pub rx_burst_ns: f64,
    /// Each packet of it, without steering.
    pub rx_packet_ns: f64,
    /// Steering: each packet, by the arithmetic alone. The table's line is besides.
    pub steer: SteerCosts,
    /// Lines of a table on their way at once, in a burst.
    pub lines_at_once: f64,
    /// A returned buffer, or a park, taken from a runtime.
    pub command_ns: f64,
    /// A packet sent for a runtime.
    pub tx_packet_ns: f64,
    /// A completion passed on.
    pub completion_ns: f64,
    /// From a packet's sending to its completion by the device.
    pub tx_done_ns: f64,
    /// A tick of the arbiter.
    pub tick_ns: f64,
    /// Each active kthread at which it looks.
    pub tick_kthread_ns: f64,
    /// Writing a kthread's eventfd.
    pub wake_ns: f64,
    /// Setting a kthread's affinity before.
    pub pin_ns: f64,
    /// Sending a signal.
    pub signal_ns: f64,
    /// Packets that the NIC's ring holds; more are dropped.
    pub nic_ring: u32,
}

/// Work of each policy on a packet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteerCosts {
    /// `modulo`.
    pub modulo_ns: f64,
    /// `kthread-table`.
    pub kthread_table_ns: f64,
    /// `flow-table`.
    pub flow_table_ns: f64,
    /// `buckets`.
    pub buckets_ns: f64,
    /// `hybrid`.
    pub hybrid_ns: f64,
    /// A new flow's entry, besides.
    pub insert_ns: f64,
    /// With the order guard, each packet besides.
    pub guard_ns: f64,
}

/// The runtime: upstream's, in C.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// A round of softirq, whatever it finds.
    pub softirq_ns: f64,
    /// Receive processing of a packet, until a uthread is ready for it.
    pub packet_ns: f64,
    /// A completion or a join.
    pub message_ns: f64,
    /// Switching to a uthread.
    pub switch_ns: f64,
    /// Sending a packet.
    pub tx_ns: f64,
    /// Looking in vain at another kthread's queues.
    pub probe_ns: f64,
    /// Stealing, once something was found.
    pub steal_ns: f64,
    /// Cache lines of a request (packet, uthread, stack) that move with it to another core.
    pub uthread_lines: u32,
    /// Time without work after which a kthread parks. Upstream: 2 us.
    pub spin_ns: f64,
    /// Time after which a kthread with work looks at its rxq all the same. Upstream: 50 us.
    pub watchdog_ns: f64,
    /// Messages taken from an rxq at once. Upstream: 16.
    pub softirq_budget: u32,
    /// From the decision to park until the dispatcher can see it.
    pub park_ns: f64,
    /// Slots of an rxq; packets beyond are dropped. Upstream: 4096.
    pub rxq_slots: u32,
}

/// The kernel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// From the end of the write to an eventfd until the kthread runs.
    pub wake_latency_ns: f64,
    /// The same, more, if it was pinned to another core.
    pub move_latency_ns: f64,
    /// From the end of the system call until the signal's handler runs.
    pub signal_latency_ns: f64,
}

/// The machines that come with the simulator.
const FILES: [(&str, &str); 3] = [
    ("m510", include_str!("../machines/m510.toml")),
    ("server64", include_str!("../machines/server64.toml")),
    ("vm2", include_str!("../machines/vm2.toml")),
];

impl Machine {
    /// CloudLab's m510, the paper's.
    pub fn m510() -> Machine {
        Machine::parse(FILES[0].1).expect("the file is part of the program")
    }

    /// A machine on which nothing costs anything, for comparison with theory.
    pub fn ideal(cores: u16) -> Machine {
        let mut machine = Machine::m510();
        machine.name = "ideal".into();
        machine.topology = Topology {
            physical: cores + 1,
            threads: 1,
            sockets: 1,
        };
        machine.cache = Cache {
            private_bytes: machine.cache.private_bytes,
            l3_bytes: machine.cache.l3_bytes,
            private_ns: 0.0,
            private_line_ns: 0.0,
            l3_ns: 0.0,
            l3_line_ns: 0.0,
            dirty_ns: 0.0,
            dirty_line_ns: 0.0,
            far_ns: 0.0,
            far_line_ns: 0.0,
            memory_ns: 0.0,
            memory_line_ns: 0.0,
            sibling_factor: 1.0,
        };
        machine.dispatcher = Dispatcher {
            poll_ns: 0.0,
            rx_burst_ns: 0.0,
            rx_packet_ns: 0.0,
            steer: SteerCosts {
                modulo_ns: 0.0,
                kthread_table_ns: 0.0,
                flow_table_ns: 0.0,
                buckets_ns: 0.0,
                hybrid_ns: 0.0,
                insert_ns: 0.0,
                guard_ns: 0.0,
            },
            lines_at_once: 1.0,
            command_ns: 0.0,
            tx_packet_ns: 0.0,
            completion_ns: 0.0,
            tx_done_ns: 0.0,
            tick_ns: 0.0,
            tick_kthread_ns: 0.0,
            wake_ns: 0.0,
            pin_ns: 0.0,
            signal_ns: 0.0,
            nic_ring: 1 << 20,
        };
        machine.runtime = Runtime {
            softirq_ns: 0.0,
            packet_ns: 0.0,
            message_ns: 0.0,
            switch_ns: 0.0,
            tx_ns: 0.0,
            probe_ns: 0.0,
            steal_ns: 0.0,
            uthread_lines: 0,
            park_ns: 0.0,
            rxq_slots: 1 << 20,
            ..machine.runtime
        };
        machine.kernel = Kernel {
            wake_latency_ns: 0.0,
            move_latency_ns: 0.0,
            signal_latency_ns: 0.0,
        };
        machine
    }

    /// The names of [`Machine::named`].
    pub fn names() -> [&'static str; 3] {
        FILES.map(|(name, _)| name)
    }

    /// A machine that comes with the simulator.
    pub fn named(name: &str) -> Option<Machine> {
        let (_, text) = FILES.iter().find(|(known, _)| *known == name)?;
        Some(Machine::parse(text).expect("the file is part of the program"))
    }

    /// A machine by name, or from a file.
    ///
    /// # Errors
    /// If the file cannot be read, or is no machine.
    pub fn load(name: &str) -> Result<Machine, SimError> {
        if let Some(machine) = Machine::named(name) {
            return Ok(machine);
        }
        if !name.contains(['/', '.']) {
            return Err(SimError::Machine(format!(
                "no machine '{name}': {}, or a file",
                Machine::names().join(", ")
            )));
        }
        let path = Path::new(name);
        let text = std::fs::read_to_string(path).map_err(|reason| SimError::Read {
            path: path.into(),
            reason,
        })?;
        Machine::parse(&text)
    }

    /// A machine from TOML.
    ///
    /// # Errors
    /// If it is no machine.
    pub fn parse(text: &str) -> Result<Machine, SimError> {
        let machine: Machine = toml::from_str(text)
            .map_err(|e| SimError::Machine(e.to_string().trim().replace('\n', " ")))?;
        machine.check()?;
        Ok(machine)
    }

    /// Cores for runtimes: all but the dispatcher's and its sibling.
    pub fn runtime_cores(&self) -> u16 {
        (self.topology.physical - 1) * self.topology.threads
    }

    /// The first `count` runtime cores, in pairs, as the arbiter is told.
    pub fn cores(&self, count: u16) -> Vec<RuntimeCore> {
        let Topology {
            physical, threads, ..
        } = self.topology;
        let taken = |i: u16| {
            let (pair, thread) = (i / threads, i % threads);
            CoreId(pair + thread * physical)
        };
        let mut cores: Vec<RuntimeCore> = (0..count)
            .map(|i| RuntimeCore {
                core: taken(i),
                sibling: (threads == 2 && (i ^ 1) < count).then(|| taken(i ^ 1)),
            })
            .collect();
        cores.sort_by_key(|c| c.core);
        cores
    }

    /// The physical core of a core.
    pub fn physical(&self, core: CoreId) -> u16 {
        core.0 % self.topology.physical
    }

    /// The socket of a core.
    pub fn socket(&self, core: CoreId) -> u16 {
        let each = self.topology.physical.div_ceil(self.topology.sockets);
        self.physical(core) / each
    }

    /// Refuses what cannot be simulated.
    ///
    /// # Errors
    /// One line that says what.
    pub fn check(&self) -> Result<(), SimError> {
        let t = self.topology;
        let refuse = |what: &str| Err(SimError::Machine(format!("{}: {what}", self.name)));
        if t.physical < 2
            || !(1..=2).contains(&t.threads)
            || t.sockets == 0
            || t.sockets > t.physical
        {
            return refuse("2 physical cores at least, 1 or 2 threads, 1 socket at least");
        }
        // Numbers of cores are below 256.
        if t.physical > if t.threads == 1 { 257 } else { 128 } {
            return refuse("257 physical cores at most, 128 if they have two threads");
        }
        let text = serde_json::to_value(self).map_err(|e| SimError::Machine(e.to_string()))?;
        if has_bad_number(&text) {
            return refuse("costs must be numbers of nanoseconds, 0 to 1e9");
        }
        if self.cache.private_bytes == 0 || self.cache.l3_bytes < self.cache.private_bytes {
            return refuse("private_bytes must be above 0, l3_bytes not less");
        }
        if self.cache.sibling_factor < 1.0 || self.dispatcher.lines_at_once < 1.0 {
            return refuse("sibling_factor and lines_at_once must be 1 at least");
        }
        let r = self.runtime;
        if r.softirq_budget == 0 || r.rxq_slots == 0 || self.dispatcher.nic_ring == 0 {
            return refuse("softirq_budget, rxq_slots and nic_ring must be above 0");
        }
        Ok(())
    }
}

/// True if any float in it is no cost. (JSON has no infinity: such are null.)
fn has_bad_number(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Number(n) if n.is_f64() => {
            !n.as_f64().is_some_and(|n| (0.0..=1e9).contains(&n))
        }
        serde_json::Value::Object(fields) => fields.values().any(has_bad_number),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_come_along_can_be_simulated() {
        for name in Machine::names() {
            let machine = Machine::named(name).unwrap();
            assert_eq!(machine.name, name);
        }
        assert!(Machine::named("vax").is_none());
        Machine::ideal(256).check().unwrap();
    }

    #[test]
    fn cores_come_in_pairs_beside_the_dispatchers() {
        let cores = Machine::m510().cores(10);
        let ids: Vec<u16> = cores.iter().map(|c| c.core.0).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4, 8, 9, 10, 11, 12]);
        assert_eq!(cores[0].sibling, Some(CoreId(8)));
        // An odd one has nobody beside it.
        let odd = Machine::m510().cores(3);
        assert_eq!(odd[1].core, CoreId(1));
        assert_eq!(odd[1].sibling, None);
    }

    #[test]
    fn what_cannot_be_is_refused_with_one_line() {
        let mut machine = Machine::m510();
        machine.kernel.wake_latency_ns = f64::NAN;
        let error = machine.check().unwrap_err().to_string();
        assert!(error.contains("nanoseconds") && !error.contains('\n'));
        let mut machine = Machine::m510();
        machine.topology.threads = 3;
        assert!(machine.check().is_err());
    }
}
