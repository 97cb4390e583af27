//! Bytes and fds on the control socket.

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::super::Expect::{Borne, Refused, RefusedInTheEnd};
use super::super::memory::become_user;
use super::super::offender::{Offender, Plan};
use super::super::socket::{self, MOST_FDS, connect, eventfd, head, send_fds};
use super::super::{Case, Expect};

const HUNG_UP: &str = "REFUSED_HUNG_UP";
const MESSAGE: &str = "REFUSED_MESSAGE";
const HEADER: &str = "REFUSED_HEADER";

pub(super) const CASES: &[Case] = &[
    Case::new(
        15,
        "silent-connection",
        "connects, and says nothing",
        RefusedInTheEnd("hung up after 0 of 13 bytes", HUNG_UP),
        || keep(connect()),
    ),
    Case::new(
        15,
        "silent-after-the-key",
        "sends 4 bytes, and nothing more",
        RefusedInTheEnd("hung up after 4 of 13 bytes", HUNG_UP),
        || keep(saying(&[1, 2, 3, 4])),
    ),
    Case::new(
        15,
        "silent-before-the-fds",
        "sends 12 bytes, and no fds",
        RefusedInTheEnd("hung up after 12 of 13 bytes", HUNG_UP),
        || keep(saying(&head(1, 2))),
    ),
    Case::new(
        15,
        "closes-in-between",
        "hangs up after 7 bytes",
        Refused("hung up after 7 of 13 bytes", HUNG_UP),
        || drop(saying(&[0; 7])),
    ),
    Case::new(
        15,
        "half-closes-in-between",
        "closes its sending end after 5 bytes, and waits",
        Refused("hung up after 5 of 13 bytes", HUNG_UP),
        || {
            let socket = saying(&[0; 5]);
            socket.shutdown(Shutdown::Write).expect("it is open");
            keep(socket);
        },
    ),
    Case::new(
        15,
        "a-byte-at-a-time",
        "registers byte by byte, with pauses",
        Borne(&[]),
        || {
            let offender = Offender::new(Plan::new());
            let mut socket = connect();
            for byte in head(offender.region.key, offender.plan.len as u64) {
                socket.write_all(&[byte]).expect("it is heard");
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
            send_fds(&socket, &[0], &fds_of(&offender)).expect("it is heard");
            offender.wait_wake(0);
            keep((socket, offender));
        },
    ),
    Case::new(
        8,
        "fds-with-the-key",
        "sends its fds with the first bytes",
        Refused("fds came with byte", MESSAGE),
        || {
            let efd = eventfd(0);
            let socket = connect();
            let _ = send_fds(&socket, &head(1, 2), &[efd.as_fd()]);
            keep(socket);
        },
    ),
    Case::new(
        8,
        "no-fds",
        "sends 13 bytes without fds",
        Refused("no fds came with the last byte", MESSAGE),
        || keep(saying(&[0; 13])),
    ),
    Case::new(
        8,
        "fewer-fds-than-kthreads",
        "has 2 kthreads and sends 1 fd",
        Refused("2 kthreads with 1 fds", HEADER),
        || {
            let mut offender = Offender::new(Plan::new().kthreads(2, 1));
            offender.efds.truncate(1);
            refused(&mut offender);
        },
    ),
    Case::new(
        8,
        "more-fds-than-kthreads",
        "has 1 kthread and sends as many fds as a message takes",
        Refused("1 kthreads with 253 fds", HEADER),
        || {
            let mut offender = Offender::new(Plan::new());
            offender.efds = (0..MOST_FDS).map(|_| eventfd(0)).collect();
            refused(&mut offender);
        },
    ),
    Case::new(
        8,
        "more-than-a-registration",
        "sends a hundred bytes behind the fds",
        Refused("more than the 13 bytes", MESSAGE),
        || {
            let offender = Offender::new(Plan::new());
            let socket = saying(&head(offender.region.key, offender.plan.len as u64));
            let _ = send_fds(&socket, &[0; 101], &fds_of(&offender));
            keep((socket, offender));
        },
    ),
    Case::new(
        8,
        "a-megabyte-of-noise",
        "sends noise for as long as it is listened to",
        Refused("no fds came with the last byte", MESSAGE),
        || {
            let mut socket = connect();
            let _ = socket.write_all(&vec![0x5a; 1 << 20]);
        },
    ),
    Case::new(
        0,
        "talks-after-registering",
        "sends a byte once it is attached",
        Expect::Detached("it sent more than its registration", "FAULT_SOCKET"),
        || {
            let mut offender = Offender::attached(Plan::new());
            let socket = offender.socket.as_mut().expect("it is attached");
            socket.write_all(b"?").expect("it is heard");
            offender.wait_hang_up();
            keep(offender);
        },
    ),
    Case::new(
        0,
        "half-closes-once-attached",
        "closes its sending end once it is attached, and runs on",
        Borne(&["DETACHED"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let socket = offender.socket.as_ref().expect("it is attached");
            socket.shutdown(Shutdown::Write).expect("it is open");
            offender.wait_hang_up();
            keep(offender);
        },
    ),
    Case::new(
        12,
        "more-than-all-cores",
        "wants 4 guaranteed cores while others have some of the 4",
        Refused("guaranteed cores", "REFUSED_GUARANTEE"),
        || refused(&mut Offender::new(Plan::new().kthreads(4, 4))),
    ),
    Case::new(
        12,
        "four-billion-cores",
        "wants 2^32 - 1 guaranteed cores",
        Refused("wants 4294967295 guaranteed cores", "REFUSED_GUARANTEE"),
        || refused(&mut Offender::new(Plan::new().kthreads(1, u32::MAX))),
    ),
    Case::new(
        20,
        "a-user-who-may-not",
        "connects as a user that --allow-uid does not name",
        Refused("is not let in by --allow-uid", "REFUSED_USER"),
        || {
            let mut offender = Offender::new(Plan::new());
            become_user(65534);
            refused(&mut offender);
        },
    ),
];

fn saying(bytes: &[u8]) -> UnixStream {
    let mut socket = connect();
    // Whoever hangs up meanwhile is what is wanted.
    let _ = socket.write_all(bytes);
    socket
}

fn fds_of(offender: &Offender) -> Vec<BorrowedFd<'_>> {
    offender.efds.iter().map(AsFd::as_fd).collect()
}

/// For as long as the process lives.
pub(super) fn keep<T>(what: T) {
    std::mem::forget(what);
}

/// Registers, and waits until it was hung up upon.
pub(super) fn refused(offender: &mut Offender) {
    offender.register();
    offender.wait_hang_up();
    assert!(
        socket::take_wake(&offender.efds[0]).is_none(),
        "it was woken"
    );
}
