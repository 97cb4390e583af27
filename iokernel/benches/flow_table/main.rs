//! The flow table beside DPDK's `rte_hash` and hashbrown, and criterion for ours alone.
//!
//! ```text
//!   cargo bench --bench flow_table                       criterion, then the comparison
//!   cargo bench --bench flow_table -- compare [OPTIONS]  the comparison only
//!     --rounds N      of each figure (61)
//!     --flows LIST    of the lookups (1000,100000,700000,10000000)
//!     --new-flows N   that the table for new flows is made for (700000)
//!     --room N        percent of our table's usual size for so many flows (100)
//!     --small-pages   no table gets huge pages
//!   cargo bench --bench flow_table -- NAME               criterion's of that name
//! ```
//!
//! Criterion measures one thing after the other, and this machine may be another one
//! by then. So the comparison goes in rounds of its own: every table has its turn in
//! each, with the same packets, and a ratio is one of the same round.
//!
//! Hashes lie ready in an array. All tables are in the same kind of pages: DPDK's is in
//! a heap of such pages, whatever the EAL itself has.

#![allow(
    unsafe_code,
    missing_docs,
    clippy::cast_precision_loss,
    reason = "a bench with an allocator of its own"
)]

mod compare;
mod keys;
mod memory;
mod tables;

use std::process::exit;
use std::time::Duration;

use calisto::ids::CoreId;
use calisto::port::dpdk::{Eal, EalConfig};
use criterion::{BenchmarkId, Criterion, Throughput};
use rustix::thread::sched_getaffinity;

use crate::compare::{Plan, compare};

#[global_allocator]
static ALLOCATOR: memory::HugePages = memory::HugePages;

const FLOWS: u32 = 700_000;

/// Ours alone, for finding regressions.
fn ours(c: &mut Criterion) {
    let packets = keys::packets(FLOWS, keys::Spread::Uniform, 1 << 20);
    let mut table = tables::ours(FLOWS);
    let mut out = [CoreId(0); 64];
    let mut group = c.benchmark_group("flow_table/lookup_or_insert");
    for burst in [1, 64] {
        group.throughput(Throughput::Elements(burst as u64));
        let mut bursts = packets.chunks_exact(burst).cycle();
        group.bench_function(BenchmarkId::from_parameter(burst), |b| {
            b.iter(|| {
                let hashes = bursts.next().expect("endless");
                table.lookup_or_insert_burst(hashes, CoreId(1), &mut out);
            });
        });
    }
    group.finish();
}

fn start() -> Result<Eal, String> {
    let cpus = sched_getaffinity(None).map_err(|e| e.to_string())?;
    let cpu = (0..1024).find(|&cpu| cpus.is_set(cpu)).ok_or("no CPU")?;
    println!("on CPU {cpu}; taskset chooses another");
    Eal::init(&EalConfig {
        cpu,
        no_huge: true,
        args: ["--no-pci", "--no-telemetry"].map(str::to_owned).into(),
    })
    .map_err(|e| e.to_string())
}

fn run(plan: &Plan) {
    match start() {
        Ok(eal) => compare(&eal, plan),
        Err(why) => println!("SKIPPED: {why}"),
    }
}

fn bad_usage(why: &str) -> ! {
    eprintln!("flow_table: {why}");
    exit(2);
}

fn number<T: std::str::FromStr>(word: Option<String>) -> T {
    let number = word.and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| bad_usage("give a number"))
}

fn main() {
    let mut plan = Plan {
        rounds: 61,
        lookups: vec![1000, 100_000, FLOWS, 10_000_000],
        new_flows: FLOWS,
        room: 100,
    };
    let mut args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    if args.first().is_some_and(|arg| arg == "compare") {
        let mut args = args.split_off(1).into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--rounds" => plan.rounds = number::<usize>(args.next()).max(1),
                "--new-flows" => plan.new_flows = number::<u32>(args.next()).max(1000),
                "--flows" => {
                    let list = args.next().unwrap_or_default();
                    let list = list.split(',').filter(|word| !word.is_empty());
                    plan.lookups = list.map(|n| number(Some(n.to_owned()))).collect();
                }
                "--room" => plan.room = number::<u32>(args.next()).clamp(50, 1000),
                "--small-pages" => memory::small_pages_only(),
                other => bad_usage(&format!("unknown option {other}")),
            }
        }
        return run(&plan);
    }
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    ours(&mut criterion);
    criterion.final_summary();
    if args.is_empty() {
        run(&plan);
    } else if args.iter().any(|arg| arg == "--test") {
        // `cargo test --benches`: that it runs at all.
        run(&Plan {
            rounds: 1,
            lookups: vec![1000],
            new_flows: 1000,
            ..plan
        });
    }
}
