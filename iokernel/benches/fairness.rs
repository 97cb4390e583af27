//! What one runtime does to another: latency of a victim beside each kind of offender.
//!
//! The whole polling loop, in one thread. Only the loop's turns are on the clock: what
//! victim and offender do in between is free, as if each had cores of its own, so this
//! is the loop's fairness and not the operating system's. Requests for the victim arrive
//! at random by that clock, whatever its state; each is echoed. Latency is from arrival
//! until the victim has learnt that its reply was sent.
//!
//! Runs alternate: victim alone, beside an offender, alone. The factor of a round is the
//! p99 beside the offender over the mean of the two around it; what is printed is the
//! median of the rounds with least and greatest. A turn in which this thread was not
//! running counts with its CPU time only.
//!
//! What is not in it: the wake of a thread that sleeps (its eventfd is written, nobody
//! waits), pinning, caches and memory that runtimes share with the loop.
//!
//! Arguments: rounds (7), requests of a run (20000), offenders by name (all).

#![allow(missing_docs, reason = "a bench")]

use std::collections::VecDeque;
use std::time::Instant;

use calisto::abi::types::{RX_NET_COMPLETE, RX_NET_RECV, TXCMD_PARKED};
use calisto::control::ToDataplane;
use calisto::ids::Mac;
use calisto::stats::Counter;
use calisto::steering::SteeringSpec;
use calisto::testing::{Peer, World, mac, udp_frame};
use rustix::time::{ClockId, clock_gettime};

/// Mean time between requests, nanoseconds of the loop.
const GAP_NS: f64 = 5_000.0;
/// A turn that is longer may have been interrupted.
const SUSPECT_NS: f64 = 20_000.0;
/// Requests before those that count: every slot of every ring is touched once.
const WARM: usize = 8192;
/// The victim's slot; offenders have those above.
const VICTIM: u16 = 0;
/// Kthreads of an offender.
const MANY: u16 = 4;
/// Runtimes that hoard together.
const HOARDERS: u16 = 4;
/// Turns between two of a storm's runtimes: some thousands a second, more than a process can fork.
const STORM_TURNS: u64 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offender {
    /// Nobody.
    None,
    /// Attached, and asleep.
    Sleeper,
    /// Fills all transmit queues.
    Flood,
    /// The same, and takes no completions.
    Deaf,
    /// A few bad tags short of its end; frames of 14 bytes to nobody.
    Junk,
    /// Parks whenever it is woken; packets wake it.
    Parker,
    /// Four that return no buffer.
    Hoarders,
    /// Eight broadcasts arrive in each turn.
    Broadcasts,
    /// One attaches every [`STORM_TURNS`] turns, and the one before leaves.
    Storm,
}

const OFFENDERS: [Offender; 8] = [
    Offender::Sleeper,
    Offender::Flood,
    Offender::Deaf,
    Offender::Junk,
    Offender::Parker,
    Offender::Hoarders,
    Offender::Broadcasts,
    Offender::Storm,
];

/// Numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    /// Exponentially distributed with mean 1.
    fn gap(&mut self) -> f64 {
        // xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        #[allow(clippy::cast_precision_loss, reason = "53 bits of it")]
        let unit = ((self.0 >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -unit.ln()
    }
}

/// The loop, the victim, and what offends it.
struct Bed {
    world: World,
    victim: Peer,
    others: Vec<Peer>,
    offender: Offender,
    /// Nanoseconds that the loop has run.
    now: f64,
    /// Arrivals not yet taken by the victim.
    waiting: VecDeque<f64>,
    /// Arrivals by egress buffer of the reply.
    replying: Vec<f64>,
    free: Vec<u64>,
    latencies: Vec<f64>,
    turns: u64,
}

impl Bed {
    fn new(offender: Offender) -> Bed {
        let mut world = World::new(16);
        let victim = world.attach(VICTIM, 1, 1);
        let (count, kthreads) = match offender {
            Offender::None => (0, 0),
            Offender::Hoarders => (HOARDERS, 1),
            Offender::Storm => (1, 1),
            Offender::Broadcasts => (3, 1),
            _ => (1, MANY),
        };
        let others: Vec<_> = (1..=count)
            .map(|slot| world.attach(slot, kthreads.into(), kthreads))
            .collect();
        let mut bed = Bed {
            world,
            victim,
            others,
            offender,
            now: 0.0,
            waiting: VecDeque::new(),
            replying: vec![0.0; 256],
            free: (0..256).collect(),
            latencies: Vec::new(),
            turns: 0,
        };
        bed.prepare();
        bed
    }

    /// Brings the offender to where it offends.
    fn prepare(&mut self) {
        match self.offender {
            Offender::None | Offender::Sleeper => {
                for peer in &mut self.others {
                    while peer.woken(0).is_some() {}
                    peer.park(0, 0);
                }
            }
            Offender::Flood | Offender::Deaf | Offender::Junk => {
                let len = if self.offender == Offender::Junk {
                    14
                } else {
                    60
                };
                let frame = &udp_frame(mac(99), 1)[..len];
                assert!(self.others[0].send(0, 0, frame, 0));
                // All kthreads get a core: their run queues stand still.
                let peer = &self.others[0];
                for n in 0..2_000_000_u32 {
                    peer.set_runqueue(0, n + 1, n.saturating_sub(1));
                    self.world.turns(1);
                    if (1..MANY).all(|k| peer.woken(k.into()).is_some()) {
                        break;
                    }
                }
                if self.offender == Offender::Junk {
                    for tag in 0..15 {
                        self.others[0].give_back(0, tag);
                    }
                }
            }
            Offender::Hoarders => {
                // Until each is lent no more.
                for n in 0.. {
                    if self.world.count(Counter::RxLentMax) > 1000 {
                        break;
                    }
                    for slot in 1..=HOARDERS {
                        let port = self.world.dataplane.port_mut();
                        port.receive_again(mac(slot), n, 60);
                    }
                    self.world.turns(1);
                    for peer in &mut self.others {
                        while peer.recv(0).is_some() {}
                    }
                }
            }
            Offender::Parker | Offender::Broadcasts | Offender::Storm => {}
        }
        self.world.turns(1000);
    }

    /// What the offender does between two turns.
    fn offend(&mut self) {
        let world = &mut self.world;
        match self.offender {
            Offender::None | Offender::Sleeper => {}
            Offender::Flood | Offender::Deaf | Offender::Junk => {
                let peer = &mut self.others[0];
                let at = peer.egress(0);
                for kthread in 0..MANY.into() {
                    while peer.send_raw(kthread, 0, at) {}
                    while self.offender != Offender::Deaf && peer.recv(kthread).is_some() {}
                }
            }
            Offender::Parker => {
                let peer = &mut self.others[0];
                for kthread in 0..MANY.into() {
                    while let Some(msg) = peer.recv(kthread) {
                        if msg.cmd == u64::from(RX_NET_RECV) {
                            let tag = world.rx_hdr(msg.payload).completion_data;
                            peer.give_back(kthread, tag);
                        }
                    }
                    if peer.woken(kthread).is_some() {
                        peer.command(kthread, u64::from(TXCMD_PARKED), 0);
                    }
                }
                world.receive(1, 7);
            }
            Offender::Hoarders => {
                for (slot, peer) in (1..).zip(&mut self.others) {
                    world.receive(slot, 7);
                    while peer.recv(0).is_some() {}
                }
            }
            Offender::Broadcasts => {
                let frame = udp_frame(Mac::BROADCAST, 5);
                for _ in 0..8 {
                    world.dataplane.port_mut().receive(&frame, 5);
                }
                for peer in &mut self.others {
                    while let Some(msg) = peer.recv(0) {
                        let tag = world.rx_hdr(msg.payload).completion_data;
                        peer.give_back(0, tag);
                    }
                }
            }
            Offender::Storm => {
                // The memory of who has left is unmapped by the control thread.
                while world.detached().is_some() {}
                let slot = u16::try_from(self.turns / STORM_TURNS % 500).expect("below 500");
                if self.turns.is_multiple_of(STORM_TURNS) {
                    let small = SteeringSpec {
                        flow_entries: 1000,
                        ..SteeringSpec::default()
                    };
                    let (peer, proc) = World::steered_peer(2 + slot, 1, 0, small);
                    let attach = ToDataplane::Attach(proc);
                    assert!(world.control.to_dataplane.push(attach).is_ok(), "room");
                    if self.turns > 0 {
                        world.hang_up(if slot == 0 { 501 } else { 1 + slot });
                    }
                    self.others[0] = peer;
                }
            }
        }
    }

    /// The victim takes and answers what it was given.
    fn serve(&mut self) {
        while let Some(msg) = self.victim.recv(0) {
            if msg.cmd == u64::from(RX_NET_COMPLETE) {
                let buf = usize::try_from(msg.payload).expect("a buffer's number");
                self.latencies.push(self.now - self.replying[buf]);
                self.free.push(msg.payload);
            } else if msg.cmd == u64::from(RX_NET_RECV) {
                let hdr = self.world.rx_hdr(msg.payload);
                // A broadcast is no request.
                if hdr.rss_hash == 1
                    && let Some(arrived) = self.waiting.pop_front()
                    && let Some(buf) = self.free.pop()
                {
                    self.replying[usize::try_from(buf).expect("few")] = arrived;
                    let at = self.victim.egress(buf);
                    self.victim.send_raw(0, 0, at);
                }
                self.victim.give_back(0, hdr.completion_data);
            }
        }
    }

    /// One turn of the loop, on the clock.
    fn turn(&mut self) {
        let cpu = cpu_ns();
        let began = Instant::now();
        self.world.dataplane.turn();
        let mut lasted = began.elapsed().as_nanos() as f64;
        if lasted > SUSPECT_NS {
            lasted = lasted.min(cpu_ns() - cpu);
        }
        self.now += lasted;
        self.turns += 1;
    }

    /// p50 and p99 of the latencies of `requests`, microseconds.
    fn run(&mut self, requests: usize) -> (f64, f64) {
        let reply = udp_frame(mac(99), 2);
        for buf in 0..256 {
            // Each buffer's header and bytes, once; nothing is asked to be sent twice.
            self.victim.send(0, buf, &reply, 0);
        }
        self.world.turns(64);
        while self.victim.recv(0).is_some() {}
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut next = self.now;
        while self.latencies.len() < WARM + requests {
            while next <= self.now {
                if self.world.receive(VICTIM, 1) {
                    self.waiting.push_back(next);
                }
                next += GAP_NS * random.gap();
            }
            self.offend();
            self.turn();
            self.serve();
        }
        self.latencies.drain(..WARM);
        self.latencies.sort_unstable_by(f64::total_cmp);
        let at = |percent: usize| self.latencies[requests * percent / 100] / 1000.0;
        (at(50), at(99))
    }
}

/// CPU time of this thread, nanoseconds.
#[allow(clippy::cast_precision_loss, reason = "differences are short")]
fn cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn run(offender: Offender, requests: usize) -> (f64, f64) {
    Bed::new(offender).run(requests)
}

/// Least, median, greatest.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    (
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    )
}

