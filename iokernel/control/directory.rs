//! Who is attached, for readers outside the control thread.
//!
//! The control thread enters a runtime when it admits it and takes it out when it
//! dismisses it; counters of runtimes that left stay in the totals. The polling loop
//! never comes here: what it counts is read through [`SteerStats`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::{Mac, ProcId};
use crate::proc::Proc;
use crate::stats::{SteerCounter, SteerStats, Total};

/// A shared handle; clones are the same directory.
#[derive(Debug, Clone, Default)]
pub struct Directory(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    /// In order of arrival.
    attached: Vec<Entry>,
    /// What those that left had counted, by [`SteerCounter`]'s order.
    departed: [u64; SteerCounter::ALL.len()],
}

/// One runtime.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Slot and generation.
    pub id: ProcId,
    /// Its process.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// How many kthreads it has.
    pub kthreads: usize,
    /// Cores it is given whenever it wants them.
    pub guaranteed_cores: u16,
    /// What is counted of its steering, as it is now and goes on.
    pub steering: SteerStats,
}

impl Entry {
    fn of(proc: &Proc) -> Entry {
        Entry {
            id: proc.id,
            pid: proc.pid,
            uid: proc.uid,
            mac: proc.mac,
            kthreads: proc.kthreads.len(),
            guaranteed_cores: proc.guaranteed_cores,
            steering: proc.steer_stats.clone(),
        }
    }
}

impl Directory {
    /// A runtime was admitted.
    pub fn enter(&self, proc: &Proc) {
        self.book().attached.push(Entry::of(proc));
    }

    /// A runtime was dismissed; what it counted stays in the totals.
    pub fn leave(&self, id: ProcId) {
        let mut book = self.book();
        let Some(at) = book.attached.iter().position(|entry| entry.id == id) else {
            return;
        };
        let entry = book.attached.remove(at);
        for (sum, counter) in book.departed.iter_mut().zip(SteerCounter::ALL) {
            let count = entry.steering.get(*counter);
            match counter.total() {
                Total::Sum => *sum += count,
                Total::Greatest => *sum = count.max(*sum),
                Total::SumOfAttached | Total::GreatestOfAttached => {}
            }
        }
    }

    /// Those that are attached, leaving ones included, in order of arrival.
    pub fn attached(&self) -> Vec<Entry> {
        self.book().attached.clone()
    }

    /// The counters of all runtimes together, those that left included.
    pub fn totals(&self) -> SteerStats {
        let book = self.book();
        let totals = SteerStats::default();
        for (departed, counter) in book.departed.iter().zip(SteerCounter::ALL) {
            let counts = book.attached.iter().map(|e| e.steering.get(*counter));
            let total = match counter.total() {
                Total::Sum | Total::SumOfAttached => departed + counts.sum::<u64>(),
                Total::Greatest | Total::GreatestOfAttached => {
                    counts.max().unwrap_or(0).max(*departed)
                }
            };
            totals.set(*counter, total);
        }
        totals
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Each change is whole before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn those_that_left_stay_in_the_totals() {
        let directory = Directory::default();
        let procs = [0, 1].map(|slot| World::peer(slot, 2, 1).1);
        for (proc, n) in procs.iter().zip([100, 1]) {
            directory.enter(proc);
            proc.steer_stats.add(SteerCounter::Packets, 5 * n);
            proc.steer_stats.set(SteerCounter::Flows, 3 * n);
            proc.steer_stats.set(SteerCounter::Imbalance, 1000 * n);
            proc.steer_stats.set(SteerCounter::ImbalanceMax, 2000 * n);
        }
        let totals = || {
            let totals = directory.totals();
            [
                SteerCounter::Packets,
                SteerCounter::Flows,
                SteerCounter::Imbalance,
                SteerCounter::ImbalanceMax,
            ]
            .map(|counter| totals.get(counter))
        };
        assert_eq!(totals(), [505, 303, 100_000, 200_000]);
        directory.leave(procs[0].id);
        // Its packets were steered; its flows are gone.
        assert_eq!(totals(), [505, 3, 1000, 200_000]);
        let attached = directory.attached();
        assert_eq!(attached.len(), 1);
        assert_eq!((attached[0].id, attached[0].kthreads), (procs[1].id, 2));
        // It counts on, and is seen to.
        procs[1].steer_stats.add(SteerCounter::Packets, 1);
        assert_eq!(totals()[0], 506);
        assert_eq!(attached[0].steering.get(SteerCounter::Packets), 6);
    }
}
