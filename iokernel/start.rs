//! From a configuration to a running daemon, and back to nothing.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use calisto::abi::ingress::Ingress;
use calisto::admin::{Admin, AdminConfig};
use calisto::config::rule::{RuleSpec, check_core};
use calisto::config::{Config, DpdkPort, PortChoice};
use calisto::control::ingress_segment::{IngressSegment, IngressSpec};
use calisto::control::server::ControlStats;
use calisto::control::socket::ControlSocket;
use calisto::control::{Directory, Server, ServerConfig, channel, rules_link};
use calisto::cores::arbiter::Arbiter;
use calisto::cores::executor::WakeWatch;
use calisto::cores::topology::{CorePlan, Cpu, CpuId, CpuList, PlanOptions, Topology, plan};
use calisto::dataplane::effects::Effects;
use calisto::dataplane::lending::Lending;
use calisto::dataplane::loans::MAX_PROCS;
use calisto::dataplane::{Dataplane, Idle, Parts, Stopped};
use calisto::port::dma::{DmaMapper, NoDma};
use calisto::port::loopback::Loopback;
use calisto::port::{Port, PortInfo};
use calisto::privileges::{self, Needs};
use calisto::stats::{Gauges, Stats};
use calisto::steering::rules::RuleSet;
use calisto::terminal;
use calisto::time::Clock;

/// Runs the daemon until it is told to stop.
pub(crate) fn run(config: &Config) -> Result<()> {
    let topology = Topology::of_this_machine()?;
    let cores = plan(&topology, &plan_options(config))?;
    let of_runtimes: Vec<_> = cores.runtime.iter().map(|c| c.core).collect();
    for rule in &config.rules {
        check_core(rule, &of_runtimes).map_err(anyhow::Error::msg)?;
    }
    if let Some(names) = privileges::not_had(config.keep_caps) {
        log::warn!("--keep-caps: {names} cannot be kept, for iokerneld was started without");
    }
    if config.dry_run {
        return dry_run(config, &cores);
    }
    calisto::control::fd_limit::raise_fd_limit();
    let stop = stop_on_signals()?;
    let socket = ControlSocket::bind()?;
    let spec = IngressSpec::new(config.huge_pages, config.shm_mode, config.shm_gid);
    let segment = on_cpu(filling_cpu(&topology, &cores), || {
        IngressSegment::create(&spec)
    })??;
    for line in cores.to_string().lines() {
        log::info!("{line}");
    }
    match &config.port {
        PortChoice::Loopback => {
            let port = Loopback::new(segment.region().clone());
            let stopped = serve(
                config,
                &cores,
                &segment,
                socket,
                port,
                Arc::new(NoDma),
                &stop,
            )?;
            drop(stopped);
        }
        PortChoice::Dpdk(which) => run_dpdk(config, which, &cores, &segment, socket, &stop)?,
    }
    log::info!("stopped");
    Ok(())
}

#[cfg(feature = "dpdk")]
fn run_dpdk(
    config: &Config,
    which: &DpdkPort,
    cores: &CorePlan,
    segment: &IngressSegment,
    socket: ControlSocket,
    stop: &Arc<AtomicBool>,
) -> Result<()> {
    use calisto::port::dpdk::Dpdk;
    // DPDK wants the thread that starts it to be the one that polls.
    let port = Dpdk::start(
        start_eal(config, cores)?,
        &port_sel(which),
        segment.region().clone(),
        segment.page_size(),
    )?;
    let mapper = port.mapper();
    let Stopped { port, held } = serve(config, cores, segment, socket, port, mapper, stop)?;
    drop(port);
    drop(held);
    Ok(())
}

#[cfg(feature = "dpdk")]
fn start_eal(config: &Config, cores: &CorePlan) -> Result<calisto::port::dpdk::Eal> {
    let eal = calisto::port::dpdk::EalConfig {
        cpu: cores.dataplane_cpu.index(),
        no_huge: !config.huge_pages,
        args: config.eal_args.clone(),
    };
    Ok(calisto::port::dpdk::Eal::init(&eal)?)
}

#[cfg(feature = "dpdk")]
fn port_sel(which: &DpdkPort) -> calisto::port::dpdk::PortSel {
    use calisto::port::dpdk::PortSel;
    match which {
        DpdkPort::Id(id) => PortSel::Id(*id),
        DpdkPort::Name(name) => PortSel::Name(name.clone()),
    }
}

