//! Ethernet addresses, and how many runtimes have one.

use super::super::Case;
use super::super::Expect::{Borne, Refused};
use super::super::fields::header;
use super::super::offender::{Offender, Plan, until};
use super::super::socket::take_wake;
use super::super::wire;
use super::packets::give_back_received;
use super::registration::{keep, refused};

const ADDRESS: &str = "REFUSED_ADDRESS";
/// The echo runtime's number.
pub(super) const ECHO: u16 = 1;

pub(super) const CASES: &[Case] = &[
    Case::new(
        10,
        "the-echos-address",
        "has the echo runtime's address, and hangs up",
        Refused("is that of pid", ADDRESS),
        || {
            let mut offender = Offender::new(Plan::new().number(ECHO));
            refused(&mut offender);
            offender.socket = None;
        },
    ),
    Case::new(
        10,
        "everybodys-address",
        "has the broadcast address",
        Refused("is no unicast Ethernet address", ADDRESS),
        || with_mac(wire::ALL),
    ),
    Case::new(
        10,
        "a-groups-address",
        "has a multicast address",
        Refused("is no unicast Ethernet address", ADDRESS),
        || with_mac([1, 0, 0x5e, 0, 0, 1]),
    ),
    Case::new(
        10,
        "nobodys-address",
        "has the address of all zeros",
        Refused("is no unicast Ethernet address", ADDRESS),
        || with_mac([0; 6]),
    ),
    Case::new(
        11,
        "a-hundred-and-forty-at-once",
        "attaches 140 runtimes of one process, of which each gets its turn on a core",
        Borne(&[]),
        || {
            let mut many = Vec::new();
            let mut waiting = Vec::new();
            for n in 0..140 {
                let plan = Plan::new().number(1000 + n).kthreads(1, 0).small();
                let mut offender = Offender::new(plan);
                offender.register();
                waiting.push(many.len());
                many.push(offender);
                take_turns(&mut many, &mut waiting);
            }
            until("each was woken", || {
                take_turns(&mut many, &mut waiting);
                waiting.is_empty().then_some(())
            });
            assert!(many.iter().all(|o| !o.is_hung_up()), "one was refused");
            keep(many);
        },
    ),
    Case::new(
        11,
        "two-of-one-process",
        "attaches two runtimes of one process, and sends from both",
        Borne(&[]),
        || {
            let mut a = Offender::attached(Plan::new());
            let mut b = Offender::attached(Plan::new().number(67));
            for offender in [&mut a, &mut b] {
                let ends = offender.ends();
                offender.send(&ends.mail(80), 0);
                offender.wait_taken(0);
            }
            keep((a, b));
        },
    )
    .mail(2),
];

/// Parks those that were woken, at once, so that each has its turn.
fn take_turns(all: &mut [Offender], waiting: &mut Vec<usize>) {
    for (n, offender) in all.iter_mut().enumerate() {
        if take_wake(&offender.efds[0]).is_none() {
            continue;
        }
        // Also one that was woken before: a park with a broadcast under way does not stand.
        while let Some(received) = offender.take(0) {
            give_back_received(offender, received);
        }
        offender.park(0, 0);
        waiting.retain(|&w| w != n);
    }
}

fn with_mac(mac: [u8; 6]) {
    let mut offender = Offender::new(Plan::new());
    offender.region.mem.put(header::MAC, &mac);
    refused(&mut offender);
}
