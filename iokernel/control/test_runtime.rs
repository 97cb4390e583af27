//! For tests: a runtime's side of the registration, made by this process, and
//! namespaces of the test thread's own.

#![allow(unsafe_code, reason = "namespaces and user ids of one thread")]

use std::collections::HashMap;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::Location;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once};
use std::thread::ThreadId;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, sendmsg,
};

use crate::abi::shm::{ShmPtr, ShmRegion};
use crate::abi::types::{self, control_hdr, queue_spec, sched_spec, thread_spec};
use crate::testing::skip;

use super::registration::RawRegistration;
use super::socket::{Peer, address, peer};
use super::sysv;

/// Slots of each ring.
pub(super) const SLOTS: u64 = 64;

/// Gives this thread, and threads that it starts, a network and an IPC
/// namespace of their own, so that names and keys of tests do not collide.
/// False, and a skip, if that is not allowed here.
#[track_caller]
pub(crate) fn private_namespaces() -> bool {
    // SAFETY: takes flags only; both namespaces are the thread's, and no fd or
    // mapping depends on them.
    let ret = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWIPC) };
    if ret != 0 {
        let e = std::io::Error::last_os_error();
        skip_here(&format!(
            "no namespaces here ({e}); try `unshare -Urni cargo test`"
        ));
    }
    ret == 0
}

/// Skips the case that is named by where it asked.
#[track_caller]
fn skip_here(why: &str) {
    skip(&Location::caller().to_string(), why);
}

/// True if threads may act as another user here; else a skip.
#[track_caller]
pub(crate) fn may_become_another() -> bool {
    let may = std::thread::spawn(|| set_user(4321)).join().unwrap();
    if !may {
        skip_here("only root of a namespace with many users can become another one");
    }
    may
}

/// Makes this thread, and no other, act as another user.
pub(crate) fn become_user(uid: libc::uid_t) {
    assert!(set_user(uid), "may_become_another() was not asked");
}

/// Makes this thread, and no other, one of another group and of some besides.
pub(crate) fn become_member(gid: libc::gid_t, others: &[libc::gid_t]) {
    // SAFETY: the raw calls change the calling thread only; as many groups as are counted.
    let became = unsafe {
        libc::syscall(libc::SYS_setgroups, others.len(), others.as_ptr()) == 0
            && libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0
    };
    assert!(became, "may_become_another() was not asked");
}

fn set_user(uid: libc::uid_t) -> bool {
    // SAFETY: the raw system call changes the calling thread only (libc's wrapper changes all).
    unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0 }
}

/// True in a process that runs this one test; else runs that process.
///
/// For tests that count what belongs to the whole process.
pub(super) fn alone(test: &str) -> bool {
    const MARK: &str = "CALISTO_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        // Its skips are seen as they are.
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    assert!(output.status.success(), "{test} failed in its own process");
    assert!(
        text.contains("1 passed"),
        "{test} is not the name of a test"
    );
    false
}

/// This thread's id.
pub(super) fn gettid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// A runtime's region with queues, and its eventfds.
#[derive(Debug)]
pub(super) struct TestRuntime {
    pub(super) key: u32,
    pub(super) len: u64,
    pub(super) shmid: i32,
    pub(super) region: ShmRegion,
    pub(super) fds: Vec<OwnedFd>,
}

impl Drop for TestRuntime {
    fn drop(&mut self) {
        // Some tests remove it themselves.
        let _ = sysv::remove(self.shmid);
    }
}

