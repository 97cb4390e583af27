//! Our flow table and DPDK's hash table are the same map, as long as nothing is evicted.
//!
//! The EAL starts once per process, so both tests are one.

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;

    use calisto::ids::{CoreId, Micros};
    use calisto::port::dpdk::{Eal, EalConfig};
    use calisto::steering::table::{FlowTable, Vectors};
    use calisto::testing::rte_hash::{BULK, RteHash, core};
    use calisto::testing::skip;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    use rustix::thread::sched_getaffinity;

    /// Flows that both tables are made for; the distinct hashes are far fewer.
    const FLOWS: u32 = 60_000;
    const HASHES: u32 = 6000;

    #[derive(Debug, Clone, Copy)]
    enum Op {
        /// A packet: its flow gets this home core if it has none.
        Packet(u32, u16),
        Lookup(u32),
        Move(u32, u16),
        /// What a burst of packets with this first hash does; these come at once.
        Burst(u32, u16),
    }

    fn op() -> impl Strategy<Value = Op> {
        (0..4, 0..HASHES, 0..256_u16).prop_map(|(kind, i, core)| match kind {
            0 => Op::Packet(i, core),
            1 => Op::Lookup(i),
            2 => Op::Move(i, core),
            _ => Op::Burst(i, core),
        })
    }

    /// How many ways there are to make hashes of numbers.
    const KINDS: u8 = 5;

    /// Apart; in sequence; alike in their low bits; and eight to a line of our table,
    /// different in the lowest or in the highest bits of their tags only.
    fn hash(of: u32, kind: u8) -> u32 {
        match kind {
            0 => of.wrapping_mul(0x0100_0193),
            1 => of,
            2 => of << 16,
            3 => unmixed(((of / 8) << 19) | (of % 8)),
            _ => unmixed(((of / 8) << 19) | ((of % 8) << 16)),
        }
    }

    /// The hash that our table mixes to `m`. With another mixing this would only be
    /// another way to make hashes.
    fn unmixed(m: u32) -> u32 {
        let h = m.wrapping_mul(0x0e8b_2f51);
        h ^ h >> 15 ^ h >> 30
    }

    /// One packet, in the paper's way: looks up, then adds.
    fn packet(dpdk: &mut RteHash<'_>, hash: u32, new: CoreId) -> CoreId {
        dpdk.get(&hash).unwrap_or_else(|| {
            assert!(dpdk.set(&hash, new), "there is room");
            new
        })
    }

    fn step(
        ours: &mut FlowTable,
        dpdk: &mut RteHash<'_>,
        op: Op,
        kind: u8,
    ) -> Result<(), TestCaseError> {
        match op {
            Op::Packet(i, new) => {
                let (hash, new, mut out) = (hash(i, kind), CoreId(new), [CoreId(999)]);
                ours.lookup_or_insert_burst(&[hash], new, &mut out);
                prop_assert_eq!(out[0], packet(dpdk, hash, new));
            }
            Op::Lookup(i) => {
                let (hash, mut out) = (hash(i, kind), [None]);
                ours.lookup_burst(&[hash], &mut out);
                prop_assert_eq!(out[0], dpdk.get(&hash));
            }
            Op::Move(i, to) => {
                let (hash, to) = (hash(i, kind), CoreId(to));
                let there = dpdk.get(&hash).is_some();
                prop_assert_eq!(ours.set_home(hash, to), there);
                if there {
                    assert!(dpdk.set(&hash, to), "the key is there already");
                }
            }
            Op::Burst(i, new) => {
                // Longer than a burst of either; a third of the hashes come twice.
                let n = 100;
                let hashes: Vec<u32> = (0..n).map(|k| hash((i + k % 67) % HASHES, kind)).collect();
                let (new, mut out) = (CoreId(new), vec![CoreId(999); n as usize]);
                ours.lookup_or_insert_burst(&hashes, new, &mut out);
                for (&hash, out) in hashes.iter().zip(&out) {
                    prop_assert_eq!(*out, packet(dpdk, hash, new));
                }
            }
        }
        Ok(())
    }

    /// Both hold the same: each hash that there can be, by ours and by the bulk lookup.
    fn same_contents(
        ours: &mut FlowTable,
        dpdk: &mut RteHash<'_>,
        kind: u8,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(ours.len(), dpdk.len());
        let all: Vec<u32> = (0..HASHES).map(|i| hash(i, kind)).collect();
        let mut there = 0;
        for hashes in all.chunks(BULK) {
            let mut out = [None; BULK];
            ours.lookup_burst(hashes, &mut out);
            let (hits, values) = dpdk.get_bulk(hashes);
            for (i, (&value, out)) in values.iter().zip(out).enumerate() {
                prop_assert_eq!(out, (hits >> i & 1 == 1).then(|| core(value)));
                there += usize::from(out.is_some());
            }
        }
        prop_assert_eq!(there, ours.len());
        Ok(())
    }

    fn start() -> Result<Eal, String> {
        let cpus = sched_getaffinity(None).map_err(|e| e.to_string())?;
        let cpu = (0..1024).find(|&cpu| cpus.is_set(cpu));
        Eal::init(&EalConfig {
            cpu: cpu.ok_or("no CPU")?,
            no_huge: true,
            args: ["--no-pci", "--no-telemetry"].map(str::to_owned).into(),
        })
        .map_err(|e| e.to_string())
    }

    #[test]
    fn flow_table_and_rte_hash_are_the_same_map() {
        let eal = match start() {
            Ok(eal) => eal,
            Err(why) => return skip("flow_table_and_rte_hash_are_the_same_map", &why),
        };
        let dpdk = RefCell::new(RteHash::new(&eal, None, FLOWS).expect("memory"));
        for kind in 0..KINDS {
            let distinct: BTreeSet<u32> = (0..HASHES).map(|i| hash(i, kind)).collect();
            assert_eq!(distinct.len(), HASHES as usize, "no two are one hash");
        }
        let cases = (prop::collection::vec(op(), 1..4000), 0..KINDS);
        for vectors in Vectors::available() {
            let most = Cell::new(0);
            TestRunner::new(Config::with_cases(48))
                .run(&cases, |(ops, kind)| {
                    let mut ours = FlowTable::new(FLOWS, Micros(1 << 40), || ()).expect("memory");
                    ours.use_vectors(vectors);
                    let mut dpdk = dpdk.borrow_mut();
                    dpdk.clear();
                    for op in ops {
                        step(&mut ours, &mut dpdk, op, kind)?;
                        prop_assert_eq!(ours.len(), dpdk.len());
                    }
                    most.set(most.get().max(ours.len()));
                    same_contents(&mut ours, &mut dpdk, kind)
                })
                .unwrap_or_else(|e| panic!("{vectors:?}: {e}"));
            let most = most.get();
            assert!(most > 3000, "{vectors:?}: at most {most} flows were there");
        }
        a_removed_flow_is_found_missing(&mut dpdk.borrow_mut());
    }

    /// The comparison itself sees a difference of one flow.
    fn a_removed_flow_is_found_missing(dpdk: &mut RteHash<'_>) {
        let mut ours = FlowTable::new(FLOWS, Micros(1 << 40), || ()).expect("memory");
        dpdk.clear();
        for i in 0..100 {
            step(&mut ours, dpdk, Op::Packet(i, 3), 0).expect("the same");
        }
        same_contents(&mut ours, dpdk, 0).expect("the same");
        assert!(dpdk.remove(&hash(70, 0)));
        assert!(dpdk.set(&hash(HASHES, 0), CoreId(3)), "as many as before");
        assert!(same_contents(&mut ours, dpdk, 0).is_err());
    }
}
