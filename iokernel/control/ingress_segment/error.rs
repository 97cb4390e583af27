//! Why there is no ingress segment, in words for the administrator.

use std::io;

/// Why there is no ingress segment. Each is one line: what, why, what to do.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// Somebody maps the segment that is there.
    #[error(
        "the ingress segment (key {key:#x}, id {shmid}) is in use by {}: end them, then start again",
        Pids(.pids, *.attached)
    )]
    InUse {
        /// Its key.
        key: i32,
        /// Its id.
        shmid: i32,
        /// Mappings that exist.
        attached: u64,
        /// The processes that map it, as far as they can be seen.
        pids: Vec<i32>,
    },
    /// A left-over segment is not ours to remove.
    #[error(
        "a left-over ingress segment (id {shmid}, of uid {owner}) cannot be removed: {error}: `ipcrm -m {shmid}` as its owner or root"
    )]
    NotRemovable {
        /// Its id.
        shmid: i32,
        /// Its owner.
        owner: u32,
        /// What the kernel said.
        error: io::Error,
    },
    /// Too few huge pages.
    #[error(
        "the ingress segment needs {need} free huge pages of 2 MiB (runtimes and DPDK need more), {free} are free: `sysctl -w vm.nr_hugepages={suggested}`, or --no-huge"
    )]
    HugePages {
        /// Pages needed.
        need: u64,
        /// Pages free and not promised to anyone.
        free: u64,
        /// A total that would do.
        suggested: u64,
    },
    /// No right to huge pages.
    #[error(
        "no permission for a shared segment of huge pages: run as root, put your group into vm.hugetlb_shm_group, or use --no-huge"
    )]
    HugePermission,
    /// No huge pages in this kernel.
    #[error("this kernel has no huge pages of 2 MiB ({0}): use --no-huge")]
    NoHugePages(io::Error),
    /// A limit of the IPC namespace.
    #[error(
        "the ingress segment has {len} bytes, kernel.{name} allows {limit}: `sysctl -w kernel.{name}={need}`"
    )]
    Limit {
        /// Bytes wanted.
        len: usize,
        /// The sysctl.
        name: &'static str,
        /// Its value.
        limit: u64,
        /// A value that would do.
        need: u64,
    },
    /// Too little memory.
    #[error(
        "the ingress segment needs {need_mib} MiB of memory, {available_mib} MiB are available"
    )]
    Memory {
        /// MiB needed.
        need_mib: u64,
        /// MiB available.
        available_mib: u64,
    },
    /// Anything else.
    #[error("ingress segment: {0} failed: {1}")]
    Os(&'static str, io::Error),
}

struct Pids<'a>(&'a [i32], u64);

impl std::fmt::Display for Pids<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Pids(pids, attached) = self;
        if pids.is_empty() {
            return write!(f, "{attached} processes that cannot be seen from here");
        }
        write!(f, "pid")?;
        for (i, pid) in pids.iter().enumerate() {
            write!(f, "{} {pid}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
