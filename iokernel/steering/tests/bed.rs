//! A proc without a machine: cores come and go, packets queue and are taken.

use std::collections::{HashMap, VecDeque};

use crate::ids::{CoreId, KthreadIdx, Micros};
use crate::stats::{SteerCounter, SteerStats};
use crate::steering::order::Rxqs;
use crate::steering::rules::RuleSet;
use crate::steering::spec::{Affinity, Policy, SteeringSpec};
use crate::steering::{ProcSteering, Steered, Surroundings};

/// Cores that there are.
pub(super) const CORES: u16 = 16;

/// A kthread's rxq: which flow's packets lie in it.
#[derive(Debug, Default, Clone)]
pub(super) struct Queue {
    pub(super) sent: u32,
    pub(super) lying: VecDeque<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Queues(pub(super) Vec<Queue>);

impl Rxqs for Queues {
    fn sent(&self, kthread: KthreadIdx) -> u32 {
        self.0[kthread.index()].sent
    }

    fn consumed(&mut self, kthread: KthreadIdx) -> u32 {
        let queue = &self.0[kthread.index()];
        queue
            .sent
            .wrapping_sub(u32::try_from(queue.lying.len()).unwrap())
    }
}

/// Where a packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Went {
    pub(super) kthread: KthreadIdx,
    pub(super) core: CoreId,
}

/// The proc, and what is known of it without looking into its steering.
#[derive(Debug)]
pub(super) struct Bed {
    pub(super) steering: ProcSteering,
    pub(super) queues: Queues,
    pub(super) rules: Box<RuleSet>,
    pub(super) now: Micros,
    pub(super) stats: SteerStats,
    /// Active kthreads and their cores, in the order of the arbiter's list.
    pub(super) active: Vec<(KthreadIdx, CoreId)>,
    /// By flow: where its newest packet went.
    pub(super) last: HashMap<u32, Went>,
    /// A core that is asked for is given.
    pub(super) generous: bool,
    one_by_one: bool,
}

pub(super) fn spec(policy: Policy) -> SteeringSpec {
    SteeringSpec {
        policy,
        affinity: Affinity::Sticky,
        flow_entries: 1,
        ..SteeringSpec::default()
    }
}

impl Bed {
    pub(super) fn new(spec: &SteeringSpec, kthreads: u16) -> Bed {
        Bed {
            steering: *ProcSteering::new(spec, kthreads, || ()).expect("memory"),
            queues: Queues(vec![Queue::default(); kthreads.into()]),
            rules: Box::default(),
            now: Micros(1),
            stats: SteerStats::default(),
            active: Vec::new(),
            last: HashMap::new(),
            generous: false,
            one_by_one: spec.order_guard,
        }
    }

    pub(super) fn count(&mut self, counter: SteerCounter) -> u64 {
        self.steering.flush(&self.stats);
        self.stats.get(counter)
    }

    pub(super) fn is_active(&self, kthread: u16) -> bool {
        self.active.iter().any(|(k, _)| k.0 == kthread)
    }

    pub(super) fn has(&self, core: CoreId) -> bool {
        self.active.iter().any(|(_, c)| *c == core)
    }

    /// A kthread gets a core; `relieves` stood still. Nothing if either is taken.
    pub(super) fn grant(&mut self, kthread: u16, core: u16, relieves: Option<u16>) {
        let (k, c) = (KthreadIdx(kthread), CoreId(core));
        if self.is_active(kthread) || self.has(c) {
            return;
        }
        self.active.push((k, c));
        self.steering
            .activated(k, c, relieves.map(KthreadIdx), self.now);
    }

    /// A kthread parks. Nothing if it is not active.
    pub(super) fn park(&mut self, kthread: u16) {
        if let Some(at) = self.active.iter().position(|(k, _)| k.0 == kthread) {
            let (k, _) = self.active.swap_remove(at);
            self.steering.parked(k);
        }
    }

    /// A kthread takes packets off its rxq.
    pub(super) fn take(&mut self, kthread: u16, packets: usize) {
        let lying = &mut self.queues.0[usize::from(kthread)].lying;
        lying.drain(..packets.min(lying.len()));
    }

    /// Packets of these flows arrive together. Where each went. A kthread is active.
    pub(super) fn receive(&mut self, flows: &[u32]) -> Vec<Went> {
        let mut out = vec![KthreadIdx(u16::MAX); flows.len()];
        let mut at = 0;
        while at < flows.len() {
            let end = if self.one_by_one { at + 1 } else { flows.len() };
            let mut around = Surroundings {
                rxqs: &mut self.queues,
                rules: &self.rules,
                now: self.now,
            };
            let steered =
                self.steering
                    .steer_burst(&flows[at..end], &mut around, &mut out[at..end]);
            let done = match steered {
                Steered::All => end,
                Steered::Wants { steered, core } => {
                    let free = (0..self.queues.0.len())
                        .map(|k| u16::try_from(k).unwrap())
                        .find(|&k| !self.is_active(k));
                    let next = at + steered;
                    match free.filter(|_| self.generous && !self.has(core)) {
                        Some(kthread) => {
                            self.grant(kthread, core.0, None);
                            self.steering.woken_for_flow();
                            next
                        }
                        None => {
                            let mut around = Surroundings {
                                rxqs: &mut self.queues,
                                rules: &self.rules,
                                now: self.now,
                            };
                            self.steering.steer_refused(
                                flows[next],
                                &mut around,
                                &mut out[next..=next],
                            );
                            next + 1
                        }
                    }
                }
            };
            for i in at..done {
                self.queue(flows[i], out[i]);
            }
            at = done;
        }
        let core = |k: &KthreadIdx| self.active.iter().find(|(a, _)| a == k);
        let went: Vec<Went> = out
            .iter()
            .map(|k| Went {
                kthread: *k,
                core: core(k).expect("only active kthreads are named").1,
            })
            .collect();
        for (flow, went) in flows.iter().zip(&went) {
            self.last.insert(*flow, *went);
        }
        went
    }

    fn queue(&mut self, flow: u32, kthread: KthreadIdx) {
        let queue = &mut self.queues.0[kthread.index()];
        queue.sent = queue.sent.wrapping_add(1);
        queue.lying.push_back(flow);
        self.steering.queued(flow, kthread, &mut self.queues);
    }

    /// Where one packet goes.
    pub(super) fn one(&mut self, flow: u32) -> Went {
        self.receive(&[flow])[0]
    }

    /// Everything is taken.
    pub(super) fn take_all(&mut self) {
        for queue in &mut self.queues.0 {
            queue.lying.clear();
        }
    }
}
