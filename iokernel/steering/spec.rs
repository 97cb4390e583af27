//! What is asked of steering: policy, affinity, sizes.

use crate::ids::Micros;

/// Which rule finds a packet's kthread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Policy {
    /// Upstream's: the RSS hash modulo the number of active kthreads.
    Modulo,
    /// Caladan's idea: the RSS hash modulo all kthreads; parked ones are deputised for.
    KthreadTable,
    /// The paper's: each flow has a home core of its own.
    #[default]
    FlowTable,
    /// Each of 65,536 groups of flows has a home core.
    Buckets,
    /// As `Buckets`, with exceptions for heavy flows and the operator's rules.
    Hybrid,
}

impl Policy {
    /// All policies.
    pub const ALL: [Policy; 5] = [
        Policy::Modulo,
        Policy::KthreadTable,
        Policy::FlowTable,
        Policy::Buckets,
        Policy::Hybrid,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Modulo => "modulo",
            Policy::KthreadTable => "kthread-table",
            Policy::FlowTable => "flow-table",
            Policy::Buckets => "buckets",
            Policy::Hybrid => "hybrid",
        }
    }

    /// The name of the system that steers so, which is a second name for it.
    pub fn alias(self) -> Option<&'static str> {
        match self {
            Policy::Modulo => Some("shenango"),
            Policy::KthreadTable => Some("caladan"),
            Policy::FlowTable => Some("calisto"),
            Policy::Buckets | Policy::Hybrid => None,
        }
    }

    /// The policy of this name or alias.
    pub fn named(name: &str) -> Option<Policy> {
        Policy::ALL
            .into_iter()
            .find(|p| p.name() == name || p.alias() == Some(name))
    }

    /// True if flows, or groups of them, have home cores: only then do affinity and
    /// the order guard mean anything.
    pub fn has_homes(self) -> bool {
        !matches!(self, Policy::Modulo | Policy::KthreadTable)
    }
}

/// What becomes of a flow whose home core its proc does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Affinity {
    /// It gets a new home among the active cores, and keeps that.
    #[default]
    Sticky,
    /// If that core is idle and the proc may grow, the core is woken for it; else as
    /// [`Affinity::Sticky`]. (Paper, listing 3.)
    Strict,
}

/// Flows that a table has room for by default; the paper's number.
pub const FLOW_ENTRIES: u32 = 700_000;
/// Most flows that a table may be asked to have room for.
pub const FLOW_ENTRIES_MAX: u32 = 16_000_000;
/// Time without a packet after which a flow may be forgotten. The paper's flows send
/// one packet a minute.
pub const FLOW_IDLE: Micros = Micros(300_000_000);

/// How the flows of each proc are steered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SteeringSpec {
    /// The rule.
    pub policy: Policy,
    /// For flows whose home core was lost.
    pub affinity: Affinity,
    /// Flows that the flow table has room for, and [`Self::watch_flows`] watches.
    pub flow_entries: u32,
    /// Time without a packet after which a flow may be forgotten.
    pub flow_idle: Micros,
    /// A flow moves only when its old kthread has taken the last packet queued for it.
    pub order_guard: bool,
    /// Count, exactly and under any policy, packets whose flow changed core.
    pub watch_flows: bool,
}

impl Default for SteeringSpec {
    fn default() -> SteeringSpec {
        SteeringSpec {
            policy: Policy::default(),
            affinity: Affinity::default(),
            flow_entries: FLOW_ENTRIES,
            flow_idle: FLOW_IDLE,
            order_guard: false,
            watch_flows: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_policies() {
        for policy in Policy::ALL {
            assert_eq!(Policy::named(policy.name()), Some(policy));
            if let Some(alias) = policy.alias() {
                assert_eq!(Policy::named(alias), Some(policy));
            }
        }
        assert_eq!(Policy::named("Modulo"), None);
    }
}
