//! The flags, and what each value may be.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use clap::error::ErrorKind;

use super::{DpdkPort, Idle, PortChoice, Stop, usage};
use crate::dataplane::lending::{SHARE_MAX, SHARE_MIN};
use crate::ids::Micros;
use crate::privileges::{CapabilitySet, OnForbidden, read_capabilities};
use crate::steering::spec::FLOW_ENTRIES_MAX;
use crate::steering::{Affinity, Policy};
use crate::terminal::one_line;

/// A drop-in iokerneld for Shenango.
#[derive(Debug, Parser)]
#[command(name = "iokerneld", version, disable_help_subcommand = true)]
#[command(override_usage = "iokerneld [OPTIONS] [-- EAL OPTIONS]")]
#[command(args_override_self = false)]
pub(super) struct Cli {
    /// Where frames come from: dpdk[:ID or device name], or loopback (between local runtimes only) [default: dpdk:0]
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<String>,
    /// Which kthread gets a packet: flow-table (alias calisto), buckets, hybrid, kthread-table (alias caladan) or modulo (alias shenango) [default: flow-table]
    #[arg(long, value_name = "NAME")]
    pub(super) policy: Option<String>,
    /// A flow whose home core its runtime lost: sticky (it gets a new home and keeps that) or strict (its core is woken for it if idle) [default: sticky]
    #[arg(long, value_name = "HOW")]
    pub(super) affinity: Option<String>,
    /// Flows that a runtime's flow table has room for [default: 700000]
    #[arg(long, value_name = "N")]
    pub(super) flow_entries: Option<u64>,
    /// Time without a packet after which a flow may be forgotten [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub(super) flow_idle: Option<u64>,
    /// Move a flow only when its old kthread has taken its last packet
    #[arg(long)]
    pub(super) order_guard: bool,
    /// Count exactly, under any policy, packets whose flow changed core
    #[arg(long)]
    pub(super) watch_flows: bool,
    /// CPUs that may run runtimes, such as 2-7,10 [default: all but the two below]
    #[arg(long, value_name = "LIST")]
    pub(super) cores: Option<String>,
    /// CPU of the polling loop [default: the first of package 0 after CPU 0]
    #[arg(long, value_name = "CPU")]
    pub(super) dataplane_core: Option<u32>,
    /// CPU of the control thread and of parked kthreads [default: the polling loop's sibling]
    #[arg(long, value_name = "CPU")]
    pub(super) control_core: Option<u32>,
    /// Use one hyperthread of each core
    #[arg(long)]
    pub(super) no_smt: bool,
    /// Run as if there were N runtime cores, on the CPUs that there are
    #[arg(long, value_name = "N")]
    pub(super) virtual_cores: Option<u32>,
    /// What an idle polling loop does: spin or yield [default: spin if it has a CPU of its own]
    #[arg(long, value_name = "HOW")]
    pub(super) idle: Option<String>,
    /// Ingress region in 4 KiB pages: needs no huge pages
    #[arg(long)]
    pub(super) no_huge: bool,
    /// Permission bits of the ingress segment [default: 0777]
    #[arg(long, value_name = "OCTAL")]
    pub(super) shm_mode: Option<String>,
    /// Let in runtimes of these users only, such as 0,1000 [default: everybody's]
    #[arg(long, value_name = "UIDS")]
    pub(super) allow_uid: Option<String>,
    /// Let in runtimes of these groups too, by any of their groups [default: everybody's]
    #[arg(long, value_name = "GIDS")]
    pub(super) allow_gid: Option<String>,
    /// Group of the ingress segment, to which the middle digit of --shm-mode applies [default: the daemon's]
    #[arg(long, value_name = "GID")]
    pub(super) shm_gid: Option<String>,
    /// Received packets that one runtime may keep if others keep none, percent of all buffers [default: 25]
    #[arg(long, value_name = "PERCENT")]
    pub(super) lent_max: Option<u32>,
    /// A system call that a running daemon never makes: deny it, kill (the process), log it, or off (no list) [default: deny]
    #[arg(long, value_name = "HOW")]
    pub(super) seccomp: Option<String>,
    /// Capabilities to keep besides those that are needed, such as net_admin,sys_rawio, or all [default: none]
    #[arg(long, value_name = "NAMES")]
    pub(super) keep_caps: Option<String>,
    /// TOML file with the same options by the same names; a flag beats it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print what would be done, and exit
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Log more; may be repeated
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Words that Caladan's iokerneld takes.
    #[arg(hide = true, value_name = "WORD")]
    pub(super) words: Vec<String>,
    /// Options for DPDK's EAL, such as -a 0000:01:00.0 or --vdev=net_af_packet0,iface=veth0
    #[arg(last = true, value_name = "EAL OPTIONS")]
    pub(super) eal: Vec<String>,
}

