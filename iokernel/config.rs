//! What the user asked for: flags and a TOML file, made into one checked
//! [`Config`].
//!
//! A `Config` is plain data and nothing about the machine: what its CPUs are is
//! `cores::topology`'s business. With no flags it asks for what upstream's
//! iokerneld does. A flag beats the file. Each refusal is one line.

mod access;
mod cli;
mod cpu_list;
mod file;
pub mod rule;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

use cli::{Cli, Word};
use file::FileConfig;
use rule::RuleSpec;

use crate::control::Admission;
use crate::privileges::{CapabilitySet, OnForbidden};
use crate::steering::rules::RuleSet;
use crate::steering::{Affinity, Policy, SteeringSpec};

pub use cpu_list::CpuListError;

/// The checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where frames come from and go to.
    pub port: PortChoice,
    /// Which kthread gets a packet.
    pub steering: SteeringSpec,
    /// Flows whose core is decided beforehand; with policy hybrid only.
    pub rules: Vec<RuleSpec>,
    /// CPUs that may run runtimes, ascending, each once; `None`: all that are left.
    pub cores: Option<Vec<u16>>,
    /// CPU of the polling loop; `None`: the first of package 0 after CPU 0.
    pub dataplane_core: Option<u16>,
    /// CPU of the control thread and parked kthreads; `None`: the dataplane's sibling.
    pub control_core: Option<u16>,
    /// Hyperthread siblings run runtimes too.
    pub smt: bool,
    /// Runtime cores to pretend, whatever the machine has; 1 to 256.
    pub virtual_cores: Option<u16>,
    /// What the polling loop does when idle; `None`: spin if it has a CPU of its own.
    pub idle: Option<Idle>,
    /// The ingress region lies in 2 MiB pages; else in 4 KiB pages.
    pub huge_pages: bool,
    /// Permission bits of the ingress segment.
    pub shm_mode: u32,
    /// Group of the ingress segment; `None`: the daemon's.
    pub shm_gid: Option<u32>,
    /// Whose runtimes may attach.
    pub admission: Admission,
    /// Buffers that one runtime may keep if others keep none, percent.
    pub lent_max: u32,
    /// What a system call does that a running daemon never makes; `None`: nothing was said,
    /// so that a kernel that cannot restrict them is good enough.
    pub seccomp: Option<OnForbidden>,
    /// Capabilities to keep besides those that are needed.
    pub keep_caps: CapabilitySet,
    /// Print the plan and exit.
    pub dry_run: bool,
    /// How often `-v` was given.
    pub verbosity: u8,
    /// Handed to DPDK as they are.
    pub eal_args: Vec<String>,
    /// What was accepted and has no effect, to be logged: one line each.
    pub notes: Vec<String>,
}

/// The port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortChoice {
    /// One of DPDK's.
    Dpdk(DpdkPort),
    /// Frames between local runtimes only.
    Loopback,
}

/// Which of DPDK's ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DpdkPort {
    /// By DPDK's number.
    Id(u16),
    /// By the device's name, such as `0000:01:00.0` or `net_af_packet0`.
    Name(String),
}

/// What an idle polling loop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Polls on.
    Spin,
    /// Gives the CPU to others between polls.
    Yield,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            port: PortChoice::Dpdk(DpdkPort::Id(0)),
            steering: SteeringSpec::default(),
            rules: Vec::new(),
            cores: None,
            dataplane_core: None,
            control_core: None,
            smt: true,
            virtual_cores: None,
            idle: None,
            huge_pages: true,
            shm_mode: 0o777,
            shm_gid: None,
            admission: Admission::default(),
            lent_max: 25,
            seccomp: None,
            keep_caps: CapabilitySet::empty(),
            dry_run: false,
            verbosity: 0,
            eal_args: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// Why no daemon is to be started: bad usage, or a question that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// `--help` or `--version`: print this to stdout and exit with 0.
    Answer(String),
    /// Print this line to stderr and exit with 2.
    Usage(String),
}

impl Stop {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Stop::Answer(_) => 0,
            Stop::Usage(_) => 2,
        }
    }
}

