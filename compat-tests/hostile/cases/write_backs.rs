//! Words by which a runtime says how far it has come.

use super::super::Case;
use super::super::Expect::{self, Borne, Detached};
use super::super::offender::{Offender, Plan, Ring, SLOTS};
use super::super::random::meanwhile;
use super::registration::keep;

const FALSE: Expect = Detached("is possible", "FAULT_WRITE_BACK");

pub(super) const CASES: &[Case] = &[
    Case::new(
        7,
        "a-write-back-of-the-future",
        "says that it has taken 1,000 messages more than were sent",
        FALSE,
        || says(|sent| sent + 1000),
    ),
    Case::new(
        7,
        "a-write-back-of-the-past",
        "says that it has given messages back untaken",
        FALSE,
        || {
            let mut offender = Offender::attached(Plan::new());
            offender.borrow();
            let taken = offender.region.mem.get32(offender.q_ptrs(0));
            // Until that was seen: the congestion tick looks every 5 us.
            std::thread::sleep(std::time::Duration::from_millis(100));
            offender
                .region
                .mem
                .put32(offender.q_ptrs(0), taken.wrapping_sub(1));
            offender.wait_hang_up();
            keep(offender);
        },
    ),
    Case::new(
        7,
        "a-write-back-a-lap-ago",
        "says that it is a whole lap behind",
        FALSE,
        || says(|sent| sent.wrapping_sub(SLOTS)),
    ),
    Case::new(
        7,
        "a-write-back-half-way-round",
        "says 2^31 more than was sent",
        FALSE,
        || says(|sent| sent.wrapping_add(1 << 31)),
    ),
    Case::new(
        7,
        "write-backs-of-noise",
        "writes noise into its write-back word for ever, from a second thread",
        FALSE,
        || {
            let mut offender = Offender::attached(Plan::new());
            let (mem, at) = (offender.region.mem, offender.q_ptrs(0));
            meanwhile(move |random| mem.put32(at, random.word()));
            offender.wait_hang_up();
            keep(offender);
        },
    ),
    Case::new(
        7,
        "a-write-back-of-the-future-with-a-park",
        "parks, and says that it has taken 7 messages more than were sent",
        FALSE,
        || {
            let mut offender = Offender::attached(Plan::new());
            offender.region.mem.put32(offender.q_ptrs(0), 7);
            offender.put(0, Ring::Commands, 1, 0);
            offender.wait_hang_up();
            keep(offender);
        },
    ),
    Case::new(
        7,
        "the-io-kernels-own-words",
        "writes noise into the words that the I/O kernel writes, and sends and parks",
        Borne(&["PARKS"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let ends = offender.ends();
            let words = [Ring::Packets, Ring::Commands].map(|ring| offender.wb(0, ring));
            let mem = offender.region.mem;
            meanwhile(move |random| mem.put32(words[random.below(2)], 77));
            let frame = ends.mail(90);
            let at = offender.buffer(3);
            offender.write_packet(at, &frame, 0);
            for _ in 0..20 {
                offender.put(0, Ring::Packets, 0, at as u64);
                offender.put(0, Ring::Commands, 2, 1);
                offender.wait_wake(0);
            }
            keep(offender);
        },
    )
    .mail(20),
    Case::new(
        7,
        "run-queue-lies",
        "writes noise into rq_head and rq_tail for ever: it always looks congested, or never",
        Borne(&["RQ_GRANT"]),
        || {
            let offender = Offender::attached(Plan::new());
            let (mem, words) = (offender.region.mem, offender.q_ptrs(0));
            meanwhile(move |random| {
                let (word, noise) = (random.below(2), random.word());
                mem.put32(words + 4 + 4 * word, noise);
            });
            std::thread::sleep(std::time::Duration::from_millis(200));
            keep(offender);
        },
    ),
    Case::new(
        7,
        "an-rxq-of-noise",
        "writes noise over its rxq, which the I/O kernel fills",
        Borne(&["RX_DELIVERED"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let ends = offender.ends();
            let (mem, at) = (offender.region.mem, offender.rxq(0));
            meanwhile(move |random| {
                let word = random.below(2 * SLOTS as usize);
                mem.put64(at + 8 * word, random.long());
            });
            for port in 0..100 {
                offender.send(&ends.syn((10_000 + port, 1)), 0);
            }
            offender.wait_taken(0);
            keep(offender);
        },
    ),
];

/// Says that it has taken so many messages, knowing how many were sent.
fn says(taken: fn(u32) -> u32) {
    let mut offender = Offender::attached(Plan::new());
    // None was sent, or a broadcast of the peer's was: few against what is said.
    let sent = offender.region.mem.get32(offender.q_ptrs(0));
    offender.region.mem.put32(offender.q_ptrs(0), taken(sent));
    offender.wait_hang_up();
    keep(offender);
}
