//! What a policy costs in the dispatch path, beside `modulo` on the same packets.
//!
//! One polling loop, two runtimes of ten active kthreads each, one steered by `modulo`
//! and one by another policy. A round gives both the same packets, of 700,000 flows at
//! random (every flow has sent before), in bursts; what is timed is the turn of the loop
//! that receives, steers and publishes them, and looks after cores now and then. Printed:
//! nanoseconds a packet, medians of all rounds, and the ratio in the same round: the
//! median, and the middle half.
//!
//! Producer and consumer share a CPU here, and there is no NIC: this is the loop's own
//! receiving, to compare policies with; sending, the larger part of a packet's cost, is
//! not in it. Before that: what each policy takes of memory, and of the control thread's
//! time. Arguments: the number of rounds (101), `flows=N`, and which of it all (`memory`, a
//! policy).

use std::hint::black_box;
use std::time::{Duration, Instant};

use calisto::steering::{Policy, ProcSteering, SteeringSpec};
use calisto::testing::{Peer, World, mac};

const KTHREADS: u16 = 10;
const FLOWS: u32 = 700_000;
const BURST: usize = 64;
/// Bursts of one policy in a round.
const BURSTS: usize = 256;

/// Bursts of these sizes.
const SIZES: [usize; 2] = [64, 8];

struct Runtime {
    slot: u16,
    peer: Peer,
    /// Nanoseconds a packet, by round.
    rounds: Vec<f64>,
}

fn main() {
    let mut rounds = 101;
    let mut flows = FLOWS;
    let mut wanted = Vec::new();
    for arg in std::env::args().skip(1) {
        if let Some(n) = arg.strip_prefix("flows=").and_then(|n| n.parse().ok()) {
            flows = n;
            continue;
        }
        match arg.parse() {
            Ok(n) => rounds = n,
            // What cargo passes to every bench.
            Err(_) if arg == "--bench" => {}
            Err(_) if arg == "memory" || specs().iter().any(|(name, _)| *name == arg) => {
                wanted.push(arg);
            }
            Err(_) => {
                eprintln!("steering: {arg}: give a number of rounds, flows=N, memory, or a policy");
                std::process::exit(2);
            }
        }
    }
    let wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    if wanted("memory") {
        memory();
    }
    println!("\n{flows} flows, {KTHREADS} kthreads, {rounds} rounds; ns a packet");
    println!("policy                    burst   modulo   policy   ratio (middle half)");
    for (name, spec) in specs() {
        for size in SIZES.into_iter().filter(|_| wanted(&name)) {
            compare(&name, spec, size, (rounds, flows));
        }
    }
}