/// One line, whatever the words of the user in it hold.
fn usage(text: impl std::fmt::Display) -> Stop {
    let mut line = String::new();
    for c in text.to_string().chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    Stop::Usage(line)
}

impl Config {
    /// Reads the command line, program name first, and the file that it names.
    ///
    /// # Errors
    /// [`Stop`]: what to print, and the exit code.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Config, Stop> {
        let args: Vec<OsString> = args.into_iter().collect();
        let called_noht = args
            .first()
            .is_some_and(|name| name.to_string_lossy().ends_with("iokerneld-noht"));
        let cli = Cli::read(args)?;
        let file = match &cli.config {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| usage(format_args!("--config {}: {e}", path.display())))?;
                FileConfig::read(&text)
                    .map_err(|e| usage(format_args!("--config {}: {e}", path.display())))?
            }
            None => FileConfig::default(),
        };
        let mut config = merge(cli, file)?;
        config.smt &= !called_noht;
        config.check()?;
        config.note_segment();
        Ok(config)
    }

    /// What one value alone does not show.
    fn check(&self) -> Result<(), Stop> {
        if let (Some(dataplane), Some(cores), None) =
            (self.dataplane_core, &self.cores, self.virtual_cores)
            && cores.contains(&dataplane)
        {
            return Err(usage(format_args!(
                "--dataplane-core {dataplane} is also in --cores: a polling loop leaves no room for a runtime; take it out"
            )));
        }
        if self.dataplane_core.is_some()
            && self.dataplane_core == self.control_core
            && self.virtual_cores.is_none()
        {
            return Err(usage(
                "--dataplane-core and --control-core are the same CPU: choose another for one of them",
            ));
        }
        if self.shm_gid.is_some() && self.shm_mode & 0o070 != 0o070 {
            return Err(usage(format_args!(
                "--shm-gid with --shm-mode {:04o}: runtimes ask for all permissions, so the group's digit must be 7",
                self.shm_mode
            )));
        }
        if self.port == PortChoice::Loopback && !self.eal_args.is_empty() {
            return Err(usage(
                "EAL options after `--` are for the dpdk port: drop them, or --port loopback",
            ));
        }
        self.check_steering()
    }

    fn check_steering(&self) -> Result<(), Stop> {
        let SteeringSpec {
            policy,
            affinity,
            order_guard,
            ..
        } = self.steering;
        let name = policy.name();
        if affinity == Affinity::Strict && !policy.has_homes() {
            return Err(usage(format_args!(
                "--affinity strict: with --policy {name} flows have no home cores; drop it, or use --policy flow-table, buckets or hybrid"
            )));
        }
        if order_guard && !policy.has_homes() {
            return Err(usage(format_args!(
                "--order-guard: with --policy {name} flows have no home cores to be kept on; drop it, or use --policy flow-table, buckets or hybrid"
            )));
        }
        if !self.rules.is_empty() && policy != Policy::Hybrid {
            return Err(usage(format_args!(
                "rules need --policy hybrid, and the policy is {name}: choose hybrid, or take the [[rule]] tables out of the file"
            )));
        }
        match RuleSet::build(self.rules.iter().map(RuleSpec::rule)) {
            Ok(_) => Ok(()),
            Err(error) => Err(usage(error)),
        }
    }

    /// Steering in one line, for people.
    pub fn steering_line(&self) -> String {
        let spec = &self.steering;
        let mut line = spec.policy.name().to_owned();
        if spec.policy.has_homes() {
            line += match spec.affinity {
                Affinity::Sticky => ", sticky",
                Affinity::Strict => ", strict",
            };
        }
        if spec.policy == Policy::FlowTable || spec.watch_flows {
            let idle = spec.flow_idle.0 / 1_000_000;
            line += &format!(
                ", {} flow entries (forgotten after {idle} s without a packet)",
                spec.flow_entries
            );
        }
        if spec.order_guard {
            line += ", order guard";
        }
        if spec.watch_flows {
            line += ", flows watched";
        }
        if spec.policy == Policy::Hybrid {
            line += &format!(", {} rules", self.rules.len());
        }
        line
    }
}

