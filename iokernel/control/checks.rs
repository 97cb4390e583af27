//! From what a runtime sent to a [`Candidate`]: every check that concerns this
//! runtime alone. What concerns it and others is [`table`](super::table)'s.
//!
//! Order: who it is, its fds, its segment, the header in it, its threads. A
//! segment is looked at (`IPC_STAT`) before it is attached, and attached before
//! a byte of it is believed; nothing is created, and no memory is touched but
//! the header and what later goes through its rings.

#![allow(unsafe_code, reason = "guards a mapping")]

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::thread::CpuSet;

use crate::abi::shm::ShmRegion;
use crate::abi::types;
use crate::cores::arbiter::{ProcSpec, Seat};
use crate::ids::{Mac, ProcId};
use crate::port::dma::{DmaMapper, Mapping};
use crate::proc::{Kthread, MAX_UNCOMPLETED, Notes, Proc};
use crate::stats::SteerStats;
use crate::steering::ProcSteering;

use super::admission::Admission;
use super::error::{KthreadError, RegistrationError};
use super::kthreads::{self, PeerThreads};
use super::layout::{self, KthreadViews};
use super::registration::RawRegistration;
use super::sigbus::{Guard, Leftovers};
use super::socket::{Peer, peer_pidfd};
use super::sysv::{self, SegmentInfo};

/// What the checks need to know.
#[derive(Debug)]
pub struct Context {
    /// The ingress segment's id.
    pub ingress_shmid: i32,
    /// Makes regions known to the port's device.
    pub mapper: Arc<dyn DmaMapper>,
    /// Who may attach.
    pub admission: Admission,
}

/// A runtime that is sound by itself. Dropping it gives everything back.
///
/// Views come before the region that they point into, so they are dropped first;
/// the guard after the last use of the region, before the region.
#[derive(Debug)]
pub struct Candidate {
    kthreads: Box<[Kthread]>,
    mapping: Mapping,
    guard: Guard,
    region: ShmRegion,
    /// Its segment.
    pub shmid: i32,
    /// By which key it asked for that.
    pub key: u32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// As asked for.
    pub guaranteed_cores: u32,
    /// Who it is.
    pub peer: Peer,
    /// Its connection.
    pub connection: OwnedFd,
}

impl Candidate {
    /// Its thread ids, in our pid namespace.
    pub fn tids(&self) -> impl Iterator<Item = i32> {
        self.kthreads.iter().map(|kthread| kthread.tid)
    }

    /// Lets its kthreads run on `cpus` only. A kthread that no such CPU takes, offline or
    /// out of its cpuset, stays where it is; the first of them is returned.
    ///
    /// # Errors
    /// [`RegistrationError::Kthread`]: one that has ended, or may not be pinned.
    pub(super) fn pin(&self, cpus: &CpuSet) -> Result<Option<i32>, RegistrationError> {
        let mut unpinned = None;
        for (index, k) in self.kthreads.iter().enumerate() {
            let (pid, tid) = (self.peer.pid, k.tid);
            match kthreads::pin_kthread(pid, tid, k.pidfd.as_ref(), cpus) {
                Ok(()) => {}
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                    unpinned = unpinned.or(Some(tid));
                }
                Err(error) => return Err(kthread_error((index, KthreadError::Pin { tid, error }))),
            }
        }
        Ok(unpinned)
    }

    /// Its kthreads.
    ///
    /// # Panics
    /// Never: a registration has 256 at most.
    pub fn kthread_count(&self) -> u16 {
        u16::try_from(self.kthreads.len()).expect("at most NCPU kthreads")
    }

    /// What the dataplane gets, and what the table keeps.
    ///
    /// # Panics
    /// When `guaranteed_cores` is beyond `u16`: it was reserved from 256 at most.
    pub(super) fn into_proc(
        self,
        id: ProcId,
        steering: Box<ProcSteering>,
    ) -> (Box<Proc>, OwnedFd, Guard) {
        let spec = ProcSpec {
            kthreads: self.kthread_count(),
            guaranteed: u16::try_from(self.guaranteed_cores)
                .expect("a reserved guarantee is no more than all cores"),
        };
        let joins = std::collections::VecDeque::with_capacity(self.kthreads.len());
        let proc = Box::new(Proc {
            id,
            pid: self.peer.pid,
            uid: self.peer.uid,
            mac: self.mac,
            guaranteed_cores: spec.guaranteed,
            kthreads: self.kthreads,
            overflow: std::collections::VecDeque::with_capacity(MAX_UNCOMPLETED),
            joins,
            steering,
            seat: Some(Seat::new(spec)),
            steer_stats: SteerStats::default(),
            notes: Notes::default(),
            mapping: self.mapping,
            region: self.region,
        });
        (proc, self.connection, self.guard)
    }
}

