//! Runtimes killed by the hundred: nothing is lost, nobody else notices.
//!
//! `scripts/soak.sh` runs the same for ten thousand cycles.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use compat_tests::Host;
use compat_tests::storm::{LinuxTraffic, LocalTraffic, Storm, Traffic};

/// Cycles of the test on the loopback port: each kind of death several times.
const CYCLES: u64 = 96;
/// On a DPDK port, which is slower.
const DPDK_CYCLES: u64 = 24;
/// Cycles between two checkpoints.
const CHECK_EVERY: u64 = 250;
/// Other numbers of cycles, and another seed.
const CYCLES_VAR: &str = "CALISTO_STORM_CYCLES";
const DPDK_CYCLES_VAR: &str = "CALISTO_STORM_DPDK_CYCLES";
const SEED_VAR: &str = "CALISTO_STORM_SEED";

fn number(var: &str, default: u64) -> u64 {
    match std::env::var(var) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{var}={text}: give a number")),
        Err(_) => default,
    }
}

fn rage(mut storm: Storm<impl Traffic>, cycles: u64) {
    for cycle in 1..=cycles {
        storm.cycle();
        if cycle % CHECK_EVERY == 0 {
            storm.checkpoint();
            eprintln!("{}", storm.progress());
            storm.resume();
        }
    }
    eprintln!("{}", storm.end());
}

#[test]
fn killed_runtimes_leave_nothing_behind_and_a_neighbour_loses_nothing() {
    let (cycles, seed) = (number(CYCLES_VAR, CYCLES), number(SEED_VAR, 1));
    let Some(host) = Host::loopback("a storm of kills") else {
        return;
    };
    eprintln!("{cycles} cycles on the loopback port, {SEED_VAR}={seed}");
    rage(Storm::begin(host, LocalTraffic::default(), seed), cycles);
}

#[test]
fn the_same_on_a_dpdk_port() {
    let (cycles, seed) = (number(DPDK_CYCLES_VAR, DPDK_CYCLES), number(SEED_VAR, 1));
    let case = "a storm of kills on a DPDK port";
    // As many as are guaranteed, so that what a victim has beyond its own is taken away.
    let Some((host, peer)) = Host::veth_with(case, &["--virtual-cores", "2"]) else {
        return;
    };
    eprintln!("{cycles} cycles on a DPDK port, {SEED_VAR}={seed}");
    rage(Storm::begin(host, LinuxTraffic::new(peer), seed), cycles);
}
