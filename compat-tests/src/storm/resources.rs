//! What a daemon holds, counted from inside (`calistoctl stats`) and from outside
//! (`/proc`, the namespace's segments).

use std::fmt;
use std::fs;

use serde_json::Value;

use crate::Host;
use crate::daemon;
use crate::host::free_huge_pages;

/// One figure.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Figure {
    /// What is counted, with its unit.
    what: &'static str,
    /// How much of it there is.
    value: u64,
    /// Whether it must be the same again. The others are shown only: the machine's own.
    exact: bool,
}

/// What a daemon held at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources(Vec<Figure>);

/// Figures that `calistoctl stats` gives: part, label, name.
const ASKED: &[(&str, &str, &str)] = &[
    ("held", "BUFS_FREE", "free ingress buffers"),
    ("held", "BUFS_LENT", "buffers lent to runtimes"),
    ("held", "ADDRESSES", "Ethernet addresses"),
    ("steering", "ST_FLOWS", "flow-table entries"),
    ("control", "CONTROL_RESERVED_CORES", "guaranteed cores"),
    ("held", "CORES_HELD", "cores held"),
    ("held", "KTHREADS_POLLED", "kthreads polled"),
    ("held", "TX_IN_FLIGHT", "packets in the port"),
    ("held", "OVERFLOWING", "runtimes with waiting completions"),
    ("held", "RUNTIMES", "runtimes (polling loop)"),
    ("held", "LEAVING", "runtimes leaving"),
    ("control", "CONTROL_ATTACHED", "runtimes (control thread)"),
];

impl Resources {
    /// Counts them.
    ///
    /// # Panics
    /// When the daemon does not answer, or has ended.
    pub fn of(host: &mut Host) -> Resources {
        let stats = stats(host);
        let mut figures: Vec<Figure> = ASKED
            .iter()
            .map(|(part, label, what)| Figure {
                what,
                value: stats[part][label]
                    .as_u64()
                    .unwrap_or_else(|| panic!("no {label} in {stats}")),
                exact: true,
            })
            .collect();
        let pid = host.daemon().pid();
        let entries = |dir: &str| {
            fs::read_dir(format!("/proc/{pid}/{dir}"))
                .expect("iokerneld runs")
                .count() as u64
        };
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("iokerneld runs");
        let regions = maps.lines().filter(|l| l.contains("/SYSV")).count() as u64;
        let exact = [
            ("file descriptors", entries("fd")),
            ("threads", entries("task")),
            ("segments mapped", regions),
            ("huge pages, KiB", status(pid, "HugetlbPages")),
            (
                "SysV segments of the host",
                host.space().segments().len() as u64,
            ),
            (
                "processes of the host",
                host.space().processes().len() as u64,
            ),
        ];
        figures.extend(exact.map(|(what, value)| Figure {
            what,
            value,
            exact: true,
        }));
        let shown = [
            ("anonymous memory, KiB", status(pid, "RssAnon")),
            ("free huge pages of the machine", free_huge_pages()),
        ];
        figures.extend(shown.map(|(what, value)| Figure {
            what,
            value,
            exact: false,
        }));
        Resources(figures)
    }

    /// One figure.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn get(&self, what: &str) -> u64 {
        let figure = self.0.iter().find(|f| f.what == what);
        figure.unwrap_or_else(|| panic!("no figure {what}")).value
    }

    /// True if everything that must be the same is.
    pub fn same_as(&self, other: &Resources) -> bool {
        let exact = |r: &Resources| r.0.iter().filter(|f| f.exact).cloned().collect::<Vec<_>>();
        exact(self) == exact(other)
    }

    /// Both, side by side.
    pub fn beside<'a>(&'a self, after: &'a Resources) -> Table<'a> {
        Table {
            before: self,
            after,
        }
    }
}

/// Two lists of resources side by side.
#[derive(Debug)]
pub struct Table<'a> {
    before: &'a Resources,
    after: &'a Resources,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<36} {:>12} {:>12}", "resource", "before", "after")?;
        for (a, b) in self.before.0.iter().zip(&self.after.0) {
            let note = match (a.exact, a.value == b.value) {
                (true, false) => "  <-- differs",
                (false, _) => "  (shown only)",
                (true, true) => "",
            };
            writeln!(f, "{:<36} {:>12} {:>12}{note}", a.what, a.value, b.value)?;
        }
        Ok(())
    }
}

/// The daemon's answer to `calistoctl stats --json`.
///
/// # Panics
/// When there is none.
pub fn stats(host: &Host) -> Value {
    let mut ask = host.command(daemon::ctl());
    let out = ask.args(["stats", "--json"]).output();
    let out = out.expect("calistoctl can be run");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "calistoctl: {said}");
    serde_json::from_slice(&out.stdout).expect("the answer is JSON")
}

/// A line of `/proc/PID/status`, in KiB; 0 if the kernel has no such line.
fn status(pid: u32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("iokerneld runs");
    text.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .next()
        .unwrap_or(0)
}
