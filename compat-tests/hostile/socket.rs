//! The control socket as an offender uses it, and fds of many kinds.

use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketType, sendmsg,
};

/// Most fds that one message takes. Linux: `SCM_MAX_FD`.
pub const MOST_FDS: usize = 253;

/// The control socket: 108 zero bytes, the first of which makes it abstract.
fn address() -> SocketAddrUnix {
    SocketAddrUnix::new_abstract_name(&[0; 107]).expect("107 bytes fit behind the first")
}

/// A connection to the control socket of this namespace.
///
/// # Panics
/// When nobody listens.
pub fn connect() -> UnixStream {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)
        .expect("a socket can be made");
    // A filled backlog makes this wait, as it does a polite runtime.
    rustix::net::connect(&socket, &address()).expect("the I/O kernel listens");
    socket.into()
}

/// The first 12 bytes of a registration.
pub fn head(key: u32, len: u64) -> Vec<u8> {
    let mut bytes = Vec::from(key.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes
}

/// Sends bytes with fds.
///
/// # Errors
/// What `sendmsg` reports.
pub fn send_fds(
    to: &UnixStream,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> rustix::io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
    }
    let bytes = [IoSlice::new(bytes)];
    sendmsg(to, &bytes, &mut ancillary, SendFlags::NOSIGNAL)
}

/// True once the other end hung up.
pub fn is_hung_up(socket: &UnixStream) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::RDHUP)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0)
}

/// An eventfd with a count.
///
/// # Panics
/// When there is none left.
pub fn eventfd(count: u32) -> OwnedFd {
    rustix::event::eventfd(count, EventfdFlags::CLOEXEC).expect("an eventfd can be made")
}

/// Fills an eventfd so that one more count blocks.
///
/// # Panics
/// When it is full.
pub fn fill(efd: &OwnedFd) {
    let most = u64::MAX - 1;
    rustix::io::write(efd, &most.to_ne_bytes()).expect("it was empty");
}

/// What was written to an eventfd, if anything was.
pub fn take_wake(efd: &OwnedFd) -> Option<u64> {
    let mut fds = [PollFd::new(efd, PollFlags::IN)];
    if poll(&mut fds, Some(&Timespec::default())) != Ok(1) {
        return None;
    }
    let mut bytes = [0; 8];
    let n = rustix::io::read(efd, &mut bytes).ok()?;
    (n == 8).then(|| u64::from_ne_bytes(bytes))
}

/// A kind of fd that is no eventfd.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// An epoll instance.
    Epoll,
    /// The writing end of a full pipe: writes block.
    Pipe,
    /// One end of a stream socket.
    Socket,
    /// `/dev/zero`.
    DevZero,
    /// A file in memory.
    Memfd,
    /// A timer.
    Timerfd,
}

impl Kind {
    /// One of that kind. What it needs to work is left open for the process' life.
    ///
    /// # Panics
    /// When there is none.
    pub fn open(self) -> OwnedFd {
        use rustix::event::epoll;
        match self {
            Kind::Epoll => epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll instance"),
            Kind::Pipe => full_pipe(),
            Kind::Socket => {
                let (a, b) = UnixStream::pair().expect("a pair of sockets");
                std::mem::forget(b);
                a.into()
            }
            Kind::DevZero => std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/zero")
                .expect("/dev/zero")
                .into(),
            Kind::Memfd => {
                rustix::fs::memfd_create("memfd", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd")
            }
            Kind::Timerfd => {
                use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
                timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).expect("a timerfd")
            }
        }
    }
}

fn full_pipe() -> OwnedFd {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("nonblocking");
    let mut file = std::fs::File::from(writer);
    while file.write(&[0; 4096]).is_ok() {}
    while file.write(&[0]).is_ok() {}
    rustix::io::ioctl_fionbio(file.as_fd(), false).expect("blocking");
    std::mem::forget(reader);
    file.into()
}
