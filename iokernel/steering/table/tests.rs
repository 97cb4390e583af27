//! The table against a map, and at its limits.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// The hand goes round in a seventh of it: a microsecond for a line of the smallest table.
const IDLE: Micros = Micros(7 * ROUND);
const ROUND: u64 = LINES_MIN as u64;

fn table(flows: u32) -> FlowTable {
    FlowTable::new(flows, IDLE, || ()).expect("memory")
}

fn insert(table: &mut FlowTable, hash: u32, core: u16) -> CoreId {
    // In a burst: one alone does not use the table's vectors.
    let mut out = [CoreId(0); 3];
    table.lookup_or_insert_burst(&[hash; 3], CoreId(core), &mut out);
    assert_eq!(out, [out[0]; 3]);
    out[0]
}

fn get(table: &mut FlowTable, hash: u32) -> Option<CoreId> {
    let mut out = [None; 3];
    table.lookup_burst(&[hash; 3], &mut out);
    assert_eq!(out, [out[0]; 3]);
    out[0]
}

/// The hash that is mixed to `m`.
fn undo(m: u32) -> u32 {
    let h = m.wrapping_mul(0x0e8b_2f51);
    h ^ h >> 15 ^ h >> 30
}

/// Hashes that all lead to one line of the smallest table, and to one second line.
pub(crate) fn crowd(line: u32, n: usize) -> Vec<u32> {
    let first = first_of(line, LINES_MIN as u64);
    let step = usize::try_from(GUEST_RANGE).unwrap();
    (first..).step_by(step).take(n).map(undo).collect()
}

/// The first mixed hash that leads to a line.
fn first_of(line: u32, lines: u64) -> u32 {
    u32::try_from((u64::from(line) << 32).div_ceil(lines)).expect("a line's number")
}

#[test]
fn mixing_loses_nothing() {
    for hash in (0..1 << 16).map(|i: u32| i.wrapping_mul(65_537).rotate_left(i % 32)) {
        assert_eq!(undo(mix(hash)), hash);
    }
}

#[test]
fn keys_of_one_line_have_different_tags() {
    // The smallest table has the most keys a line; another one does not divide 2^32.
    for flows in [1, 700_000] {
        let table = table(flows);
        // All keys that lead to a line somewhere in the middle.
        let line = table.count / 3;
        let keys = usize::try_from((1_u64 << 32).div_ceil(u64::from(table.count))).expect("few");
        let first = first_of(line, table.count.into());
        let hashes: Vec<u32> = (first..).take(keys - 1).map(undo).collect();
        assert!(hashes.iter().all(|&h| table.key(h).line == line));
        let tags: std::collections::HashSet<_> = hashes
            .iter()
            .map(|&h| table.key(h).want.entry(0).0)
            .collect();
        assert_eq!(tags.len(), keys - 1);
        assert!(keys <= 1 << TAG_BITS);
    }
}

#[test]
fn sizes_are_what_the_head_says() {
    assert_eq!(FlowTable::lines_for(1), 8192);
    assert_eq!(FlowTable::lines_for(700_000), 76_563);
    assert_eq!(FlowTable::lines_for(16_000_000), 1_750_000);
    // Seven bytes a flow.
    assert_eq!(
        table(700_000).bytes() / 64,
        (7_usize * 700_000).div_ceil(64)
    );
    assert_eq!(size_of::<Line>(), 64);
}

