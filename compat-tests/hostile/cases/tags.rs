//! Tags of received packets: made up, twice, another's, of long ago.

use super::super::Case;
use super::super::Expect::{self, Borne, Detached};
use super::super::offender::{Offender, Plan};
use super::super::random::Random;
use super::super::wire;
use super::registration::keep;

const BAD: Expect = Detached("returned packets that were not lent to it", "FAULT_TAGS");
/// Bad tags after which a runtime is detached.
const TOO_MANY: u64 = 16;
/// Something with an address.
static BUFFERS_OF_ITS_OWN: u64 = 0;
/// Ingress buffers.
const BUFFERS: u64 = 1 << 17;

pub(super) const CASES: &[Case] = &[
    Case::new(2, "random-tags", "returns 16 random numbers", BAD, || {
        let mut random = Random::new(2);
        returns((0..TOO_MANY).map(|_| random.long()));
    }),
    Case::new(
        2,
        "pointers-for-tags",
        "returns pointers: null, its own, the kernel's, unaligned",
        BAD,
        || {
            let own = std::ptr::from_ref(&BUFFERS_OF_ITS_OWN).addr() as u64;
            let pointers = [
                0,
                1,
                own,
                own + 1,
                u64::MAX,
                0xffff_8000_0000_0000,
                0x7f00_0000_0000,
            ];
            returns(pointers.into_iter().cycle().take(17));
        },
    ),
    Case::new(
        2,
        "every-buffer-as-a-tag",
        "returns every buffer's index",
        BAD,
        || returns(0..BUFFERS),
    ),
    Case::new(
        2,
        "fifteen-bad-tags",
        "returns 15 made-up packets: a mistake that is borne",
        Borne(&["RX_BAD_TAG"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            (1..TOO_MANY).for_each(|n| offender.give_back(n << 40));
            offender.wait_taken(0);
            assert!(!offender.is_hung_up(), "fewer than {TOO_MANY} are borne");
            keep(offender);
        },
    ),
    Case::new(
        3,
        "a-tag-again-and-again",
        "returns a packet 17 times",
        BAD,
        || {
            let mut offender = Offender::attached(Plan::new());
            let (tag, _) = offender.borrow();
            (0..=TOO_MANY).for_each(|_| offender.give_back(tag));
            offender.wait_hang_up();
            keep(offender);
        },
    ),
    Case::new(
        3,
        "a-broadcasts-tag-again-and-again",
        "returns a broadcast, which others hold too, 17 times",
        BAD,
        || {
            let mut offender = Offender::attached(Plan::new());
            let tag = offender.borrow_broadcast();
            (0..=TOO_MANY).for_each(|_| offender.give_back(tag));
            offender.wait_hang_up();
            keep(offender);
        },
    )
    .shouts(),
    Case::new(
        3,
        "tags-of-others",
        "returns the tags around its own, which are the echo runtime's",
        BAD,
        || {
            let mut offender = Offender::attached(Plan::new());
            let (tag, _) = offender.borrow();
            for n in 1..2000 {
                offender.give_back(tag.wrapping_add(n));
                offender.give_back(tag.wrapping_sub(n));
            }
            offender.wait_hang_up();
            keep(offender);
        },
    ),
    Case::new(
        3,
        "tags-of-other-loans",
        "returns its own buffer's tags of earlier and later loans",
        BAD,
        || {
            let mut offender = Offender::attached(Plan::new());
            let (tag, _) = offender.borrow();
            for n in 1..100_u64 {
                offender.give_back(tag.wrapping_add(n << 32));
                offender.give_back(tag.wrapping_sub(n << 32));
            }
            offender.wait_hang_up();
            keep(offender);
        },
    ),
    Case::new(
        3,
        "tags-of-long-ago",
        "returns 16 packets, borrows others, and returns the first 16 again",
        BAD,
        || {
            let mut offender = Offender::attached(Plan::new());
            let old: Vec<u64> = (0..TOO_MANY).map(|_| offender.borrow().0).collect();
            old.iter().for_each(|tag| offender.give_back(*tag));
            let new: Vec<u64> = (0..TOO_MANY).map(|_| offender.borrow().0).collect();
            old.iter().for_each(|tag| offender.give_back(*tag));
            offender.wait_hang_up();
            keep((offender, new));
        },
    ),
    Case::new(
        3,
        "the-right-tag-on-another-kthread",
        "returns a packet on another kthread's ring, which is allowed",
        Borne(&["RX_RETURNED"]),
        || {
            let mut offender = Offender::attached(Plan::new().kthreads(2, 2));
            let (tag, _) = offender.borrow();
            offender.command(0, 0, tag);
            offender.wait_taken(0);
            keep(offender);
        },
    ),
    Case::new(
        16,
        "packets-that-never-come-back",
        "borrows 200 packets, and keeps them until it is killed",
        Borne(&["RX_RECLAIMED"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let (_, _) = offender.borrow();
            for _ in 0..199 {
                offender.borrow();
            }
            keep(offender);
        },
    ),
    Case::new(
        16,
        "an-rxq-that-nobody-reads",
        "asks 600 times, and reads nothing: a full rxq, and completions without room",
        Borne(&["RX_UNICAST_FAIL", "TX_COMPLETION_OVERFLOW", "RX_RECLAIMED"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let question = wire::arp(offender.plan.number, super::super::offender::PEER_IP);
            for _ in 0..600 {
                offender.send(&question, 0);
            }
            offender.wait_taken(0);
            keep(offender);
        },
    ),
];

fn returns(tags: impl Iterator<Item = u64>) {
    let mut offender = Offender::attached(Plan::new());
    for tag in tags {
        if offender.is_hung_up() {
            break;
        }
        offender.give_back(tag);
    }
    offender.wait_hang_up();
    keep(offender);
}
