//! What the daemon may still do once it is set up: less than it took to start.
//!
//! Two walls behind the checks of what runtimes send, for the bug that nobody has
//! found yet. Capabilities go that no later step needs, from every thread and from
//! every set; and system calls fail that the running daemon has no use for.
//!
//! | capability | kept for | when |
//! |---|---|---|
//! | `SYS_NICE` | to pin kthreads of other users, and of those with more capabilities | always |
//! | `KILL`, `IPC_OWNER` | to preempt and map runtimes of other users | such runtimes may attach |
//! | `SYS_PTRACE` | to see whose threads they are | /proc hides other users' processes (`hidepid`) |
//! | what the port names | see [`PortNeeds`] | its driver goes on to need it |
//!
//! Whoever runs without one of these had it not to begin with: nothing is ever gained.
//!
//! Order: the port is started and its threads run; then [`confine`]; then the first
//! thread that hears a runtime is started, which inherits all of it. There is one list
//! of system calls for all threads: they share their memory, so whoever commands one
//! of them commands all.

mod capabilities;
mod syscalls;
#[cfg(test)]
mod tests;

use std::fs;

pub use rustix::thread::CapabilitySet;
pub use syscalls::{OnForbidden, RestrictError};

/// What a port needs after it was started, above what any daemon does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortNeeds {
    /// Capabilities.
    pub capabilities: CapabilitySet,
    /// It asks devices and the kernel's interfaces (`ioctl`, `poll`), and removes sockets
    /// of its own when it ends.
    pub devices: bool,
    /// It opens sockets: its driver configures an interface of the kernel's.
    pub sockets: bool,
    /// It makes files, in memory that processes share.
    pub files: bool,
}

impl PortNeeds {
    /// Nothing.
    pub const NONE: PortNeeds = PortNeeds {
        capabilities: CapabilitySet::empty(),
        devices: false,
        sockets: false,
        files: false,
    };
}

/// What the daemon needs once it is set up.
#[derive(Debug, Clone)]
pub struct Needs<'a> {
    /// The port's.
    pub port: PortNeeds,
    /// Users whose runtimes may attach; `None`: anybody's.
    pub users: Option<&'a [u32]>,
    /// What the operator wants to be kept besides.
    pub extra: CapabilitySet,
}

impl Needs<'_> {
    /// The capabilities that user `own` needs for it.
    fn capabilities(&self, own: u32, proc_hides: bool) -> CapabilitySet {
        let mut needed = self.port.capabilities | self.extra | CapabilitySet::SYS_NICE;
        // One's own processes and segments one may signal and map without.
        if !self
            .users
            .is_some_and(|users| users.iter().all(|&u| u == own))
        {
            needed |= CapabilitySet::KILL | CapabilitySet::IPC_OWNER;
            if proc_hides {
                needed |= CapabilitySet::SYS_PTRACE;
            }
        }
        needed
    }
}

/// System calls cannot be restricted, and it was asked for.
#[derive(Debug, thiserror::Error)]
#[error(
    "system calls cannot be restricted as --seccomp asks: {0}; leave the option out to run without where that must be, or give --seccomp off"
)]
pub struct Unrestricted(#[source] RestrictError);

/// Gives up what is not needed, for good, in all threads of the process.
///
/// What this kernel does not have is one warning, and the daemon runs without it; but what
/// the operator named, as `on_forbidden`, must be had.
///
/// # Errors
/// [`Unrestricted`]; capabilities are given up all the same.
pub fn confine(needs: &Needs<'_>, on_forbidden: Option<OnForbidden>) -> Result<(), Unrestricted> {
    let own = rustix::process::geteuid().as_raw();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    match capabilities::keep_only(needs.capabilities(own, hides_processes(&mounts))) {
        Ok(kept) => log::info!("capabilities: {}", capabilities::names(kept)),
        Err(e) => log::warn!("capabilities are not all given up: {e}"),
    }
    let wanted = on_forbidden.unwrap_or_default();
    if wanted == OnForbidden::Off {
        log::warn!("system calls are not restricted (--seccomp off)");
        return Ok(());
    }
    match syscalls::restrict(needs.port, wanted) {
        Ok(()) => log::info!("system calls: those of a list; others {wanted}"),
        Err(e) if on_forbidden.is_some() => return Err(Unrestricted(e)),
        Err(e) => log::warn!("system calls are not restricted: {e}"),
    }
    Ok(())
}

/// Which of the capabilities to keep this process has not, for people; `None`: it has all,
/// or all that there are were named.
pub fn not_had(keep: CapabilitySet) -> Option<String> {
    let had = rustix::thread::capabilities(None).map(|sets| sets.permitted);
    let missing = keep - had.unwrap_or(CapabilitySet::empty());
    (keep != all_capabilities() && !missing.is_empty()).then(|| capabilities::names(missing))
}

/// Capabilities to keep, for people: `KILL SYS_NICE`, `all`, `none`.
pub fn capability_names(set: CapabilitySet) -> String {
    if set == all_capabilities() {
        return "all".to_owned();
    }
    capabilities::names(set)
}

/// Those of later kernels among them.
fn all_capabilities() -> CapabilitySet {
    CapabilitySet::from_bits_retain(u64::MAX)
}

/// True if /proc shows a process to its own user only: `hidepid` of 1, 2, 4 or by name.
fn hides_processes(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        // Fields: device, mount point, type, options.
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next(), fields.next());
        let options = fields.next().unwrap_or_default();
        (at, kind) == (Some("/proc"), Some("proc"))
            && options.split(',').any(|option| {
                option
                    .strip_prefix("hidepid=")
                    .is_some_and(|how| how != "0" && how != "off")
            })
    })
}

/// Reads capabilities by name, such as `net_admin,sys_rawio`, with or without `cap_`; `all`.
///
/// # Errors
/// The name that is none.
pub fn read_capabilities(text: &str) -> Result<CapabilitySet, String> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(all_capabilities());
    }
    text.split(',')
        .try_fold(CapabilitySet::empty(), |set, name| {
            let upper = name.trim().to_ascii_uppercase();
            let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
            CapabilitySet::from_name(bare)
                .map(|one| set | one)
                .ok_or_else(|| name.to_owned())
        })
}