#[cfg(not(feature = "dpdk"))]
fn run_dpdk(
    _: &Config,
    _: &DpdkPort,
    _: &CorePlan,
    _: &IngressSegment,
    _: ControlSocket,
    _: &Arc<AtomicBool>,
) -> Result<()> {
    anyhow::bail!("built without DPDK: use --port loopback, or build with the feature `dpdk`")
}

fn plan_options(config: &Config) -> PlanOptions {
    let list = |cpus: &Vec<u16>| cpus.iter().map(|c| CpuId(*c)).collect::<CpuList>();
    PlanOptions {
        cores: config.cores.as_ref().map(list),
        dataplane_core: config.dataplane_core.map(CpuId),
        control_core: config.control_core.map(CpuId),
        no_smt: !config.smt,
        virtual_cores: config.virtual_cores,
    }
}

fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).context("cannot handle signals")?;
    }
    Ok(stop)
}

/// Starts the control thread and polls, until told to stop.
fn serve<P: Port>(
    config: &Config,
    cores: &CorePlan,
    segment: &IngressSegment,
    socket: ControlSocket,
    port: P,
    mapper: Arc<dyn DmaMapper>,
    stop: &Arc<AtomicBool>,
) -> Result<Stopped<P>> {
    log::info!("port: {}", port.info());
    warn_of_another_node(port.info(), cores);
    log::info!("steering: {}", config.steering_line());
    let listener = Admin::bind().context("cannot open the admin socket @calisto/admin")?;
    // Before the first thread that hears anybody.
    privileges::confine(
        &Needs {
            port: port.needs(),
            users: config.admission.users(),
            extra: config.keep_caps,
        },
        config.seccomp,
    )?;
    let clock = Clock::calibrate();
    let stats = Stats::default();
    let gauges = Gauges::default();
    let control_stats = Arc::new(ControlStats::default());
    let watch = WakeWatch::new();
    let reasons = control_stats.reasons.clone();
    let directory = Directory::default();
    let (control_end, dataplane_end) = channel();
    let (link, rules_end) = rules_link(RuleSet::build(config.rules.iter().map(RuleSpec::rule))?);
    let admin = Admin::spawn(AdminConfig {
        listener,
        cpu: Some(cores.control_cpu.0),
        policy: config.steering.policy,
        cores: cores.runtime.iter().map(|c| c.core).collect(),
        rules: config.rules.clone(),
        link,
        directory: directory.clone(),
        stats: stats.clone(),
        gauges: gauges.clone(),
        control: control_stats.clone(),
        stop: stop.clone(),
    })
    .context("cannot start the admin thread")?;
    let server = Server::spawn(ServerConfig {
        socket,
        channel: control_end,
        ingress_shmid: segment.shmid(),
        mapper,
        admission: config.admission.clone(),
        steering: config.steering,
        runtime_cores: u16::try_from(cores.runtime.len()).expect("at most NCPU cores"),
        control_cpu: Some(cores.control_cpu.0),
        park_cpus: vec![cores.park_cpu.0],
        watch: Some(Box::new({
            let watch = watch.clone();
            let (mut clock, mut last) = (clock, clock.ticks());
            move || {
                // As the polling loop does with its own.
                let now = clock.ticks();
                if now < last {
                    clock.set_back(last, now);
                }
                last = now;
                if watch.check(clock.at(now)) {
                    watch.interrupt();
                }
            }
        })),
        stop: stop.clone(),
        directory: directory.clone(),
        stats: control_stats,
    })
    .context("cannot start the control thread")?;

    watch.install().context("cannot prepare the polling loop")?;
    pin_self(cores.dataplane_cpu)?;
    let cpus = (0..=cores.runtime.iter().map(|c| c.core.0).max().unwrap_or(0))
        .map(|n| cores.cpu_of(calisto::ids::CoreId(n)))
        .collect();
    let dataplane = Dataplane::new(Parts {
        port,
        ingress: Ingress::new(segment.region().clone()),
        link: dataplane_end,
        rules: rules_end,
        arbiter: Arbiter::new(&cores.runtime, MAX_PROCS),
        effects: Effects::new(watch, cpus),
        clock,
        stats: stats.clone(),
        gauges: gauges.clone(),
        idle: idle(config, cores),
        lending: Lending::new(config.lent_max),
    });
    log::info!("iokerneld: ready, polling on CPU {}", cores.dataplane_cpu);
    let stopped = dataplane.run(stop);
    if server.join().is_err() {
        anyhow::bail!("the control thread panicked");
    }
    if admin.join().is_err() {
        anyhow::bail!("the admin thread panicked");
    }
    let counts = stats.non_zero().chain(gauges.port.non_zero());
    let counts = counts.chain(reasons.non_zero());
    for (label, count) in counts.chain(directory.totals().non_zero()) {
        log::info!("stats: {label} {count}");
    }
    Ok(stopped)
}