/// Makes a candidate of a registration. A peer may make this take long: `meanwhile` is called
/// again and again.
///
/// *Source:* C: iokernel/control.c, `control_create_proc`.
///
/// # Errors
/// [`RegistrationError`]; everything that came with the registration is closed.
pub fn check(
    raw: RawRegistration,
    context: &Context,
    meanwhile: impl FnMut(),
) -> Result<Candidate, RegistrationError> {
    let peer = raw.peer;
    if peer.pid <= 0 {
        return Err(RegistrationError::InvisiblePeer);
    }
    context.admission.check(peer, raw.connection.as_fd())?;
    let process = peer_pidfd(raw.connection.as_fd());
    kthreads::check_eventfds(&raw.fds).map_err(kthread_error)?;
    let (shmid, region, guard, page_size) = attach(&raw, context)?;
    let layout = layout::read(&region, raw.fds.len())?;
    let threads = PeerThreads::of(peer.pid, meanwhile);
    let kthreads = layout
        .kthreads
        .into_iter()
        .zip(raw.fds)
        .enumerate()
        .map(|(i, (views, efd))| {
            kthread(&threads, views, efd).map_err(|error| kthread_error((i, error)))
        })
        .collect::<Result<Box<[Kthread]>, _>>()?;
    if guard.hit() {
        return Err(RegistrationError::MemoryGone);
    }
    // Its pid was the peer's when it connected. If the peer still lives, it was so all the time.
    if process.is_some_and(|pidfd| kthreads::has_ended(&pidfd)) {
        return Err(RegistrationError::PeerGone);
    }
    let mapper = Arc::clone(&context.mapper);
    let mapping = Mapping::new(mapper, region.base(), region.len(), page_size)
        .map_err(RegistrationError::Mapping)?;
    log::debug!(
        "pid {}: segment {shmid}, {} bytes in pages of {page_size}, {} kthreads, {} egress buffers",
        peer.pid,
        region.len(),
        kthreads.len(),
        layout.egress_buf_count
    );
    Ok(Candidate {
        kthreads,
        mapping,
        guard,
        region,
        shmid,
        key: raw.key,
        mac: layout.mac,
        guaranteed_cores: layout.guaranteed_cores,
        peer,
        connection: raw.connection,
    })
}

fn kthread_error((index, error): (usize, KthreadError)) -> RegistrationError {
    RegistrationError::Kthread { index, error }
}

fn kthread(
    threads: &PeerThreads,
    views: KthreadViews,
    park_efd: OwnedFd,
) -> Result<Kthread, KthreadError> {
    let tid = threads.resolve(views.tid)?;
    let pidfd = threads.pidfd(tid)?;
    Ok(Kthread {
        polled: false,
        received: 0,
        rxq: views.rxq,
        txpktq: views.txpktq,
        txcmdq: views.txcmdq,
        q_ptrs: views.q_ptrs,
        tid,
        park_efd,
        pidfd,
    })
}

/// Attaches the peer's own segment.
fn attach(
    raw: &RawRegistration,
    context: &Context,
) -> Result<(i32, ShmRegion, Guard, usize), RegistrationError> {
    if raw.key == types::INGRESS_MBUF_SHM_KEY {
        return Err(RegistrationError::IngressSegment(raw.key));
    }
    let no_segment = |error| RegistrationError::NoSegment {
        key: raw.key,
        error,
    };
    let shmid = sysv::find(raw.key.cast_signed()).map_err(no_segment)?;
    if shmid == context.ingress_shmid {
        return Err(RegistrationError::IngressSegment(raw.key));
    }
    let before = sysv::info(shmid).map_err(no_segment)?;
    if !may_use(raw.peer.uid, &before) {
        return Err(RegistrationError::ForeignSegment {
            shmid,
            owner: before.owner,
            creator: before.creator,
        });
    }
    let len = region_len(raw.len, &before)?;
    let region = ShmRegion::attach(shmid, len).map_err(|e| RegistrationError::Os("shmat", e))?;
    // The id may have been freed and used again between the look and the attachment.
    let after = sysv::info(shmid).map_err(|_| RegistrationError::SegmentChanged(shmid))?;
    let same = (after.creator, after.creator_pid, after.size)
        == (before.creator, before.creator_pid, before.size);
    if !same || !may_use(raw.peer.uid, &after) {
        return Err(RegistrationError::SegmentChanged(shmid));
    }
    let page_size = page_size(&region).map_err(|e| RegistrationError::Os("reading smaps", e))?;
    let start = region.base().as_ptr().addr();
    // SAFETY: the whole segment is mapped, and the region lets go of it after the guard
    // (Candidate's field order; departures.rs drops the table's entry first).
    let guard = unsafe { Guard::new(start, after.size, page_size, Leftovers::Unmap) };
    let guard = guard.expect("there is a guard for every runtime and registration");
    Ok((shmid, region, guard, page_size))
}

