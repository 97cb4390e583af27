//! Deadlines of procs that sleep, at most one a proc, earliest first.

use crate::ids::{Micros, ProcSlot};

/// A binary heap of deadlines that knows where each proc's entry is, so that a
/// timer can be cancelled. Looking at the earliest takes constant time, changes
/// logarithmic time; nothing allocates after construction.
#[derive(Debug)]
pub(super) struct Timers {
    heap: Vec<Entry>,
    /// By slot: the entry's place in `heap`, or [`NONE`].
    place: Box<[u16]>,
}

/// Ordered by deadline; the slot breaks ties, so that equal input gives equal output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    deadline: Micros,
    slot: ProcSlot,
}

const NONE: u16 = u16::MAX;

impl Timers {
    /// No timers, for slots below `capacity`.
    pub(super) fn new(capacity: usize) -> Timers {
        assert!(
            capacity <= usize::from(NONE),
            "timers for at most {NONE} procs, {capacity} were asked for"
        );
        Timers {
            heap: Vec::with_capacity(capacity),
            place: vec![NONE; capacity].into_boxed_slice(),
        }
    }

    /// Sets the proc's timer; an earlier one of the same proc is forgotten.
    pub(super) fn set(&mut self, slot: ProcSlot, deadline: Micros) {
        self.cancel(slot);
        let at = self.heap.len();
        self.heap.push(Entry { deadline, slot });
        self.settle(at);
    }

    /// Forgets the proc's timer, if it has one.
    pub(super) fn cancel(&mut self, slot: ProcSlot) {
        let at = usize::from(self.place[slot.index()]);
        if at != usize::from(NONE) {
            self.take(at);
        }
    }

    /// True if no timer is set.
    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Takes out one timer that is due at `now`, the earliest first.
    #[inline]
    pub(super) fn pop_due(&mut self, now: Micros) -> Option<ProcSlot> {
        let first = *self.heap.first()?;
        if first.deadline > now {
            return None;
        }
        self.take(0);
        Some(first.slot)
    }

    /// Removes the entry at `at`; the last one fills the gap.
    fn take(&mut self, at: usize) {
        let gone = self.heap.swap_remove(at);
        self.place[gone.slot.index()] = NONE;
        if at < self.heap.len() {
            self.settle(at);
        }
    }

    /// Moves the entry at `at` up or down to where it belongs.
    fn settle(&mut self, mut at: usize) {
        let entry = self.heap[at];
        while at > 0 && entry < self.heap[(at - 1) / 2] {
            self.put(at, self.heap[(at - 1) / 2]);
            at = (at - 1) / 2;
        }
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let child = match (self.heap.get(left), self.heap.get(right)) {
                (Some(l), Some(r)) if r < l => right,
                (Some(_), _) => left,
                (None, _) => break,
            };
            if entry < self.heap[child] {
                break;
            }
            self.put(at, self.heap[child]);
            at = child;
        }
        self.put(at, entry);
    }

    fn put(&mut self, at: usize, entry: Entry) {
        self.heap[at] = entry;
        self.place[entry.slot.index()] = u16::try_from(at).expect("new() bounds the heap");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any sequence of set, cancel and pop agrees with a sorted map.
        #[test]
        fn behaves_as_a_sorted_map(ops in prop::collection::vec((0..3u8, 0..20u16, 0..50u64), 1..200)) {
            let mut timers = Timers::new(20);
            let mut model: BTreeMap<ProcSlot, Micros> = BTreeMap::new();
            for (op, slot, time) in ops {
                let (slot, time) = (ProcSlot(slot), Micros(time));
                match op {
                    0 => {
                        timers.set(slot, time);
                        model.insert(slot, time);
                    }
                    1 => {
                        timers.cancel(slot);
                        model.remove(&slot);
                    }
                    _ => {
                        let due = model
                            .iter()
                            .map(|(&s, &d)| (d, s))
                            .min()
                            .filter(|&(d, _)| d <= time)
                            .map(|(_, s)| s);
                        prop_assert_eq!(timers.pop_due(time), due);
                        if let Some(slot) = due {
                            model.remove(&slot);
                        }
                    }
                }
            }
        }
    }
}