/// What steering of one runtime takes: memory, and the control thread's time when the
/// runtime attaches and when it has left.
fn memory() {
    println!("policy                     entries      KiB   made in ms (least-most)   freed in ms");
    let sizes = [700_000, 16_000_000];
    let with = |flow_entries| {
        specs()
            .into_iter()
            .map(move |(name, spec)| (name, flow_entries, spec))
    };
    for (name, flow_entries, spec) in sizes.into_iter().flat_map(with) {
        let spec = SteeringSpec {
            flow_entries,
            ..spec
        };
        let (mut made, mut freed, mut bytes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..9 {
            let start = Instant::now();
            let steering = ProcSteering::new(&spec, KTHREADS, || ()).expect("memory");
            made.push(start.elapsed().as_secs_f64() * 1e3);
            bytes = steering.bytes();
            let start = Instant::now();
            drop(steering);
            freed.push(start.elapsed().as_secs_f64() * 1e3);
        }
        println!(
            "{name:24} {flow_entries:9} {:8}   {:8.3} ({:.3}-{:.3})   {:8.3}",
            bytes / 1024,
            quartile(&made, 2),
            quartile(&made, 0),
            quartile(&made, 4),
            quartile(&freed, 2),
        );
    }
}

/// Measures one policy beside `modulo`.
fn compare(name: &str, spec: SteeringSpec, size: usize, (rounds, flows): (usize, u32)) {
    let mut world = World::new(2 * KTHREADS);
    let modulo = SteeringSpec {
        policy: Policy::Modulo,
        ..SteeringSpec::default()
    };
    let mut both = [(0, modulo), (1, spec)].map(|(slot, spec)| attach(&mut world, slot, spec));
    // Every flow has sent, and every buffer has a frame.
    let all: Vec<u32> = (0..flows).map(hash).collect();
    for runtime in &mut both {
        run(&mut world, runtime, &all, BURST);
    }
    let mut dice = 88_172_645_463_325_252;
    for round in 0..rounds {
        let packets: Vec<u32> = (0..BURST * BURSTS)
            .map(|_| hash(next(&mut dice) % flows))
            .collect();
        // Who begins has no advantage.
        for i in [round % 2, 1 - round % 2] {
            let spent = run(&mut world, &mut both[i], &packets, size);
            let ns = spent.as_secs_f64() * 1e9 / packets.len() as f64;
            both[i].rounds.push(ns);
        }
    }
    let [base, other] = both.map(|runtime| runtime.rounds);
    let ratios: Vec<f64> = other.iter().zip(&base).map(|(a, b)| a / b).collect();
    println!(
        "{name:26} {size:4} {:8.2} {:8.2}   {:.3} ({:.3}-{:.3})",
        quartile(&base, 2),
        quartile(&other, 2),
        quartile(&ratios, 2),
        quartile(&ratios, 1),
        quartile(&ratios, 3),
    );
}

fn specs() -> Vec<(String, SteeringSpec)> {
    let of = |policy| SteeringSpec {
        policy,
        ..SteeringSpec::default()
    };
    let mut all: Vec<(String, SteeringSpec)> = Policy::ALL
        .into_iter()
        .map(|policy| (policy.name().to_owned(), of(policy)))
        .collect();
    let guarded = SteeringSpec {
        order_guard: true,
        ..of(Policy::FlowTable)
    };
    let watched = SteeringSpec {
        watch_flows: true,
        ..of(Policy::Modulo)
    };
    all.push(("flow-table, order guard".to_owned(), guarded));
    all.push(("modulo, watched".to_owned(), watched));
    all
}

/// A runtime of which all kthreads are active, because a queue stood still.
fn attach(world: &mut World, slot: u16, spec: SteeringSpec) -> Runtime {
    let before = world.count(calisto::stats::Counter::Wakes);
    let (peer, proc) = World::steered_peer(slot, KTHREADS.into(), KTHREADS, spec);
    world.admit(proc);
    // A uthread waits, for ever.
    peer.set_runqueue(0, 1, 0);
    for n in 0.. {
        if world.count(calisto::stats::Counter::Wakes) >= before + u64::from(KTHREADS) {
            break;
        }
        assert!(n < 10_000_000, "not all kthreads were granted a core");
        world.turns(1);
    }
    peer.set_runqueue(0, 0, 0);
    Runtime {
        slot,
        peer,
        rounds: Vec::new(),
    }
}

/// Lets packets of these flows arrive and be taken. The loop's own time for them.
fn run(world: &mut World, runtime: &mut Runtime, flows: &[u32], size: usize) -> Duration {
    let mut spent = Duration::ZERO;
    let to = mac(runtime.slot);
    for burst in flows.chunks(size) {
        for &hash in burst {
            assert!(world.dataplane.port_mut().receive_again(to, hash, 60));
        }
        let start = Instant::now();
        black_box(world.dataplane.turn());
        spent += start.elapsed();
        let mut taken = 0;
        for kthread in 0..runtime.peer.kthreads.len() {
            while let Some(msg) = runtime.peer.recv(kthread) {
                let tag = world.rx_hdr(msg.payload).completion_data;
                runtime.peer.give_back(kthread, tag);
                taken += 1;
            }
        }
        assert_eq!(taken, burst.len(), "all packets of a burst arrive");
        world.turns(2);
    }
    spent
}

/// As a NIC gives them: spread, and always the same for a flow.
fn hash(flow: u32) -> u32 {
    let x = (u64::from(flow) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as u32
}

fn next(seed: &mut u64) -> u32 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 32) as u32
}

/// Quartiles: 0 the least, 2 the median, 4 the greatest.
fn quartile(values: &[f64], q: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * q / 4]
}