/// A peer may offer segments of its own user; root may offer any.
fn may_use(uid: u32, segment: &SegmentInfo) -> bool {
    uid == 0 || uid == segment.owner || uid == segment.creator
}

fn region_len(len: u64, segment: &SegmentInfo) -> Result<usize, RegistrationError> {
    usize::try_from(len)
        .ok()
        .filter(|&n| n >= layout::MIN_LEN && n <= segment.size)
        .ok_or(RegistrationError::RegionLength {
            len,
            size: segment.size as u64,
            need: layout::MIN_LEN as u64,
        })
}

/// Bytes of the pages that a region is mapped with.
fn page_size(region: &ShmRegion) -> io::Result<usize> {
    let start = format!("{:x}-", region.base().as_ptr().addr());
    let mut lines = BufReader::new(File::open("/proc/self/smaps")?).lines();
    let not_found = || io::Error::new(io::ErrorKind::NotFound, "the mapping is not listed");
    for line in lines.by_ref() {
        if line?.starts_with(&start) {
            break;
        }
    }
    for line in lines {
        if let Some(rest) = line?.strip_prefix("KernelPageSize:") {
            let kib = rest
                .split_whitespace()
                .next()
                .and_then(|n| n.parse::<usize>().ok());
            return kib.map(|n| n << 10).ok_or_else(not_found);
        }
    }
    Err(not_found())
}

#[cfg(test)]
mod tests {
    use super::super::test_runtime::private_namespaces;
    use super::*;
    use crate::testing::skip;

    fn segment(size: usize) -> SegmentInfo {
        SegmentInfo {
            size,
            owner: 1000,
            group: 100,
            creator: 1001,
            creator_pid: 7,
            removed: false,
            attached: 1,
        }
    }

    #[test]
    fn owner_creator_and_root_may_use_a_segment() {
        for uid in [0, 1000, 1001] {
            assert!(may_use(uid, &segment(4096)), "{uid}");
        }
        assert!(!may_use(1002, &segment(4096)));
    }

    #[test]
    fn a_region_fits_its_segment_and_holds_a_header() {
        // The smallest header: 48 + 88 bytes.
        assert_eq!(region_len(136, &segment(4096)).unwrap(), 136);
        assert_eq!(region_len(4096, &segment(4096)).unwrap(), 4096);
        for len in [0, 135, 4097, u64::MAX, 1 << 63] {
            assert!(region_len(len, &segment(4096)).is_err(), "{len}");
        }
    }

    #[test]
    fn the_page_size_is_that_of_the_mapping() {
        if !private_namespaces() {
            return;
        }
        let id = sysv::create(77, 8192, 0o600).unwrap();
        let region = ShmRegion::attach(id, 8192).unwrap();
        assert_eq!(page_size(&region).unwrap(), 4096);
        sysv::remove(id).unwrap();
    }

    #[test]
    fn the_page_size_of_huge_pages_is_2_mib() {
        if !private_namespaces() {
            return;
        }
        let flags = 0o600 | libc::SHM_HUGETLB | (21 << 26);
        let Ok(id) = sysv::create(78, 2 << 20, flags) else {
            return skip("the page size of huge pages", "no huge page is to be had");
        };
        let region = ShmRegion::attach(id, 2 << 20).unwrap();
        sysv::remove(id).unwrap();
        assert_eq!(page_size(&region).unwrap(), 2 << 20);
    }
}
