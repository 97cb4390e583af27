//! Registrations by the hundred. Last of all cases: they use up the log's allowance
//! of refusals, which others' lines need.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::super::Case;
use super::super::Expect::{Races, Refused, RefusedInTheEnd};
use super::super::fields::{header, spec};
use super::super::offender::{Offender, Plan, SLOTS, until};
use super::super::random::meanwhile;
use super::super::socket::{connect, is_hung_up};
use super::super::wire;
use super::addresses::ECHO;
use super::registration::{keep, refused};
use calisto::abi::types;

const HUNG_UP: &str = "REFUSED_HUNG_UP";
const HEADER: &str = "REFUSED_HEADER";
const ADDRESS: &str = "REFUSED_ADDRESS";

pub(super) const CASES: &[Case] = &[
    Case::new(
        15,
        "two-hundred-silent-connections",
        "connects 200 times, and says nothing",
        RefusedInTheEnd("too many registrations at once", "REFUSED_GAVE_WAY"),
        || {
            let sockets: Vec<UnixStream> = (0..200).map(|_| connect()).collect();
            until("one gives way", || {
                sockets.iter().any(is_hung_up).then_some(())
            });
            keep(sockets);
        },
    )
    .also(&[HUNG_UP]),
    Case::new(
        15,
        "a-storm-of-connections",
        "connects 500 times, and hangs up at once",
        Refused("hung up after 0 of 13 bytes", HUNG_UP),
        || (0..500).for_each(|_| drop(connect())),
    ),
    Case::new(
        12,
        "refused-again-and-again",
        "is refused 300 times with 3 guaranteed cores, and then wants them in earnest",
        Refused("a ring of 63 slots", "REFUSED_QUEUE"),
        || {
            let mut offender = Offender::new(Plan::new().kthreads(3, 3));
            let slots = offender.spec(0) + spec::TXPKTQ;
            offender.region.mem.put64(slots, 63);
            for _ in 0..300 {
                offender.register();
                offender.wait_hang_up();
            }
            offender.region.mem.put64(slots, u64::from(SLOTS));
            offender.register();
            offender.wait_wake(0);
            keep(offender);
        },
    ),
    Case::new(
        10,
        "the-echos-address-a-hundred-times",
        "has the echo runtime's address, 100 times",
        Refused("is that of pid", ADDRESS),
        || {
            let mut offender = Offender::new(Plan::new().number(ECHO));
            (0..100).for_each(|_| refused(&mut offender));
        },
    ),
    Case::new(
        8,
        "a-registration-in-a-race",
        "registers 100 times, and hangs up at some point after",
        Races(&[
            HUNG_UP,
            "REFUSED_SEGMENT",
            "REFUSED_ADDRESS",
            "REFUSED_PROCESS",
        ]),
        || {
            let mut offender = Offender::new(Plan::new());
            for n in 0..100 {
                offender.register();
                std::thread::sleep(Duration::from_micros(50 * (n % 20)));
                offender.socket = None;
            }
            // The last one, once those before it have left.
            std::thread::sleep(Duration::from_millis(200));
            offender.register();
            offender.wait_wake(0);
            keep(offender);
        },
    ),
    Case::new(
        8,
        "a-header-that-changes",
        "changes magic number, kthreads and guarantee while it registers, 100 times",
        Races(&[
            HEADER,
            "REFUSED_CALADAN",
            "REFUSED_GUARANTEE",
            "REFUSED_HUNG_UP",
            ADDRESS,
        ]),
        || {
            let mut offender = Offender::new(Plan::new());
            let mem = offender.region.mem;
            meanwhile(move |random| {
                let odd = random.below(4) == 0;
                mem.put32(
                    header::MAGIC,
                    if odd { 7 } else { types::CONTROL_HDR_MAGIC },
                );
                mem.put32(header::THREADS, if odd { 200 } else { 1 });
                mem.put32(header::GUARANTEED, if odd { u32::MAX } else { 1 });
            });
            try_often(&mut offender);
        },
    ),
    Case::new(
        8,
        "an-address-that-changes",
        "changes its Ethernet address, also to the echo runtime's, while it registers, 100 times",
        Races(&[ADDRESS, "REFUSED_HUNG_UP"]),
        || {
            let mut offender = Offender::new(Plan::new());
            let mem = offender.region.mem;
            meanwhile(move |random| {
                let number = if random.below(2) == 0 { 1 } else { 66 };
                mem.put(header::MAC, &wire::mac(number));
            });
            try_often(&mut offender);
        },
    ),
    Case::new(
        8,
        "specs-that-change",
        "changes places and sizes of its rings, and tids, while it registers, 100 times",
        Races(&[
            "REFUSED_QUEUE",
            "REFUSED_THREAD",
            "REFUSED_HUNG_UP",
            ADDRESS,
        ]),
        || {
            let mut offender = Offender::new(Plan::new());
            let (mem, at) = (offender.region.mem, offender.spec(0));
            let sound: Vec<u64> = (0..11).map(|i| mem.get64(at + 8 * i)).collect();
            meanwhile(move |random| {
                let field = random.below(11);
                let value = match random.below(4) {
                    0 => random.long(),
                    1 => sound[(field + 1) % 11],
                    _ => sound[field],
                };
                mem.put64(at + 8 * field, value);
            });
            try_often(&mut offender);
        },
    ),
];

/// Registers over and over. Some of it may get in.
fn try_often(offender: &mut Offender) {
    for _ in 0..100 {
        offender.register();
        std::thread::sleep(Duration::from_micros(500));
        offender.socket = None;
    }
}