#[test]
fn seven_hundred_thousand_flows_fit_with_hardly_an_eviction() {
    let mut t = table(700_000);
    // Hashes as a NIC gives them: pseudo-random, not a sequence.
    let hash = |i: u32| {
        let x = (u64::from(i) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as u32
    };
    for i in 0..700_000 {
        insert(&mut t, hash(i), 1);
    }
    let there = (0..700_000)
        .filter(|&i| get(&mut t, hash(i)).is_some())
        .count();
    // A few dozen hashes coincide (birthdays); those share an entry.
    assert!(there >= 699_850, "{there} of 700,000 are there");
    assert!(t.len() > 699_800 && t.len() <= 700_000, "{}", t.len());
    // One in 400 is away from home.
    assert!((1_000..3_000).contains(&t.guests), "{} guests", t.guests);
}

#[test]
fn flows_beyond_sixteen_are_guests_and_then_the_oldest_goes() {
    let mut t = table(1);
    let hashes = crowd(77, 60);
    for (i, &h) in hashes[..32].iter().enumerate() {
        insert(&mut t, h, 3);
        assert_eq!((t.len(), t.guests), (i + 1, (i + 1).saturating_sub(16)));
    }
    for &h in &hashes[..32] {
        assert_eq!(get(&mut t, h), Some(CoreId(3)));
    }
    // One of its own line goes; the others there are a step older, but those that send.
    insert(&mut t, hashes[32], 4);
    assert_eq!((t.len(), t.guests), (32, 16));
    let at_home: Vec<u32> = hashes[..16]
        .iter()
        .copied()
        .filter(|&h| t.key_is_there(h))
        .collect();
    assert_eq!(at_home.len(), 15);
    let (busy, idle) = at_home.split_at(11);
    for &h in busy {
        assert_eq!(get(&mut t, h), Some(CoreId(3)));
    }
    for &h in &hashes[33..33 + idle.len()] {
        insert(&mut t, h, 5);
        for &h in busy {
            assert_eq!(get(&mut t, h), Some(CoreId(3)));
        }
    }
    for &h in busy {
        assert!(t.key_is_there(h), "a flow that sends outlives idle ones");
    }
    for &h in idle {
        assert!(!t.key_is_there(h));
    }
    assert_eq!(t.len(), 32);
}

#[test]
fn a_guest_is_found_also_when_there_is_room_at_home_again() {
    let mut t = table(1);
    let hashes = crowd(5, 17);
    for &h in &hashes {
        insert(&mut t, h, 1);
    }
    let guest = hashes[16];
    // The guest sends, all others are forgotten.
    let mut us = 0;
    while t.len() > 1 {
        get(&mut t, guest);
        t.sweep(Micros(us), |_| ());
        us += 1;
    }
    assert_eq!((get(&mut t, guest), t.guests), (Some(CoreId(1)), 1));
    // Once it has gone too, the lines are as new.
    while !t.is_empty() {
        t.sweep(Micros(us), |_| ());
        us += 1;
    }
    for us in us..us + 2 * ROUND {
        t.sweep(Micros(us), |_| ());
    }
    assert_eq!(t.guests, 0);
    assert!(t.lines.iter().all(|line| line.0 == [0; WAYS]));
}

#[test]
fn busy_entries_are_spared_as_long_as_one_is_not() {
    let mut t = table(1);
    let hashes = crowd(0, 34);
    for &h in &hashes[..32] {
        insert(&mut t, h, 1);
    }
    // SAFETY: every processor has the baseline.
    let spared = unsafe { t.find::<Baseline>(t.key(hashes[5])) }.expect("there");
    let key = t.key(hashes[32]);
    // SAFETY: as above.
    let done = unsafe { t.insert::<Baseline>(key, CoreId(2), |place| place != spared) };
    assert_eq!(done.place, spared);
    let key = t.key(hashes[33]);
    // SAFETY: as above. All are busy: one goes nevertheless.
    let done = unsafe { t.insert::<Baseline>(key, CoreId(2), |_| true) };
    assert!(done.evicted.is_some());
    assert_eq!(t.len(), 32);
}

#[test]
fn idle_flows_are_forgotten_and_others_are_not() {
    let mut t = table(1);
    for h in 0..2000_u32 {
        insert(&mut t, h, 9);
    }
    let len = t.len();
    assert_eq!(len, 2000);
    let rounds = |t: &mut FlowTable, from: u64, n: u64| {
        let mut gone = 0;
        for us in from * ROUND..(from + n) * ROUND {
            for _ in 0..2 {
                t.sweep(Micros(us), |core| {
                    assert_eq!(core, CoreId(9));
                    gone += 1;
                });
            }
        }
        gone
    };
    assert_eq!(rounds(&mut t, 0, 6), 0, "none before its time");
    for h in 0..500 {
        assert!(get(&mut t, h).is_some());
    }
    assert_eq!(rounds(&mut t, 6, 2), 1500);
    assert_eq!(t.len(), 500);
    assert_eq!(rounds(&mut t, 8, 6), 500);
    assert!(t.is_empty());
}

impl FlowTable {
    /// Without making it young.
    fn key_is_there(&self, hash: u32) -> bool {
        // SAFETY: every processor has the baseline.
        unsafe { self.find::<Baseline>(self.key(hash)) }.is_some()
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u32, u16),
    Get(u32),
    Move(u32, u16),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Few hashes, so that they come again; far apart, so that they fill a table.
    let hash = (0..3000_u32).prop_map(|i| i.wrapping_mul(0x0100_0193));
    let op = (0..3, hash, 0..256_u16).prop_map(|(kind, hash, core)| match kind {
        0 => Op::Insert(hash, core),
        1 => Op::Get(hash),
        _ => Op::Move(hash, core),
    });
    prop::collection::vec(op, 1..2000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn below_its_capacity_it_is_a_map(ops in ops()) {
        for vectors in Vectors::available() {
            let mut t = table(60_000);
            t.use_vectors(vectors);
            let mut map: HashMap<u32, u16> = HashMap::new();
            for op in &ops {
                match *op {
                    Op::Insert(hash, core) => {
                        let was = *map.entry(hash).or_insert(core);
                        prop_assert_eq!(insert(&mut t, hash, core), CoreId(was));
                    }
                    Op::Get(hash) => {
                        let was = map.get(&hash).copied().map(CoreId);
                        prop_assert_eq!(get(&mut t, hash), was);
                    }
                    Op::Move(hash, core) => {
                        // SAFETY: every processor has the baseline.
                        let place = unsafe { t.find::<Baseline>(t.key(hash)) };
                        prop_assert_eq!(place.is_some(), map.contains_key(&hash));
                        if let Some(place) = place {
                            t.set_core(place, CoreId(core));
                            map.insert(hash, core);
                        }
                    }
                }
                prop_assert_eq!(t.len(), map.len());
            }
        }
    }

    #[test]
    fn beyond_its_capacity_it_holds_what_fits_and_never_a_wrong_core(
        line in 0..8192_u32, per_line in 1..60_usize,
    ) {
        let mut t = table(1);
        let hashes = crowd(line, per_line);
        for (i, &h) in hashes.iter().enumerate() {
            insert(&mut t, h, u16::try_from(i % 256).unwrap());
            prop_assert!(t.len() <= t.slots());
        }
        for (i, &h) in hashes.iter().enumerate() {
            if let Some(core) = get(&mut t, h) {
                prop_assert_eq!(usize::from(core.0), i % 256);
            }
        }
        // The newest is always there.
        prop_assert!(get(&mut t, *hashes.last().unwrap()).is_some());
    }
}
