//! Containers over small dense indices that never allocate after construction.

use crate::ids::{CoreId, ProcSlot};

/// A doubly linked list of the indices `0..capacity`, each in it at most once.
///
/// Links live in arrays by index, so that every operation takes constant time.
#[derive(Debug)]
pub(super) struct IndexList {
    links: Box<[Link]>,
    first: u16,
    last: u16,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    prev: u16,
    next: u16,
}

/// No neighbour.
const END: u16 = u16::MAX;
/// Not in the list.
const OUT: Link = Link {
    prev: u16::MAX - 1,
    next: u16::MAX - 1,
};

impl IndexList {
    /// An empty list of indices below `capacity`, which is at most 65,534.
    pub(super) fn new(capacity: usize) -> IndexList {
        assert!(
            capacity <= usize::from(OUT.prev),
            "an index list holds at most {} indices, {capacity} were asked for",
            OUT.prev
        );
        IndexList {
            links: vec![OUT; capacity].into_boxed_slice(),
            first: END,
            last: END,
        }
    }

    /// The index at the front.
    #[inline]
    pub(super) fn first(&self) -> Option<u16> {
        (self.first != END).then_some(self.first)
    }

    /// The index at the back.
    #[inline]
    pub(super) fn last(&self) -> Option<u16> {
        (self.last != END).then_some(self.last)
    }

    /// The index after `i`, towards the back.
    #[inline]
    pub(super) fn next(&self, i: u16) -> Option<u16> {
        let next = self.links[usize::from(i)].next;
        (next < OUT.next).then_some(next)
    }

    /// True if `i` is in the list.
    #[inline]
    pub(super) fn contains(&self, i: u16) -> bool {
        self.links[usize::from(i)].next != OUT.next
    }

    /// Puts `i`, which is not in the list, at the front.
    pub(super) fn push_front(&mut self, i: u16) {
        debug_assert!(!self.contains(i), "{i} is in the list already");
        self.links[usize::from(i)] = Link {
            prev: END,
            next: self.first,
        };
        match self.first {
            END => self.last = i,
            old => self.links[usize::from(old)].prev = i,
        }
        self.first = i;
    }

    /// Puts `i`, which is not in the list, at the back.
    pub(super) fn push_back(&mut self, i: u16) {
        debug_assert!(!self.contains(i), "{i} is in the list already");
        self.links[usize::from(i)] = Link {
            prev: self.last,
            next: END,
        };
        match self.last {
            END => self.first = i,
            old => self.links[usize::from(old)].next = i,
        }
        self.last = i;
    }

    /// Takes `i` out, if it is in.
    pub(super) fn remove(&mut self, i: u16) {
        if !self.contains(i) {
            return;
        }
        let Link { prev, next } = std::mem::replace(&mut self.links[usize::from(i)], OUT);
        match prev {
            END => self.first = next,
            p => self.links[usize::from(p)].next = next,
        }
        match next {
            END => self.last = prev,
            n => self.links[usize::from(n)].prev = prev,
        }
    }
}

/// A set of procs, walked in slot order, 64 slots a step.
#[derive(Debug)]
pub(super) struct SlotSet {
    words: Box<[u64]>,
}

impl SlotSet {
    /// An empty set of slots below `capacity`.
    pub(super) fn new(capacity: usize) -> SlotSet {
        SlotSet {
            words: vec![0; capacity.div_ceil(64)].into_boxed_slice(),
        }
    }

    /// Makes `slot` a member or not.
    #[inline]
    pub(super) fn set(&mut self, slot: ProcSlot, member: bool) {
        let bit = 1 << (slot.0 % 64);
        let word = &mut self.words[slot.index() / 64];
        if member {
            *word |= bit;
        } else {
            *word &= !bit;
        }
    }

    /// The lowest member that is `from` or above.
    #[inline]
    pub(super) fn at_or_after(&self, from: usize) -> Option<ProcSlot> {
        let mut at = from / 64;
        let mut word = self.words.get(at)? & (u64::MAX << (from % 64));
        while word == 0 {
            at += 1;
            word = *self.words.get(at)?;
        }
        let slot = at * 64 + word.trailing_zeros() as usize;
        Some(ProcSlot(u16::try_from(slot).expect("slots fit 16 bits")))
    }
}

/// A set of cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CoreSet {
    words: [u64; 4],
}

impl CoreSet {
    /// True if `core` is a member.
    #[inline]
    pub(super) fn contains(&self, core: CoreId) -> bool {
        self.words[core.index() / 64] >> (core.0 % 64) & 1 != 0
    }

    /// Makes `core` a member.
    #[inline]
    pub(super) fn insert(&mut self, core: CoreId) {
        self.words[core.index() / 64] |= 1 << (core.0 % 64);
    }

    /// Makes `core` no member.
    #[inline]
    pub(super) fn remove(&mut self, core: CoreId) {
        self.words[core.index() / 64] &= !(1 << (core.0 % 64));
    }

    /// The number of members.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The members, lowest first.
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = CoreId> + use<> {
        let words = self.words;
        (0..4u16).flat_map(move |at| {
            let mut word = words[usize::from(at)];
            std::iter::from_fn(move || {
                let bit = u16::try_from(word.trailing_zeros())
                    .ok()
                    .filter(|&b| b < 64)?;
                word &= word - 1;
                Some(CoreId(at * 64 + bit))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(list: &IndexList) -> Vec<u16> {
        std::iter::successors(list.first(), |&i| list.next(i)).collect()
    }

    #[test]
    fn list_keeps_order_through_removals() {
        let mut list = IndexList::new(5);
        assert_eq!((list.first(), list.last()), (None, None));
        list.push_back(1);
        list.push_back(2);
        list.push_front(0);
        list.push_front(4);
        assert_eq!(members(&list), [4, 0, 1, 2]);
        list.remove(0);
        list.remove(3);
        assert_eq!(members(&list), [4, 1, 2]);
        list.remove(4);
        list.remove(2);
        assert_eq!((list.first(), list.last()), (Some(1), Some(1)));
        assert!(list.contains(1) && !list.contains(2));
        list.remove(1);
        assert_eq!((list.first(), list.last()), (None, None));
        list.push_front(1);
        assert_eq!(members(&list), [1]);
    }

    #[test]
    fn slots_are_walked_in_order_across_words() {
        let mut set = SlotSet::new(200);
        for slot in [199, 0, 64, 63, 130] {
            set.set(ProcSlot(slot), true);
        }
        set.set(ProcSlot(130), false);
        let walk: Vec<u16> =
            std::iter::successors(set.at_or_after(0), |s| set.at_or_after(s.index() + 1))
                .map(|s| s.0)
                .collect();
        assert_eq!(walk, [0, 63, 64, 199]);
        assert_eq!(set.at_or_after(256), None, "past the last word");
    }

    #[test]
    fn cores_are_counted_and_walked_lowest_first() {
        let mut set = CoreSet::default();
        assert_eq!(set.len(), 0);
        for core in [255, 64, 3, 0] {
            set.insert(CoreId(core));
        }
        set.remove(CoreId(64));
        assert_eq!(set.len(), 3);
        assert!(set.contains(CoreId(255)) && !set.contains(CoreId(64)));
        let walk: Vec<u16> = set.iter().map(|c| c.0).collect();
        assert_eq!(walk, [0, 3, 255]);
    }
}
