//! DPDK's environment (EAL): its options, its start, and what its failures mean.
//!
//! The EAL can be started once per process. It pins the calling thread to the
//! dataplane CPU; that thread then polls the port, so that mempools find their
//! per-core cache. What the EAL prints while starting is kept back: a failure is
//! told in one line made from it, a success is logged at debug level.

#![allow(unsafe_code, reason = "calls DPDK")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
use std::io::{self, Read, Seek};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use dpdk_sys as sys;

use super::DpdkError;

/// Where the EAL runs and what the user told it.
#[derive(Debug, Clone, Default)]
pub struct EalConfig {
    /// The CPU of the polling thread.
    pub cpu: usize,
    /// Ordinary pages instead of huge pages.
    pub no_huge: bool,
    /// EAL options as given after `--`. They win over the defaults.
    pub args: Vec<String>,
}

/// Options that are not the user's to give, and why.
const REFUSED: [(&str, &str); 9] = [
    ("-l", "the dataplane CPU is chosen with --dataplane-core"),
    ("-c", "the dataplane CPU is chosen with --dataplane-core"),
    (
        "--lcore",
        "the dataplane CPU is chosen with --dataplane-core",
    ),
    (
        "--main-lcore",
        "there is one core only, chosen with --dataplane-core",
    ),
    ("-s", "there are no service cores"),
    ("-S", "there are no service cores"),
    ("--proc-type=secondary", "it owns its port"),
    ("-h", "DPDK prints its options with `dpdk-testpmd --help`"),
    (
        "--help",
        "DPDK prints its options with `dpdk-testpmd --help`",
    ),
];

/// Options for memory that DPDK processes share, or for keeping it private.
const SHARED_MEMORY: [&str; 6] = [
    "--huge-dir",
    "--huge-unlink",
    "--legacy-mem",
    "--proc-type",
    "--in-memory",
    "--no-shconf",
];

/// MiB for DPDK's own use without huge pages, where it cannot grow on demand:
/// 131,072 mbufs of 192 bytes are 25, the transmit pools 12, the rest is the drivers'.
const NO_HUGE_MIB: &str = "256";
/// 2 MiB pages to have free beside the ingress region: upstream's `--socket-mem=128`.
/// The pools take 29, the rest is the driver's.
const HUGE_PAGES: u64 = 64;

/// The EAL's arguments, program name first.
///
/// `--lcores 0@CPU` rather than upstream's `-l CPU`: it also names CPUs beyond
/// DPDK's own limit of lcores. `--in-memory` leaves no files behind, needs no
/// mounted hugetlbfs, and lets several daemons run side by side.
///
/// # Errors
/// An option that would contradict ours, with the reason.
pub fn arguments(config: &EalConfig) -> Result<Vec<String>, DpdkError> {
    for arg in &config.args {
        let long = arg.starts_with("--");
        let refused = REFUSED
            .iter()
            .find(|(option, _)| arg.starts_with(option) && long == option.starts_with("--"));
        if let Some((option, why)) = refused {
            return Err(DpdkError::RefusedOption { option, why });
        }
    }
    let given = |options: &[&str]| {
        config
            .args
            .iter()
            .any(|arg| options.iter().any(|option| arg.starts_with(option)))
    };
    let no_huge = config.no_huge || given(&["--no-huge"]);
    let mut args = vec!["iokerneld".to_owned(), format!("--lcores=0@{}", config.cpu)];
    if !given(&SHARED_MEMORY) {
        // Without huge pages DPDK's memory is private already, and only its settings are shared.
        let private = if no_huge {
            "--no-shconf"
        } else {
            "--in-memory"
        };
        args.push(private.to_owned());
    }
    if no_huge {
        if !given(&["--no-huge"]) {
            args.push("--no-huge".to_owned());
        }
        // Ordinary pages move and are scattered: no device may be given their physical addresses.
        if !given(&["--iova-mode"]) {
            args.push("--iova-mode=va".to_owned());
        }
        if !given(&["-m", "--socket-mem"]) {
            args.extend(["-m".to_owned(), NO_HUGE_MIB.to_owned()]);
        }
    }
    args.extend(config.args.iter().cloned());
    Ok(args)
}

/// The running EAL; dropping it releases DPDK's memory, devices and telemetry socket.
///
/// Not `Send`: the thread that started it is the one that polls.
#[derive(Debug)]
pub struct Eal {
    /// What it complained of while starting all the same, such as a device that it could not make.
    pub(super) complaints: String,
    /// Other processes may map its memory, which therefore has files.
    pub(super) shares_memory: bool,
    of_this_thread: PhantomData<*const ()>,
}

