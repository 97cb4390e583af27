//! Keys and segments.

use super::super::Case;
use super::super::Expect::{Borne, Refused};
use super::super::memory::{self, Segment, become_user};
use super::super::offender::{Offender, Plan};
use super::registration::{keep, refused};
use calisto::abi::types;

const SEGMENT: &str = "REFUSED_SEGMENT";
const REGION: &str = "REFUSED_REGION";

pub(super) const CASES: &[Case] = &[
    Case::new(
        18,
        "the-ingress-segment",
        "offers the ingress segment as its region",
        Refused("is the ingress segment's", SEGMENT),
        || {
            let mut offender = Offender::new(Plan::new());
            refused_as(&mut offender, types::INGRESS_MBUF_SHM_KEY, 1 << 20);
        },
    ),
    Case::new(
        18,
        "another-users-segment",
        "offers root's segment, as another user",
        Refused("belongs to uid 0", SEGMENT),
        || {
            let mut offender = Offender::new(Plan::new());
            become_user(65533);
            refused(&mut offender);
        },
    ),
    Case::new(
        18,
        "one-segment-for-two",
        "registers twice with one segment and two addresses",
        Refused("which is attached", SEGMENT),
        || {
            let mut offender = Offender::attached(Plan::new());
            let first = offender.socket.take();
            offender.region.mem.put(16, &super::super::wire::mac(67));
            refused(&mut offender);
            keep((first, offender));
        },
    ),
    Case::new(
        19,
        "a-key-that-does-not-exist",
        "names no segment, and a terabyte",
        Refused("no segment has the key", SEGMENT),
        || {
            let mut offender = Offender::new(Plan::new());
            refused_as(&mut offender, 0x1234_5678, 1 << 40);
            assert!(!memory::exists(0x1234_5678), "a segment was made");
        },
    ),
    Case::new(
        19,
        "key-zero",
        "names the key of new private segments",
        Refused("no segment has the key", SEGMENT),
        || {
            let mut offender = Offender::new(Plan::new());
            refused_as(&mut offender, 0, 2 << 20);
        },
    ),
    Case::new(
        19,
        "removed-before-registering",
        "removes its segment, and then names it",
        Refused("no segment has the key", SEGMENT),
        || {
            let mut offender = Offender::new(Plan::new());
            offender.region.forget();
            refused(&mut offender);
        },
    ),
    Case::new(
        8,
        "longer-than-its-segment",
        "claims a region of 2^40 bytes",
        Refused("a region of 1099511627776 bytes", REGION),
        || {
            let mut offender = Offender::new(Plan::new());
            let key = offender.region.key;
            refused_as(&mut offender, key, 1 << 40);
        },
    ),
    Case::new(
        8,
        "a-region-of-no-bytes",
        "claims a region of 0 bytes",
        Refused("a region of 0 bytes", REGION),
        || {
            let mut offender = Offender::new(Plan::new());
            let key = offender.region.key;
            refused_as(&mut offender, key, 0);
        },
    ),
    Case::new(
        8,
        "a-region-of-2-to-the-63",
        "claims a region of 2^63 bytes",
        Refused("a region of 9223372036854775808 bytes", REGION),
        || {
            let mut offender = Offender::new(Plan::new());
            let key = offender.region.key;
            refused_as(&mut offender, key, 1 << 63);
        },
    ),
    Case::new(
        16,
        "removed-under-it",
        "removes its segment once attached, makes another of the same key, and sends",
        Borne(&[]),
        || {
            let mut offender = Offender::attached(Plan::new());
            offender.region.forget();
            keep(Segment::create(2 << 20, offender.plan.huge));
            let ends = offender.ends();
            offender.send(&ends.mail(100), 0);
            offender.wait_taken(0);
            keep(offender);
        },
    )
    .mail(1),
    Case::new(
        16,
        "all-rights-taken-away",
        "takes all rights to its segment away once attached, and sends",
        Borne(&[]),
        || {
            let mut offender = Offender::attached(Plan::new());
            offender.region.forbid();
            let ends = offender.ends();
            offender.send(&ends.mail(200), 0);
            offender.wait_taken(0);
            keep(offender);
        },
    )
    .mail(1),
    Case::new(
        16,
        "forbids-itself-its-region",
        "takes its own mapping's rights away once attached",
        Borne(&[]),
        || {
            let offender = Offender::attached(Plan::new());
            offender.region.mem.forbid();
            keep(offender);
        },
    ),
    Case::new(
        17,
        "overwrites-the-ingress-region",
        "writes all ones over all 512 MiB of the ingress region, three times",
        Borne(&[]),
        || {
            let offender = Offender::attached(Plan::new());
            for value in [u64::MAX, 0x4141_4141_4141_4141, 0] {
                offender.ingress.mem.fill(value);
            }
            keep(offender);
        },
    )
    .quiet(),
];

fn refused_as(offender: &mut Offender, key: u32, len: u64) {
    offender.register_as(key, len);
    offender.wait_hang_up();
}
