//! Steering of one proc: its cores, its policy's state, its counts.

use std::io;

use super::ahead::Ahead;
use super::buckets::{Buckets, bucket};
use super::core_set::CoreSet;
use super::flow_table::FlowSteering;
use super::hybrid::Hybrid;
use super::imbalance::Imbalance;
use super::kthread_table::KthreadTable;
use super::modulo;
use super::order::Rxqs;
use super::rules::RuleSet;
use super::spec::{Affinity, Policy, SteeringSpec};
use super::view::{Delta, Steered, View};
use super::watch::FlowWatch;
use crate::ids::{CoreId, KthreadIdx, Micros};
use crate::stats::{SteerCounter, SteerStats};

#[derive(Debug)]
enum State {
    Modulo,
    KthreadTable(KthreadTable),
    FlowTable(FlowSteering),
    Buckets(Buckets),
    Hybrid(Box<Hybrid>),
}

/// What besides a proc's own state a decision depends on.
#[derive(Debug)]
pub struct Surroundings<'a, R> {
    /// How far the proc's rxqs have come.
    pub rxqs: &'a mut R,
    /// The operator's rules.
    pub rules: &'a RuleSet,
    /// The time, a few microseconds old at most.
    pub now: Micros,
}

/// Steering of one proc. Made and dropped outside the polling loop; nothing in between
/// allocates.
#[derive(Debug)]
pub struct ProcSteering {
    cores: CoreSet,
    state: State,
    watch: Option<FlowWatch>,
    imbalance: Imbalance,
    counts: Delta,
    one_by_one: bool,
    strict: bool,
}

