//! Our C runtimes: what to start, what runs, what it reported.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::child::Child;
use crate::namespace::{Namespaces, User};

/// Counters that only a fault of the I/O kernel raises. See `c/librt.h`.
const FAULTS: &[&str] = &[
    "bad_first_wake",
    "bad_core",
    "bad_affinity",
    "double_core",
    "joins_repeated",
    "joins_alien",
    "joins_missing",
    "rx_bad_place",
    "rx_bad_len",
    "rx_alien_mac",
    "rx_bad_csum_type",
    "rx_bad_ip_csum",
    "rx_bad_l4_csum",
    "rx_bad_hash",
    "rx_alien_cmd",
    "bad_completions",
    "lost_completions",
    "stranded",
];

/// A C runtime that may be started. Runtime `n` has the MAC address
/// `02:00:00:00:hh:ll` and the IPv4 address `10.0.h.l`, `n` being `256 h + l`.
#[derive(Debug, Clone)]
pub struct Runtime {
    program: &'static str,
    number: u16,
    args: Vec<String>,
    huge: Option<bool>,
    group: Option<i32>,
    user: Option<User>,
}

/// The MAC address of runtime `n`.
pub fn mac(n: u16) -> String {
    let [h, l] = n.to_be_bytes();
    format!("02:00:00:00:{h:02x}:{l:02x}")
}

/// The IPv4 address of runtime `n`.
pub fn ip(n: u16) -> std::net::Ipv4Addr {
    let [h, l] = n.to_be_bytes();
    std::net::Ipv4Addr::new(10, 0, h, l)
}

impl Runtime {
    fn new(program: &'static str, number: u16) -> Runtime {
        let runtime = Runtime {
            program,
            number,
            args: Vec::new(),
            huge: None,
            group: None,
            user: None,
        };
        runtime
            .set("mac", mac(number))
            .set("ip", ip(number))
            .set("guaranteed", 1)
    }

    /// Answers ARP, pings, UDP and TCP.
    pub fn echo(number: u16) -> Runtime {
        Runtime::new("echo", number)
    }

    /// Sends and checks the answers. Say [`to`](Self::to) whom, and what.
    pub fn sender(number: u16) -> Runtime {
        Runtime::new("sender", number)
    }

    /// Counts broadcasts.
    pub fn listener(number: u16) -> Runtime {
        Runtime::new("listener", number)
    }

    /// Wants every core, and parks only when preempted.
    pub fn burner(number: u16) -> Runtime {
        Runtime::new("burner", number)
    }

    /// Goes through every way of parking.
    pub fn parker(number: u16) -> Runtime {
        Runtime::new("parker", number)
    }

    /// Busy in every way, to be killed.
    pub fn victim(number: u16) -> Runtime {
        Runtime::new("victim", number)
    }

    /// Puts it into a process group: `leader`'s, or, with 0, one of its own.
    #[must_use]
    pub fn group(mut self, leader: u32) -> Runtime {
        self.group = Some(leader.cast_signed());
        self
    }

    /// Sets any option of the program (its source says which there are).
    #[must_use]
    pub fn set(mut self, option: &str, value: impl ToString) -> Runtime {
        self.args.push(format!("--{option}"));
        self.args.push(value.to_string());
        self
    }

    /// Kthreads, and how many of them have a core whenever they want one.
    #[must_use]
    pub fn kthreads(self, kthreads: u32, guaranteed: u32) -> Runtime {
        self.set("kthreads", kthreads).set("guaranteed", guaranteed)
    }

    /// A sender's destination: runtime `number`.
    #[must_use]
    pub fn to(self, number: u16) -> Runtime {
        self.set("peer-mac", mac(number)).set("peer-ip", ip(number))
    }

    /// A sender's destination: everyone.
    #[must_use]
    pub fn to_all(self) -> Runtime {
        self.set("peer-mac", "ff:ff:ff:ff:ff:ff")
            .set("peer-ip", "255.255.255.255")
            .set("flood", 1)
    }

    /// A sender's number of packets.
    #[must_use]
    pub fn count(self, packets: u32) -> Runtime {
        self.set("count", packets)
    }

    /// A region of 2 MiB pages or of 4 KiB ones; default: as the host has it.
    #[must_use]
    pub fn huge_pages(mut self, huge: bool) -> Runtime {
        self.huge = Some(huge);
        self
    }

    /// Run by another user (needs root).
    #[must_use]
    pub fn by(mut self, user: &User) -> Runtime {
        self.user = Some(*user);
        self
    }

    /// As small as a runtime can be: 4 KiB pages, short rings, few buffers.
    #[must_use]
    pub fn small(self) -> Runtime {
        self.huge_pages(false)
            .set("ring", 64)
            .set("egress-bufs", 32)
    }

    /// Starts it inside `space`; does not wait for the I/O kernel's first wake.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn spawn(self, space: &Namespaces, huge: bool) -> Running {
        let path = PathBuf::from(env!("CALISTO_C_RUNTIMES")).join(self.program);
        let pages = if self.huge.unwrap_or(huge) {
            "huge"
        } else {
            "small"
        };
        let name = format!("{} {}", self.program, self.number);
        let mut command = space.command_as(self.user.as_ref(), &path);
        command.args(&self.args).args(["--pages", pages]);
        if let Some(group) = self.group {
            command.process_group(group);
        }
        let child = Child::spawn(name, &mut command)
            .unwrap_or_else(|e| panic!("cannot run {}: {e}", path.display()));
        Running { child }
    }
}

