//! From an Ethernet address to the runtime that has it.
//!
//! One entry is one word: 48 bits of address, 16 of slot. Up to eight runtimes
//! are found in a single cache line; more go to a hash table of at most a quarter
//! load, where a search ends at the first empty entry.
//!
//! ```text
//!   entry: | 63 .. slot .. 48 | 47 .. address .. 0 |      empty: all ones
//! ```

use crate::dataplane::loans::MAX_PROCS;
use crate::ids::{Mac, ProcSlot};

const LINE: usize = 8;
const TABLE: usize = 4 * MAX_PROCS;
const EMPTY: u64 = u64::MAX;
const MAC_BITS: u64 = (1 << 48) - 1;

#[repr(align(64))]
#[derive(Debug)]
struct Line([u64; LINE]);

/// The table of registered addresses. Group addresses are never in it, so the
/// empty entry (whose address is broadcast) matches no lookup.
#[derive(Debug)]
pub struct Macs {
    line: Line,
    table: Box<[u64]>,
    len: usize,
}

impl Default for Macs {
    fn default() -> Self {
        Macs {
            line: Line([EMPTY; LINE]),
            table: vec![EMPTY; TABLE].into_boxed_slice(),
            len: 0,
        }
    }
}

#[inline]
fn home(mac: u64) -> usize {
    // Fibonacci hashing: the product's top bits depend on all of the address's.
    #[allow(clippy::cast_possible_truncation, reason = "12 bits")]
    let h = (mac.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - TABLE.trailing_zeros())) as usize;
    h
}

impl Macs {
    /// The runtime with the address `mac` (its low 48 bits, first byte lowest).
    #[inline]
    pub fn find(&self, mac: u64) -> Option<ProcSlot> {
        let mac = mac & MAC_BITS;
        if self.len > LINE {
            return self.find_in_table(mac);
        }
        let line = &self.line.0;
        let found = line.iter().find(|entry| **entry & MAC_BITS == mac);
        found
            .filter(|entry| **entry != EMPTY)
            .map(|entry| slot_of(*entry))
    }

    fn find_in_table(&self, mac: u64) -> Option<ProcSlot> {
        let mut at = home(mac);
        for _ in 0..TABLE {
            let entry = self.table[at];
            if entry == EMPTY {
                return None;
            }
            if entry & MAC_BITS == mac {
                return Some(slot_of(entry));
            }
            at = (at + 1) % TABLE;
        }
        None
    }

    /// Addresses in the table.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if nobody has an address.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an address. False if it is there already, or is a group address.
    #[must_use]
    pub fn insert(&mut self, mac: Mac, slot: ProcSlot) -> bool {
        let bits = mac.to_bits();
        if mac.is_multicast() || self.find(bits).is_some() || self.len == MAX_PROCS {
            return false;
        }
        let entry = u64::from(slot.0) << 48 | bits;
        if self.len < LINE {
            self.line.0[self.len] = entry;
        }
        let mut at = home(bits);
        while self.table[at] != EMPTY {
            at = (at + 1) % TABLE;
        }
        self.table[at] = entry;
        self.len += 1;
        true
    }

    /// Removes the address if it belongs to `slot`; nobody else's entry goes.
    pub fn remove(&mut self, mac: Mac, slot: ProcSlot) {
        let bits = mac.to_bits();
        if self.find(bits) != Some(slot) {
            return;
        }
        let mut hole = home(bits);
        while self.table[hole] & MAC_BITS != bits {
            hole = (hole + 1) % TABLE;
        }
        self.close_hole(hole);
        self.len -= 1;
        self.refill_line();
    }

    /// Empties an entry and moves later ones of the run back over it, so that
    /// no search stops early.
    fn close_hole(&mut self, mut hole: usize) {
        self.table[hole] = EMPTY;
        let mut at = hole;
        for _ in 0..TABLE {
            at = (at + 1) % TABLE;
            let entry = self.table[at];
            if entry == EMPTY {
                return;
            }
            let from = home(entry & MAC_BITS);
            // Not if its home lies behind the hole, on the way to where it is.
            if (at + TABLE - from) % TABLE >= (at + TABLE - hole) % TABLE {
                self.table[hole] = entry;
                self.table[at] = EMPTY;
                hole = at;
            }
        }
    }

    fn refill_line(&mut self) {
        self.line.0 = [EMPTY; LINE];
        if self.len <= LINE {
            let entries = self.table.iter().filter(|e| **e != EMPTY);
            for (to, entry) in self.line.0.iter_mut().zip(entries) {
                *to = *entry;
            }
        }
    }
}

#[inline]
fn slot_of(entry: u64) -> ProcSlot {
    #[allow(clippy::cast_possible_truncation, reason = "16 bits")]
    ProcSlot((entry >> 48) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn mac(n: u16) -> Mac {
        let [a, b] = n.to_be_bytes();
        Mac([2, 0, 0, 0, a, b])
    }

    #[test]
    fn a_thousand_runtimes_are_all_found() {
        let mut macs = Macs::default();
        for n in 0..1024 {
            assert!(macs.insert(mac(n), ProcSlot(n)));
        }
        assert!(!macs.insert(mac(5000), ProcSlot(0)), "the table is full");
        for n in 0..1024 {
            assert_eq!(macs.find(mac(n).to_bits()), Some(ProcSlot(n)));
        }
        assert_eq!(macs.find(mac(1024).to_bits()), None);
    }

    #[test]
    fn a_taken_address_stays_with_its_owner() {
        let mut macs = Macs::default();
        assert!(macs.insert(mac(1), ProcSlot(1)));
        assert!(!macs.insert(mac(1), ProcSlot(2)));
        macs.remove(mac(1), ProcSlot(2));
        assert_eq!(macs.find(mac(1).to_bits()), Some(ProcSlot(1)));
    }

    #[test]
    fn broadcast_is_nobodys_address() {
        let mut macs = Macs::default();
        assert!(!macs.insert(Mac::BROADCAST, ProcSlot(1)));
        assert_eq!(macs.find(Mac::BROADCAST.to_bits()), None);
        assert_eq!(macs.find(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(ops in prop::collection::vec((any::<bool>(), 0_u16..24), 0..300)) {
            let mut macs = Macs::default();
            let mut model = BTreeMap::new();
            for (add, n) in ops {
                if add {
                    let fresh = !model.contains_key(&n);
                    prop_assert_eq!(macs.insert(mac(n), ProcSlot(n)), fresh);
                    model.insert(n, ProcSlot(n));
                } else {
                    macs.remove(mac(n), ProcSlot(n));
                    model.remove(&n);
                }
                for n in 0..24 {
                    prop_assert_eq!(macs.find(mac(n).to_bits()), model.get(&n).copied());
                }
            }
        }
    }
}
