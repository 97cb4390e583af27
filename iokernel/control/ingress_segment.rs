//! The ingress segment: where received packets lie, mapped by every runtime.
//!
//! It is made before any runtime starts, under a key that all of them know, and
//! removed when the I/O kernel ends. One that is found is left over from an I/O
//! kernel that was killed, or was made by a runtime that started first: with
//! nobody attached it is replaced, else it is in use and start-up ends.
//!
//! Invariant: huge pages are allocated before anyone uses them, so that a lack of
//! them is an error at start-up and not a SIGBUS under load. Of 4 KiB pages only
//! those that packets reach are ever allocated, when they do: that enough memory is
//! available is checked, and clearing all 512 MiB would take seconds where the
//! processor is busy.

#![allow(unsafe_code, reason = "populates and guards a mapping")]

mod error;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crate::abi::shm::ShmRegion;
use crate::abi::types;

pub use error::IngressError;

use super::sigbus::{Guard, Leftovers};
use super::sysv;

/// `SHM_HUGE_2MB` (linux/shm.h): log2 of the page size, in bits 26 to 31.
const SHM_HUGE_2MB: i32 = 21 << 26;
/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct IngressSpec {
    /// SysV key.
    pub key: i32,
    /// Bytes.
    pub len: usize,
    /// 2 MiB pages; else 4 KiB.
    pub huge_pages: bool,
    /// Permission bits. Runtimes ask for all nine, so a runtime of another user
    /// is let in by 0777 only.
    pub mode: u32,
    /// The group that the mode's middle digit is for; `None`: ours.
    pub gid: Option<u32>,
}

impl IngressSpec {
    /// The segment that runtimes look for.
    pub fn new(huge_pages: bool, mode: u32, gid: Option<u32>) -> IngressSpec {
        IngressSpec {
            key: types::INGRESS_MBUF_SHM_KEY.cast_signed(),
            len: crate::abi::ingress::INGRESS_LEN,
            huge_pages,
            mode,
            gid,
        }
    }
}

/// The segment, mapped. Dropping it removes it (runtimes keep their mappings).
#[derive(Debug)]
pub struct IngressSegment {
    region: Arc<ShmRegion>,
    id: RemoveOnDrop,
    page_size: usize,
    /// Any runtime may punch holes into the segment.
    _guard: Option<Guard>,
}

#[derive(Debug)]
struct RemoveOnDrop(i32);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        match sysv::remove(self.0) {
            // With kernel.shm_rmid_forced set it goes with its last mapping.
            Err(e) if !is_gone(&e) => {
                log::warn!("ingress segment {}: cannot remove it: {e}", self.0);
            }
            _ => {}
        }
    }
}

/// True if the segment of an id has been removed.
fn is_gone(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EIDRM))
}

impl IngressSegment {
    /// Makes the segment, and allocates its huge pages.
    ///
    /// *Source:* C: iokernel/dpdk.c, `dpdk_init` and base/mem.c, `mem_map_shm`.
    ///
    /// # Errors
    /// One line each, see [`IngressError`]. Nothing stays behind.
    pub fn create(spec: &IngressSpec) -> Result<IngressSegment, IngressError> {
        remove_stale(spec)?;
        let id = RemoveOnDrop(make(spec)?);
        if let Some(gid) = spec.gid {
            sysv::set_group(id.0, gid).map_err(|e| IngressError::Os("IPC_SET", e))?;
        }
        let region = ShmRegion::attach(id.0, spec.len).map_err(|e| IngressError::Os("shmat", e))?;
        let page_size = if spec.huge_pages { HUGE_PAGE } else { 4096 };
        if spec.huge_pages {
            populate(&region).map_err(|e| huge_error(spec, e))?;
        }
        let start = region.base().as_ptr().addr();
        // SAFETY: the mapping is this region's, which the segment holds as long as the guard;
        // what others hold of it may stay in use after that.
        let guard = unsafe { Guard::new(start, region.len(), page_size, Leftovers::Keep) };
        Ok(IngressSegment {
            region: Arc::new(region),
            id,
            page_size,
            _guard: guard,
        })
    }

