//! The bytes and fds of a registration, in any pieces and any order.
//!
//! A model of the stream says what must become of it; and no fd is left open.
#![no_main]

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use arbitrary::Arbitrary;
use calisto::control::kthreads::check_eventfds;
use calisto::control::registration::{Progress, Registration};
use calisto::control::socket::Peer;
use libfuzzer_sys::fuzz_target;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};

/// Bytes of a registration.
const ALL: usize = 13;
/// Most fds that one message may carry. Linux: `SCM_MAX_FD`.
const SCM_MAX_FD: usize = 253;

#[derive(Debug, Arbitrary)]
struct Input {
    messages: Vec<Message>,
    hang_up: bool,
}

#[derive(Debug, Arbitrary)]
struct Message {
    bytes: Vec<u8>,
    fds: Fds,
    /// The other side looks after this message.
    look: bool,
}

#[derive(Debug, Arbitrary)]
enum Fds {
    None,
    Eventfds(u8),
    /// The same one so many times.
    Same(u8),
    Pipe,
}

impl Fds {
    fn make(&self) -> Vec<OwnedFd> {
        use rustix::event::{EventfdFlags, eventfd};
        let new = || eventfd(0, EventfdFlags::CLOEXEC).expect("an fd");
        match self {
            Fds::None => Vec::new(),
            Fds::Eventfds(n) => (0..usize::from(*n).min(SCM_MAX_FD))
                .map(|_| new())
                .collect(),
            Fds::Same(n) => {
                let first = new();
                (0..usize::from(*n).min(8))
                    .map(|_| first.try_clone().expect("an fd"))
                    .collect()
            }
            Fds::Pipe => {
                let (reader, _) = rustix::pipe::pipe().expect("a pipe");
                vec![reader]
            }
        }
    }

    /// True if each of them is an eventfd and they all differ.
    fn sound(&self) -> bool {
        matches!(self, Fds::None | Fds::Eventfds(_) | Fds::Same(0 | 1))
    }
}

/// What was sent so far.
#[derive(Default)]
struct Model {
    bytes: Vec<u8>,
    /// Fds with byte 12, and whether they are sound.
    fds: usize,
    sound: bool,
    /// It cannot become a registration any more.
    broken: bool,
}

impl Model {
    fn sent(&mut self, message: &[u8], fds: usize, sound: bool) {
        let (start, end) = (self.bytes.len(), self.bytes.len() + message.len());
        // Fds come with a message's first byte.
        if fds > 0 {
            self.broken |= start != ALL - 1;
            (self.fds, self.sound) = (fds, sound);
        }
        self.bytes.extend_from_slice(message);
        self.broken |= end > ALL || (end == ALL && self.fds == 0);
    }

    fn complete(&self) -> bool {
        self.bytes.len() == ALL && !self.broken
    }
}

fuzz_target!(|input: Input| {
    let before = open_fds();
    run(&input);
    assert_eq!(open_fds(), before, "fds are left open");
});

/// Open fds below a number that no run comes near.
fn open_fds() -> usize {
    (0..700)
        .filter(|fd| {
            // SAFETY: only asks; numbers that are not open give an error.
            #[allow(unsafe_code, reason = "asks about a number, whatever it is")]
            let flags = unsafe { libc::fcntl(*fd, libc::F_GETFD) };
            flags >= 0
        })
        .count()
}

fn run(input: &Input) {
    let family = AddressFamily::UNIX;
    let (ours, theirs) =
        socketpair(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("sockets");
    rustix::io::ioctl_fionbio(&ours, true).expect("a socket");
    let peer = Peer { pid: 1, uid: 0 };
    let mut registration = Registration::new(ours, peer, Instant::now());
    let mut model = Model::default();
    for message in input.messages.iter().take(20) {
        let bytes = &message.bytes[..message.bytes.len().min(16)];
        // A stream carries no fds without a byte.
        if !bytes.is_empty() {
            let fds = message.fds.make();
            send(&theirs, bytes, &fds);
            model.sent(bytes, fds.len(), message.fds.sound());
        }
        if message.look && !look(&mut registration, &model, false) {
            return;
        }
    }
    if input.hang_up {
        drop(theirs);
        look(&mut registration, &model, true);
        return;
    }
    if look(&mut registration, &model, false) && model.complete() {
        let raw = registration.finish();
        assert_eq!(raw.key.to_le_bytes(), model.bytes[..4]);
        assert_eq!(raw.len.to_le_bytes(), model.bytes[4..12]);
        assert_eq!(raw.fds.len(), model.fds);
        assert_eq!(check_eventfds(&raw.fds).is_ok(), model.sound);
        assert!(raw.connection.as_raw_fd() >= 0);
    }
}

/// What `advance` says must be what the model says. False once it was refused.
fn look(registration: &mut Registration, model: &Model, hung_up: bool) -> bool {
    match registration.advance() {
        Ok(progress) => {
            assert!(!model.broken && !hung_up, "went on with {:?}", model.bytes);
            assert_eq!(progress == Progress::Complete, model.complete());
            assert_eq!(registration.bytes(), model.bytes.len());
            true
        }
        Err(why) => {
            assert!(model.broken || hung_up, "refused: {why}");
            calisto_fuzz::text::assert_one_line(&why.to_string());
            false
        }
    }
}

fn send(to: &OwnedFd, bytes: &[u8], fds: &[OwnedFd]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
    if !borrowed.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)));
    }
    let sent = sendmsg(
        to,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    );
    assert_eq!(sent, Ok(bytes.len()), "sockets hold this little");
}