impl Cli {
    /// Reads the flags; values are checked later, together with the file's.
    pub(super) fn read(args: Vec<OsString>) -> Result<Cli, Stop> {
        Cli::try_parse_from(args).map_err(|e| match e.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Answer(e.to_string()),
            _ => usage(one_line(
                &e.to_string(),
                "see --help (DPDK's own options come after ` -- `)",
            )),
        })
    }
}

/// A word without dashes, as in Caladan's command lines.
pub(super) enum Word {
    /// The scheduler that we have.
    Simple,
    /// `--no-smt`.
    NoHt,
}

impl Word {
    pub(super) fn read(word: &str) -> Result<Word, Stop> {
        match word {
            "simple" => Ok(Word::Simple),
            "noht" => Ok(Word::NoHt),
            "ias" | "numa" => Err(usage(format_args!(
                "`{word}` is one of Caladan's schedulers, made for its kernel module and its runtimes: leave it out"
            ))),
            "nicpci" => Err(usage(
                "`nicpci ADDRESS` is Caladan's: choose the NIC with `-- -a ADDRESS`, DPDK's own option",
            )),
            _ => Err(usage(format_args!(
                "unexpected word `{word}`: options begin with `--`, DPDK's come after ` -- `; see --help"
            ))),
        }
    }
}

/// `dpdk`, `dpdk:0`, `dpdk:0000:01:00.0`, `loopback`.
pub(super) fn port(text: &str) -> Result<PortChoice, Stop> {
    match text.split_once(':') {
        None if text == "loopback" => Ok(PortChoice::Loopback),
        None if text == "dpdk" => Ok(PortChoice::Dpdk(DpdkPort::Id(0))),
        Some(("dpdk", which)) if !which.is_empty() => Ok(PortChoice::Dpdk(
            which
                .parse()
                .map_or_else(|_| DpdkPort::Name(which.to_owned()), DpdkPort::Id),
        )),
        _ => Err(usage(format_args!(
            "--port {text}: must be dpdk, dpdk:ID, dpdk:DEVICE or loopback"
        ))),
    }
}

pub(super) fn policy(text: &str) -> Result<Policy, Stop> {
    Policy::named(text).ok_or_else(|| {
        let names = Policy::ALL.map(Policy::name);
        let [most @ .., last] = &names;
        let most = most.join(", ");
        usage(format_args!("--policy {text}: must be {most} or {last}"))
    })
}

pub(super) fn affinity(text: &str) -> Result<Affinity, Stop> {
    match text {
        "sticky" => Ok(Affinity::Sticky),
        "strict" => Ok(Affinity::Strict),
        _ => Err(usage(format_args!(
            "--affinity {text}: must be sticky or strict"
        ))),
    }
}

pub(super) fn flow_entries(number: u64) -> Result<u32, Stop> {
    match u32::try_from(number) {
        Ok(n @ 1..=FLOW_ENTRIES_MAX) => Ok(n),
        _ => Err(usage(format_args!(
            "--flow-entries {number}: must be 1 to {FLOW_ENTRIES_MAX}"
        ))),
    }
}

