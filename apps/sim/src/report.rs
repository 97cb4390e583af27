//! What came out.
//!
//! Times are nanoseconds of simulated time. A packet belongs to the report if it arrived
//! after the warm-up; counters that are not of single packets (grants, busy time) are of the
//! time from the end of the warm-up to the last arrival.

use serde::{Deserialize, Serialize};

/// The outcome of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The scenario's name.
    pub name: String,
    /// The policy's [label](crate::Steering::label).
    pub policy: String,
    /// The seed.
    pub seed: u64,
    /// Simulated seconds that are reported.
    pub seconds: f64,
    /// Packets of those seconds, all runtimes.
    pub packets: u64,
    /// Share of the time in which the dispatcher did something.
    pub dispatcher_busy: f64,
    /// Packets that found the NIC's ring full, all runtimes.
    pub nic_drops: u64,
    /// Greatest time in which something waited for a runtime while a core had no kthread and
    /// its proc had a parked one.
    pub longest_idle_while_waiting_ns: u64,
    /// By runtime, in the scenario's order.
    pub procs: Vec<ProcReport>,
}

/// The outcome for one runtime.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcReport {
    /// Its name.
    pub name: String,
    /// What became of its packets, all of them, those of the warm-up too.
    pub ends: Ends,
    /// From the arrival at the NIC until the reply leaves the dispatcher.
    pub latency: Latency,
    /// Mean number of cores that it held or waited for.
    pub cores: f64,
    /// Where the time on those cores went, in cores: [`Time`] divided by the reported seconds.
    pub time: Time,
    /// Grants, parks and what they were for.
    pub grants: Grants,
    /// How flows were moved.
    pub moves: Moves,
    /// Where the state of flows was found.
    pub touches: Touches,
    /// Work that was stolen.
    pub steals: Steals,
    /// Packets that were first touched after a later one of their flow.
    pub reordered: u64,
    /// Slices of batch work that ended.
    pub slices: u64,
}

/// Every packet ends in exactly one of these ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Packets that came.
    pub arrived: u64,
    /// Answered.
    pub answered: u64,
    /// Found the NIC's ring full.
    pub nic_drops: u64,
    /// Found their kthread's rxq full.
    pub rxq_drops: u64,
    /// Not answered when the simulation ended.
    pub unfinished: u64,
}

/// A distribution of latencies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Packets.
    pub count: u64,
    /// Mean.
    pub mean_ns: f64,
    /// Half of the 95 % confidence interval of the mean, from the means of 20 batches.
    pub mean_ci95_ns: f64,
    /// Half of the packets were answered in this time; 3 digits, as all percentiles.
    pub p50_ns: u64,
    /// 90 %.
    pub p90_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// The greatest.
    pub max_ns: u64,
}

/// Time of cores, by what was done in it. In a [`ProcReport`] in cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Time {
    /// Requests' own work, and batch work.
    pub service: f64,
    /// Waiting for state of flows.
    pub state: f64,
    /// Receive processing and other messages.
    pub softirq: f64,
    /// Switching, sending, stealing, moving uthreads.
    pub overhead: f64,
    /// More time for all of these because the sibling worked.
    pub sibling: f64,
    /// Looking for work in vain.
    pub spin: f64,
}

/// Cores given and taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Kthreads that became active, by cause: a packet for a runtime without active kthreads.
    pub packet: u64,
    /// A run queue stood still.
    pub runqueue: u64,
    /// An rxq stood still.
    pub rxq: u64,
    /// A flow's home core was woken (strict affinity).
    pub affinity: u64,
    /// To replace a lost core, at launch, or by a timer.
    pub other: u64,
    /// Of all these, with a signal to another runtime.
    pub preempting: u64,
    /// Times that it was preempted.
    pub preempted: u64,
    /// Parks that stood.
    pub parks: u64,
    /// Parks that did not, for messages were on their way.
    pub parks_refused: u64,
    /// Wakes with a change of the kthread's core.
    pub pins: u64,
}

/// Flows and cores. The first two are of the reported time: the last packets are steered after
/// it. The others are the daemon's, of the whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    /// Packets steered to another core than the last of their flow: counted by the
    /// simulator itself, exactly. Packets that waited with a parked kthread count for the core
    /// that it had last.
    pub changed_core: u64,
    /// Packets whose flow had sent before.
    pub known: u64,
    /// `ST_HITS` of the daemon's code.
    pub hits: u64,
    /// `ST_INSERTS`.
    pub inserts: u64,
    /// `ST_EVICTIONS`.
    pub evictions: u64,
    /// `ST_AGED_OUT`.
    pub aged_out: u64,
    /// `ST_MOVED_CORE_LOST`.
    pub core_lost: u64,
    /// `ST_MOVED_RELIEF`.
    pub relief: u64,
    /// `ST_MOVED_STRICT`.
    pub strict: u64,
    /// `ST_STRICT_WAKES`.
    pub strict_wakes: u64,
    /// `ST_GUARD_WAITS`.
    pub guard_waits: u64,
    /// `ST_COULD_OVERTAKE`.
    pub could_overtake: u64,
    /// `ST_IMBALANCE_MAX_MILLI`.
    pub imbalance_max_milli: u64,
}

/// Touches of a flow's state, by where it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touches {
    /// In the core's own caches.
    pub private: u64,
    /// In those of another core of the socket.
    pub other_core: u64,
    /// In the socket's L3 only.
    pub l3: u64,
    /// In another socket's caches.
    pub far: u64,
    /// In memory.
    pub memory: u64,
    /// Nowhere: the flow's first packet. Costs as memory.
    pub first: u64,
}

/// Work taken from other kthreads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steals {
    /// Uthreads taken from run queues.
    pub uthreads: u64,
    /// Packets taken from rxqs.
    pub packets: u64,
    /// Requests that ran on another core than their receive processing.
    pub ran_elsewhere: u64,
}

impl Touches {
    /// All.
    pub fn total(&self) -> u64 {
        self.private + self.other_core + self.l3 + self.far + self.memory + self.first
    }
}

impl Time {
    /// All but looking for work in vain.
    pub fn working(&self) -> f64 {
        self.service + self.state + self.softirq + self.overhead + self.sibling
    }
}

impl Grants {
    /// Kthreads that became active.
    pub fn total(&self) -> u64 {
        self.packet + self.runqueue + self.rxq + self.affinity + self.other
    }
}
