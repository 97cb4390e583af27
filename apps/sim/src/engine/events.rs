//! What is planned, in the order of time.
//!
//! Nearly all of it is for kthreads, each of which has one plan at most. So their plans are
//! the leaves of a tree in which each node holds the earlier of the two below it, the root the
//! first of all: planning and taking one is a walk from leaf to root, without memory to be had
//! or anything to be moved about. What is rare (signals, of which a kthread may have several)
//! lies in a heap beside it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A kthread comes to the end of what it does.
    Kthread { proc: u16, kthread: u16 },
    /// The signal that asks it to give up its core arrives.
    Signal { proc: u16, kthread: u16 },
    /// Reporting begins.
    Open,
    /// Packets stop coming.
    Close,
}

/// Time and order of a plan in one number, by which plans are compared: 64 bits of time, 48
/// of how many were planned before, 16 of the leaf that it is of.
type Key = u128;

/// Nothing is planned.
const NONE: Key = Key::MAX;

/// The plan. Of events of the same time, the one that was planned first comes first.
#[derive(Debug)]
pub(super) struct Events {
    /// The root is at 1, below `i` are `2i` and `2i + 1`.
    tree: Vec<Key>,
    /// By leaf: whose it is.
    kthreads: Vec<(u16, u16)>,
    /// By proc: its first leaf.
    first: Vec<usize>,
    /// The leaf of the event that was taken last, of which the tree does not know yet: mostly
    /// the same kthread is planned anew, which is one walk then.
    taken: Option<usize>,
    rare: BinaryHeap<Reverse<(Key, Event)>>,
    planned: u64,
}

impl Events {
    /// Without plans, for procs with so many kthreads.
    pub(super) fn new(procs: impl Iterator<Item = u16>) -> Events {
        let (mut kthreads, mut first) = (Vec::new(), Vec::new());
        for (proc, count) in (0..).zip(procs) {
            first.push(kthreads.len());
            kthreads.extend((0..count).map(|kthread| (proc, kthread)));
        }
        Events {
            tree: vec![NONE; 2 * kthreads.len().next_power_of_two()],
            kthreads,
            first,
            taken: None,
            rare: BinaryHeap::new(),
            planned: 0,
        }
    }

    fn key(&mut self, at: u64, leaf: usize) -> Key {
        self.planned += 1;
        Key::from(at) << 64 | Key::from(self.planned) << 16 | leaf as Key
    }

    /// Plans what a kthread comes to next, in place of what was planned for it.
    pub(super) fn plan(&mut self, proc: usize, kthread: usize, at: u64) {
        let leaf = self.first[proc] + kthread;
        let key = self.key(at, leaf);
        if self.taken == Some(leaf) {
            self.taken = None;
        }
        self.put(leaf, key);
    }

    /// Plans another event.
    pub(super) fn plan_rare(&mut self, at: u64, event: Event) {
        let key = self.key(at, 0);
        self.rare.push(Reverse((key, event)));
    }

    fn put(&mut self, leaf: usize, key: Key) {
        let tree = &mut self.tree[..];
        let mut at = tree.len() / 2 + leaf;
        let mut earliest = key;
        tree[at] = key;
        while at > 1 {
            earliest = earliest.min(tree[at ^ 1]);
            at /= 2;
            tree[at] = earliest;
        }
    }

    fn next_rare(&self) -> Key {
        self.rare.peek().map_or(NONE, |Reverse((key, _))| *key)
    }

    /// The time of the next one; `u64::MAX` if there is none.
    #[allow(clippy::cast_possible_truncation, reason = "the upper half")]
    pub(super) fn next_at(&mut self) -> u64 {
        self.settle();
        (self.tree[1].min(self.next_rare()) >> 64) as u64
    }

    /// Takes the last taken event out of the tree, unless another came in its place.
    fn settle(&mut self) {
        if let Some(leaf) = self.taken.take() {
            self.put(leaf, NONE);
        }
    }

    /// Takes the next one.
    pub(super) fn pop(&mut self) -> Option<Event> {
        self.settle();
        let key = self.tree[1];
        if self.next_rare() < key {
            return self.rare.pop().map(|Reverse((_, event))| event);
        }
        if key == NONE {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, reason = "the leaf is in 16 bits")]
        let leaf = usize::from(key as u16);
        self.taken = Some(leaf);
        let (proc, kthread) = self.kthreads[leaf];
        Some(Event::Kthread { proc, kthread })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_the_same_time_the_first_planned_comes_first() {
        let mut events = Events::new([1, 0, 2].into_iter());
        events.plan(2, 1, 5);
        events.plan_rare(5, Event::Open);
        events.plan(0, 0, 5);
        events.plan(2, 0, 4);
        // In place of its first plan.
        events.plan(2, 1, 5);
        let of = |proc, kthread| Event::Kthread { proc, kthread };
        let expected = [of(2, 0), Event::Open, of(0, 0), of(2, 1)];
        assert_eq!(events.next_at(), 4);
        assert_eq!([(); 4].map(|()| events.pop().unwrap()), expected);
        assert_eq!((events.next_at(), events.pop()), (u64::MAX, None));
    }

    proptest! {
        /// Beside a list that is sorted.
        #[test]
        fn events_come_in_order(
            procs in prop::collection::vec(1u16..6, 1..4),
            steps in prop::collection::vec((0u8..4, 0usize..100, 0u64..20), 0..200),
        ) {
            let mut events = Events::new(procs.iter().copied());
            let mut list: Vec<(u64, usize, Event)> = Vec::new();
            for (number, (kind, which, at)) in steps.into_iter().enumerate() {
                let p = which % procs.len();
                let kthread = u16::try_from(which).unwrap() % procs[p];
                let proc = u16::try_from(p).unwrap();
                match kind {
                    0 => {
                        list.sort_unstable();
                        let first = (!list.is_empty()).then(|| list.remove(0));
                        prop_assert_eq!(events.next_at(), first.map_or(u64::MAX, |f| f.0));
                        prop_assert_eq!(events.pop(), first.map(|f| f.2));
                    }
                    1 => {
                        let event = Event::Signal { proc, kthread };
                        events.plan_rare(at, event);
                        list.push((at, number, event));
                    }
                    _ => {
                        let event = Event::Kthread { proc, kthread };
                        events.plan(p, kthread.into(), at);
                        list.retain(|planned| planned.2 != event);
                        list.push((at, number, event));
                    }
                }
            }
        }
    }
}