fn merge(cli: Cli, file: FileConfig) -> Result<Config, Stop> {
    let defaults = Config::default();
    let mut no_smt = cli.no_smt || file.no_smt.unwrap_or(false);
    let mut notes = Vec::new();
    for word in &cli.words {
        match Word::read(word)? {
            Word::Simple => notes.push(
                "the word `simple` is Caladan's name for the only scheduler here: it has no effect"
                    .to_owned(),
            ),
            Word::NoHt => no_smt = true,
        }
    }
    let cores = cli
        .cores
        .or(file.cores)
        .map(|text| cpu_list::parse(&text).map_err(|e| usage(format_args!("--cores {text}: {e}"))))
        .transpose()?;
    let shm_gid = cli
        .shm_gid
        .or(file.shm_gid.map(|gid| gid.to_string()))
        .map(|text| cli::gid("shm-gid", &text))
        .transpose()?;
    let shm_mode = match cli.shm_mode.or(file.shm_mode) {
        Some(text) => cli::shm_mode(&text)?,
        // A group is named for others to be kept out.
        None if shm_gid.is_some() => 0o770,
        None => defaults.shm_mode,
    };
    Ok(Config {
        port: cli
            .port
            .or(file.port)
            .map_or(Ok(defaults.port), |t| cli::port(&t))?,
        steering: SteeringSpec {
            policy: cli
                .policy
                .or(file.policy)
                .map_or(Ok(defaults.steering.policy), |t| cli::policy(&t))?,
            affinity: cli
                .affinity
                .or(file.affinity)
                .map_or(Ok(defaults.steering.affinity), |t| cli::affinity(&t))?,
            flow_entries: cli
                .flow_entries
                .or(file.flow_entries)
                .map_or(Ok(defaults.steering.flow_entries), cli::flow_entries)?,
            flow_idle: cli
                .flow_idle
                .or(file.flow_idle)
                .map_or(Ok(defaults.steering.flow_idle), cli::flow_idle)?,
            order_guard: cli.order_guard || file.order_guard.unwrap_or(false),
            watch_flows: cli.watch_flows || file.watch_flows.unwrap_or(false),
        },
        rules: rules(&file.rule.unwrap_or_default())?,
        cores,
        dataplane_core: cli::cpu("dataplane-core", cli.dataplane_core.or(file.dataplane_core))?,
        control_core: cli::cpu("control-core", cli.control_core.or(file.control_core))?,
        smt: !no_smt,
        virtual_cores: cli::virtual_cores(cli.virtual_cores.or(file.virtual_cores))?,
        idle: cli.idle.or(file.idle).map(|t| cli::idle(&t)).transpose()?,
        huge_pages: !(cli.no_huge || file.no_huge.unwrap_or(false)),
        shm_mode,
        shm_gid,
        admission: Admission {
            uids: cli
                .allow_uid
                .or(file.allow_uid)
                .map(|t| cli::ids("allow-uid", &t))
                .transpose()?,
            gids: cli
                .allow_gid
                .or(file.allow_gid)
                .map(|t| cli::ids("allow-gid", &t))
                .transpose()?,
        },
        lent_max: cli
            .lent_max
            .or(file.lent_max)
            .map_or(Ok(defaults.lent_max), cli::lent_max)?,
        seccomp: cli
            .seccomp
            .or(file.seccomp)
            .map(|t| cli::seccomp(&t))
            .transpose()?,
        keep_caps: cli
            .keep_caps
            .or(file.keep_caps)
            .map_or(Ok(defaults.keep_caps), |t| cli::keep_caps(&t))?,
        dry_run: cli.dry_run,
        verbosity: cli.verbose.max(file.verbose.unwrap_or(0)),
        eal_args: if cli.eal.is_empty() {
            file.eal.unwrap_or_default()
        } else {
            cli.eal
        },
        notes,
    })
}

fn rules(tables: &[file::RuleTable]) -> Result<Vec<RuleSpec>, Stop> {
    tables
        .iter()
        .enumerate()
        .map(|(i, table)| {
            let spec = table.spec();
            spec.map_err(|e| usage(format_args!("[[rule]] number {}: {e}", i + 1)))
        })
        .collect()
}
