//! Parks that are not due, wakes that are not heeded, cores that are not given up.

use super::super::Case;
use super::super::Expect::{self, Borne, Detached};
use super::super::memory::raise;
use super::super::offender::{Offender, Plan, Ring};
use super::registration::keep;
use calisto::abi::types;

const KEPT: Expect = Detached("did not give up core", "FAULT_CORE");

pub(super) const CASES: &[Case] = &[
    Case::new(
        0,
        "parks-twice",
        "parks, and parks again: the second park is read when it is woken",
        Borne(&["PARKS"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            offender.put(0, Ring::Commands, 1, 0);
            offender.put(0, Ring::Commands, 1, 0);
            keep(offender);
        },
    ),
    Case::new(
        0,
        "parks-while-parked",
        "has 200 packets and three parks in its rings when it attaches: each completion wakes it again",
        Borne(&["PARKS"]),
        || {
            let mut offender = Offender::new(Plan::new());
            let at = offender.buffer(0);
            offender.write_packet(at, &[0x11; 14], 0);
            for _ in 0..200 {
                offender.put(0, Ring::Packets, 0, at as u64);
            }
            (0..3).for_each(|_| offender.put(0, Ring::Commands, 1, 0));
            offender.register();
            offender.wait_taken(0);
            keep(offender);
        },
    ),
    Case::new(
        0,
        "parks-unsent-packets",
        "queues 100 packets and parks in the same moment",
        Borne(&["PARKS"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let ends = offender.ends();
            for n in 0..100 {
                let at = offender.buffer(n);
                offender.write_packet(at, &ends.mail(100 + n), 0);
                offender.put(0, Ring::Packets, 0, at as u64);
            }
            offender.put(0, Ring::Commands, 1, 0);
            offender.wait_taken(0);
            keep(offender);
        },
    )
    .mail(100),
    Case::new(
        0,
        "joins-nobody",
        "parks with pointers to no kthread, which come back to itself",
        Borne(&["PARKS"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            for payload in [1, 0xdead_beef, u64::MAX, 1 << 63] {
                offender.command(0, 1, payload);
                // Whatever it was sent on as waits for it.
                let joined = offender.wait_for(types::RX_JOIN);
                assert_eq!(joined.payload, payload, "the payload is its own affair");
                offender.wait_wake(0);
                // What crossed the wake would refuse the next park.
                while offender.take(0).is_some() {}
            }
            keep(offender);
        },
    ),
    Case::new(
        0,
        "a-timer-for-ever",
        "parks with a timer of 2^64 - 1 us, and is woken by a packet",
        Borne(&["PARKS"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            offender.command(0, u64::from(types::TXCMD_PARKED_LAST), u64::MAX);
            offender.wait_taken(0);
            keep(offender);
        },
    ),
    Case::new(
        0,
        "a-storm-of-parks",
        "parks with a timer of 1 us for as often as it is woken, 1,500 times",
        Borne(&["PARKS", "TIMER_GRANT"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            for _ in 0..1500 {
                offender.command(0, u64::from(types::TXCMD_PARKED_LAST), 1);
                offender.wait_wake(0);
                while offender.take(0).is_some() {}
            }
            keep(offender);
        },
    ),
    Case::new(
        0,
        "does-not-heed-wakes",
        "parks with packets on their way, again and again, and reads no wake",
        Borne(&[]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let ends = offender.ends();
            for port in 0..200 {
                offender.send(&ends.syn((20_000 + port, 1)), 0);
            }
            offender.wait_taken(0);
            std::thread::sleep(std::time::Duration::from_millis(50));
            keep(offender);
        },
    ),
    Case::new(
        22,
        "holds-every-core",
        "takes all cores that are left, 3 of them guaranteed, and never parks; another waits for one",
        Borne(&[]),
        || {
            let _offender = take_all(3, 3);
            let mut waiting = Offender::new(Plan::new().number(67).kthreads(1, 0));
            waiting.register();
            super::super::say(super::super::ACTED);
            // A polite one: it gives up what it gets.
            loop {
                waiting.wait_wake(0);
                waiting.park(0, 0);
            }
        },
    ),
    Case::new(
        0,
        "stopped-on-every-core",
        "takes all cores though 1 is guaranteed, and is stopped by SIGSTOP: it gives up none",
        KEPT,
        || {
            let offender = take_all(4, 1);
            super::super::say(super::super::ACTED);
            keep(offender);
            raise(libc::SIGSTOP);
        },
    ),
    Case::new(
        0,
        "preempted-and-deaf",
        "takes all cores though none is guaranteed, and does not heed SIGUSR1",
        KEPT,
        || keep(take_all(4, 0)),
    ),
];

/// Takes that many cores: every run queue stands still, so it is congested.
fn take_all(kthreads: usize, guaranteed: u32) -> Offender {
    let offender = Offender::attached(Plan::new().kthreads(kthreads, guaranteed));
    for k in 0..kthreads {
        offender.region.mem.put32(offender.q_ptrs(k) + 4, 1000);
    }
    (1..kthreads).for_each(|k| _ = offender.wait_wake(k));
    offender
}
