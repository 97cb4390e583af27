//! The operator's rules: flows, by hash, whose core is decided beforehand.
//!
//! Nearly every packet belongs to no rule, so that answer comes first: one bit of
//! 65,536, by 16 bits of the mixed hash. Only when it is set is the table looked at.
//!
//! ```text
//!   hash -> mix --low 16 bits--> bit clear: no rule       (8 KiB, first-level cache)
//!            \---high 12 bits--> slot, and on to the next until found or empty
//! ```
//!
//! A set is built off the polling loop and then belongs to it. A change of the rules
//! is another set.
//!
//! Invariants: a hash has one rule at most; the table is a quarter full at most, so
//! a search ends at an empty slot; the mixing is a bijection, so different hashes
//! share a slot only by its 12 bits.

use std::fmt;

use crate::ids::CoreId;

/// Most rules in a set.
pub const MAX_RULES: usize = 1024;

/// Slots of the table.
const SLOTS: usize = 4 * MAX_RULES;
/// Bits of a slot's number.
const SLOT_BITS: u32 = SLOTS.ilog2();
/// Words of the bitmap.
const WORDS: usize = (1 << 16) / 64;

/// All packets with this RSS hash go to this core, where their runtime has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The RSS hash of a flow.
    pub hash: u32,
    /// Its core.
    pub core: CoreId,
}

/// Why rules make no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Two rules for one hash.
    #[error("two rules for hash {0:#010x}: a flow has one core (UDP and TCP hash alike)")]
    Twice(u32),
    /// More than [`MAX_RULES`].
    #[error("{0} rules: there may be {MAX_RULES}")]
    TooMany(usize),
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    /// `None`: the slot is empty.
    core: Option<CoreId>,
}

/// The rules in force. Empty by default.
#[derive(Clone)]
pub struct RuleSet {
    bits: [u64; WORDS],
    slots: [Slot; SLOTS],
    len: usize,
}

impl Default for RuleSet {
    fn default() -> RuleSet {
        RuleSet {
            bits: [0; WORDS],
            slots: [Slot {
                hash: 0,
                core: None,
            }; SLOTS],
            len: 0,
        }
    }
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleSet")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl RuleSet {
    /// A set of these rules. Allocates: not for the polling loop.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn build(rules: impl IntoIterator<Item = Rule>) -> Result<Box<RuleSet>, RuleError> {
        let mut set = Box::<RuleSet>::default();
        let mut rules = rules.into_iter();
        for rule in rules.by_ref().take(MAX_RULES) {
            set.insert(rule)?;
        }
        match rules.count() {
            0 => Ok(set),
            more => Err(RuleError::TooMany(MAX_RULES + more)),
        }
    }

    fn insert(&mut self, Rule { hash, core }: Rule) -> Result<(), RuleError> {
        let mixed = mix(hash);
        let at = probe(mixed)
            .find(|&at| self.slots[at].core.is_none() || self.slots[at].hash == hash)
            .expect("build() fills a quarter at most");
        if self.slots[at].core.is_some() {
            return Err(RuleError::Twice(hash));
        }
        self.slots[at] = Slot {
            hash,
            core: Some(core),
        };
        let (word, bit) = place_of_bit(mixed);
        self.bits[word] |= bit;
        self.len += 1;
        Ok(())
    }

    /// True if there is no rule.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rules in the set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The core that a rule gives the flow with this hash, if there is one.
    #[inline]
    pub fn core(&self, hash: u32) -> Option<CoreId> {
        let mixed = mix(hash);
        let (word, bit) = place_of_bit(mixed);
        if self.bits[word] & bit == 0 {
            return None;
        }
        self.search(hash, mixed)
    }

    /// Out of line: hardly any packet comes here.
    #[inline(never)]
    fn search(&self, hash: u32, mixed: u32) -> Option<CoreId> {
        for at in probe(mixed) {
            match self.slots[at] {
                Slot { core: None, .. } => return None,
                Slot { hash: found, core } if found == hash => return core,
                Slot { .. } => {}
            }
        }
        None
    }
}

/// The slots to look at, in order; each once.
#[inline]
fn probe(mixed: u32) -> impl Iterator<Item = usize> {
    let first = (mixed >> (u32::BITS - SLOT_BITS)) as usize;
    (0..SLOTS).map(move |step| (first + step) % SLOTS)
}

