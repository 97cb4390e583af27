//! Thread ids of others, and of nobody.

use super::super::Case;
use super::super::Expect::{Borne, Refused};
use super::super::fields::spec;
use super::super::memory::{dead_tid, gettid};
use super::super::offender::{Offender, PEERS_VAR, Plan};
use super::registration::{keep, refused};
use calisto::abi::types;

const THREAD: &str = "REFUSED_THREAD";
const SAYS: &str = "is no thread of pid";

pub(super) const CASES: &[Case] = &[
    Case::new(
        13,
        "the-first-process",
        "claims init to be its kthread",
        Refused("tid 1 is no thread of pid", THREAD),
        || with_tid(1),
    ),
    Case::new(
        13,
        "the-echos-thread",
        "claims the echo runtime's main thread to be its kthread",
        Refused(SAYS, THREAD),
        || with_tid(other(0)),
    ),
    Case::new(
        13,
        "the-io-kernels-thread",
        "claims the I/O kernel's polling thread to be its kthread",
        Refused(SAYS, THREAD),
        || with_tid(other(1)),
    ),
    Case::new(
        13,
        "a-dead-thread",
        "claims a thread that has ended",
        Refused(SAYS, THREAD),
        || with_tid(dead_tid()),
    ),
    Case::new(
        13,
        "thread-0",
        "claims thread 0, which to the kernel means the caller",
        Refused("tid 0 is no thread", THREAD),
        || with_tid(0),
    ),
    Case::new(
        13,
        "thread-minus-1",
        "claims thread -1, which to the kernel means everybody",
        Refused("tid -1 is no thread", THREAD),
        || with_tid(-1),
    ),
    Case::new(
        13,
        "the-last-kthread-is-another",
        "has 8 kthreads, of which the last is init",
        Refused("kthread 7: tid 1 is no thread", THREAD),
        || {
            let mut offender = Offender::new(Plan::new().kthreads(8, 1));
            let at = offender.spec(7) + spec::TID;
            offender.region.mem.put32(at, 1);
            refused(&mut offender);
        },
    ),
    Case::new(
        13,
        "a-kthread-that-ends",
        "lets its only kthread's thread end while it is parked, and wants to be woken",
        Borne(&["DETACHED"]),
        || {
            let (send, tid) = std::sync::mpsc::channel();
            let (end, ended) = std::sync::mpsc::channel::<()>();
            let thread = std::thread::spawn(move || {
                send.send(gettid()).expect("it is awaited");
                // Until the other end is dropped.
                let _ = ended.recv();
            });
            let mut offender = Offender::new(Plan::new());
            offender.set_tid(tid.recv().expect("it is sent"));
            offender.register();
            offender.wait_wake(0);
            drop(end);
            thread.join().expect("it ends");
            // A timer that is due at once: it is woken, that is, pinned.
            offender.command(0, u64::from(types::TXCMD_PARKED_LAST), 1);
            // The same core again needs no pinning; then its end is noticed by its death only.
            keep(offender);
        },
    ),
];

fn with_tid(tid: i32) {
    let mut offender = Offender::new(Plan::new());
    offender.set_tid(tid);
    refused(&mut offender);
}

/// The process id of the echo runtime (0) or of the I/O kernel (1).
fn other(which: usize) -> i32 {
    let pids = std::env::var(PEERS_VAR).expect("the harness sets it");
    let pid = pids.split(' ').nth(which).expect("two pids");
    pid.parse().expect("a pid")
}