/// At most a day.
pub(super) fn flow_idle(seconds: u64) -> Result<Micros, Stop> {
    match seconds {
        1..=86_400 => Ok(Micros(seconds * 1_000_000)),
        _ => Err(usage(format_args!(
            "--flow-idle {seconds}: must be 1 to 86400 seconds"
        ))),
    }
}

pub(super) fn idle(text: &str) -> Result<Idle, Stop> {
    match text {
        "spin" => Ok(Idle::Spin),
        "yield" => Ok(Idle::Yield),
        _ => Err(usage(format_args!("--idle {text}: must be spin or yield"))),
    }
}

/// A CPU number. Runtimes index an array of 256 with it.
pub(super) fn cpu(flag: &str, number: Option<u32>) -> Result<Option<u16>, Stop> {
    number
        .map(|n| match u8::try_from(n) {
            Ok(n) => Ok(u16::from(n)),
            Err(_) => Err(usage(format_args!("--{flag} {n}: CPUs go from 0 to 255"))),
        })
        .transpose()
}

pub(super) fn virtual_cores(number: Option<u32>) -> Result<Option<u16>, Stop> {
    number
        .map(|n| match u16::try_from(n) {
            Ok(n @ 1..=256) => Ok(n),
            _ => Err(usage(format_args!("--virtual-cores {n}: must be 1 to 256"))),
        })
        .transpose()
}

/// The id of a user or group: digits. The greatest number is none: to the kernel it means
/// that nobody is named.
fn id(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let id = text.parse().ok().filter(|_| digits);
    id.filter(|&id| id != u32::MAX)
}

/// Ids of users or groups with commas between.
pub(super) fn ids(flag: &str, text: &str) -> Result<Vec<u32>, Stop> {
    let ids = text.split(',').map(|one| id(one.trim()));
    ids.collect::<Option<_>>().ok_or_else(|| {
        usage(format_args!(
            "--{flag} {text}: must be numbers up to 4294967294 with commas between, such as 0,1000"
        ))
    })
}

/// The id of one group.
pub(super) fn gid(flag: &str, text: &str) -> Result<u32, Stop> {
    id(text).ok_or_else(|| {
        usage(format_args!(
            "--{flag} {text}: must be a group's number, up to 4294967294"
        ))
    })
}

pub(super) fn lent_max(percent: u32) -> Result<u32, Stop> {
    match percent {
        SHARE_MIN..=SHARE_MAX => Ok(percent),
        _ => Err(usage(format_args!(
            "--lent-max {percent}: must be {SHARE_MIN} to {SHARE_MAX} percent"
        ))),
    }
}

pub(super) fn seccomp(text: &str) -> Result<OnForbidden, Stop> {
    match text {
        "deny" => Ok(OnForbidden::Deny),
        "kill" => Ok(OnForbidden::Kill),
        "log" => Ok(OnForbidden::Log),
        "off" => Ok(OnForbidden::Off),
        _ => Err(usage(format_args!(
            "--seccomp {text}: must be deny, kill, log or off"
        ))),
    }
}

pub(super) fn keep_caps(text: &str) -> Result<CapabilitySet, Stop> {
    read_capabilities(text).map_err(|name| {
        usage(format_args!(
            "--keep-caps {text}: `{name}` is no capability; see capabilities(7), or give `all`"
        ))
    })
}

/// Octal permission bits; the daemon itself must be able to attach.
pub(super) fn shm_mode(text: &str) -> Result<u32, Stop> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode > 0o777 => Err(usage(format_args!(
            "--shm-mode {text}: must be permission bits, at most 0777"
        ))),
        Ok(mode) if mode & 0o600 != 0o600 => Err(usage(format_args!(
            "--shm-mode {text}: must let its owner read and write (0600)"
        ))),
        Ok(mode) => Ok(mode),
        Err(_) => Err(usage(format_args!(
            "--shm-mode {text}: must be octal, such as 0777"
        ))),
    }
}