/// Where a mixed hash has its bit: word, and mask.
#[inline]
fn place_of_bit(mixed: u32) -> (usize, u64) {
    let bit = (mixed & 0xffff) as usize;
    (bit / 64, 1 << (bit % 64))
}

/// Spreads what differs anywhere in a hash over all bits; a bijection.
///
/// *Source:* the finalizer of `MurmurHash3_x86_32` (public domain).
#[inline]
fn mix(hash: u32) -> u32 {
    let mut x = hash;
    x = (x ^ x >> 16).wrapping_mul(0x85eb_ca6b);
    x = (x ^ x >> 13).wrapping_mul(0xc2b2_ae35);
    x ^ x >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn rule(hash: u32, core: u16) -> Rule {
        Rule {
            hash,
            core: CoreId(core),
        }
    }

    /// The hash that [`mix`] makes `mixed` of: its steps backwards.
    fn unmix(mixed: u32) -> u32 {
        let mut x = mixed ^ mixed >> 16;
        // The inverses modulo 2^32 of the two factors.
        x = x.wrapping_mul(0x7ed1_b41d);
        x ^= x >> 13 ^ x >> 26;
        x = x.wrapping_mul(0xa5cb_9243);
        x ^ x >> 16
    }

    #[test]
    fn an_empty_set_places_nothing() {
        let set = RuleSet::default();
        assert!(set.is_empty());
        for hash in [0, 1, u32::MAX, 0x51cc_c178] {
            assert_eq!(set.core(hash), None);
        }
    }

    #[test]
    fn a_hash_given_twice_is_named() {
        let error = RuleSet::build([rule(7, 1), rule(0x51cc_c178, 1), rule(0x51cc_c178, 2)]);
        let error = error.unwrap_err();
        assert_eq!(error, RuleError::Twice(0x51cc_c178));
        assert!(error.to_string().contains("0x51ccc178"));
    }

    #[test]
    fn as_many_rules_as_there_may_be_and_no_more() {
        let rules = |n| (0..n).map(|hash| rule(hash, 1));
        let set = RuleSet::build(rules(1024)).unwrap();
        assert_eq!(set.len(), MAX_RULES);
        assert_eq!(
            RuleSet::build(rules(1030)).unwrap_err(),
            RuleError::TooMany(1030)
        );
    }

    /// Rules that all want the last slot, and have one bit: the longest search.
    #[test]
    fn rules_that_collide_are_all_found() {
        let hash = |n: u32| unmix(0xfff0_0007 | n << 16);
        let crowd = |n: u16| (0..n).map(|n| rule(hash(n.into()), n));
        let set = RuleSet::build(crowd(16)).unwrap();
        for n in 0..16 {
            assert_eq!(set.core(hash(n.into())), Some(CoreId(n)));
        }
        // The same slot and bit, and no rule.
        let set = RuleSet::build(crowd(15)).unwrap();
        assert_eq!(mix(hash(15)) & 0xffff, 7);
        assert_eq!(set.core(hash(15)), None);
    }

    proptest! {
        #[test]
        fn mixing_is_a_bijection(hash: u32) {
            prop_assert_eq!(unmix(mix(hash)), hash);
        }

        /// Few different hashes, so that many are given twice and many asked for are there.
        #[test]
        fn it_agrees_with_a_hash_map(
            given in proptest::collection::vec((0..3000_u32, 0..256_u16), 0..1024),
            spread: u32,
            strangers in proptest::collection::vec(any::<u32>(), 0..1000),
        ) {
            let scatter = |n: u32| n.wrapping_mul(spread | 1);
            let mut model = HashMap::new();
            for (n, core) in given {
                model.entry(scatter(n)).or_insert(core);
            }
            let rules = model.iter().map(|(hash, core)| rule(*hash, *core));
            let set = RuleSet::build(rules).unwrap();
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.is_empty(), model.is_empty());
            for hash in (0..3000).map(scatter).chain(strangers) {
                let found = set.core(hash).map(|core| core.0);
                prop_assert_eq!(found, model.get(&hash).copied());
            }
        }
    }
}
