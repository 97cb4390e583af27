//! How many flows a change of the active set moves, beside the least possible.
//!
//! A walk: each step parks a random kthread or gives one a core, at random, between one
//! kthread and all N; then every flow sends a packet. Seen with `--nocapture`.
//!
//! The least: who wants the flows spread evenly must move 1 in n of them when the n-th
//! kthread comes or goes. A policy that moves fewer leaves the new core with less.

use super::bed::{Bed, spec};
use crate::steering::Policy;

const FLOWS: u32 = 2_000;
const STEPS: u32 = 300;

/// xorshift; the same walk for each policy.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// Shares of flows, in percent, a change; and the busiest kthread over the mean.
struct Moved {
    share: f64,
    least: f64,
    imbalance: f64,
}

fn walk(policy: Policy, kthreads: u16, relief: bool) -> Moved {
    let mut bed = Bed::new(&spec(policy), kthreads);
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let flows: Vec<u32> = (0..FLOWS).map(|i| i.wrapping_mul(0x9e37_79b1)).collect();
    for n in 0..kthreads.div_ceil(2) {
        bed.grant(n, n, None);
    }
    let mut before = bed.receive(&flows);
    let (mut moved, mut least, mut imbalance) = (0, 0.0, 0.0);
    for _ in 0..STEPS {
        let n = bed.active.len();
        let grow = n == 1 || n < kthreads.into() && dice.throw(2) == 0;
        if grow {
            let parked: Vec<u16> = (0..kthreads).filter(|k| !bed.is_active(*k)).collect();
            let kthread = parked[dice.throw(parked.len())];
            let stood = bed.active[dice.throw(n)].0.0;
            // Kthread n has core n, so that the policies of kthreads and of cores compare.
            bed.grant(kthread, kthread, relief.then_some(stood));
            least += 1.0 / (n + 1) as f64;
        } else {
            let kthread = bed.active[dice.throw(n)].0.0;
            bed.park(kthread);
            least += 1.0 / n as f64;
        }
        bed.take_all();
        let after = bed.receive(&flows);
        moved += before
            .iter()
            .zip(&after)
            .filter(|(b, a)| b.core != a.core)
            .count();
        let mut at = vec![0_u32; kthreads.into()];
        for went in &after {
            at[went.kthread.index()] += 1;
        }
        let mean = f64::from(FLOWS) / bed.active.len() as f64;
        imbalance += f64::from(*at.iter().max().unwrap()) / mean;
        before = after;
        bed.now.0 += 100_000;
    }
    let per_step = 100.0 / f64::from(STEPS);
    Moved {
        share: moved as f64 / f64::from(FLOWS) * per_step,
        least: least * per_step,
        imbalance: imbalance / f64::from(STEPS),
    }
}

#[test]
fn tables_move_no_more_than_must_be_and_modulo_nearly_all() {
    println!("flows moved by a change of the active set, %; busiest kthread over mean");
    println!("N   least  policy          without relief     with relief");
    for kthreads in [4, 8, 16] {
        for policy in Policy::ALL {
            let plain = walk(policy, kthreads, false);
            let relief = walk(policy, kthreads, true);
            println!(
                "{kthreads:<3} {:5.1}  {:14}  {:5.1}  ({:4.2})      {:5.1}  ({:4.2})",
                plain.least,
                policy.name(),
                plain.share,
                plain.imbalance,
                relief.share,
                relief.imbalance
            );
            let homes = policy.has_homes();
            // Half of the changes are growth, which moves nothing without relief.
            assert!(!homes || plain.share <= 0.75 * plain.least);
            assert!(!homes || relief.share <= 1.25 * relief.least);
            assert!(policy != Policy::Modulo || plain.share >= 1.5 * plain.least);
        }
    }
}
