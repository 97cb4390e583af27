//! The tables that are compared, and how each is asked.

use std::hint::black_box;
use std::slice::from_ref;

use calisto::ids::{CoreId, Micros};
use calisto::port::dpdk::Eal;
use calisto::steering::table::{FlowTable, Vectors};
use calisto::testing::rte_hash::{BULK, Heap, RteHash};
use hashbrown::HashMap;

/// One way to ask one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Ours, in bursts of so many.
    Ours(Vectors, usize),
    /// The paper's: `rte_hash_lookup_data`, and `rte_hash_add_key_data` if it finds none.
    Single,
    /// `rte_hash_lookup_bulk_data`, 64 keys a call.
    Bulk,
    /// hashbrown's map with its default hasher, foldhash.
    Hashbrown,
}

impl Way {
    pub(crate) fn name(self) -> String {
        match self {
            Way::Ours(vectors, burst) => format!("ours {vectors:?} x{burst}").to_lowercase(),
            Way::Single => "rte_hash single".into(),
            Way::Bulk => "rte_hash bulk x64".into(),
            Way::Hashbrown => "hashbrown".into(),
        }
    }

    /// All, ours last.
    pub(crate) fn all() -> Vec<Way> {
        let mut all = vec![Way::Single, Way::Bulk, Way::Hashbrown];
        for vectors in Vectors::available() {
            all.extend([Way::Ours(vectors, 64), Way::Ours(vectors, 1)]);
        }
        all
    }
}

/// A flow's home core, as the tables hold it.
fn home(hash: u32) -> CoreId {
    CoreId((hash >> 7 & 0xf).try_into().expect("4 bits"))
}

pub(crate) fn ours(flows: u32) -> FlowTable {
    FlowTable::new(flows, Micros(1 << 40), || ()).expect("memory")
}

/// One of each.
pub(crate) struct Tables<'a> {
    /// What ours is made for.
    ours_for: u32,
    pub(crate) ours: FlowTable,
    pub(crate) dpdk: RteHash<'a>,
    pub(crate) map: HashMap<u32, CoreId>,
}

impl<'a> Tables<'a> {
    /// Ours for `ours_for` flows.
    pub(crate) fn new(eal: &'a Eal, heap: &'a Heap<'_>, flows: u32, ours_for: u32) -> Tables<'a> {
        Tables {
            ours_for,
            ours: ours(ours_for),
            dpdk: RteHash::new(eal, Some(heap), flows).expect("the heap is large enough"),
            map: HashMap::with_capacity(flows as usize),
        }
    }

    /// Bytes that DPDK's table takes, and some more.
    pub(crate) fn heap_size(flows: u32) -> usize {
        flows as usize * 64 + (16 << 20)
    }

    /// Puts these flows, and no others, into the tables that `way` asks.
    pub(crate) fn fill(&mut self, way: Way, hashes: &[u32]) {
        match way {
            Way::Ours(..) => self.ours = ours(self.ours_for),
            Way::Single | Way::Bulk => self.dpdk.clear(),
            Way::Hashbrown => self.map.clear(),
        }
        for hash in hashes {
            let core = home(*hash);
            match way {
                Way::Ours(..) => {
                    let out = &mut [CoreId(0)];
                    self.ours.lookup_or_insert_burst(from_ref(hash), core, out);
                }
                Way::Single | Way::Bulk => assert!(self.dpdk.set(hash, core)),
                Way::Hashbrown => _ = self.map.insert(*hash, core),
            }
        }
    }

    /// How many flows the table of `way` holds.
    pub(crate) fn len(&self, way: Way) -> usize {
        match way {
            Way::Ours(..) => self.ours.len(),
            Way::Single | Way::Bulk => self.dpdk.len(),
            Way::Hashbrown => self.map.len(),
        }
    }

    /// The answers for these hashes: not timed, to see that all say the same.
    pub(crate) fn answers(&mut self, way: Way, hashes: &[u32]) -> Vec<Option<CoreId>> {
        match way {
            Way::Ours(vectors, burst) => {
                self.ours.use_vectors(vectors);
                let mut out = vec![None; hashes.len()];
                for (hashes, out) in hashes.chunks(burst).zip(out.chunks_mut(burst)) {
                    self.ours.lookup_burst(hashes, out);
                }
                out
            }
            Way::Single => hashes.iter().map(|hash| self.dpdk.get(hash)).collect(),
            Way::Bulk => {
                let mut out = Vec::new();
                for hashes in hashes.chunks(BULK) {
                    let (hits, values) = self.dpdk.get_bulk(hashes);
                    out.extend(values.iter().enumerate().map(|(i, &value)| {
                        (hits >> i & 1 == 1).then(|| calisto::testing::rte_hash::core(value))
                    }));
                }
                out
            }
            Way::Hashbrown => hashes.iter().map(|h| self.map.get(h).copied()).collect(),
        }
    }

    /// Looks all of them up. What is found goes to memory, and is not looked at.
    #[inline(never)]
    pub(crate) fn lookup(&mut self, way: Way, hashes: &[u32]) {
        match way {
            Way::Ours(vectors, 1) => {
                self.ours.use_vectors(vectors);
                let mut out = [None];
                for hash in hashes {
                    self.ours.lookup_burst(from_ref(hash), &mut out);
                    black_box(&mut out);
                }
            }
            Way::Ours(vectors, burst) => {
                self.ours.use_vectors(vectors);
                let mut out = [None; 64];
                for hashes in hashes.chunks(burst) {
                    self.ours.lookup_burst(hashes, &mut out);
                    black_box(&mut out);
                }
            }
            Way::Single => {
                for hash in hashes {
                    black_box(self.dpdk.get(hash));
                }
            }
            Way::Bulk => {
                for hashes in hashes.chunks(BULK) {
                    black_box(self.dpdk.get_bulk(hashes));
                }
            }
            Way::Hashbrown => {
                for hash in hashes {
                    black_box(self.map.get(hash));
                }
            }
        }
    }

    /// A packet of each: its flow gets a home core if it has none.
    #[inline(never)]
    pub(crate) fn insert(&mut self, way: Way, hashes: &[u32]) {
        let new = CoreId(5);
        match way {
            Way::Ours(vectors, 1) => {
                self.ours.use_vectors(vectors);
                let mut out = [new];
                for hash in hashes {
                    self.ours
                        .lookup_or_insert_burst(from_ref(hash), new, &mut out);
                    black_box(&mut out);
                }
            }
            Way::Ours(vectors, burst) => {
                self.ours.use_vectors(vectors);
                let mut out = [new; 64];
                for hashes in hashes.chunks(burst) {
                    self.ours.lookup_or_insert_burst(hashes, new, &mut out);
                    black_box(&mut out);
                }
            }
            Way::Single | Way::Bulk => {
                for hash in hashes {
                    if black_box(self.dpdk.get(hash)).is_none() {
                        black_box(self.dpdk.set(hash, new));
                    }
                }
            }
            Way::Hashbrown => {
                for hash in hashes {
                    black_box(*self.map.entry(*hash).or_insert(new));
                }
            }
        }
    }
}