impl Eal {
    /// Starts the EAL on the calling thread.
    ///
    /// # Errors
    /// [`DpdkError`]: one line with the EAL's own reason and what to do about it.
    pub fn init(config: &EalConfig) -> Result<Eal, DpdkError> {
        static STARTED: AtomicBool = AtomicBool::new(false);
        let args = arguments(config)?;
        let private = ["--in-memory", "--no-shconf"];
        let shares_memory = !args.iter().any(|arg| private.contains(&arg.as_str()));
        log::debug!("EAL arguments: {}", args[1..].join(" "));
        let args: Vec<CString> = args
            .into_iter()
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(|_| DpdkError::RefusedOption {
                option: "an argument with a NUL byte",
                why: "no option has one",
            })?;
        if STARTED.swap(true, Ordering::Relaxed) {
            return Err(DpdkError::Eal {
                reason: "it was started before in this process".into(),
                hint: "it can be started once".into(),
            });
        }
        // The EAL reorders the pointers and may keep some: both live as long as the process.
        let args: &'static mut [*mut c_char] =
            Vec::leak(args.into_iter().map(CString::into_raw).collect());
        let count = c_int::try_from(args.len()).expect("a command line of less than 2^31 words");
        let output = Output::capture();
        // SAFETY: `count` pointers to strings that are never freed.
        let ret = unsafe { sys::rte_eal_init(count, args.as_mut_ptr()) };
        // SAFETY: reads the calling thread's error number.
        let errno = unsafe { sys::calisto_errno() };
        let output = output.map(Output::end).unwrap_or_default();
        if ret < 0 {
            return Err(explain(&output, errno));
        }
        for line in output.lines() {
            log::debug!("{line}");
        }
        Ok(Eal {
            complaints: complaints(&output),
            shares_memory,
            of_this_thread: PhantomData,
        })
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // SAFETY: init() succeeded, once; ports and pools are gone (Dpdk's field order).
        unsafe { sys::rte_eal_cleanup() };
    }
}

/// DPDK's error number in words.
pub(super) fn strerror(errno: c_int) -> String {
    // SAFETY: returns a string of the thread's own or a constant, for any number.
    let text = unsafe { CStr::from_ptr(sys::rte_strerror(errno)) };
    text.to_string_lossy().into_owned()
}

/// Diverts the process's standard output and error to a file in memory, while the
/// EAL starts: it writes its log to one, and its list of options to the other.
struct Output {
    file: fs::File,
    saved: [(OwnedFd, RawFd); 2],
}

impl Output {
    /// `None` where the system has no descriptors left; then nothing is diverted.
    fn capture() -> Option<Output> {
        // SAFETY: a constant name; the descriptor is checked and owned by the File.
        let file = unsafe {
            let fd = libc::memfd_create(c"eal-output".as_ptr(), libc::MFD_CLOEXEC);
            (fd >= 0).then(|| fs::File::from_raw_fd(fd))?
        };
        let saved = [
            (io::stdout().as_fd().try_clone_to_owned().ok()?, 1),
            (io::stderr().as_fd().try_clone_to_owned().ok()?, 2),
        ];
        for (_, fd) in &saved {
            // SAFETY: both descriptors are open; the old target was saved.
            unsafe { libc::dup2(file.as_raw_fd(), *fd) };
        }
        Some(Output { file, saved })
    }

