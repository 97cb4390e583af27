//! The byte stream of a registration, on a socket pair.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::SendFlags;

use super::super::error::RegistrationError;
use super::super::registration::{Progress, Registration};
use super::super::socket::Peer;
use super::super::test_runtime::{alone, pair, send_fds};

const HEAD: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

fn start() -> (Registration, OwnedFd) {
    let (ours, theirs) = pair();
    let peer = Peer { pid: 1, uid: 0 };
    (Registration::new(ours, peer, Instant::now()), theirs)
}

fn efds(n: usize) -> Vec<OwnedFd> {
    let new = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    (0..n).map(|_| new()).collect()
}

fn send(to: &OwnedFd, bytes: &[u8]) {
    assert_eq!(
        rustix::net::send(to, bytes, SendFlags::NOSIGNAL),
        Ok(bytes.len())
    );
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn single_bytes_add_up() {
    let (mut registration, peer) = start();
    for byte in HEAD {
        assert_eq!(registration.advance().unwrap(), Progress::Partial);
        send(&peer, &[byte]);
    }
    assert_eq!(registration.advance().unwrap(), Progress::Partial);
    send_fds(&peer, b"x", &efds(3)).unwrap();
    assert_eq!(registration.advance().unwrap(), Progress::Complete);
    let raw = registration.finish();
    assert_eq!(raw.key, 0x0403_0201);
    assert_eq!(raw.len, 0x0c0b_0a09_0807_0605);
    assert_eq!(raw.fds.len(), 3);
}

#[test]
fn every_split_of_the_head_arrives() {
    for split in 1..12 {
        let (mut registration, peer) = start();
        send(&peer, &HEAD[..split]);
        assert_eq!(registration.advance().unwrap(), Progress::Partial);
        send(&peer, &HEAD[split..]);
        send_fds(&peer, b"x", &efds(1)).unwrap();
        assert_eq!(
            registration.advance().unwrap(),
            Progress::Complete,
            "{split}"
        );
        assert_eq!(registration.finish().key, 0x0403_0201);
    }
}

#[test]
fn all_that_one_message_may_carry_arrives() {
    let (mut registration, peer) = start();
    send(&peer, &HEAD);
    // 253: SCM_MAX_FD (net/scm.h).
    send_fds(&peer, b"x", &efds(253)).unwrap();
    assert_eq!(registration.advance().unwrap(), Progress::Complete);
    assert_eq!(registration.finish().fds.len(), 253);
}

#[test]
fn a_hang_up_is_seen_at_every_byte() {
    for sent in 0..=12 {
        let (mut registration, peer) = start();
        send(&peer, &HEAD[..sent]);
        drop(peer);
        let error = registration.advance().unwrap_err();
        assert!(
            matches!(error, RegistrationError::HungUp(n) if n == sent),
            "{error}"
        );
    }
    let (mut registration, peer) = start();
    send(&peer, &HEAD);
    send_fds(&peer, b"x", &efds(1)).unwrap();
    drop(peer);
    let error = registration.advance().unwrap_err();
    assert!(matches!(error, RegistrationError::HungUp(13)), "{error}");
}

#[test]
fn fds_with_an_earlier_byte_are_refused() {
    for early in 0..12 {
        let (mut registration, peer) = start();
        send(&peer, &HEAD[..early]);
        send_fds(&peer, &HEAD[early..=early], &efds(1)).unwrap();
        let error = registration.advance().unwrap_err();
        assert!(
            matches!(error, RegistrationError::EarlyFds(n) if n == early + 1),
            "{error}"
        );
    }
}

#[test]
fn a_registration_in_one_message_is_refused() {
    let (mut registration, peer) = start();
    let mut all = HEAD.to_vec();
    all.push(b'x');
    // A runtime's reads would have lost these fds; so they are not the protocol.
    send_fds(&peer, &all, &efds(1)).unwrap();
    let error = registration.advance().unwrap_err();
    assert!(matches!(error, RegistrationError::EarlyFds(12)), "{error}");
}

#[test]
fn the_last_byte_without_fds_is_refused() {
    let (mut registration, peer) = start();
    send(&peer, &HEAD);
    send(&peer, b"x");
    let error = registration.advance().unwrap_err();
    assert!(matches!(error, RegistrationError::NoFds), "{error}");
}

#[test]
fn bytes_after_the_last_are_refused() {
    for together in [true, false] {
        let (mut registration, peer) = start();
        send(&peer, &HEAD);
        if together {
            send_fds(&peer, b"xy", &efds(1)).unwrap();
        } else {
            send_fds(&peer, b"x", &efds(1)).unwrap();
            send(&peer, b"y");
        }
        let error = registration.advance().unwrap_err();
        assert!(matches!(error, RegistrationError::ExtraBytes), "{error}");
    }
}

#[test]
fn refused_fds_are_closed() {
    if !alone("control::tests::bytes::refused_fds_are_closed") {
        return;
    }
    let before = open_fds();
    for _ in 0..10 {
        let (mut early, peer) = start();
        send_fds(&peer, &HEAD, &efds(5)).unwrap();
        early.advance().unwrap_err();
        let (mut extra, peer) = start();
        send(&peer, &HEAD);
        send_fds(&peer, b"xy", &efds(5)).unwrap();
        extra.advance().unwrap_err();
    }
    assert_eq!(open_fds(), before);
}

#[test]
fn fds_that_we_have_no_room_for_are_noticed_and_closed() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    if !alone("control::tests::bytes::fds_that_we_have_no_room_for_are_noticed_and_closed") {
        return;
    }
    let (mut registration, peer) = start();
    send(&peer, &HEAD);
    let sent = efds(20);
    send_fds(&peer, b"x", &sent).unwrap();
    let before = open_fds();
    let lowest_free = std::os::fd::AsRawFd::as_raw_fd(&peer.try_clone().unwrap());
    let mut limit = getrlimit(Resource::Nofile);
    // Numbers below the limit are for the taking: three of them are free, at most.
    limit.current = Some(u64::try_from(lowest_free).unwrap() + 3);
    setrlimit(Resource::Nofile, limit).unwrap();
    let error = registration.advance().unwrap_err();
    assert!(
        matches!(error, RegistrationError::FdsCut(n) if n < 20),
        "{error}"
    );
    drop(registration);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    // The registration's socket is gone too.
    assert_eq!(open_fds(), before - 1);
}