    /// The mapped bytes.
    pub fn region(&self) -> &Arc<ShmRegion> {
        &self.region
    }

    /// The segment's id.
    pub fn shmid(&self) -> i32 {
        self.id.0
    }

    /// Bytes of one page.
    pub fn page_size(&self) -> usize {
        self.page_size
    }
}

fn remove_stale(spec: &IngressSpec) -> Result<(), IngressError> {
    let shmid = match sysv::find(spec.key) {
        Ok(id) => id,
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        Err(e) => return Err(IngressError::Os("shmget", e)),
    };
    let info = match sysv::info(shmid) {
        Ok(info) => info,
        // Meanwhile.
        Err(e) if is_gone(&e) => return Ok(()),
        Err(e) => return Err(IngressError::Os("IPC_STAT", e)),
    };
    if info.attached > 0 {
        return Err(IngressError::InUse {
            key: spec.key,
            shmid,
            attached: info.attached,
            pids: mapping_pids(spec.key, shmid),
        });
    }
    sysv::remove(shmid).map_err(|error| IngressError::NotRemovable {
        shmid,
        owner: info.owner,
        error,
    })?;
    log::info!(
        "ingress segment {shmid} was left over (made by pid {}, nobody attached): replaced",
        info.creator_pid
    );
    Ok(())
}

fn make(spec: &IngressSpec) -> Result<i32, IngressError> {
    let mode = i32::try_from(spec.mode & 0o777).expect("nine bits");
    if spec.huge_pages {
        sysv::create(spec.key, spec.len, mode | libc::SHM_HUGETLB | SHM_HUGE_2MB)
            .map_err(|e| huge_error(spec, e))
    } else {
        check_memory(spec)?;
        sysv::create(spec.key, spec.len, mode).map_err(|e| small_error(spec, e))
    }
}

fn huge_error(spec: &IngressSpec, e: io::Error) -> IngressError {
    match e.raw_os_error() {
        Some(libc::ENOMEM) => {
            let dir = "/sys/kernel/mm/hugepages/hugepages-2048kB";
            let count = |name: &str| read_number(&format!("{dir}/{name}")).unwrap_or(0);
            let need = spec.len.div_ceil(HUGE_PAGE) as u64;
            let free = count("free_hugepages").saturating_sub(count("resv_hugepages"));
            // Twice the need on top of what others hold: a runtime takes about 1024 more pages for 16 kthreads.
            let suggested = count("nr_hugepages") + need.saturating_sub(free) + 1024;
            IngressError::HugePages {
                need,
                free,
                suggested,
            }
        }
        Some(libc::EPERM) => IngressError::HugePermission,
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => {
            limit_error(spec).unwrap_or(IngressError::NoHugePages(e))
        }
        Some(libc::ENOSPC) => limit_error(spec).unwrap_or(IngressError::Os("shmget", e)),
        _ => IngressError::Os("shmget", e),
    }
}

fn small_error(spec: &IngressSpec, e: io::Error) -> IngressError {
    match e.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSPC) => {
            limit_error(spec).unwrap_or(IngressError::Os("shmget", e))
        }
        _ => IngressError::Os("shmget", e),
    }
}

/// The sysctl that is too small, if one is.
fn limit_error(spec: &IngressSpec) -> Option<IngressError> {
    let pages = spec.len.div_ceil(4096) as u64;
    [("shmmax", spec.len as u64), ("shmall", pages)]
        .into_iter()
        .find_map(|(name, need)| {
            let limit = read_number(&format!("/proc/sys/kernel/{name}"))?;
            (limit < need).then_some(IngressError::Limit {
                len: spec.len,
                name,
                limit,
                need,
            })
        })
}

fn check_memory(spec: &IngressSpec) -> Result<(), IngressError> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available_kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    match available_kib {
        Some(kib) if kib < (spec.len >> 10) as u64 => Err(IngressError::Memory {
            need_mib: (spec.len >> 20) as u64,
            available_mib: kib >> 10,
        }),
        _ => Ok(()),
    }
}