fn main() {
    // Cargo adds `--bench`.
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let rounds = numbers.first().copied().unwrap_or(7);
    let requests = numbers.get(1).copied().unwrap_or(20_000);
    let only: Vec<String> = std::env::args()
        .filter(|a| a.starts_with(char::is_uppercase))
        .collect();
    println!("{rounds} rounds of {requests} requests; us of the loop's own time");
    println!("| beside | p50 | p99 | factor on p50 | factor on p99 |");
    println!("|---|---|---|---|---|");
    for offender in OFFENDERS {
        let name = format!("{offender:?}");
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        let (mut p50, mut p99, mut factor50, mut factor99) = (vec![], vec![], vec![], vec![]);
        let mut before = run(Offender::None, requests);
        for _ in 0..rounds {
            let beside = run(offender, requests);
            let after = run(Offender::None, requests);
            p50.push(beside.0);
            p99.push(beside.1);
            factor50.push(2.0 * beside.0 / (before.0 + after.0));
            factor99.push(2.0 * beside.1 / (before.1 + after.1));
            before = after;
        }
        let (p50, p99) = (spread(p50).1, spread(p99).1);
        let factor = |values| {
            let (least, median, greatest) = spread(values);
            format!("{median:.2} ({least:.2}-{greatest:.2})")
        };
        let (factor50, factor99) = (factor(factor50), factor(factor99));
        println!("| {name} | {p50:.2} | {p99:.2} | {factor50} | {factor99} |");
    }
}
