//! Fds that are no eventfds, and eventfds that take no wake.

use std::os::fd::OwnedFd;

use rustix::event::EventfdFlags;

use super::super::Case;
use super::super::Expect::{self, Borne, Detached, Refused};
use super::super::offender::{Offender, Plan};
use super::super::socket::{Kind, fill};
use super::registration::{keep, refused};
use calisto::abi::types;

const EVENTFD: &str = "REFUSED_EVENTFD";
const BLOCKED: Expect = Detached("its eventfd blocks", "FAULT_WAKE");

pub(super) const CASES: &[Case] = &[
    Case::new(
        14,
        "an-epoll-instance",
        "sends an epoll instance",
        Refused("anon_inode:[eventpoll]`, not an eventfd", EVENTFD),
        || with(Kind::Epoll.open()),
    ),
    Case::new(
        14,
        "a-full-pipe",
        "sends a pipe that is full and blocks",
        Refused("not an eventfd", EVENTFD),
        || with(Kind::Pipe.open()),
    ),
    Case::new(
        14,
        "a-socket",
        "sends a socket",
        Refused("not an eventfd", EVENTFD),
        || with(Kind::Socket.open()),
    ),
    Case::new(
        14,
        "dev-zero",
        "sends /dev/zero",
        Refused("`/dev/zero`, not an eventfd", EVENTFD),
        || with(Kind::DevZero.open()),
    ),
    Case::new(
        14,
        "a-memfd",
        "sends a file in memory",
        Refused("not an eventfd", EVENTFD),
        || with(Kind::Memfd.open()),
    ),
    Case::new(
        14,
        "a-timer",
        "sends a timerfd",
        Refused("not an eventfd", EVENTFD),
        || with(Kind::Timerfd.open()),
    ),
    Case::new(
        14,
        "one-eventfd-for-two",
        "sends the same eventfd twice",
        Refused("its eventfd is that of kthread 0 too", EVENTFD),
        || {
            let mut offender = Offender::new(Plan::new().kthreads(2, 1));
            let same = offender.efds[0].try_clone().expect("an fd");
            offender.efds[1] = same;
            refused(&mut offender);
        },
    ),
    Case::new(
        14,
        "a-full-eventfd",
        "sends an eventfd that is full and blocks",
        Refused("its eventfd is full", EVENTFD),
        || full(None),
    ),
    Case::new(
        14,
        "a-full-eventfd-that-does-not-block",
        "sends an eventfd that is full and does not block",
        Refused("its eventfd is full", EVENTFD),
        || full(Some(special(EventfdFlags::NONBLOCK))),
    ),
    Case::new(
        14,
        "an-eventfd-filled-later",
        "fills its eventfd once attached, and parks with a timer",
        BLOCKED,
        || {
            let mut offender = Offender::attached(Plan::new());
            fill(&offender.efds[0]);
            offender.command(0, u64::from(types::TXCMD_PARKED_LAST), 1);
            offender.wait_hang_up();
            keep(offender);
        },
    ),
    Case::new(
        14,
        "an-eventfd-filled-again-and-again",
        "attaches, fills its eventfd, and attaches again, four times: each time it waits longer",
        BLOCKED,
        || {
            for _ in 0..4 {
                let mut offender = Offender::attached(Plan::new());
                fill(&offender.efds[0]);
                offender.command(0, u64::from(types::TXCMD_PARKED_LAST), 1);
                offender.wait_hang_up();
            }
            keep(Offender::new(Plan::new()));
        },
    ),
    Case::new(
        14,
        "a-semaphore",
        "sends an eventfd that counts down by one",
        Borne(&[]),
        || {
            let mut offender = Offender::new(Plan::new());
            offender.efds[0] = special(EventfdFlags::SEMAPHORE);
            offender.register();
            // Each wake reads as 1, so as core 0.
            assert_eq!(offender.wait_wake(0), 0);
            keep(offender);
        },
    ),
    Case::new(
        14,
        "an-eventfd-closed-afterwards",
        "closes its eventfd once attached, and parks with a timer, again and again",
        Borne(&["TIMER_GRANT"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            offender.efds.clear();
            for _ in 0..20 {
                offender.command(0, u64::from(types::TXCMD_PARKED_LAST), 1);
                // Nothing tells it that it was woken: the timer is long due by then.
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            keep(offender);
        },
    )
    .also(&["FAULT_PARK", "FAULTS"]),
];

fn with(fd: OwnedFd) {
    let mut offender = Offender::new(Plan::new());
    let mut fds = vec![fd];
    std::mem::swap(&mut offender.efds, &mut fds);
    offender.register();
    offender.wait_hang_up();
}

/// Registers with a full eventfd: this one, or one that blocks.
fn full(efd: Option<OwnedFd>) {
    let mut offender = Offender::new(Plan::new());
    if let Some(efd) = efd {
        offender.efds[0] = efd;
    }
    fill(&offender.efds[0]);
    offender.register();
    offender.wait_hang_up();
    keep(offender);
}

fn special(flags: EventfdFlags) -> OwnedFd {
    rustix::event::eventfd(0, flags).expect("an eventfd can be made")
}
