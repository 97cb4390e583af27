//! Registration: the header in the region, and one message to the I/O kernel.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use calisto::abi::shm::{ShmError, ShmPtr, ShmRegion};
use calisto::abi::types::{
    CONTROL_HDR_MAGIC, CONTROL_SOCK_PATH_LEN, SCHED_PRIORITY_NORMAL, control_hdr, sched_spec,
    thread_spec,
};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

use super::{Layout, Segment};
use crate::error::StartError;

/// How often an I/O kernel that is not there is looked for.
const RETRY: Duration = Duration::from_millis(20);

/// Tries until `patience` is over: the I/O kernel may be starting still.
pub fn patiently<T>(
    patience: Duration,
    what: &str,
    attempt: impl Fn() -> io::Result<T>,
) -> Result<T, StartError> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(_) if Instant::now() < deadline => thread::sleep(RETRY),
            Err(error) => {
                return Err(StartError::NoIokernel {
                    patience,
                    what: format!("{what}: {error}"),
                });
            }
        }
    }
}

/// Connects to the control socket, whose abstract name is 108 zero bytes.
pub fn connect() -> io::Result<OwnedFd> {
    // The first of them says that the name is abstract.
    let name = [0u8; CONTROL_SOCK_PATH_LEN as usize - 1];
    let address = SocketAddrUnix::new_abstract_name(&name)?;
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Writes header and thread specs, which have their tids by now.
pub fn write_header(
    region: &ShmRegion,
    layout: &Layout,
    mac: [u8; 6],
    guaranteed: u16,
) -> Result<(), ShmError> {
    let mut at = size_of::<control_hdr>();
    for spec in &layout.specs {
        region.write(ShmPtr(at as u64), *spec)?;
        at += size_of::<thread_spec>();
    }
    let kthreads = u32::try_from(layout.specs.len()).unwrap_or(u32::MAX);
    let header = control_hdr {
        magic: CONTROL_HDR_MAGIC,
        thread_count: kthreads,
        egress_buf_count: u64::from(layout.egress_bufs),
        mac,
        sched_cfg: sched_spec {
            priority: SCHED_PRIORITY_NORMAL,
            max_cores: kthreads,
            guaranteed_cores: u32::from(guaranteed),
            ..sched_spec::default()
        },
        ..control_hdr::default()
    };
    region.write(ShmPtr(0), header)
}

/// Sends key, length, and the kthreads' eventfds in order. There is no answer.
pub fn send(socket: &OwnedFd, segment: &Segment, eventfds: &[&OwnedFd]) -> Result<(), StartError> {
    let length = segment.len as u64;
    for part in [&segment.key.to_le_bytes()[..], &length.to_le_bytes()[..]] {
        match rustix::net::send(socket, part, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == part.len() => {}
            _ => return Err(StartError::Refused),
        }
    }
    let fds: Vec<_> = eventfds.iter().map(|fd| fd.as_fd()).collect();
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&fds).size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(&fds));
    assert!(fits, "the space was measured for these descriptors");
    let byte = [IoSlice::new(&[0])];
    rustix::net::sendmsg(socket, &byte, &mut control, SendFlags::NOSIGNAL)
        .map(drop)
        .map_err(|_| StartError::Refused)
}
