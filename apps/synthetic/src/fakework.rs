//! Work that a server does for a request, to no purpose.
//!
//! Upstream's kinds, where an iteration of a request's work is
//!
//! - `sqrt`: a square root
//! - `stridedmem:SIZE:STRIDE`: a byte read from a buffer of SIZE bytes, STRIDE after the last
//! - `randmem:SIZE`: a byte read at random
//! - `memstream:SIZE`: the whole buffer read, a byte of each cache line
//!
//! and one more, `flowmem:SIZE:FLOWS`, which is what flow affinity is for: each flow has
//! SIZE bytes of state, and every request of it reads and writes them all, wherever it
//! is served. Iterations come on top, as square roots.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::num::size;

/// Iterations between two looks at whether the work is still wanted.
const ITERATIONS_PER_LOOK: u64 = 1 << 16;
/// Bytes of a cache line.
const LINE: usize = 64;

/// A kind of fake work with its memory. Clones share the memory.
#[derive(Debug, Clone)]
pub struct FakeWork {
    kind: Kind,
    /// Ends work that is under way: a request may ask for centuries.
    stop: Arc<AtomicBool>,
}

#[derive(Debug, Clone)]
enum Kind {
    Sqrt,
    Strided {
        bytes: Arc<[u8]>,
        stride: usize,
    },
    Random {
        bytes: Arc<[u8]>,
        order: Arc<[u32]>,
    },
    Stream {
        bytes: Arc<[u8]>,
    },
    Flows {
        words: Arc<[AtomicU64]>,
        per_flow: usize,
    },
}

impl FakeWork {
    /// The work that `spec` names.
    ///
    /// # Errors
    /// What is wrong with it, in words; also when there is not so much memory.
    pub fn parse(spec: &str) -> Result<FakeWork, String> {
        let mut words = spec.split(':');
        let name = words.next().unwrap_or_default();
        let numbers = words
            .map(|w| w.parse::<u64>().map_err(|_| format!("{w:?} is no number")))
            .collect::<Result<Vec<u64>, String>>()?;
        let kind = match (name, numbers.as_slice()) {
            ("sqrt", []) => Kind::Sqrt,
            ("stridedmem", &[bytes, stride]) => Kind::Strided {
                bytes: noise(bytes)?,
                stride: size(stride),
            },
            ("randmem", &[bytes]) => Kind::Random {
                bytes: noise(bytes)?,
                order: order(bytes)?,
            },
            ("memstream", &[bytes]) => Kind::Stream {
                bytes: noise(bytes)?,
            },
            ("flowmem", &[bytes, flows]) => flow_state(bytes, flows)?,
            _ => {
                return Err("it is none of sqrt, stridedmem:SIZE:STRIDE, randmem:SIZE, \
                            memstream:SIZE, flowmem:SIZE:FLOWS"
                    .to_owned());
            }
        };
        Ok(FakeWork {
            kind,
            stop: Arc::default(),
        })
    }

    /// Set, it ends all work that is under way or comes.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// True if the work depends on the flow.
    pub fn needs_flow(&self) -> bool {
        matches!(self.kind, Kind::Flows { .. })
    }

    /// Does `iterations` of work for a request of the flow with the RSS hash `hash`.
    pub fn work(&self, iterations: u64, hash: u32) {
        if let Kind::Flows { words, per_flow } = &self.kind {
            touch(words, *per_flow, hash);
        }
        let mut done = 0;
        while done < iterations && !self.stop.load(Relaxed) {
            let end = iterations.min(done + ITERATIONS_PER_LOOK);
            self.iterate(done, end);
            done = end;
        }
    }

    /// Iterations `from` to `to`, without the last.
    fn iterate(&self, from: u64, to: u64) {
        match &self.kind {
            Kind::Sqrt | Kind::Flows { .. } => {
                for i in from..to {
                    black_box((black_box(2_350_845.545) * i as f64).sqrt());
                }
            }
            Kind::Strided { bytes, stride } => {
                for i in from..to {
                    let at = size(i).wrapping_mul(*stride) % bytes.len();
                    black_box(bytes[at]);
                }
            }
            Kind::Random { bytes, order } => {
                for i in from..to {
                    let at = order[size(i) % order.len()];
                    black_box(bytes[at as usize]);
                }
            }
            Kind::Stream { bytes } => {
                for _ in from..to {
                    for byte in bytes.iter().step_by(LINE) {
                        black_box(*byte);
                    }
                }
            }
        }
    }
}

