//! Caches and memory: chases through lines in random order.
//!
//! Each line holds the number of the next; so no load can begin before the last has ended. For
//! the further lines of an object, objects of 16 lines that lie one after the other are chased,
//! and all lines of each read: what takes longer than a chase through single lines is theirs.
//! Between two cores: one writes a set of lines, the other then chases through them.

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;

use super::{Found, least, pin};

/// Lines of an object.
const OBJECT: usize = 16;
/// Rounds of each measurement.
const ROUNDS: usize = 15;
/// Loads of a round.
const LOADS: usize = 1 << 18;
/// Lines that go from one core to the other: they fit a first-level cache.
const SHARED: usize = 256;

/// A cache line.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Line(AtomicU64);

impl Line {
    // Relaxed, here and below: what orders the threads is the turn, see `between`.
    fn get(&self) -> usize {
        usize::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// Lines in which a random cycle runs through every `step`-th.
fn cycle(lines: usize, step: usize) -> Vec<Line> {
    let all: Vec<Line> = (0..lines).map(|_| Line::default()).collect();
    let mut order: Vec<usize> = (0..lines / step).map(|i| i * step).collect();
    order.shuffle(&mut rand_pcg::Pcg64Mcg::seed_from_u64(1));
    for (from, to) in order.iter().zip(order.iter().cycle().skip(1)) {
        all[*from].0.store(*to as u64, Ordering::Relaxed);
    }
    all
}

/// Nanoseconds for an object of `object` lines, of many in a random cycle.
fn chase(lines: &[Line], object: usize, objects: usize, start: usize) -> f64 {
    let begin = Instant::now();
    let mut at = start;
    for _ in 0..objects {
        let further = lines[at + 1..at + object].iter();
        black_box(further.fold(0, |sum, line| sum + line.get()));
        at = lines[at].get();
    }
    black_box(at);
    #[allow(clippy::cast_precision_loss, reason = "a number of loads")]
    let each = begin.elapsed().as_nanos() as f64 / objects as f64;
    each
}

/// First and further lines of objects in so many bytes.
fn in_bytes(bytes: usize) -> (f64, f64) {
    let lines = bytes / 64;
    let single = cycle(lines, 1);
    let warm = |all: &[Line], object| chase(all, object, all.len() / object, 0);
    warm(&single, 1);
    let first = least((0..ROUNDS).map(|_| chase(&single, 1, LOADS, 0)));
    drop(single);
    let objects = cycle(lines, OBJECT);
    warm(&objects, OBJECT);
    let whole = (0..ROUNDS).map(|_| chase(&objects, OBJECT, LOADS / OBJECT, 0));
    (first, further(first, least(whole)))
}

/// A further line of an object, by the whole object's time.
#[allow(clippy::cast_precision_loss, reason = "a small number")]
fn further(first: f64, whole: f64) -> f64 {
    ((whole - first) / (OBJECT - 1) as f64).max(0.1)
}

/// First and further lines that the other core wrote.
fn between(cpus: [usize; 2]) -> anyhow::Result<(f64, f64)> {
    let mut results = [0.0; 2];
    for (result, object) in results.iter_mut().zip([1, OBJECT]) {
        let lines = cycle(SHARED, object);
        let turn = AtomicU32::new(0);
        let rounds = 400;
        *result = std::thread::scope(|scope| {
            let writer = scope.spawn(|| -> anyhow::Result<()> {
                pin(None, cpus[1])?;
                for round in 0..rounds {
                    // Acquire and Release, both threads: a round's writes and reads do not mix.
                    while turn.load(Ordering::Acquire) != 2 * round {
                        std::thread::yield_now();
                    }
                    for line in &lines {
                        line.0
                            .store(line.0.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                    turn.store(2 * round + 1, Ordering::Release);
                }
                Ok(())
            });
            let pinned = pin(None, cpus[0]);
            let mut times = Vec::new();
            for round in 0..rounds {
                while turn.load(Ordering::Acquire) != 2 * round + 1 && !writer.is_finished() {
                    std::thread::yield_now();
                }
                times.push(chase(&lines, object, SHARED / object, 0));
                turn.store(2 * round + 2, Ordering::Release);
            }
            pinned?;
            writer.join().expect("the writer does not panic")?;
            anyhow::Ok(least(times.into_iter()))
        })?;
    }
    Ok((results[0], further(results[0], results[1])))
}

/// Bytes of the data or unified cache of that level, as Linux says.
fn cache_bytes(cpu: usize, level: u32) -> Option<u64> {
    (0..8).find_map(|index| {
        let dir = format!("/sys/devices/system/cpu/cpu{cpu}/cache/index{index}");
        let read = |name: &str| std::fs::read_to_string(Path::new(&dir).join(name)).ok();
        if read("level")?.trim() != level.to_string() || read("type")?.trim() == "Instruction" {
            return None;
        }
        let size = read("size")?;
        let (number, unit) = size.trim().split_at(size.trim().len() - 1);
        let unit = match unit {
            "K" => 1 << 10,
            "M" => 1 << 20,
            _ => return None,
        };
        Some(number.parse::<u64>().ok()? * unit)
    })
}

/// Measures, on the first of the CPUs alone and between the two.
pub(super) fn measure(found: &mut Found, cpus: [usize; 2]) -> anyhow::Result<()> {
    let private = cache_bytes(cpus[0], 2).context("Linux does not say how large the L2 is")?;
    let l3 = cache_bytes(cpus[0], 3).context("Linux does not say how large the L3 is")?;
    let mut put = |key, value, how| found.insert(("cache", key), (value, how));
    #[allow(clippy::cast_precision_loss, reason = "sizes of caches")]
    {
        put("private_bytes", private as f64, "sysfs: L2");
        put("l3_bytes", l3 as f64, "sysfs: L3");
    }
    pin(None, cpus[0])?;
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let (first, line) = in_bytes(size(private / 2));
    put("private_ns", first, "chase through half of the L2");
    put("private_line_ns", line, "16 lines less the first");
    let (first, line) = in_bytes(size((private * 4).min(l3 / 2)));
    put("l3_ns", first, "chase through four times the L2");
    put("l3_line_ns", line, "16 lines less the first");
    let (first, line) = in_bytes(size(l3 * 4).min(256 << 20));
    put(
        "memory_ns",
        first,
        "chase through four times the L3, 256 MiB at most",
    );
    put("memory_line_ns", line, "16 lines less the first");
    let (first, line) = between(cpus)?;
    put(
        "dirty_ns",
        first,
        "chase through lines that the other CPU wrote",
    );
    put("dirty_line_ns", line, "16 lines less the first");
    Ok(())
}
