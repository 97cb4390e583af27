//! The control socket.
//!
//! Its name is 108 zero bytes in the abstract namespace (address length 110):
//! upstream copies a path constant that begins with a NUL with `strncpy`, so
//! nothing of the constant arrives. Whoever has bound it is the one I/O kernel
//! of its network namespace, so it is bound early and serves as the lock.

#![allow(
    unsafe_code,
    reason = "SO_PEERCRED with a pid of 0 has no safe wrapper"
)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::abi::types;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Most groups of a process. *Source:* linux/limits.h, `NGROUPS_MAX`.
const MAX_GROUPS: usize = 65536;
/// Bytes of the name after the NUL that makes it abstract.
const NAME_LEN: usize = types::CONTROL_SOCK_PATH_LEN as usize - 1;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The name is taken.
    #[error(
        "another iokerneld runs in this network namespace{}; stop it first, or use `unshare --net --ipc`",
        .0.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse(Option<i32>),
    /// A system call failed.
    #[error("control socket: {0} failed: {1}")]
    Os(&'static str, io::Error),
}

/// Who is at the other end, by `SO_PEERCRED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its process; 0 if that is not visible from our pid namespace.
    pub pid: i32,
    /// Its effective user when it connected.
    pub uid: u32,
}

/// The bound socket. Nobody can connect before [`listen`](Self::listen).
#[derive(Debug)]
pub struct ControlSocket {
    fd: OwnedFd,
}

/// The address that runtimes connect to.
pub(super) fn address() -> SocketAddrUnix {
    SocketAddrUnix::new_abstract_name(&[0; NAME_LEN]).expect("107 bytes fit behind the NUL")
}

impl ControlSocket {
    /// Binds the control socket.
    ///
    /// *Source:* C: iokernel/control.c, `control_init`.
    ///
    /// # Errors
    /// [`SocketError::InUse`] when another I/O kernel runs.
    pub fn bind() -> Result<ControlSocket, SocketError> {
        let fd = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|e| SocketError::Os("socket", e.into()))?;
        match rustix::net::bind(&fd, &address()) {
            Ok(()) => Ok(ControlSocket { fd }),
            Err(rustix::io::Errno::ADDRINUSE) => Err(SocketError::InUse(holder())),
            Err(e) => Err(SocketError::Os("bind", e.into())),
        }
    }

    /// Lets runtimes connect.
    ///
    /// # Errors
    /// What `listen` reports.
    pub fn listen(&self) -> Result<(), SocketError> {
        rustix::net::listen(&self.fd, BACKLOG).map_err(|e| SocketError::Os("listen", e.into()))
    }

    /// Takes the next connection, if there is one; the socket does not block.
    ///
    /// # Errors
    /// What `accept4` reports; running out of fds among it.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        use rustix::io::Errno;
        match rustix::net::accept_with(&self.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Who connected.
///
/// # Errors
/// What `getsockopt` reports.
pub fn peer(connection: BorrowedFd<'_>) -> io::Result<Peer> {
    let cred = credentials(connection)?;
    Ok(Peer {
        pid: cred.pid,
        uid: cred.uid,
    })
}

/// The groups of who connected: the effective one, and the supplementary ones where the
/// kernel tells them (Linux 4.13).
///
/// # Errors
/// What `getsockopt` reports.
pub fn peer_groups(connection: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    /// `SO_PEERGROUPS` (asm-generic/socket.h).
    const SO_PEERGROUPS: libc::c_int = 59;
    let mut groups = vec![0_u32; MAX_GROUPS];
    let mut len = libc::socklen_t::try_from(size_of_val(&*groups)).expect("256 KiB");
    // SAFETY: the kernel writes at most `len` bytes, all of `groups`.
    let ret = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &mut len,
        )
    };
    match ret {
        0 => groups.truncate(len as usize / size_of::<u32>()),
        _ => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENOPROTOOPT) => groups.clear(),
            e => return Err(e),
        },
    }
    groups.push(credentials(connection)?.gid);
    Ok(groups)
}

fn credentials(connection: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut cred = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).expect("12 bytes");
    // SAFETY: the kernel writes at most `len` bytes, the size of `cred`.
    let ret = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &mut len,
        )
    };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cred)
}

/// The process that has the name bound, if it can be found out.
fn holder() -> Option<i32> {
    // Names are printed with `@` for each NUL. Of this thread, not of the
    // process: network namespaces belong to threads.
    let table = fs::read_to_string("/proc/thread-self/net/unix").ok()?;
    let name = "@".repeat(NAME_LEN + 1);
    let inode = table
        .lines()
        .find(|line| line.split_whitespace().last() == Some(&name))?
        .split_whitespace()
        .nth(6)?;
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut fds = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        fds.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()))
            .then_some(pid)
    })
}

/// A pidfd of the process that connected (Linux 6.5); `None` where there is none to be had.
pub fn peer_pidfd(connection: BorrowedFd<'_>) -> Option<OwnedFd> {
    use std::os::fd::FromRawFd;
    /// asm-generic/socket.h.
    const SO_PEERPIDFD: i32 = 77;
    let mut fd: i32 = -1;
    let mut len = libc::socklen_t::try_from(size_of::<i32>()).expect("4 bytes");
    // SAFETY: the kernel writes at most `len` bytes, the size of `fd`.
    let ret = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &mut len,
        )
    };
    // SAFETY: on success it is a new fd, and nobody else's.
    (ret == 0 && fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::super::test_runtime::{connect, private_namespaces};
    use super::*;

    /// An address as upstream's runtime makes it: all zero but the family, all of it passed.
    fn upstream_connect() -> i32 {
        // SAFETY: all-zero bytes are a valid sockaddr_un.
        let mut addr: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        addr.sun_family = libc::AF_UNIX.try_into().unwrap();
        let len = libc::socklen_t::try_from(size_of_val(&addr)).unwrap();
        assert_eq!(len, 110);
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        // SAFETY: the address is `len` bytes long.
        unsafe { libc::connect(socket.as_raw_fd(), (&raw const addr).cast(), len) }
    }

    #[test]
    fn a_runtime_finds_the_socket_by_108_zero_bytes() {
        if !private_namespaces() {
            return;
        }
        let socket = ControlSocket::bind().unwrap();
        assert_eq!(upstream_connect(), -1, "nobody may connect before listen()");
        socket.listen().unwrap();
        assert_eq!(upstream_connect(), 0);
        assert!(socket.accept().unwrap().is_some());
        assert!(socket.accept().unwrap().is_none());
    }

    #[test]
    fn a_second_one_is_told_who_runs() {
        if !private_namespaces() {
            return;
        }
        let _first = ControlSocket::bind().unwrap();
        let error = ControlSocket::bind().unwrap_err();
        let me = std::process::id().cast_signed();
        assert!(
            matches!(error, SocketError::InUse(Some(pid)) if pid == me),
            "{error}"
        );
    }

    #[test]
    fn the_peer_is_who_connected() {
        if !private_namespaces() {
            return;
        }
        let socket = ControlSocket::bind().unwrap();
        socket.listen().unwrap();
        let _connection = connect();
        let accepted = socket.accept().unwrap().unwrap();
        let peer = peer(accepted.as_fd()).unwrap();
        assert_eq!(peer.pid, std::process::id().cast_signed());
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
    }
}