    /// Ends the diversion and gives what was said.
    fn end(mut self) -> String {
        // SAFETY: null stands for all streams of the C library.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        for (saved, fd) in &self.saved {
            // SAFETY: both descriptors are open.
            unsafe { libc::dup2(saved.as_raw_fd(), *fd) };
        }
        let mut text = Vec::new();
        let read = self
            .file
            .rewind()
            .and_then(|()| self.file.read_to_end(&mut text));
        debug_assert!(read.is_ok(), "a memory file can be read");
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Beginnings of lines that the EAL prints when all is well.
const CHATTER: [&str; 9] = [
    "EAL: Detected ",
    "EAL: Multi-process socket",
    "EAL: Selected IOVA",
    "EAL: Probing VFIO",
    "EAL: VFIO support",
    "EAL: Probe PCI",
    "EAL: No available 1048576 kB",
    "EAL: No free 1048576 kB",
    "TELEMETRY: ",
];

/// The last few things in the EAL's output that are not chatter, in one line.
fn complaints(output: &str) -> String {
    // The list of all options follows some errors.
    let output = output.split("\nUsage: ").next().unwrap_or_default();
    let mut said: Vec<&str> = Vec::new();
    for line in output.lines().map(str::trim) {
        let chatter = CHATTER.iter().any(|start| line.starts_with(start));
        // What is fatal is said twice, once with that word.
        let line = line.strip_prefix("EAL: ").unwrap_or(line);
        let line = line.strip_prefix("FATAL: ").unwrap_or(line);
        let line = line.trim_end_matches('.');
        if !line.is_empty() && !chatter && !said.contains(&line) {
            said.push(line);
        }
    }
    said[said.len().saturating_sub(3)..].join("; ")
}

/// Makes one line of what the EAL said before it gave up.
fn explain(output: &str, errno: c_int) -> DpdkError {
    let reason = match complaints(output) {
        said if said.is_empty() => strerror(errno),
        said => said,
    };
    let hint = if reason.contains("another primary process") {
        "another DPDK process uses the same file prefix: give this one a name of its own with `-- --file-prefix NAME`".to_owned()
    } else if reason.to_lowercase().contains("hugepage") || errno == libc::ENOMEM {
        huge_page_hint()
    } else if errno == libc::EACCES || errno == libc::EPERM {
        "run it as root, or with --no-huge and a virtual device".to_owned()
    } else {
        "check the EAL options after `--`".to_owned()
    };
    DpdkError::Eal { reason, hint }
}

/// What is missing in huge pages, and the command that makes them.
pub(super) fn huge_page_hint() -> String {
    let read = |name: &str| {
        let path = format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{name}");
        fs::read_to_string(path)
            .and_then(|text| text.trim().parse::<u64>().map_err(io::Error::other))
            .unwrap_or(0)
    };
    let (all, free) = (read("nr_hugepages"), read("free_hugepages"));
    let missing = HUGE_PAGES.saturating_sub(free);
    if missing == 0 {
        return format!(
            "{free} huge pages of 2 MiB are free and DPDK needs {HUGE_PAGES}: check `ulimit -l`, \
             the limits of the control group, and the options for memory after `--`"
        );
    }
    format!(
        "DPDK needs {HUGE_PAGES} huge pages of 2 MiB and {free} are free: \
         `sysctl vm.nr_hugepages={}`, or use --no-huge",
        all + missing
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(no_huge: bool, user: &[&str]) -> Result<String, DpdkError> {
        let config = EalConfig {
            cpu: 3,
            no_huge,
            args: user.iter().map(ToString::to_string).collect(),
        };
        arguments(&config).map(|args| args.join(" "))
    }

    #[test]
    fn defaults_name_the_cpu_and_leave_no_files() {
        assert_eq!(
            args(false, &[]).unwrap(),
            "iokerneld --lcores=0@3 --in-memory"
        );
    }

    #[test]
    fn without_huge_pages_addresses_are_virtual() {
        assert_eq!(
            args(true, &["--no-pci"]).unwrap(),
            "iokerneld --lcores=0@3 --no-shconf --no-huge --iova-mode=va -m 256 --no-pci"
        );
    }

    #[test]
    fn what_the_user_gives_wins() {
        assert_eq!(
            args(true, &["-m", "64", "--huge-unlink=always"]).unwrap(),
            "iokerneld --lcores=0@3 --no-huge --iova-mode=va -m 64 --huge-unlink=always"
        );
    }

    #[test]
    fn a_second_choice_of_cores_is_refused_with_the_reason() {
        for given in [
            "-l",
            "-l5",
            "-c",
            "-cff",
            "--lcores=1",
            "--lcores",
            "--main-lcore=2",
        ] {
            let error = args(false, &["--no-pci", given]).unwrap_err().to_string();
            assert!(error.contains("--dataplane-core"), "{given}: {error}");
        }
        // Long options that begin alike are none of those.
        assert!(args(false, &["--syslog=daemon", "--log-level=8"]).is_ok());
    }

    #[test]
    fn failures_say_what_to_do() {
        let said = "EAL: Detected CPU lcores: 2\nEAL: Cannot create lock on '/var/run/dpdk/rte/config'. \
                    Is another primary process running?\nEAL: FATAL: Cannot init config\nEAL: Cannot init config\n";
        let error = explain(said, libc::EAGAIN).to_string();
        assert!(error.contains("--file-prefix"), "{error}");
        assert!(error.contains("Cannot init config"), "{error}");
        assert!(!error.contains("Detected"), "{error}");
        assert_eq!(error.matches("Cannot init config").count(), 1, "{error}");
        assert!(!error.contains('\n'), "{error}");
        let error = explain(
            "EAL: FATAL: Cannot get hugepage information.\n",
            libc::EACCES,
        );
        assert!(error.to_string().contains("huge pages of 2 MiB"), "{error}");
        let said = "iokerneld: unrecognized option '--x'\n\nUsage: iokerneld [options]\n --huge-dir hugepages\n";
        let error = explain(said, 0).to_string();
        assert!(error.contains("'--x'; check the EAL options"), "{error}");
        let error = explain("", libc::EACCES).to_string();
        assert!(error.contains("as root"), "{error}");
    }
}