/// Allocates every huge page now.
///
/// # Errors
/// `ENOMEM`, whatever the kernel said: it had promised the pages.
fn populate(region: &ShmRegion) -> io::Result<()> {
    use rustix::mm::{Advice, madvise};
    let base = region.base();
    // SAFETY: the range is this mapping of ours; populating changes no byte of it.
    let populated = unsafe {
        madvise(
            base.as_ptr().cast(),
            region.len(),
            Advice::LinuxPopulateWrite,
        )
    };
    match populated {
        Ok(()) => Ok(()),
        // Linux before 5.14: touch them instead. shmget reserved them.
        Err(rustix::io::Errno::INVAL) => {
            for offset in (0..region.len()).step_by(HUGE_PAGE) {
                // SAFETY: inside the mapping; the segment is new, so no byte of it is anyone's yet.
                unsafe { base.add(offset).as_ptr().write_volatile(0) };
            }
            Ok(())
        }
        Err(_) => Err(io::Error::from_raw_os_error(libc::ENOMEM)),
    }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The processes of our IPC namespace that map a segment.
fn mapping_pids(key: i32, shmid: i32) -> Vec<i32> {
    let name = format!("/SYSV{key:08x}");
    let id = shmid.to_string();
    let ours = fs::metadata("/proc/thread-self/ns/ipc")
        .map(|m| m.ino())
        .ok();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut pids: Vec<i32> = processes
        .flatten()
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse::<i32>().ok()?;
            // Fields: range, permissions, offset, device, inode (the segment's id), name.
            let maps = fs::read_to_string(process.path().join("maps")).ok()?;
            let maps_it = maps.lines().any(|line| {
                let mut fields = line.split_whitespace().skip(4);
                fields.next() == Some(&id) && fields.next() == Some(&name)
            });
            let theirs = fs::metadata(process.path().join("ns/ipc"))
                .map(|m| m.ino())
                .ok();
            // The main thread's namespace; of our own process any thread's will do.
            let same = theirs == ours || pid == std::process::id().cast_signed();
            (maps_it && same).then_some(pid)
        })
        .collect();
    pids.sort_unstable();
    pids
}

#[cfg(test)]
mod tests {
    use super::super::test_runtime::{log_of, private_namespaces, remember_log};
    use super::*;
    use crate::testing::skip;

    fn spec(len: usize) -> IngressSpec {
        IngressSpec {
            len,
            ..IngressSpec::new(false, 0o777, None)
        }
    }