/// Every packet crosses between two nodes if the device is on another than its poller.
fn warn_of_another_node(port: &PortInfo, cores: &CorePlan) {
    if let (Some(device), Some(cpu)) = (port.node, cores.node)
        && device != cpu
    {
        log::warn!(
            "{} is on NUMA node {device}, the dataplane's CPU {} on node {cpu}: choose one of node \
             {device} with --dataplane-core",
            port.device,
            cores.dataplane_cpu
        );
    }
}

fn idle(config: &Config, cores: &CorePlan) -> Idle {
    match config.idle {
        Some(calisto::config::Idle::Spin) => Idle::Spin,
        Some(calisto::config::Idle::Yield) => Idle::Yield,
        None if cores.dataplane_shared => Idle::Yield,
        None => Idle::Spin,
    }
}

/// Huge pages of 2 MiB that one node is to have for the ingress region, and for DPDK.
const PAGES_OF_A_NODE: u64 = 256 + 64;

/// The CPU whose node gives the pages of the ingress region: the dataplane's, unless its node
/// has too few for DPDK as well, which ends the process (`rte_panic`) if it gets none there.
fn filling_cpu(topology: &Topology, cores: &CorePlan) -> CpuId {
    let free = |cpu: &Cpu| cpu.node.map_or(0, free_pages_of);
    let Some(own) = topology.cpu(cores.dataplane_cpu) else {
        return cores.dataplane_cpu;
    };
    let usable = topology.cpus().iter().filter(|cpu| cpu.allowed);
    match usable.max_by_key(|cpu| free(cpu)) {
        Some(other) if free(own) < PAGES_OF_A_NODE && free(other) > free(own) => other.id,
        _ => own.id,
    }
}

/// Huge pages of 2 MiB that are free on a node.
fn free_pages_of(node: u32) -> u64 {
    let path =
        format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/free_hugepages");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Runs `work` on a CPU: the pages that it fills come from that CPU's node, where it has any.
/// On a thread of its own, so that nothing else is pinned by it.
fn on_cpu<T: Send>(cpu: CpuId, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| pin_self(cpu).map(|()| work()));
        worker.join().expect("what it runs does not panic")
    })
}

fn pin_self(cpu: CpuId) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu.index());
    rustix::thread::sched_setaffinity(None, &set)
        .with_context(|| format!("cannot pin a thread to CPU {cpu}"))
}

/// Says what would be done.
fn dry_run(config: &Config, cores: &CorePlan) -> Result<()> {
    let mut text = String::new();
    writeln!(text, "{cores}")?;
    let pages = if config.huge_pages { "2 MiB" } else { "4 KiB" };
    writeln!(
        text,
        "ingress: {} MiB in {pages} pages, mode {:04o}",
        calisto::abi::ingress::INGRESS_LEN >> 20,
        config.shm_mode
    )?;
    text += &config.access_lines();
    writeln!(text, "steering: {}", config.steering_line())?;
    writeln!(text, "idle: {:?}", idle(config, cores))?;
    answer(&text)?;
    match &config.port {
        PortChoice::Loopback => answer("port: loopback, between local runtimes only\n"),
        PortChoice::Dpdk(which) => answer(&format!("port: {}\n", probe(config, which, cores)?)),
    }
}

/// Writes to stdout.
///
/// # Errors
/// As [`terminal::answer`].
pub(crate) fn answer(text: &str) -> Result<()> {
    terminal::answer(text).context("cannot write to standard output")
}

/// What the device is, and what of it is done in software.
#[cfg(feature = "dpdk")]
fn probe(config: &Config, which: &DpdkPort, cores: &CorePlan) -> Result<String> {
    let eal = start_eal(config, cores)?;
    let info = calisto::port::dpdk::probe(&eal, &port_sel(which))?;
    Ok(info.to_string())
}

#[cfg(not(feature = "dpdk"))]
fn probe(_: &Config, _: &DpdkPort, _: &CorePlan) -> Result<String> {
    anyhow::bail!("built without DPDK: use --port loopback, or build with the feature `dpdk`")
}
