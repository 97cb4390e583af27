//! What arrives on a connection, byte by byte.
//!
//! ```text
//!   byte   0      4              12    13
//!          | key  | length       | any |
//!          +------+--------------+-----+
//!                                   ^ SCM_RIGHTS with the eventfds
//! ```
//!
//! The bytes may come in any pieces, and late. Reading never asks for a byte
//! beyond the next boundary, so that the fds can be told to have come with the
//! last byte and no other.
//!
//! Invariant: every fd that was received is owned here, so it is closed
//! whatever becomes of the registration.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use crate::abi::types;

use super::error::RegistrationError;
use super::socket::Peer;

/// Time in which a registration must be complete.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Most kthreads, so most fds. (One SCM_RIGHTS message of Linux takes 253.)
pub const MAX_FDS: usize = types::NCPU as usize;

/// Key and length.
const HEAD: usize = 12;
const ANCILLARY: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

/// A connection whose registration is not complete.
#[derive(Debug)]
pub struct Registration {
    connection: OwnedFd,
    peer: Peer,
    started: Instant,
    head: [u8; HEAD],
    /// Bytes received: of the head, and the one after it.
    have: usize,
    fds: Vec<OwnedFd>,
}

/// What a runtime sent; nothing of it has been checked.
#[derive(Debug)]
pub struct RawRegistration {
    /// SysV key of its region.
    pub key: u32,
    /// Bytes of its region.
    pub len: u64,
    /// One eventfd a kthread, allegedly.
    pub fds: Vec<OwnedFd>,
    /// Who sent it.
    pub peer: Peer,
    /// To tell whether it still lives.
    pub connection: OwnedFd,
}

/// How far a registration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More must arrive.
    Partial,
    /// All is there.
    Complete,
}

enum Received {
    Nothing,
    End,
    Bytes(usize),
}

impl Registration {
    /// A new connection, which is nonblocking.
    pub fn new(connection: OwnedFd, peer: Peer, now: Instant) -> Registration {
        Registration {
            connection,
            peer,
            started: now,
            head: [0; HEAD],
            have: 0,
            fds: Vec::new(),
        }
    }

    /// When the peer connected.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Who connected.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Bytes that have arrived.
    pub fn bytes(&self) -> usize {
        self.have
    }

    /// Reads what is there, without waiting.
    ///
    /// # Errors
    /// [`RegistrationError`]: to be refused.
    pub fn advance(&mut self) -> Result<Progress, RegistrationError> {
        loop {
            // Bytes 0 to 11, then byte 12, then what must not be there.
            let mut spare = [0];
            let start = self.have.min(HEAD);
            let buf = if self.have < HEAD {
                &mut self.head[start..]
            } else {
                &mut spare[..]
            };
            let (received, cut) = receive(&self.connection, buf, &mut self.fds)?;
            match received {
                Received::Nothing if self.have > HEAD => return Ok(Progress::Complete),
                Received::Nothing => return Ok(Progress::Partial),
                Received::End => return Err(RegistrationError::HungUp(self.have)),
                Received::Bytes(_) if self.have > HEAD => {
                    return Err(RegistrationError::ExtraBytes);
                }
                Received::Bytes(n) => self.have += n,
            }
            if self.have <= HEAD && (cut || !self.fds.is_empty()) {
                return Err(RegistrationError::EarlyFds(self.have));
            }
            if self.have > HEAD {
                match self.fds.len() {
                    n if cut => return Err(RegistrationError::FdsCut(n)),
                    0 => return Err(RegistrationError::NoFds),
                    n if n > MAX_FDS => return Err(RegistrationError::TooManyFds(n)),
                    _ => {}
                }
            }
        }
    }

    /// What arrived. For complete registrations.
    pub fn finish(self) -> RawRegistration {
        let [k0, k1, k2, k3, len @ ..] = self.head;
        RawRegistration {
            key: u32::from_le_bytes([k0, k1, k2, k3]),
            len: u64::from_le_bytes(len),
            fds: self.fds,
            peer: self.peer,
            connection: self.connection,
        }
    }
}

impl AsFd for Registration {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// One `recvmsg`; true if the kernel dropped ancillary data.
fn receive(
    connection: &OwnedFd,
    buf: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Result<(Received, bool), RegistrationError> {
    use rustix::io::Errno;
    let mut space = [MaybeUninit::uninit(); ANCILLARY];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = match recvmsg(
        connection,
        &mut [IoSliceMut::new(buf)],
        &mut ancillary,
        flags,
    ) {
        Ok(message) => message,
        Err(Errno::AGAIN | Errno::INTR) => return Ok((Received::Nothing, false)),
        // The peer closed with bytes of ours unread; there are none, but a reset is a hang-up too.
        Err(Errno::CONNRESET) => return Ok((Received::End, false)),
        Err(e) => return Err(RegistrationError::Os("recvmsg", e.into())),
    };
    for item in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = item {
            fds.extend(rights);
        }
    }
    let cut = message.flags.contains(ReturnFlags::CTRUNC);
    Ok(match message.bytes {
        0 => (Received::End, cut),
        n => (Received::Bytes(n), cut),
    })
}
