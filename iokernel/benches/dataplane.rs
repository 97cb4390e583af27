//! Dispatch and commands of the whole polling loop, without a NIC.
//!
//! `rx/dispatch`: nanoseconds per received packet, from the port's burst to the
//! published rxq slot, one turn of the loop for 64 packets. `commands`:
//! nanoseconds per returned packet. What the runtime does in between is not
//! timed. Producer and consumer share a CPU here, so no cache line moves between
//! cores: this is the loop's own work, not the whole price of a packet.

use std::time::{Duration, Instant};

use calisto::testing::{Peer, World, mac};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const BURST: u32 = 64;

/// Kthreads that are all active, because their run queues stood still.
fn world(kthreads: usize) -> (World, Peer) {
    let cores = u16::try_from(kthreads).expect("few");
    let mut world = World::new(cores);
    let peer = world.attach(0, kthreads, cores);
    for n in 0.. {
        let active = (0..kthreads).filter(|k| peer.woken(*k).is_some()).count();
        if world.count(calisto::stats::Counter::Wakes) >= kthreads as u64 {
            break;
        }
        assert!(
            n < 10_000_000,
            "{active} of {kthreads} kthreads were granted a core"
        );
        peer.set_runqueue(0, n + 1, n.saturating_sub(1));
        world.turns(1);
    }
    peer.set_runqueue(0, 0, 0);
    // Every buffer gets a frame's bytes once.
    while world.receive(0, 0) {}
    let mut peer = peer;
    let mut tags = Vec::new();
    loop {
        world.turns(64);
        drain(&world, &mut peer, &mut tags);
        if tags.is_empty() {
            break;
        }
        give_back(&mut world, &mut peer, &mut tags);
    }
    (world, peer)
}

fn drain(world: &World, peer: &mut Peer, tags: &mut Vec<(usize, u64)>) {
    for kthread in 0..peer.kthreads.len() {
        while let Some(msg) = peer.recv(kthread) {
            tags.push((kthread, world.rx_hdr(msg.payload).completion_data));
        }
    }
}

fn give_back(world: &mut World, peer: &mut Peer, tags: &mut Vec<(usize, u64)>) {
    for (i, (kthread, tag)) in tags.drain(..).enumerate() {
        peer.give_back(kthread, tag);
        if i % 32 == 31 {
            world.turns(1);
        }
    }
    world.turns(16);
}

/// A cheap generator of flows; the same sequence each time.
fn next(seed: &mut u64) -> u32 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 32) as u32
}

fn dispatch(c: &mut Criterion) {
    let mut group = c.benchmark_group("rx/dispatch/64");
    group.throughput(Throughput::Elements(u64::from(BURST)));
    for (kthreads, flows) in [
        (1, 1),
        (1, 1024),
        (1, 700_000),
        (10, 1),
        (10, 1024),
        (10, 700_000),
    ] {
        let (mut world, mut peer) = world(kthreads);
        let mut seed = 88_172_645_463_325_252;
        let id = BenchmarkId::new(format!("{kthreads} kthreads"), format!("{flows} flows"));
        group.bench_function(id, |b| {
            b.iter_custom(|iterations| {
                let mut tags = Vec::new();
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    for _ in 0..BURST {
                        let hash = (next(&mut seed) % flows).wrapping_mul(0x9e37_79b9);
                        assert!(world.dataplane.port_mut().receive_again(mac(0), hash, 60));
                    }
                    let start = Instant::now();
                    world.dataplane.turn();
                    spent += start.elapsed();
                    drain(&world, &mut peer, &mut tags);
                    assert_eq!(tags.len(), BURST as usize);
                    give_back(&mut world, &mut peer, &mut tags);
                }
                spent
            });
        });
    }
    group.finish();
}

fn commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("commands/64");
    group.throughput(Throughput::Elements(u64::from(BURST)));
    for kthreads in [1, 10] {
        let (mut world, mut peer) = world(kthreads);
        let mut seed = 88_172_645_463_325_252;
        let id = BenchmarkId::from_parameter(format!("{kthreads} kthreads"));
        group.bench_function(id, |b| {
            b.iter_custom(|iterations| {
                let mut tags = Vec::new();
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    for _ in 0..BURST {
                        let hash = next(&mut seed);
                        assert!(world.dataplane.port_mut().receive_again(mac(0), hash, 60));
                    }
                    world.dataplane.turn();
                    drain(&world, &mut peer, &mut tags);
                    for (kthread, tag) in tags.drain(..) {
                        peer.give_back(kthread, tag);
                    }
                    let start = Instant::now();
                    world.dataplane.turn();
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, dispatch, commands);
criterion_main!(benches);
