//! What CPUs the machine has, and who is to run on which.
//!
//! [`Topology`] is read from sysfs, under a root that tests replace; [`plan`] is a
//! pure function of it and of the command line.
//!
//! # Terms
//!
//! A *CPU* is what Linux numbers and pins to. A *package* is a socket. CPUs that
//! share execution units are *siblings* (hyperthreads). A CPU is *usable* if it
//! is online and in this process' own affinity mask. A *core* is what a runtime
//! is told that it runs on: the CPU's number, or with virtual cores just a number.

mod cpus;
mod plan;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use self::cpus::{CpuId, CpuList, CpuListError, MAX_CPUS};
pub use self::plan::{CorePlan, PlanError, PlanOptions, plan};

/// Where Linux describes its CPUs.
pub const SYSFS_ROOT: &str = "/sys/devices/system/cpu";

/// An online CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub id: CpuId,
    /// Its socket. A machine that does not say (id -1) has one socket, number 0.
    pub package: u32,
    /// The CPUs that share its execution units, itself among them.
    pub siblings: CpuList,
    /// Its NUMA node, where the kernel knows nodes.
    pub node: Option<u32>,
    /// In this process' affinity mask.
    pub allowed: bool,
}

/// The machine's online CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    cpus: Vec<Cpu>,
}

/// Why the machine's CPUs could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A file could not be read.
    #[error("cannot read the CPU topology at {path}: {source}; is /sys mounted?")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file says what no kernel says.
    #[error("cannot make sense of the CPU topology at {path}: '{text}'")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
    },
}

impl Topology {
    /// This machine, as this process may use it.
    ///
    /// # Errors
    /// [`TopologyError`] if sysfs is missing or odd.
    pub fn of_this_machine() -> Result<Topology, TopologyError> {
        // A mask that does not fit (more than 1024 CPUs) restricts nothing.
        let allowed = rustix::thread::sched_getaffinity(None).ok().map(|set| {
            (0..MAX_CPUS)
                .filter(|&cpu| set.is_set(usize::from(cpu)))
                .map(CpuId)
                .collect()
        });
        Topology::read(Path::new(SYSFS_ROOT), allowed.as_ref())
    }

    /// The machine that the tree under `root` describes; `allowed` is the affinity
    /// mask, `None` for no restriction.
    ///
    /// *Source:* base/cpu.c, `cpu_scan_topology`.
    ///
    /// # Errors
    /// [`TopologyError`] if the list of online CPUs is missing, or a file is odd.
    pub fn read(root: &Path, allowed: Option<&CpuList>) -> Result<Topology, TopologyError> {
        let path = root.join("online");
        let text = fs::read_to_string(&path).map_err(|source| TopologyError::Read {
            path: path.clone(),
            source,
        })?;
        let online = parse_list(&text, path)?;
        let cpus = online
            .iter()
            .map(|id| {
                let dir = root.join(format!("cpu{id}"));
                Ok(Cpu {
                    id,
                    package: read_package(&dir)?,
                    siblings: read_siblings(&dir, id, &online)?,
                    node: read_node(&dir),
                    allowed: allowed.is_none_or(|list| list.contains(id)),
                })
            })
            .collect::<Result<_, TopologyError>>()?;
        Ok(Topology { cpus })
    }

    /// The online CPUs, lowest first.
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// The online CPU of that number.
    pub fn cpu(&self, id: CpuId) -> Option<&Cpu> {
        self.cpus.iter().find(|c| c.id == id)
    }

    /// The CPUs that are online.
    pub fn online(&self) -> CpuList {
        self.cpus.iter().map(|c| c.id).collect()
    }

    /// The CPUs that are online and in the affinity mask.
    pub fn usable(&self) -> CpuList {
        self.cpus
            .iter()
            .filter(|c| c.allowed)
            .map(|c| c.id)
            .collect()
    }

    /// The CPU that shares execution units with `id`, if it is online. With more than two
    /// to a core they are taken in pairs.
    pub fn sibling(&self, id: CpuId) -> Option<CpuId> {
        let group: Vec<CpuId> = self.cpu(id)?.siblings.iter().collect();
        let at = group.iter().position(|&cpu| cpu == id)?;
        group.get(at ^ 1).copied()
    }
}

fn parse_list(text: &str, path: PathBuf) -> Result<CpuList, TopologyError> {
    text.parse().map_err(|_| TopologyError::Malformed {
        path,
        text: text.trim().to_owned(),
    })
}

/// A file's text, or `None` if there is no such file: virtual machines and
/// containers leave some out.
fn read_optional(path: &Path) -> Result<Option<String>, TopologyError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TopologyError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn read_package(dir: &Path) -> Result<u32, TopologyError> {
    let path = dir.join("topology/physical_package_id");
    let Some(text) = read_optional(&path)? else {
        return Ok(0);
    };
    let id = match text.trim().parse::<i64>() {
        Ok(-1) => Some(0),
        Ok(id) => u32::try_from(id).ok(),
        Err(_) => None,
    };
    id.ok_or_else(|| TopologyError::Malformed {
        path,
        text: text.trim().to_owned(),
    })
}

fn read_siblings(dir: &Path, id: CpuId, online: &CpuList) -> Result<CpuList, TopologyError> {
    let path = dir.join("topology/thread_siblings_list");
    let listed = match read_optional(&path)? {
        Some(text) => parse_list(&text, path)?,
        None => CpuList::default(),
    };
    Ok(listed
        .iter()
        .filter(|&cpu| online.contains(cpu))
        .chain([id])
        .collect())
}

/// The CPU's directory links to its node's.
fn read_node(dir: &Path) -> Option<u32> {
    fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        entry
            .file_name()
            .to_str()?
            .strip_prefix("node")?
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests;