/// Unlike any other key or address of this process.
fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl TestRuntime {
    /// A sound runtime of `n` kthreads, all of them this thread.
    pub(super) fn new(n: usize) -> TestRuntime {
        let unique = unique();
        let key = 0x7000_0000 + unique;
        // Header and specs, then for each kthread three rings of 1024 bytes and
        // three words on cache lines of their own.
        let start = (48 + 88 * n).next_multiple_of(64);
        let stride = 3 * 1024 + 3 * 64;
        let len = (start + stride * n).next_multiple_of(4096);
        let shmid = sysv::create(key.cast_signed(), len, 0o600).unwrap();
        let region = ShmRegion::attach(shmid, len).unwrap();
        let [a, b, c, d] = unique.to_be_bytes();
        let runtime = TestRuntime {
            key,
            len: len as u64,
            shmid,
            region,
            fds: (0..n)
                .map(|_| eventfd(0, EventfdFlags::CLOEXEC).unwrap())
                .collect(),
        };
        runtime.set_header(&control_hdr {
            magic: types::CONTROL_HDR_MAGIC,
            thread_count: u32::try_from(n).unwrap(),
            egress_buf_count: 128,
            mac: [2, 0, a, b, c, d],
            sched_cfg: sched_spec {
                priority: types::SCHED_PRIORITY_NORMAL,
                max_cores: u32::try_from(n).unwrap(),
                ..sched_spec::default()
            },
            ..control_hdr::default()
        });
        for i in 0..n {
            let base = (start + i * stride) as u64;
            let ring = |at: u64, wb: u64| queue_spec {
                msg_count: SLOTS,
                msg_buf: base + at,
                wb: base + wb,
            };
            let words = 3 * 1024;
            runtime.set_spec(
                i,
                &thread_spec {
                    rxq: ring(0, words),
                    txpktq: ring(1024, words + 64),
                    txcmdq: ring(2048, words + 128),
                    q_ptrs: base + words,
                    tid: gettid(),
                    park_efd: -1,
                },
            );
        }
        runtime
    }

    pub(super) fn header(&self) -> control_hdr {
        self.region.read(ShmPtr(0)).unwrap()
    }

    pub(super) fn set_header(&self, header: &control_hdr) {
        self.region.write(ShmPtr(0), *header).unwrap();
    }

    pub(super) fn spec(&self, i: usize) -> thread_spec {
        self.region.read(ShmPtr((48 + 88 * i) as u64)).unwrap()
    }

    pub(super) fn set_spec(&self, i: usize, spec: &thread_spec) {
        self.region
            .write(ShmPtr((48 + 88 * i) as u64), *spec)
            .unwrap();
    }

    /// Changes the header.
    pub(super) fn with_header(self, change: impl FnOnce(&mut control_hdr)) -> TestRuntime {
        let mut header = self.header();
        change(&mut header);
        self.set_header(&header);
        self
    }

    /// Changes one kthread's spec.
    pub(super) fn with_spec(self, i: usize, change: impl FnOnce(&mut thread_spec)) -> TestRuntime {
        let mut spec = self.spec(i);
        change(&mut spec);
        self.set_spec(i, &spec);
        self
    }

    /// What the control thread would have received from it.
    pub(super) fn raw(&self) -> RawRegistration {
        let (ours, _) = pair();
        RawRegistration {
            key: self.key,
            len: self.len,
            fds: self.fds.iter().map(|fd| fd.try_clone().unwrap()).collect(),
            peer: peer(ours.as_fd()).unwrap_or(Peer { pid: 0, uid: 0 }),
            connection: ours,
        }
    }

    /// Connects and registers as a runtime does: three messages.
    pub(super) fn register(&self) -> OwnedFd {
        let connection = connect();
        let key = self.key.to_le_bytes();
        rustix::net::send(&connection, &key, SendFlags::NOSIGNAL).unwrap();
        let len = self.len.to_le_bytes();
        rustix::net::send(&connection, &len, SendFlags::NOSIGNAL).unwrap();
        let _ = send_fds(&connection, b"x", &self.fds);
        connection
    }
}

/// Puts a mapping without memory behind it where a region is.
pub(super) fn take_away(region: &ShmRegion) {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    let file = rustix::fs::memfd_create("empty", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let len = region.len().next_multiple_of(4096);
    let flags = MapFlags::SHARED | MapFlags::FIXED;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let base = region.base().as_ptr().cast();
    // SAFETY: replaces the region's own mapping; whoever reads it is guarded.
    unsafe { mmap(base, len, protection, flags, file.as_fd(), 0) }.unwrap();
}

/// Two connected stream sockets; the first does not block.
pub(super) fn pair() -> (OwnedFd, OwnedFd) {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let family = AddressFamily::UNIX;
    let (a, b) = rustix::net::socketpair(family, SocketType::STREAM, flags, None).unwrap();
    rustix::io::ioctl_fionbio(&a, true).unwrap();
    (a, b)
}

/// A connection to this namespace's control socket.
pub(super) fn connect() -> OwnedFd {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::connect(&socket, &address()).unwrap();
    socket
}

/// One message with fds.
pub(super) fn send_fds(to: &OwnedFd, bytes: &[u8], fds: &[OwnedFd]) -> rustix::io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
    if !borrowed.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)));
    }
    sendmsg(
        to,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
}

/// True once the other end closed this connection.
pub(super) fn is_closed(connection: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(connection, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).unwrap();
    fds[0].revents().contains(PollFlags::HUP)
}

// A logger that remembers what each thread logged.

type Lines = HashMap<ThreadId, Vec<String>>;
static LINES: Mutex<Option<Lines>> = Mutex::new(None);

struct Remember;

impl log::Log for Remember {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut lines = LINES.lock().unwrap();
        let lines = lines.get_or_insert_default();
        let of_thread = lines.entry(std::thread::current().id()).or_default();
        of_thread.push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// Starts to remember.
pub(crate) fn remember_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Remember).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// What a thread logged so far.
pub(crate) fn log_of(thread: ThreadId) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    lines
        .as_ref()
        .and_then(|all| all.get(&thread).cloned())
        .unwrap_or_default()
}
