//! The daemon's own code: steering and the arbiter, called in a loop.
//!
//! Steering with 64 flows, whose entries are in the nearest cache: arithmetic alone, for the
//! simulator adds the wait for lines itself. Bursts of 64, ten kthreads.

use std::hint::black_box;
use std::time::Instant;

use calisto::cores::arbiter::{Arbiter, Decisions, ProcSpec, QueueObs, Queues, RuntimeCore};
use calisto::ids::{CoreId, KthreadIdx, Micros, ProcSlot};
use calisto::steering::rules::RuleSet;
use calisto::steering::{Affinity, Policy, ProcSteering, Rxqs, SteeringSpec, Surroundings};

use super::{Found, least};

const BURST: usize = 64;
const KTHREADS: u16 = 10;
const ROUNDS: usize = 31;
const BURSTS: usize = 2000;

/// Rxqs from which everything has been taken.
struct Empty;

impl Rxqs for Empty {
    fn sent(&self, _: KthreadIdx) -> u32 {
        0
    }

    fn consumed(&mut self, _: KthreadIdx) -> u32 {
        0
    }
}

impl Queues for Empty {
    fn observe(&mut self, _: ProcSlot, _: KthreadIdx) -> QueueObs {
        QueueObs::default()
    }
}

/// Nanoseconds of each of `n` things.
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn each(n: usize, what: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    what();
    begin.elapsed().as_nanos() as f64 / n as f64
}

/// A packet under a policy, of known flows, and of new ones.
fn steering(policy: Policy, order_guard: bool) -> anyhow::Result<(f64, f64)> {
    let spec = SteeringSpec {
        policy,
        order_guard,
        affinity: Affinity::Sticky,
        ..SteeringSpec::default()
    };
    let rules = RuleSet::default();
    let mut out = [KthreadIdx(0); BURST];
    let (mut known, mut new) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut steering = ProcSteering::new(&spec, KTHREADS, || {})?;
        for k in 0..KTHREADS {
            steering.activated(KthreadIdx(k), CoreId(k), None, Micros(0));
        }
        let mut run = |bursts: usize, hash: &dyn Fn(usize) -> u32| {
            each(bursts * BURST, || {
                for burst in 0..bursts {
                    let hashes: [u32; BURST] = std::array::from_fn(|i| hash(burst * BURST + i));
                    let around = &mut Surroundings {
                        rxqs: &mut Empty,
                        rules: &rules,
                        now: Micros(0),
                    };
                    if order_guard {
                        for (hash, out) in hashes.chunks(1).zip(out.chunks_mut(1)) {
                            let _ = steering.steer_burst(hash, around, out);
                        }
                    } else {
                        let _ = steering.steer_burst(&hashes, around, &mut out);
                    }
                    black_box(&out);
                }
            })
        };
        #[allow(clippy::cast_possible_truncation, reason = "it wraps")]
        let spread = |n: usize| (n as u32).wrapping_mul(0x9e37_79b1);
        new.push(run(BURSTS, &spread));
        run(BURSTS, &|n| spread(n % BURST));
        known.push(run(BURSTS, &|n| spread(n % BURST)));
    }
    Ok((least(known.into_iter()), least(new.into_iter())))
}

/// A tick without active kthreads, and with ten.
fn ticks() -> (f64, f64) {
    let cores: Vec<RuntimeCore> = (0..KTHREADS)
        .map(|core| RuntimeCore {
            core: CoreId(core),
            sibling: None,
        })
        .collect();
    let run = |active: bool| {
        let mut arbiter = Arbiter::new(&cores, 1);
        let mut out = Decisions::new();
        if active {
            let spec = ProcSpec {
                kthreads: KTHREADS,
                guaranteed: 0,
            };
            arbiter.add(ProcSlot(0), spec, &mut out);
            for core in 1..KTHREADS {
                let _ = arbiter.wake_on(ProcSlot(0), CoreId(core), &mut out);
            }
        }
        let rounds = (0..ROUNDS).map(|_| {
            each(BURSTS, || {
                for now in 0..BURSTS {
                    out.clear();
                    black_box(arbiter.tick(Micros(now as u64), &mut Empty, &mut out));
                }
            })
        });
        least(rounds)
    };
    let none = run(false);
    (none, ((run(true) - none) / f64::from(KTHREADS)).max(0.1))
}

/// Measures.
pub(super) fn measure(found: &mut Found) -> anyhow::Result<()> {
    let how = "steer_burst, 64 known flows, bursts of 64";
    for (policy, key) in [
        (Policy::Modulo, "modulo_ns"),
        (Policy::KthreadTable, "kthread_table_ns"),
        (Policy::FlowTable, "flow_table_ns"),
        (Policy::Buckets, "buckets_ns"),
        (Policy::Hybrid, "hybrid_ns"),
    ] {
        let (known, new) = steering(policy, false)?;
        found.insert(("dispatcher.steer", key), (known, how));
        if policy == Policy::FlowTable {
            let insert = (new - known).max(0.1);
            let how = "new flows less known ones";
            found.insert(("dispatcher.steer", "insert_ns"), (insert, how));
            let guard = (steering(policy, true)?.0 - known).max(0.1);
            let how = "flow-table with the order guard less without";
            found.insert(("dispatcher.steer", "guard_ns"), (guard, how));
        }
    }
    let (tick, kthread) = ticks();
    found.insert(("dispatcher", "tick_ns"), (tick, "no active kthread"));
    found.insert(
        ("dispatcher", "tick_kthread_ns"),
        (kthread, "ten active kthreads less none"),
    );
    Ok(())
}
