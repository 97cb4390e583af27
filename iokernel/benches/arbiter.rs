//! What the arbiter costs the polling loop. Every 5 us a tick is due; between
//! ticks, kthreads park and packets wake them.

use std::hint::black_box;

use calisto::cores::arbiter::{Arbiter, Decisions, Park, ProcSpec, QueueObs, Queues, RuntimeCore};
use calisto::ids::{CoreId, KthreadIdx, Micros, ProcSlot};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// All queues of all kthreads; those of congested kthreads stand still.
struct Positions {
    congested: bool,
}

impl Queues for Positions {
    fn observe(&mut self, proc: ProcSlot, _: KthreadIdx) -> QueueObs {
        let behind = u32::from(self.congested && black_box(proc.0).is_multiple_of(2));
        QueueObs {
            rq_head: 100,
            rq_tail: 100 - behind,
            rxq_sent: 100,
            rxq_consumed: 100,
        }
    }
}

/// `procs` procs that have one core each, and `sleeping` ones that have none.
fn busy_arbiter(procs: u16, sleeping: u16) -> Arbiter {
    let cores: Vec<RuntimeCore> = (0..procs)
        .map(|core| RuntimeCore {
            core: CoreId(core),
            sibling: None,
        })
        .collect();
    let mut arbiter = Arbiter::new(&cores, 1024);
    let mut out = Decisions::new();
    for slot in 0..procs + sleeping {
        let spec = ProcSpec {
            kthreads: 4,
            guaranteed: u16::from(slot >= sleeping),
        };
        arbiter.add(ProcSlot(slot), spec, &mut out);
        if slot < sleeping {
            assert_eq!(
                arbiter.park(ProcSlot(slot), KthreadIdx(0), false, &mut out),
                Park::Stands
            );
        }
        out.clear();
    }
    assert_eq!(arbiter.idle_cores(), 0);
    arbiter
}

fn tick(c: &mut Criterion) {
    for (name, congested, sleeping) in [
        ("arbiter/tick/calm", false, 0),
        ("arbiter/tick/half_congested", true, 0),
        ("arbiter/tick/calm_and_900_asleep", false, 900),
    ] {
        let mut group = c.benchmark_group(name);
        for procs in [1, 10, 100] {
            let mut arbiter = busy_arbiter(procs, sleeping);
            let mut queues = Positions { congested };
            let mut out = Decisions::new();
            let mut now = Micros(0);
            group.throughput(Throughput::Elements(u64::from(procs)));
            group.bench_function(BenchmarkId::from_parameter(procs), |b| {
                b.iter(|| {
                    now.0 += 5;
                    let stats = arbiter.tick(now, &mut queues, &mut out);
                    out.clear();
                    stats
                });
            });
        }
        group.finish();
    }
}

fn park_and_wake(c: &mut Criterion) {
    let mut arbiter = busy_arbiter(10, 0);
    let mut out = Decisions::new();
    c.bench_function("arbiter/park_and_wake", |b| {
        b.iter(|| {
            let park = arbiter.park(ProcSlot(3), KthreadIdx(0), false, &mut out);
            assert_eq!(park, Park::Stands);
            let kthread = arbiter.kthread_for_packet(ProcSlot(3), &mut out);
            out.clear();
            kthread
        });
    });
}

criterion_group!(benches, tick, park_and_wake);
criterion_main!(benches);
