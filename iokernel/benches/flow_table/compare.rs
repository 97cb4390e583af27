//! Rounds in which every table has its turn, and what comes out of them.

use calisto::port::dpdk::Eal;
use calisto::testing::rte_hash::Heap;
use rustix::time::{ClockId, clock_gettime};

use crate::keys::{Spread, packets, shuffled};
use crate::memory::pages_at;
use crate::tables::{Tables, Way};

/// Packets of one turn, and those before it that bring the table into the caches, as far
/// as it fits: each of 700,000 flows comes once at least. With fewer, what is measured is
/// how much the other tables' turns have evicted.
const TURN: usize = 1 << 17;
const WARM: usize = 1 << 20;

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// Flows of the lookups, a table each.
    pub(crate) lookups: Vec<u32>,
    /// Flows that the table for new flows is made for.
    pub(crate) new_flows: u32,
    /// Room in ours, in percent of what it takes for so many flows.
    pub(crate) room: u32,
}

impl Plan {
    fn ours_for(&self, flows: u32) -> u32 {
        let flows = u64::from(flows) * u64::from(self.room) / 100;
        flows.try_into().expect("percent, about 100")
    }
}

/// Nanoseconds an operation, of each round.
struct Row {
    way: String,
    rounds: Vec<f64>,
}

/// Median, least and greatest.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    (all[all.len() / 2], all[0], all[all.len() - 1])
}

/// One table of figures: a line for each way, with its ratios to the ways of `bases`.
fn print(title: &str, rows: &[Row], bases: &[usize]) {
    println!("\n{title}");
    let names: String = bases
        .iter()
        .map(|&base| format!("  {:>24}", format!("{} /", rows[base].way)))
        .collect();
    println!("  {:22} {:>24}{names}", "", "ns, median (min-max)");
    for row in rows {
        let show = |(median, min, max), unit: &str| {
            let figure = format!("{median:.2}{unit} ({min:.2}-{max:.2})");
            format!("{figure:>24}")
        };
        let mut line = show(spread(row.rounds.iter().copied()), "");
        for &base in bases {
            let ratios = rows[base].rounds.iter().zip(&row.rounds);
            line += &format!("  {}", show(spread(ratios.map(|(b, own)| b / own)), "x"));
        }
        println!("  {:22} {line}", row.way);
    }
}

/// Nanoseconds of this thread's own time: others may run on its CPU meanwhile.
fn now() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn timed(n: usize, body: impl FnOnce()) -> f64 {
    let start = now();
    body();
    (now() - start) / n as f64
}

fn rows(ways: &[Way], suffix: &str) -> Vec<Row> {
    let row = |way: &Way| Row {
        way: way.name() + suffix,
        rounds: Vec::new(),
    };
    ways.iter().map(row).collect()
}

/// Lookups of flows that are there.
fn lookups(tables: &mut Tables<'_>, flows: u32, order: Spread, rounds: usize) {
    let ways = Way::all();
    let keys = packets(flows, order, WARM + TURN);
    let (warm, packets) = keys[..WARM + TURN].split_at(WARM);
    let mut rows = rows(&ways, "");
    for round in 0..=rounds {
        for i in 0..ways.len() {
            let i = (i + round) % ways.len();
            tables.lookup(ways[i], warm);
            let ns = timed(TURN, || tables.lookup(ways[i], packets));
            if round > 0 {
                rows[i].rounds.push(ns);
            }
        }
    }
    let title = format!("lookup, {flows} flows, {order:?}").to_lowercase();
    print(&title, &rows, &[0, 1]);
}

/// Flows that come for the first time: the second half of those the table is made for.
/// Beside them, lookups in the table that is full then.
fn new_flows(tables: &mut Tables<'_>, flows: u32, rounds: usize) {
    let ways: Vec<Way> = Way::all().into_iter().filter(|&w| w != Way::Bulk).collect();
    let all = shuffled(flows);
    let (there, new) = all.split_at(all.len() / 2);
    let (mut inserts, mut warm) = (rows(&ways, ", new"), rows(&ways, ", known"));
    for round in 0..=rounds {
        for i in 0..ways.len() {
            let i = (i + round) % ways.len();
            tables.fill(ways[i], there);
            let cold = timed(new.len(), || tables.insert(ways[i], new));
            assert!(tables.len(ways[i]) >= all.len() * 19 / 20, "{:?}", ways[i]);
            tables.insert(ways[i], there);
            let known = timed(new.len(), || tables.lookup(ways[i], new));
            if round > 0 {
                inserts[i].rounds.push(cold);
                warm[i].rounds.push(known);
            }
        }
    }
    let title = format!("new flows, from {} to {flows}", there.len());
    print(&title, &inserts, &[0]);
    for (row, known) in inserts.iter().zip(&warm) {
        let ratios = row.rounds.iter().zip(&known.rounds);
        let (median, min, max) = spread(ratios.map(|(new, known)| new / known));
        let ns = spread(known.rounds.iter().copied()).0;
        let way = known.way.trim_end_matches(", known");
        println!(
            "  {way}: a known flow {ns:.2} ns, a new one {median:.2}x ({min:.2}-{max:.2}) that"
        );
    }
}

/// One table of each kind, all of them with the same contents.
fn with_tables(eal: &Eal, plan: &Plan, flows: u32, body: impl FnOnce(&mut Tables<'_>)) {
    let heap = Heap::new(eal, Tables::heap_size(flows)).expect("memory");
    let mut tables = Tables::new(eal, &heap, flows, plan.ours_for(flows));
    let all = shuffled(flows);
    let mut expected = Vec::new();
    for way in Way::all() {
        if tables.len(way) == 0 {
            tables.fill(way, &all);
        }
        let answers = tables.answers(way, &all);
        if expected.is_empty() {
            expected.clone_from(&answers);
        }
        // Ours gives up a flow for another now and then; more often with less room.
        let differ = answers.iter().zip(&expected).filter(|(a, b)| a != b);
        let allowed = all.len() / if plan.room < 100 { 20 } else { 500 };
        assert!(differ.count() <= allowed, "{way:?}");
        assert!(expected.iter().all(Option::is_some));
    }
    let entry = tables.map.values().next().expect("flows");
    println!("\n{flows} flows");
    let ours = &tables.ours;
    let (there, slots) = (ours.len(), ours.slots());
    println!(
        "  ours: {}; {there} flows in {slots} entries",
        pages_at(ours.address())
    );
    println!("  rte_hash: {}", pages_at(heap.address()));
    println!(
        "  hashbrown: {}",
        pages_at(std::ptr::from_ref(entry).addr())
    );
    body(&mut tables);
}

/// All of the plan.
pub(crate) fn compare(eal: &Eal, plan: &Plan) {
    println!(
        "each figure: {} rounds of {TURN} packets, every table in turn, after {WARM} to warm up;",
        plan.rounds
    );
    println!("ratios are those of each round; load before: {}", load());
    for &flows in &plan.lookups {
        with_tables(eal, plan, flows, |tables| {
            for order in [Spread::Uniform, Spread::Zipf] {
                lookups(tables, flows, order, plan.rounds);
            }
        });
    }
    with_tables(eal, plan, plan.new_flows, |tables| {
        new_flows(tables, plan.new_flows, plan.rounds);
    });
    println!("load after: {}", load());
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}
