//! Queues of impossible sizes, and in impossible places.

use super::super::Case;
use super::super::Expect::Refused;
use super::super::fields::spec;
use super::super::offender::{Offender, Plan, Ring};
use super::registration::refused;

const QUEUE: &str = "REFUSED_QUEUE";

pub(super) const CASES: &[Case] = &[
    Case::new(
        6,
        "63-slots",
        "has a ring of 63 slots",
        Refused("a ring of 63 slots", QUEUE),
        || with(spec::TXPKTQ, |_| 63),
    ),
    Case::new(
        6,
        "no-slots",
        "has a ring of 0 slots",
        Refused("a ring of 0 slots", QUEUE),
        || with(spec::RXQ, |_| 0),
    ),
    Case::new(
        6,
        "slots-cut-to-32-bits",
        "has a ring of 2^32 + 256 slots",
        Refused("a ring of 4294967552 slots", QUEUE),
        || with(spec::TXCMDQ, |_| (1 << 32) + 256),
    ),
    Case::new(
        6,
        "2-to-the-63-slots",
        "has a ring of 2^63 slots",
        Refused("a ring of 9223372036854775808 slots", QUEUE),
        || with(spec::RXQ, |_| 1 << 63),
    ),
    Case::new(
        6,
        "slots-beyond-the-region",
        "has a ring of 2^20 slots in a region of 2 MiB",
        Refused("rxq of kthread 0", QUEUE),
        || with(spec::RXQ, |_| 1 << 20),
    ),
    Case::new(
        6,
        "an-unaligned-ring",
        "has a ring at an odd place",
        Refused("txpktq of kthread 0", QUEUE),
        || {
            with(spec::TXPKTQ + spec::BUF, |o| {
                o.slots(0, Ring::Packets) as u64 + 4
            })
        },
    ),
    Case::new(
        6,
        "a-ring-outside",
        "has a ring that begins at the region's end",
        Refused("txcmdq of kthread 0", QUEUE),
        || with(spec::TXCMDQ + spec::BUF, |o| o.plan.len as u64),
    ),
    Case::new(
        6,
        "a-ring-nowhere",
        "has a ring at the null pointer",
        Refused("rxq of kthread 0", QUEUE),
        || with(spec::RXQ + spec::BUF, |_| u64::MAX),
    ),
    Case::new(
        6,
        "a-ring-that-wraps",
        "has a ring whose end is beyond 2^64",
        Refused("rxq of kthread 0", QUEUE),
        || with(spec::RXQ + spec::BUF, |_| u64::MAX - 0xfff),
    ),
    Case::new(
        6,
        "one-ring-for-two",
        "has its packets and its commands in one ring",
        Refused("overlap", QUEUE),
        || {
            with(spec::TXCMDQ + spec::BUF, |o| {
                o.slots(0, Ring::Packets) as u64
            })
        },
    ),
    Case::new(
        6,
        "a-ring-over-the-header",
        "has a ring over its header",
        Refused("overlap", QUEUE),
        || with(spec::RXQ + spec::BUF, |_| 0),
    ),
    Case::new(
        6,
        "a-write-back-word-in-a-ring",
        "has a write-back word among the slots",
        Refused("overlap", QUEUE),
        || with(spec::TXPKTQ + spec::WB, |o| o.rxq(0) as u64 + 64),
    ),
    Case::new(
        6,
        "an-unaligned-write-back-word",
        "has a write-back word at an odd place",
        Refused("txpktq of kthread 0", QUEUE),
        || {
            with(spec::TXPKTQ + spec::WB, |o| {
                o.wb(0, Ring::Packets) as u64 + 2
            })
        },
    ),
    Case::new(
        6,
        "two-write-back-words",
        "has a write-back word of rxq that is not the first of q_ptrs",
        Refused("must be the same", QUEUE),
        || with(spec::RXQ + spec::WB, |o| o.q_ptrs(0) as u64 + 4),
    ),
    Case::new(
        6,
        "q-ptrs-outside",
        "has its progress words over the region's end",
        Refused("q_ptrs of kthread 0", QUEUE),
        || {
            let mut offender = Offender::new(Plan::new());
            let end = offender.plan.len as u64 - 8;
            offender.set_spec(spec::RXQ + spec::WB, end);
            offender.set_spec(spec::Q_PTRS, end);
            refused(&mut offender);
        },
    ),
];

/// Registers with one field of its spec set.
fn with(field: usize, value: fn(&Offender) -> u64) {
    let mut offender = Offender::new(Plan::new());
    let value = value(&offender);
    offender.set_spec(field, value);
    refused(&mut offender);
}