/// A runtime that was started; killed on drop.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Waits until the I/O kernel has woken its first kthread.
    ///
    /// # Panics
    /// When it ends before: with what it said.
    #[must_use]
    pub fn attached(mut self) -> Running {
        if self.child.wait_line(|l| l == "attached").is_none() {
            let status = self.child.wait();
            panic!(
                "{}: {status}:\n{}",
                self.child.name(),
                self.child.lines().join("\n")
            );
        }
        self
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Its exit status, if it has ended.
    pub fn try_status(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_status()
    }

    /// True if the I/O kernel has woken it, as far as it has said so.
    pub fn said_attached(&self) -> bool {
        self.child.lines().iter().any(|line| line == "attached")
    }

    /// Waits until it writes the line `text`.
    ///
    /// # Panics
    /// When it ends before.
    pub fn wait_for(&self, text: &str) {
        let line = self.child.wait_line(|l| l == text);
        assert!(line.is_some(), "{} never said {text:?}", self.child.name());
    }

    /// Lets it come to an end of its own (a sender's count), for its report.
    pub fn wait(mut self) -> Report {
        let status = self.child.wait();
        let lines = self.child.lines();
        let said = lines.join("\n");
        assert!(status.success(), "{}: {status}:\n{said}", self.child.name());
        let json = lines
            .iter()
            .find(|l| l.starts_with('{'))
            .unwrap_or_else(|| panic!("{} gave no report:\n{said}", self.child.name()));
        Report {
            name: self.child.name().to_owned(),
            fields: serde_json::from_str(json).expect("reports are JSON"),
        }
    }

    /// Lets it come to an end without a report: its exit status, and what it said.
    pub fn ended(mut self) -> (std::process::ExitStatus, String) {
        let status = self.child.wait();
        (status, self.child.lines().join("\n"))
    }

    /// Lets it come to an end that is no success; what it said.
    ///
    /// # Panics
    /// When it succeeds.
    pub fn fails(mut self) -> String {
        let status = self.child.wait();
        let said = self.child.lines().join("\n");
        assert!(!status.success(), "{}:\n{said}", self.child.name());
        said
    }

    /// Asks it to end, for its report.
    pub fn stop(mut self) -> Report {
        self.child.signal(libc::SIGTERM);
        self.wait()
    }

    /// Kills it, like `kill -9`.
    pub fn kill(mut self) {
        self.child.kill();
    }

    /// Kills it by a signal to its youngest thread, a kthread if it has one by now.
    pub fn kill_by_thread(mut self) {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        let tids = threads.into_iter().flatten().flatten();
        let youngest = tids
            .filter_map(|t| t.file_name().to_str()?.parse::<i32>().ok())
            .max();
        if let Some(tid) = youngest {
            self.child.signal_thread(tid, libc::SIGKILL);
        }
        self.wait_killed();
    }

    /// Kills it and all others of its process group.
    pub fn kill_group(mut self) {
        self.child.signal_group(libc::SIGKILL);
        self.wait_killed();
    }

    /// Waits for its end, of which it gives no report.
    pub fn wait_killed(mut self) {
        self.child.wait();
    }
}

/// What a runtime saw, counted.
#[derive(Debug)]
pub struct Report {
    name: String,
    fields: Value,
}

impl Report {
    /// One counter.
    ///
    /// # Panics
    /// When the report has no such field.
    pub fn get(&self, counter: &str) -> u64 {
        self.fields[counter]
            .as_u64()
            .unwrap_or_else(|| panic!("{}: no counter {counter}: {}", self.name, self.fields))
    }

    /// The cores that it was given, in order.
    pub fn cores(&self) -> Vec<u64> {
        let cores = self.fields["cores"].as_array();
        cores
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect()
    }

    /// Asserts that it found no fault of the I/O kernel.
    ///
    /// # Panics
    /// Naming every counter of a fault that is not 0.
    pub fn assert_good(&self) -> &Report {
        self.assert_zero(FAULTS)
    }

    /// Asserts that all of these are 0.
    ///
    /// # Panics
    /// Naming those that are not.
    pub fn assert_zero(&self, counters: &[&str]) -> &Report {
        let bad: Vec<_> = counters.iter().filter(|c| self.get(c) != 0).collect();
        assert!(
            bad.is_empty(),
            "{}: {bad:?} are not 0: {}",
            self.name,
            self.fields
        );
        self
    }

    /// Asserts that none of these is 0: each path was seen.
    ///
    /// # Panics
    /// Naming those that are 0.
    pub fn assert_seen(&self, counters: &[&str]) -> &Report {
        let unseen: Vec<_> = counters.iter().filter(|c| self.get(c) == 0).collect();
        assert!(
            unseen.is_empty(),
            "{}: {unseen:?} are 0: {}",
            self.name,
            self.fields
        );
        self
    }
}
