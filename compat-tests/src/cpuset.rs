//! A cpuset for this process: what it starts may run on these CPUs only, whatever
//! affinity is asked for. So does a CPU look that went offline, to who pins others.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// This process' cpuset; as before on drop.
#[derive(Debug)]
pub struct Cpuset {
    dir: PathBuf,
    /// Where the process was: the file of processes there.
    home: PathBuf,
}

/// Where version 1 of the interface is mounted, and version 2.
const V1: &str = "/sys/fs/cgroup/cpuset";
const V2: &str = "/sys/fs/cgroup";

impl Cpuset {
    /// Moves this process into a new cpuset of `cpus`; processes that run already stay.
    ///
    /// # Errors
    /// Why that cannot be done here, for a skip.
    pub fn enter(cpus: &str) -> Result<Cpuset, String> {
        let (root, line) = if Path::new(V1).join("cpuset.cpus").exists() {
            (V1, "cpuset:")
        } else {
            (V2, "0::")
        };
        let said = |what: &str, e: io::Error| format!("no cpuset: {what}: {e}");
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|e| said("own cgroup", e))?;
        // Lines are `NUMBER:CONTROLLERS:PATH`.
        let at = own.lines().find(|l| l.contains(line));
        let at = at.and_then(|l| l.splitn(3, ':').nth(2));
        let at = at.ok_or("no cpuset: this process is in none")?;
        let home = Path::new(root).join(at.trim_start_matches('/'));
        let dir = Path::new(root).join(format!("calisto-test-{}", std::process::id()));
        if root == V2 {
            // It may be on already; if not, the files below are missing.
            let _ = fs::write(Path::new(root).join("cgroup.subtree_control"), "+cpuset");
        }
        fs::create_dir(&dir).map_err(|e| said("a new cgroup", e))?;
        let set = Cpuset {
            home: home.join("cgroup.procs"),
            dir,
        };
        if root == V1 {
            let mems = fs::read_to_string(Path::new(root).join("cpuset.mems"));
            let mems = mems.map_err(|e| said("cpuset.mems", e))?;
            fs::write(set.dir.join("cpuset.mems"), mems).map_err(|e| said("cpuset.mems", e))?;
        }
        fs::write(set.dir.join("cpuset.cpus"), cpus).map_err(|e| said("cpuset.cpus", e))?;
        let me = std::process::id().to_string();
        fs::write(set.dir.join("cgroup.procs"), me).map_err(|e| said("entering it", e))?;
        Ok(set)
    }

    /// Moves this process back; what it started meanwhile stays.
    ///
    /// # Panics
    /// When the kernel does not let it.
    pub fn leave(&self) {
        let me = std::process::id().to_string();
        fs::write(&self.home, me).expect("a process may go back to where it was");
    }
}

impl Drop for Cpuset {
    fn drop(&mut self) {
        let _ = fs::write(&self.home, std::process::id().to_string());
        // Processes that were killed may take a moment to be gone.
        for _ in 0..1000 {
            match fs::remove_dir(&self.dir) {
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                _ => return,
            }
        }
    }
}