/// Reads and writes the whole state of a flow. Two kthreads may do so at once, when a
/// flow moves: each word is atomic, without order, and no lock hides what moving costs.
fn touch(words: &[AtomicU64], per_flow: usize, hash: u32) {
    let flows = words.len() / per_flow;
    let first = hash as usize % flows * per_flow;
    let mut sum = u64::from(hash);
    for word in &words[first..first + per_flow] {
        sum = sum.wrapping_add(word.load(Relaxed)).rotate_left(7);
        word.store(sum, Relaxed);
    }
}

/// Refuses what the machine has no memory for: it would be killed, without a word.
fn affordable(bytes: u64) -> Result<(), String> {
    if bytes == 0 {
        return Err("sizes begin at 1".to_owned());
    }
    let info = rustix::system::sysinfo();
    let memory = info
        .totalram
        .saturating_mul(u64::from(info.mem_unit.max(1)));
    if bytes > memory {
        return Err(format!(
            "it takes {bytes} bytes of memory, this machine has {memory}"
        ));
    }
    Ok(())
}

fn noise(bytes: u64) -> Result<Arc<[u8]>, String> {
    affordable(bytes)?;
    // Bytes are read only, so that any will do; fixed ones repeat a measurement.
    let mut rng = Pcg64Mcg::seed_from_u64(bytes);
    Ok((0..bytes).map(|_| rng.random()).collect())
}

/// Where `randmem` reads, in turn.
fn order(bytes: u64) -> Result<Arc<[u32]>, String> {
    affordable(bytes.saturating_mul(5))?;
    let bytes = u32::try_from(bytes).map_err(|_| "randmem goes up to 4 GiB".to_owned())?;
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    Ok((0..bytes).map(|_| rng.random_range(0..bytes)).collect())
}

fn flow_state(bytes: u64, flows: u64) -> Result<Kind, String> {
    let per_flow = bytes.div_ceil(8);
    let words = per_flow.saturating_mul(flows);
    affordable(words.saturating_mul(8))?;
    Ok(Kind::Flows {
        words: (0..words).map(AtomicU64::new).collect(),
        per_flow: size(per_flow),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_work() {
        for spec in [
            "sqrt",
            "stridedmem:1024:7",
            "stridedmem:1:0",
            "randmem:1000",
            "memstream:65",
            "flowmem:100:10",
        ] {
            let work = FakeWork::parse(spec).expect(spec);
            for iterations in [0, 1, 1000, 200_000] {
                work.work(iterations, 0xffff_ffff);
            }
        }
    }

    #[test]
    fn wrong_words_are_refused() {
        for (spec, why) in [
            ("", "none of"),
            ("sqr", "none of"),
            ("sqrt:1", "none of"),
            ("stridedmem:1024", "none of"),
            ("stridedmem:a:7", "no number"),
            ("stridedmem:-1:7", "no number"),
            ("randmem:0", "begin at 1"),
            ("flowmem:64:0", "begin at 1"),
            ("memstream:1000000000000000000", "of memory"),
            ("flowmem:4294967296:4294967296", "of memory"),
        ] {
            let error = FakeWork::parse(spec).expect_err(spec);
            assert!(error.contains(why), "{spec}: {error}");
        }
    }

    fn state(work: &FakeWork) -> Vec<u64> {
        let Kind::Flows { words, .. } = &work.kind else {
            panic!("no flow state");
        };
        words.iter().map(|w| w.load(Relaxed)).collect()
    }

    #[test]
    fn a_request_writes_all_of_its_flow_and_nothing_else() {
        let work = FakeWork::parse("flowmem:24:4").expect("good");
        let before = state(&work);
        assert_eq!(before.len(), 12, "three words a flow");
        work.work(0, 4 * 1000 + 2);
        let after = state(&work);
        for word in 0..12 {
            let changed = before[word] != after[word];
            assert_eq!(changed, (6..9).contains(&word), "word {word}");
        }
    }

    #[test]
    fn endless_work_can_be_stopped() {
        let work = FakeWork::parse("sqrt").expect("good");
        work.stop_flag().store(true, Relaxed);
        work.work(u64::MAX, 0);
    }
}
