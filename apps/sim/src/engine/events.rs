//! What is planned for kthreads, in the order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What happens to a kthread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// It comes to the end of what it does, if its generation is still this.
    Kthread {
        proc: u16,
        kthread: u16,
        generation: u32,
    },
    /// The signal that asks it to give up its core arrives.
    Signal { proc: u16, kthread: u16 },
    /// Reporting begins.
    Open,
    /// Packets stop coming.
    Close,
}

/// The plan. Of events of the same time, the one that was planned first comes first.
#[derive(Debug, Default)]
pub(super) struct Events {
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    planned: u64,
}

impl Events {
    /// Plans an event.
    pub(super) fn plan(&mut self, at: u64, event: Event) {
        self.planned += 1;
        self.heap.push(Reverse((at, self.planned, event)));
    }

    /// The time of the next one; `u64::MAX` if there is none.
    pub(super) fn next_at(&self) -> u64 {
        self.heap.peek().map_or(u64::MAX, |Reverse((at, ..))| *at)
    }

    /// Takes the next one.
    pub(super) fn pop(&mut self) -> Option<Event> {
        self.heap.pop().map(|Reverse((_, _, event))| event)
    }
}
