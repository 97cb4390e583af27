//! Caladan's idea: the hash modulo the number of *all* kthreads finds a slot, and the
//! slot names an active kthread.
//!
//! Slot `i` is kthread `i`'s own. While that is parked the slot is lent to an active
//! kthread, to each in turn; it comes back with its owner. So a park moves the flows of
//! one kthread, and a grant moves them back. Flows follow kthreads here, not cores.
//!
//! Invariant: while a kthread is active, every slot names an active one.
//!
//! *Source:* the idea of Caladan's `flow_tbl` (shenango/caladan, iokernel/dpdk).

use super::core_set::CoreSet;
use crate::ids::KthreadIdx;

/// The slots of one proc.
#[derive(Debug)]
pub(super) struct KthreadTable {
    slots: Box<[KthreadIdx]>,
    turn: usize,
}

impl KthreadTable {
    pub(super) fn new(kthreads: u16) -> KthreadTable {
        KthreadTable {
            slots: (0..kthreads).map(KthreadIdx).collect(),
            turn: 0,
        }
    }

    #[inline(always)]
    pub(super) fn steer_burst(&self, hashes: &[u32], out: &mut [KthreadIdx]) {
        #[allow(clippy::cast_possible_truncation, reason = "at most NCPU kthreads")]
        let n = self.slots.len() as u32;
        for (&hash, kthread) in hashes.iter().zip(out) {
            *kthread = self.slots[(hash % n) as usize];
        }
    }

    /// A kthread became active: its slot is its own again.
    pub(super) fn activated(&mut self, cores: &CoreSet, kthread: KthreadIdx) {
        self.slots[kthread.index()] = kthread;
        if cores.active().len() == 1 {
            // The first one: nobody else can take any packet.
            self.slots.fill(kthread);
        }
    }

    /// A kthread parked: its slots are lent to those that are active.
    pub(super) fn parked(&mut self, cores: &CoreSet, kthread: KthreadIdx) {
        let active = cores.active();
        if active.is_empty() {
            return;
        }
        for slot in self.slots.iter_mut().filter(|slot| **slot == kthread) {
            self.turn = (self.turn + 1) % active.len();
            *slot = active[self.turn];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CoreId;

    fn slots(table: &KthreadTable) -> Vec<u16> {
        table.slots.iter().map(|k| k.0).collect()
    }

    #[test]
    fn a_slot_is_lent_while_its_owner_is_parked_and_comes_back() {
        let (mut table, mut cores) = (KthreadTable::new(4), CoreSet::new(4));
        let on = |table: &mut KthreadTable, cores: &mut CoreSet, n: u16| {
            cores.activated(KthreadIdx(n), CoreId(n));
            table.activated(cores, KthreadIdx(n));
        };
        on(&mut table, &mut cores, 2);
        assert_eq!(slots(&table), [2, 2, 2, 2]);
        on(&mut table, &mut cores, 0);
        on(&mut table, &mut cores, 1);
        on(&mut table, &mut cores, 3);
        assert_eq!(slots(&table), [0, 1, 2, 3]);
        cores.parked(KthreadIdx(1));
        table.parked(&cores, KthreadIdx(1));
        let lent = slots(&table)[1];
        assert_ne!(lent, 1);
        assert_eq!(
            [slots(&table)[0], slots(&table)[2], slots(&table)[3]],
            [0, 2, 3]
        );
        on(&mut table, &mut cores, 1);
        assert_eq!(slots(&table), [0, 1, 2, 3]);
    }

    #[test]
    fn slots_of_the_last_kthread_wait_for_the_next() {
        let (mut table, mut cores) = (KthreadTable::new(3), CoreSet::new(3));
        cores.activated(KthreadIdx(0), CoreId(0));
        table.activated(&cores, KthreadIdx(0));
        cores.parked(KthreadIdx(0));
        table.parked(&cores, KthreadIdx(0));
        cores.activated(KthreadIdx(2), CoreId(0));
        table.activated(&cores, KthreadIdx(2));
        assert_eq!(slots(&table), [2, 2, 2]);
    }
}
