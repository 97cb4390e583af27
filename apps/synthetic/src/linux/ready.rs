//! Which of many sockets have something to read.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use arrayvec::ArrayVec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Sockets reported at once.
const BATCH: usize = 64;

/// A set of sockets, each with a number.
#[derive(Debug)]
pub(super) struct ReadySet {
    epoll: OwnedFd,
}

impl ReadySet {
    /// An empty set.
    pub(super) fn new() -> std::io::Result<ReadySet> {
        Ok(ReadySet {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    /// Adds a socket, which is reported for as long as it has something to read.
    pub(super) fn add(&self, socket: impl AsFd, number: usize) -> std::io::Result<()> {
        let data = EventData::new_u64(number as u64);
        Ok(epoll::add(&self.epoll, socket, data, EventFlags::IN)?)
    }

    /// Waits at most `timeout`, exactly, until one can be read. True if one can.
    ///
    /// Not by `epoll_wait`, whose timeouts are whole milliseconds.
    pub(super) fn wait(&self, timeout: Duration) -> std::io::Result<bool> {
        wait_readable(&self.epoll, timeout)
    }

    /// Numbers of some that can be read now; those left out come next.
    pub(super) fn now(&self) -> std::io::Result<ArrayVec<usize, BATCH>> {
        let mut events = [MaybeUninit::<Event>::uninit(); BATCH];
        let zero = Timespec::default();
        match epoll::wait(&self.epoll, &mut events, Some(&zero)) {
            Ok((events, _)) => Ok(events
                .iter()
                .map(|e| crate::num::size(e.data.u64()))
                .collect()),
            Err(Errno::INTR) => Ok(ArrayVec::new()),
            Err(e) => Err(e.into()),
        }
    }
}

/// Waits at most `timeout` until `fd` can be read. True if it can.
pub(super) fn wait_readable(fd: impl AsFd, timeout: Duration) -> std::io::Result<bool> {
    let timeout = Timespec::try_from(timeout).unwrap_or_default();
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