impl ProcSteering {
    /// For a proc of so many kthreads, all parked. All memory is there; `pause` is
    /// called now and then while it is made.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(
        spec: &SteeringSpec,
        kthreads: u16,
        mut pause: impl FnMut(),
    ) -> io::Result<Box<ProcSteering>> {
        let state = match spec.policy {
            Policy::Modulo => State::Modulo,
            Policy::KthreadTable => State::KthreadTable(KthreadTable::new(kthreads)),
            Policy::FlowTable => State::FlowTable(FlowSteering::new(spec, &mut pause)?),
            Policy::Buckets => State::Buckets(Buckets::new(spec, &mut pause)?),
            Policy::Hybrid => State::Hybrid(Box::new(Hybrid::new(spec, &mut pause)?)),
        };
        Ok(Box::new(ProcSteering {
            cores: CoreSet::new(kthreads),
            state,
            watch: spec
                .watch_flows
                .then(|| FlowWatch::new(spec, &mut pause))
                .transpose()?,
            imbalance: Imbalance::new(kthreads),
            counts: Delta {
                watched: spec.watch_flows,
                ..Delta::default()
            },
            one_by_one: spec.order_guard,
            strict: spec.affinity == Affinity::Strict,
        }))
    }

    /// The active kthreads, in the arbiter's order.
    #[inline(always)]
    pub fn active(&self) -> &[KthreadIdx] {
        self.cores.active()
    }

    /// Each packet must be queued before the next is steered: where it is queued decides
    /// about those after it.
    #[inline(always)]
    pub fn one_by_one(&self) -> bool {
        self.one_by_one
    }

    /// Bytes of its tables.
    pub fn bytes(&self) -> usize {
        let state = match &self.state {
            State::Modulo | State::KthreadTable(_) => 0,
            State::FlowTable(flows) => flows.bytes(),
            State::Buckets(buckets) => buckets.bytes(),
            State::Hybrid(hybrid) => hybrid.bytes(),
        };
        state + self.watch.as_ref().map_or(0, FlowWatch::bytes)
    }

    /// Looks entries up with these vectors.
    #[cfg(test)]
    pub(super) fn use_vectors(&mut self, vectors: super::table::Vectors) {
        if let State::FlowTable(flows) = &mut self.state {
            flows.use_vectors(vectors);
        }
    }

    /// Flows that have a home, on whichever core.
    #[cfg(test)]
    pub(super) fn at_home(&self) -> u32 {
        match &self.state {
            State::FlowTable(flows) => (0..256).map(|c| flows.homes.count(CoreId(c))).sum(),
            _ => 0,
        }
    }

    /// What is to be asked for ahead. Buckets are not: they are in the second-level
    /// cache, which answers before an order to it would have been given.
    #[inline]
    pub fn ahead(&self) -> Ahead {
        let ahead = match &self.state {
            State::Modulo | State::KthreadTable(_) | State::Buckets(_) | State::Hybrid(_) => {
                Ahead::default()
            }
            State::FlowTable(flows) => flows.ahead(),
        };
        match &self.watch {
            Some(watch) => watch.ahead(ahead),
            None => ahead,
        }
    }

    /// Finds the kthread for each packet. A kthread must be active.
    ///
    /// # Panics
    /// If none is, or `out` is shorter than `hashes`.
    #[inline]
    pub fn steer_burst<R: Rxqs>(
        &mut self,
        hashes: &[u32],
        around: &mut Surroundings<'_, R>,
        out: &mut [KthreadIdx],
    ) -> Steered {
        self.steer(hashes, around, true, out)
    }

    /// The same for one packet, the home core of which was asked for in vain.
    pub fn steer_refused<R: Rxqs>(
        &mut self,
        hash: u32,
        around: &mut Surroundings<'_, R>,
        out: &mut [KthreadIdx],
    ) {
        let steered = self.steer(&[hash], around, false, out);
        assert!(steered == Steered::All, "a core is asked for once");
    }

    #[inline(always)]
    fn steer<R: Rxqs>(
        &mut self,
        hashes: &[u32],
        around: &mut Surroundings<'_, R>,
        may_wake: bool,
        out: &mut [KthreadIdx],
    ) -> Steered {
        assert!(!self.cores.active().is_empty() && out.len() >= hashes.len());
        #[allow(clippy::cast_possible_truncation, reason = "a burst")]
        let all = hashes.len() as u32;
        let mut view = View {
            cores: &mut self.cores,
            rxqs: &mut *around.rxqs,
            rules: around.rules,
            now: around.now,
            may_wake,
            counts: &mut self.counts,
        };
        let steered = match &mut self.state {
            State::Modulo => {
                modulo::steer_burst(hashes, view.cores.active(), out);
                Steered::All
            }
            State::KthreadTable(table) => {
                table.steer_burst(hashes, out);
                Steered::All
            }
            State::FlowTable(flows) => flows.steer_burst(hashes, &mut view, out),
            State::Buckets(buckets) => buckets.steer_burst(hashes, &mut view, out),
            State::Hybrid(hybrid) => hybrid.steer_burst(hashes, &mut view, out),
        };
        self.counts.packets += match steered {
            Steered::All => all,
            #[allow(clippy::cast_possible_truncation, reason = "a burst")]
            Steered::Wants { steered, .. } => steered as u32,
        };
        steered
    }

    /// A kthread became active on `core`; `relieves` is the one that stood still, if
    /// that is why.
    pub fn activated(
        &mut self,
        kthread: KthreadIdx,
        core: CoreId,
        relieves: Option<KthreadIdx>,
        now: Micros,
    ) {
        self.cores.activated(kthread, core);
        if let State::KthreadTable(table) = &mut self.state {
            table.activated(&self.cores, kthread);
        }
        let from = relieves.filter(|k| self.cores.active().contains(k) && *k != kthread);
        if let Some(from) = from.map(|k| self.cores.core_of(k)) {
            match &mut self.state {
                State::Modulo | State::KthreadTable(_) => {}
                State::FlowTable(flows) => flows.homes.relieve(&mut self.cores, from, core, now),
                State::Buckets(buckets) => {
                    buckets.homes.relieve(&mut self.cores, from, core, now);
                }
                State::Hybrid(hybrid) => hybrid.relieve(&mut self.cores, from, core, now),
            }
        }
    }

    /// An active kthread parked.
    pub fn parked(&mut self, kthread: KthreadIdx) {
        let core = self.cores.parked(kthread);
        match &mut self.state {
            State::Modulo => {}
            State::KthreadTable(table) => table.parked(&self.cores, kthread),
            State::FlowTable(flows) => flows.homes.lost(&mut self.cores, core),
            State::Buckets(buckets) => buckets.homes.lost(&mut self.cores, core),
            State::Hybrid(hybrid) => hybrid.lost(&mut self.cores, core),
        }
    }

    /// The core to be woken for a packet while no kthread is active: with strict
    /// affinity its flow's home, or what a rule says.
    pub fn core_to_wake(&self, hash: u32, rules: &RuleSet) -> Option<CoreId> {
        match &self.state {
            State::FlowTable(flows) if self.strict => flows.home(hash),
            State::Buckets(buckets) if self.strict => buckets.home(bucket(hash)),
            State::Hybrid(hybrid) if self.strict => rules.core(hash).or(hybrid.home_of(hash)),
            _ => None,
        }
    }

    /// A core was woken for a flow at home there.
    pub fn woken_for_flow(&mut self) {
        self.counts.add(SteerCounter::StrictWakes, 1);
    }

    /// A packet was put into the rxq of `kthread`.
    #[inline(always)]
    pub fn queued<R: Rxqs>(&mut self, hash: u32, kthread: KthreadIdx, rxqs: &mut R) {
        // While it waits with a parked kthread it is on no core.
        let core = self.cores.core_of(kthread);
        if let Some(watch) = &mut self.watch
            && self.cores.tenancy(core).runs() == Some(kthread)
        {
            watch.note(hash, kthread, core, rxqs, &mut self.counts);
        }
    }

    /// A little of what need not be done at once: idle flows grow older, imbalance is
    /// measured. `received` is the number of packets that a kthread ever got.
    pub fn housekeep(
        &mut self,
        now: Micros,
        stats: &SteerStats,
        received: impl Fn(KthreadIdx) -> u64,
    ) {
        let gone = match &mut self.state {
            State::Modulo | State::KthreadTable(_) | State::Buckets(_) => 0,
            State::FlowTable(flows) => flows.sweep(now),
            State::Hybrid(hybrid) => hybrid.sweep(now),
        };
        if gone > 0 {
            self.counts.add(SteerCounter::AgedOut, gone);
        }
        if let Some(watch) = &mut self.watch {
            watch.sweep(now);
        }
        if let Some(milli) = self.imbalance.look(now, &self.cores, received) {
            stats.set(SteerCounter::Imbalance, milli);
            let most = stats.get(SteerCounter::ImbalanceMax).max(milli);
            stats.set(SteerCounter::ImbalanceMax, most);
        }
    }

    /// Adds what happened since the last call to the proc's counters.
    #[inline(always)]
    pub fn flush(&mut self, stats: &SteerStats) {
        let counts = &mut self.counts;
        let often = [
            (SteerCounter::Packets, &mut counts.packets),
            (SteerCounter::Hits, &mut counts.hits),
        ];
        for (counter, n) in often {
            let n = u64::from(std::mem::take(n));
            stats.add(counter, n);
        }
        if counts.dirty {
            self.flush_rare(stats);
        }
    }

    fn flush_rare(&mut self, stats: &SteerStats) {
        self.counts.dirty = false;
        for (counter, n) in SteerCounter::ALL.iter().zip(&mut self.counts.rare) {
            let n = std::mem::take(n);
            if n > 0 {
                stats.add(*counter, n.into());
            }
        }
        let flows = match &self.state {
            State::Modulo | State::KthreadTable(_) | State::Buckets(_) => 0,
            State::FlowTable(flows) => flows.flows(),
            State::Hybrid(hybrid) => hybrid.exceptions(),
        };
        stats.set(SteerCounter::Flows, flows as u64);
    }
}
