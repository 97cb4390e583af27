//! The header of a region, sound and not, and changed while it is read.

use super::super::Case;
use super::super::Expect::{Borne, Refused};
use super::super::fields::header;
use super::super::offender::{Offender, Plan};
use super::super::random::meanwhile;
use super::registration::{keep, refused};
use calisto::abi::types;

const HEADER: &str = "REFUSED_HEADER";

pub(super) const CASES: &[Case] = &[
    Case::new(
        8,
        "no-kthreads",
        "has 0 kthreads",
        Refused("0 kthreads with 1 fds", HEADER),
        || with_threads(0),
    ),
    Case::new(
        8,
        "four-billion-kthreads",
        "has 2^32 - 1 kthreads",
        Refused("4294967295 kthreads with 1 fds", HEADER),
        || with_threads(u32::MAX),
    ),
    Case::new(
        8,
        "kthreads-beyond-the-region",
        "has 60 kthreads in a region of 4096 bytes",
        Refused("60 kthreads need a header of", HEADER),
        || {
            let mut offender = Offender::new(Plan::new());
            offender.efds = (0..60).map(|_| super::super::socket::eventfd(0)).collect();
            offender.region.mem.put32(header::THREADS, 60);
            let key = offender.region.key;
            offender.register_as(key, 4096);
            offender.wait_hang_up();
        },
    ),
    Case::new(
        0,
        "no-magic",
        "has no magic number",
        Refused("not with the magic number", HEADER),
        || {
            let mut offender = Offender::new(Plan::new());
            offender.region.mem.put32(header::MAGIC, 0xdead_beef);
            refused(&mut offender);
        },
    ),
    Case::new(
        0,
        "a-caladan-runtime",
        "is a Caladan runtime: its version stands before the magic number",
        Refused("this is a Caladan runtime", "REFUSED_CALADAN"),
        || {
            let mut offender = Offender::new(Plan::new());
            let mem = offender.region.mem;
            mem.put32(0, 14);
            mem.put32(4, types::CONTROL_HDR_MAGIC);
            refused(&mut offender);
        },
    ),
    Case::new(
        9,
        "2-to-the-63-egress-buffers",
        "has 2^63 egress buffers, and sends from one",
        Borne(&[]),
        || {
            let mut offender = Offender::new(Plan::new());
            offender.region.mem.put64(header::EGRESS, 1 << 63);
            offender.register();
            offender.wait_wake(0);
            let ends = offender.ends();
            offender.send(&ends.mail(64), 0);
            keep(offender);
        },
    )
    .mail(1),
    Case::new(
        9,
        "all-the-egress-buffers-there-are",
        "has 2^64 - 1 egress buffers",
        Borne(&[]),
        || {
            let mut offender = Offender::new(Plan::new());
            offender.region.mem.put64(header::EGRESS, u64::MAX);
            offender.register();
            offender.wait_wake(0);
            keep(offender);
        },
    ),
    Case::new(
        8,
        "a-header-that-changes-afterwards",
        "writes noise over its header and specs once attached, and sends",
        Borne(&[]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let mem = offender.region.mem;
            meanwhile(move |random| {
                let at = random.below(17);
                mem.put64(8 * at, random.long());
            });
            let ends = offender.ends();
            for _ in 0..50 {
                offender.send(&ends.mail(300), 0);
            }
            offender.wait_taken(0);
            keep(offender);
        },
    )
    .mail(50),
];

fn with_threads(count: u32) {
    let offender = &mut Offender::new(Plan::new());
    offender.region.mem.put32(header::THREADS, count);
    refused(offender);
}
