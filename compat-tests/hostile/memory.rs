//! Memory that an offender shares with the I/O kernel, and the system calls by
//! which it misbehaves.
//!
//! Nothing that is mapped here is ever unmapped: an offender's end is its process'.

#![allow(
    unsafe_code,
    reason = "shared memory, and system calls that std does not offer"
)]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Bytes that others read and write at any moment. Copies name the same bytes.
#[derive(Debug, Clone, Copy)]
pub struct Mem {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: every access is atomic and in bounds, and the mapping lasts as long as the process.
unsafe impl Send for Mem {}
// SAFETY: as above.
unsafe impl Sync for Mem {}

impl Mem {
    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True of no memory at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn at<T>(&self, offset: usize) -> &T {
        let end = offset.checked_add(size_of::<T>());
        assert!(
            end.is_some_and(|end| end <= self.len),
            "{offset:#x} is outside"
        );
        // SAFETY: in bounds, checked above.
        let place = unsafe { self.base.add(offset) }.cast::<T>();
        assert!(place.is_aligned(), "{offset:#x} is unaligned");
        // SAFETY: mapped as long as the process lives, aligned, and T is one of the
        // atomics, for which any bytes are a value.
        unsafe { place.as_ref() }
    }

    /// Reads a word.
    pub fn get32(&self, offset: usize) -> u32 {
        self.at::<AtomicU32>(offset).load(Ordering::Acquire)
    }

    /// Writes a word.
    pub fn put32(&self, offset: usize, value: u32) {
        self.at::<AtomicU32>(offset).store(value, Ordering::Release);
    }

    /// Reads a double word.
    pub fn get64(&self, offset: usize) -> u64 {
        self.at::<AtomicU64>(offset).load(Ordering::Acquire)
    }

    /// Writes a double word.
    pub fn put64(&self, offset: usize, value: u64) {
        self.at::<AtomicU64>(offset).store(value, Ordering::Release);
    }

    /// Reads bytes, wherever they begin.
    pub fn get(&self, offset: usize, len: usize) -> Vec<u8> {
        let byte = |at| self.at::<AtomicU8>(at).load(Ordering::Relaxed);
        (offset..offset + len).map(byte).collect()
    }

    /// Writes bytes, wherever they begin.
    pub fn put(&self, offset: usize, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            self.at::<AtomicU8>(offset + i)
                .store(*byte, Ordering::Relaxed);
        }
    }

    /// Writes the same double word everywhere.
    pub fn fill(&self, value: u64) {
        for offset in (0..self.len / 8).map(|i| 8 * i) {
            self.at::<AtomicU64>(offset).store(value, Ordering::Relaxed);
        }
    }

    /// Takes all rights away from this process' own mapping.
    pub fn forbid(&self) {
        // SAFETY: the mapping is whole; whoever touches it in this process is killed, as intended.
        let ret = unsafe { libc::mprotect(self.base.as_ptr().cast(), self.len, libc::PROT_NONE) };
        must("mprotect", ret);
    }
}

/// A SysV segment that is mapped here.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// Its key.
    pub key: u32,
    /// Its id.
    pub id: i32,
    /// Its bytes.
    pub mem: Mem,
}

fn must(what: &str, ret: i32) -> i32 {
    assert!(ret >= 0, "{what}: {}", io::Error::last_os_error());
    ret
}

/// The segment of `key`, of at least `len` bytes; made if `flags` say so.
fn find(key: u32, len: usize, flags: i32) -> io::Result<i32> {
    // SAFETY: takes integers only.
    match unsafe { libc::shmget(key.cast_signed(), len, flags) } {
        -1 => Err(io::Error::last_os_error()),
        id => Ok(id),
    }
}

fn attach(id: i32, len: usize) -> Mem {
    // SAFETY: the kernel chooses the place, so nothing is replaced.
    let base = unsafe { libc::shmat(id, std::ptr::null(), 0) };
    assert!(
        base.addr() != usize::MAX,
        "shmat: {}",
        io::Error::last_os_error()
    );
    let base = NonNull::new(base.cast()).expect("nothing is mapped at 0");
    Mem { base, len }
}

impl Segment {
    /// A new segment of a key that nobody has, open to every user.
    ///
    /// # Panics
    /// When there is no memory for it.
    pub fn create(len: usize, huge: bool) -> Segment {
        let huge = if huge { libc::SHM_HUGETLB } else { 0 };
        let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o777 | huge;
        for key in std::process::id() << 8.. {
            match find(key, len, flags) {
                Ok(id) => {
                    let mem = attach(id, len);
                    return Segment { key, id, mem };
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => panic!("no segment of {len} bytes: {e}"),
            }
        }
        unreachable!("more keys than segments");
    }

    /// The segment of a key that somebody else made.
    ///
    /// # Panics
    /// When there is none.
    pub fn of_key(key: u32, len: usize) -> Segment {
        let id = find(key, len, 0).unwrap_or_else(|e| panic!("no segment {key:#x}: {e}"));
        let mem = attach(id, len);
        Segment { key, id, mem }
    }

    /// Takes its key away; it goes once nobody has it mapped.
    pub fn forget(&self) {
        // SAFETY: takes integers, and no buffer for this command.
        must("IPC_RMID", unsafe {
            libc::shmctl(self.id, libc::IPC_RMID, std::ptr::null_mut())
        });
    }

    /// Takes all rights away from everybody who maps it from now on.
    pub fn forbid(&self) {
        // SAFETY: all-zero is a valid shmid_ds; IPC_SET reads owner and mode of it: root's, and none.
        must("IPC_SET", unsafe {
            let mut ds: libc::shmid_ds = std::mem::zeroed();
            libc::shmctl(self.id, libc::IPC_SET, &raw mut ds)
        });
    }
}

/// True if a segment has this key.
pub fn exists(key: u32) -> bool {
    find(key, 0, 0).is_ok()
}

/// Becomes another user, for good.
pub fn become_user(uid: u32) {
    // SAFETY: takes integers only; there is one thread.
    must("setresuid", unsafe { libc::setresuid(uid, uid, uid) });
}

/// Does not care for preemption.
pub fn ignore_preemption() {
    // SAFETY: ignoring a signal installs no handler.
    let old = unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    assert_ne!(old, libc::SIG_ERR, "SIGUSR1 can be ignored");
}

/// Sends this process a signal.
pub fn raise(signal: i32) {
    // SAFETY: takes integers only.
    must("kill", unsafe { libc::kill(libc::getpid(), signal) });
}

/// Ends this process at once, and leaves all that it has to a child, which sleeps.
pub fn leave_a_child() {
    // SAFETY: the child only sleeps until it is killed, which it is with the test
    // process (PR_SET_PDEATHSIG would be of the parent that ends here: not used).
    match must("fork", unsafe { libc::fork() }) {
        0 => {
            // SAFETY: takes integers only. A bound, should nobody kill it.
            unsafe {
                libc::alarm(CHILD_LIFE);
                libc::pause();
                libc::_exit(0);
            }
        }
        child => {
            println!("child {child}\n{}", super::ACTED);
            std::process::exit(0);
        }
    }
}

/// Seconds after which a child that was left ends by itself.
const CHILD_LIFE: u32 = 60;

/// This thread's id.
pub fn gettid() -> i32 {
    // SAFETY: has no preconditions.
    unsafe { libc::gettid() }
}

/// The id of a thread that has ended.
pub fn dead_tid() -> i32 {
    let tid = std::thread::spawn(gettid).join().expect("it only asks");
    while std::path::Path::new(&format!("/proc/self/task/{tid}")).exists() {
        std::thread::yield_now();
    }
    tid
}
