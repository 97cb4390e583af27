//! How runtimes come and go; first of all, a good one.

use super::super::Case;
use super::super::Expect::Borne;
use super::super::memory::{leave_a_child, raise};
use super::super::offender::{Offender, Plan, Ring};
use super::registration::keep;
use calisto::abi::types;

pub(super) const CASES: &[Case] = &[
    Case::new(
        21,
        "a-good-runtime",
        "attaches, sends, receives, parks, and is woken again",
        Borne(&["PARKS"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let ends = offender.ends();
            for _ in 0..10 {
                offender.send(&ends.mail(500), 0);
                offender.wait_for(types::RX_NET_COMPLETE);
            }
            offender.command(0, u64::from(types::TXCMD_PARKED_LAST), 1000);
            offender.wait_wake(0);
            keep(offender);
        },
    )
    .mail(10),
    Case::new(
        16,
        "killed-with-packets-in-hand",
        "borrows 50 packets, and kills itself",
        Borne(&["RX_RECLAIMED"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            for _ in 0..50 {
                offender.borrow();
            }
            raise(libc::SIGKILL);
        },
    ),
    Case::new(
        16,
        "ends-with-packets-unsent",
        "fills its ring of packets, and ends",
        Borne(&["DETACHED"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let at = offender.buffer(0);
            offender.write_packet(at, &[0x11; 14], 0);
            for _ in 0..200 {
                offender.put(0, Ring::Packets, 0, at as u64);
            }
            std::process::exit(0);
        },
    ),
    Case::new(
        16,
        "leaves-a-child",
        "ends, and leaves region, connection and eventfds to a child of other threads",
        Borne(&["DETACHED"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            offender.command(0, u64::from(types::TXCMD_PARKED_LAST), 0);
            offender.wait_taken(0);
            leave_a_child();
        },
    ),
    Case::new(
        16,
        "leaves-a-child-with-a-core",
        "ends while it holds a core, and leaves everything to a child of other threads",
        Borne(&["DETACHED"]),
        || {
            let offender = Offender::attached(Plan::new());
            keep(offender);
            leave_a_child();
        },
    ),
];
