//! SysV shared memory, as the kernel offers it.

#![allow(unsafe_code, reason = "SysV shared memory has no safe wrapper")]

use std::io;

/// What `IPC_STAT` says about a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    /// Bytes.
    pub(crate) size: usize,
    /// Owner's user id; the creator or the owner may change it.
    pub(crate) owner: u32,
    /// Group, which they may change too.
    pub(crate) group: u32,
    /// Creator's user id; never changes.
    pub(crate) creator: u32,
    /// Creator's process id.
    pub(crate) creator_pid: i32,
    /// Mappings that exist.
    pub(crate) attached: u64,
    /// It has no name any more, and goes with its last mapping.
    pub(crate) removed: bool,
}

/// In a segment's mode. *Source:* linux/shm.h.
const SHM_DEST: libc::c_ushort = 0o1000;

fn check(ret: i32) -> io::Result<i32> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

/// The id of the existing segment with this key. Never creates one.
pub(crate) fn find(key: i32) -> io::Result<i32> {
    if key == libc::IPC_PRIVATE {
        // shmget would take this key as an order to create.
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    // SAFETY: plain integers in and out.
    check(unsafe { libc::shmget(key, 0, 0) })
}

/// Creates a segment; fails with `EEXIST` when the key is taken.
pub(crate) fn create(key: i32, len: usize, flags: i32) -> io::Result<i32> {
    // SAFETY: plain integers in and out.
    check(unsafe { libc::shmget(key, len, flags | libc::IPC_CREAT | libc::IPC_EXCL) })
}

/// What the kernel knows about a segment.
pub(crate) fn info(id: i32) -> io::Result<SegmentInfo> {
    // SAFETY: all-zero bytes are a valid shmid_ds: integers only.
    let mut ds: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: IPC_STAT fills the struct that it is given.
    check(unsafe { libc::shmctl(id, libc::IPC_STAT, &mut ds) })?;
    Ok(SegmentInfo {
        size: ds.shm_segsz,
        owner: ds.shm_perm.uid,
        group: ds.shm_perm.gid,
        creator: ds.shm_perm.cuid,
        creator_pid: ds.shm_cpid,
        attached: ds.shm_nattch,
        removed: ds.shm_perm.mode & SHM_DEST != 0,
    })
}

/// Gives a segment, which is ours, to a group.
pub(crate) fn set_group(id: i32, gid: u32) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid shmid_ds: integers only.
    let mut ds: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: IPC_STAT fills the struct that it is given.
    check(unsafe { libc::shmctl(id, libc::IPC_STAT, &mut ds) })?;
    ds.shm_perm.gid = gid;
    // SAFETY: IPC_SET reads owner, group and mode from the struct.
    check(unsafe { libc::shmctl(id, libc::IPC_SET, &mut ds) }).map(drop)
}

/// Marks a segment for destruction; it goes with its last mapping.
pub(crate) fn remove(id: i32) -> io::Result<()> {
    // SAFETY: IPC_RMID takes no buffer.
    check(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }).map(drop)
}