    #[test]
    fn a_dropped_segment_is_gone() {
        if !private_namespaces() {
            return;
        }
        let segment = IngressSegment::create(&spec(1 << 20)).unwrap();
        assert_eq!(sysv::find(spec(0).key).unwrap(), segment.shmid());
        drop(segment);
        let gone = sysv::find(spec(0).key).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn a_segment_belongs_to_the_group_that_is_named() {
        if !private_namespaces() {
            return;
        }
        let segment = IngressSegment::create(&IngressSpec {
            mode: 0o770,
            gid: Some(12345),
            ..spec(1 << 20)
        })
        .unwrap();
        assert_eq!(sysv::info(segment.shmid()).unwrap().group, 12345);
    }

    #[test]
    fn a_segment_that_went_with_its_last_mapping_is_nothing_to_warn_of() {
        if !private_namespaces() {
            return;
        }
        // The switch belongs to the IPC namespace, which is this thread's own.
        if fs::write("/proc/sys/kernel/shm_rmid_forced", "1").is_err() {
            return skip("shm_rmid_forced", "kernel.shm_rmid_forced cannot be set");
        }
        remember_log();
        drop(IngressSegment::create(&spec(1 << 20)).unwrap());
        assert!(sysv::find(spec(0).key).is_err());
        let log = log_of(std::thread::current().id());
        assert!(log.is_empty(), "{log:?}");
    }

    /// Bytes of a segment that lie in memory.
    fn resident(shmid: i32) -> usize {
        let table = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        let mut lines = table.lines().map(|line| line.split_whitespace());
        let column = lines
            .next()
            .unwrap()
            .position(|name| name == "rss")
            .unwrap();
        let id = shmid.to_string();
        let mut line = lines.find(|line| line.clone().nth(1) == Some(&id)).unwrap();
        line.nth(column).unwrap().parse().unwrap()
    }

    #[test]
    fn huge_pages_are_allocated_at_once_and_small_ones_when_used() {
        if !private_namespaces() {
            return;
        }
        let small = IngressSegment::create(&spec(8 << 20)).unwrap();
        assert_eq!(resident(small.shmid()), 0);
        drop(small);
        let huge_pages = true;
        match IngressSegment::create(&IngressSpec {
            huge_pages,
            ..spec(4 << 20)
        }) {
            // Linux 6.7 and newer say 512 times as much.
            Ok(huge) => assert!(resident(huge.shmid()) >= 4 << 20),
            Err(error) => skip("a segment of huge pages", &error.to_string()),
        }
    }

    #[test]
    fn a_segment_that_nobody_maps_is_replaced() {
        if !private_namespaces() {
            return;
        }
        let stale = sysv::create(spec(0).key, 8192, 0o600).unwrap();
        let segment = IngressSegment::create(&spec(1 << 20)).unwrap();
        assert_ne!(segment.shmid(), stale);
        assert_eq!(sysv::info(segment.shmid()).unwrap().size, 1 << 20);
    }

    #[test]
    fn a_segment_in_use_is_reported_with_its_pids_and_left_alone() {
        if !private_namespaces() {
            return;
        }
        let id = sysv::create(spec(0).key, 8192, 0o600).unwrap();
        let _mapped = ShmRegion::attach(id, 8192).unwrap();
        let error = IngressSegment::create(&spec(1 << 20)).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, IngressError::InUse { attached: 1, .. }),
            "{text}"
        );
        let pid = format!("pid {}", std::process::id());
        assert!(text.contains(&pid), "{text}");
        assert_eq!(sysv::find(spec(0).key).unwrap(), id);
        sysv::remove(id).unwrap();
    }

    #[test]
    fn a_segment_beyond_shmmax_names_the_sysctl() {
        if !private_namespaces() {
            return;
        }
        // The limit belongs to the IPC namespace, which is this thread's own.
        if fs::write("/proc/sys/kernel/shmmax", "65536").is_err() {
            return skip(
                "a segment beyond shmmax",
                "kernel.shmmax cannot be set here",
            );
        }
        let error = IngressSegment::create(&spec(1 << 20)).unwrap_err();
        assert!(
            matches!(
                error,
                IngressError::Limit {
                    name: "shmmax",
                    limit: 65536,
                    ..
                }
            ),
            "{error}"
        );
        assert!(sysv::find(spec(0).key).is_err());
    }

    #[test]
    fn too_many_huge_pages_are_refused_with_numbers() {
        if !private_namespaces() {
            return;
        }
        // 4 TiB: more than any machine that runs this has set aside.
        let error = IngressSegment::create(&IngressSpec {
            huge_pages: true,
            ..spec(4 << 40)
        })
        .unwrap_err();
        match error {
            IngressError::HugePages { need, .. } => assert_eq!(need, 2 << 20),
            IngressError::HugePermission | IngressError::NoHugePages(_) => {
                skip(
                    "too many huge pages",
                    &format!("none are to be had here: {error}"),
                );
            }
            other => panic!("{other}"),
        }
        assert!(sysv::find(spec(0).key).is_err());
    }

    #[test]
    fn more_memory_than_there_is_is_refused() {
        let error = check_memory(&spec(1 << 50)).unwrap_err();
        assert!(
            matches!(
                error,
                IngressError::Memory {
                    need_mib: 0x4000_0000,
                    ..
                }
            ),
            "{error}"
        );
    }
}
