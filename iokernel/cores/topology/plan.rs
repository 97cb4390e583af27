//! Who runs where: dataplane, control thread, parked kthreads, runtimes.
//!
//! Defaults are upstream's (cores.c, `cores_init`): the dataplane on the first CPU
//! of package 0 after CPU 0; control thread and parked kthreads on its sibling;
//! runtimes on the rest of the package. Upstream stops on a machine without
//! siblings; here CPU 0 then takes the sibling's part. Parts are shared where there
//! are too few CPUs, the dataplane's last of all.

use std::fmt;

use super::{CpuId, CpuList, Topology};
use crate::cores::arbiter::{MAX_CORES, RuntimeCore};
use crate::ids::CoreId;

/// What the operator asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanOptions {
    /// `--cores`: the CPUs for runtimes.
    pub cores: Option<CpuList>,
    /// `--dataplane-core`: the polling loop's CPU.
    pub dataplane_core: Option<CpuId>,
    /// `--control-core`: the CPU of the control thread and of parked kthreads.
    pub control_core: Option<CpuId>,
    /// `--no-smt`: one runtime core for each pair of siblings, and no sibling rules.
    pub no_smt: bool,
    /// `--virtual-cores`: so many runtime cores, on whatever CPUs there are.
    pub virtual_cores: Option<u16>,
}

/// Who runs where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorePlan {
    /// The polling loop's CPU.
    pub dataplane_cpu: CpuId,
    /// The control thread's CPU.
    pub control_cpu: CpuId,
    /// The CPU of kthreads that have no core yet. (C: `linux_core`.)
    pub park_cpu: CpuId,
    /// The cores that runtimes get, lowest first; at least one.
    pub runtime: Vec<RuntimeCore>,
    /// Core numbers are not CPU numbers.
    pub is_virtual: bool,
    /// The control thread or a runtime core has the dataplane's CPU too.
    pub dataplane_shared: bool,
    /// The NUMA node of the dataplane's CPU, where the kernel knows nodes.
    pub node: Option<u32>,
    /// By core number. Numbers of no runtime core have the park CPU.
    cpu_of: Box<[CpuId]>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing is usable.
    #[error(
        "no online CPU is in this process' affinity mask; start it with another (taskset, cpuset)"
    )]
    NoUsableCpu,
    /// `--cores` is empty.
    #[error("--cores is empty, so no runtime could run; name at least one CPU")]
    NoCores,
    /// A CPU is offline or does not exist.
    #[error("{flag}: CPU {cpu} is not online; choose among {online}")]
    Offline {
        /// The flag that named it.
        flag: &'static str,
        /// The CPU.
        cpu: CpuId,
        /// Those that are.
        online: CpuList,
    },
    /// A CPU is outside the affinity mask.
    #[error(
        "{flag}: CPU {cpu} is not in this process' affinity mask; \
         choose among {usable}, or start with another mask (taskset, cpuset)"
    )]
    NotAllowed {
        /// The flag that named it.
        flag: &'static str,
        /// The CPU.
        cpu: CpuId,
        /// Those that are.
        usable: CpuList,
    },
    /// The dataplane's CPU is in `--cores`.
    #[error(
        "--cores: CPU {0} is the dataplane's, which polls all the time; \
         take it out of the list or move the dataplane with --dataplane-core"
    )]
    DataplaneInCores(CpuId),
    /// `--cores` names every CPU.
    #[error("--cores names every usable CPU ({0}) and leaves none to the dataplane; take one out")]
    NoneForDataplane(CpuList),
    /// A CPU number is too high for a core number.
    #[error(
        "CPU {0} cannot be a runtime core: runtimes number their cores below {MAX_CORES}; \
         choose lower CPUs with --cores, or use --virtual-cores"
    )]
    CoreTooHigh(CpuId),
    /// `--virtual-cores` is out of range.
    #[error(
        "--virtual-cores {0}: a runtime knows 1 to {MAX_CORES} cores; choose a number in between"
    )]
    VirtualCores(u16),
}

impl CorePlan {
    /// The CPU that a kthread on `core` is pinned to.
    #[inline]
    pub fn cpu_of(&self, core: CoreId) -> CpuId {
        self.cpu_of
            .get(core.index())
            .copied()
            .unwrap_or(self.park_cpu)
    }

    /// The CPUs that runtime cores are on.
    pub fn runtime_cpus(&self) -> CpuList {
        self.runtime.iter().map(|c| self.cpu_of(c.core)).collect()
    }
}

/// Decides who runs where.
///
/// # Errors
/// [`PlanError`], in one line, if the options ask for what the machine lacks.
pub fn plan(topology: &Topology, options: &PlanOptions) -> Result<CorePlan, PlanError> {
    let usable = topology.usable();
    if usable.is_empty() {
        return Err(PlanError::NoUsableCpu);
    }
    check_options(topology, options)?;

    let home = home_package(topology, &usable, options);
    let dataplane = choose_dataplane(topology, &usable, home, options)?;
    let control = choose_control(topology, &usable, home, dataplane, options);
    let cpus = match &options.cores {
        Some(list) => list.clone(),
        None => default_runtime_cpus(topology, &usable, home, dataplane, control, options),
    };
    let (runtime, cpu_of) = match options.virtual_cores {
        Some(count) => virtual_cores(count, &cpus, control),
        None => real_cores(topology, &cpus, control, options)?,
    };
    Ok(CorePlan {
        dataplane_cpu: dataplane,
        control_cpu: control,
        park_cpu: control,
        runtime,
        is_virtual: options.virtual_cores.is_some(),
        dataplane_shared: control == dataplane || cpus.contains(dataplane),
        node: topology.cpu(dataplane).and_then(|c| c.node),
        cpu_of,
    })
}

fn check_options(topology: &Topology, options: &PlanOptions) -> Result<(), PlanError> {
    let named = |flag, cpu| match topology.cpu(cpu) {
        None => Err(PlanError::Offline {
            flag,
            cpu,
            online: topology.online(),
        }),
        Some(c) if !c.allowed => Err(PlanError::NotAllowed {
            flag,
            cpu,
            usable: topology.usable(),
        }),
        Some(_) => Ok(()),
    };
    if let Some(cpu) = options.dataplane_core {
        named("--dataplane-core", cpu)?;
    }
    if let Some(cpu) = options.control_core {
        named("--control-core", cpu)?;
    }
    if let Some(list) = &options.cores {
        if list.is_empty() {
            return Err(PlanError::NoCores);
        }
        for cpu in list.iter() {
            named("--cores", cpu)?;
            if options.dataplane_core == Some(cpu) {
                return Err(PlanError::DataplaneInCores(cpu));
            }
        }
    }
    match options.virtual_cores {
        Some(n) if n == 0 || usize::from(n) > MAX_CORES => Err(PlanError::VirtualCores(n)),
        _ => Ok(()),
    }
}

/// The package everything is on by default: that of a CPU the operator named, else
/// package 0, else the lowest usable CPU's.
fn home_package(topology: &Topology, usable: &CpuList, options: &PlanOptions) -> u32 {
    let package = |cpu| topology.cpu(cpu).map(|c| c.package);
    let named = options
        .dataplane_core
        .or_else(|| options.cores.as_ref().and_then(CpuList::first));
    match named {
        Some(cpu) => package(cpu),
        None if usable.iter().any(|cpu| package(cpu) == Some(0)) => Some(0),
        None => usable.first().and_then(package),
    }
    .unwrap_or(0)
}

/// The usable CPUs, those of the home package first.
fn from_home<'a>(
    topology: &'a Topology,
    usable: &'a CpuList,
    home: u32,
) -> impl Iterator<Item = CpuId> + Clone + 'a {
    let at_home = move |cpu: &CpuId| topology.cpu(*cpu).is_some_and(|c| c.package == home);
    let cpus: Vec<CpuId> = usable
        .iter()
        .filter(at_home)
        .chain(usable.iter().filter(move |cpu| !at_home(cpu)))
        .collect();
    cpus.into_iter()
}

fn choose_dataplane(
    topology: &Topology,
    usable: &CpuList,
    home: u32,
    options: &PlanOptions,
) -> Result<CpuId, PlanError> {
    if let Some(cpu) = options.dataplane_core {
        return Ok(cpu);
    }
    let taken = |cpu: CpuId| options.cores.as_ref().is_some_and(|l| l.contains(cpu));
    let on_package = |cpu: CpuId| topology.cpu(cpu).is_some_and(|c| c.package == home);
    // The package's first CPU has work of Linux's own, so it comes after the others.
    let first = usable.iter().find(|&cpu| on_package(cpu));
    let mut free = from_home(topology, usable, home).filter(|&cpu| !taken(cpu));
    free.clone()
        .find(|&cpu| on_package(cpu) && Some(cpu) != first)
        .or_else(|| free.next())
        .ok_or_else(|| PlanError::NoneForDataplane(usable.clone()))
}

fn choose_control(
    topology: &Topology,
    usable: &CpuList,
    home: u32,
    dataplane: CpuId,
    options: &PlanOptions,
) -> CpuId {
    if let Some(cpu) = options.control_core {
        return cpu;
    }
    let taken = |cpu: CpuId| options.cores.as_ref().is_some_and(|l| l.contains(cpu));
    let sibling = topology
        .sibling(dataplane)
        .filter(|&cpu| usable.contains(cpu));
    let mut others = sibling
        .into_iter()
        .chain(from_home(topology, usable, home))
        .filter(|&cpu| cpu != dataplane);
    others
        .clone()
        .find(|&cpu| !taken(cpu))
        .or_else(|| others.next())
        .unwrap_or(dataplane)
}

/// The rest of the home package; what is left elsewhere if that is nothing; else
/// the control thread's CPU, and on a machine of one CPU that one.
fn default_runtime_cpus(
    topology: &Topology,
    usable: &CpuList,
    home: u32,
    dataplane: CpuId,
    control: CpuId,
    options: &PlanOptions,
) -> CpuList {
    let on_package = |cpu: CpuId| topology.cpu(cpu).is_some_and(|c| c.package == home);
    // Without SMT a pair counts as its lower CPU, and the dataplane's pair is taken.
    let lone = |cpu: CpuId| {
        topology
            .sibling(cpu)
            .is_none_or(|s| !options.no_smt || (s != dataplane && (cpu < s || !usable.contains(s))))
    };
    // A CPU too high for a core number is left out, unless nothing else is there.
    let has_number = |cpu: CpuId| options.virtual_cores.is_some() || cpu.index() < MAX_CORES;
    let pick = |wanted: &dyn Fn(CpuId) -> bool| -> Option<CpuList> {
        let list: CpuList = usable
            .iter()
            .filter(|&cpu| cpu != dataplane && has_number(cpu) && wanted(cpu))
            .collect();
        (!list.is_empty()).then_some(list)
    };
    pick(&|cpu| cpu != control && on_package(cpu) && lone(cpu))
        .or_else(|| pick(&|cpu| cpu != control && on_package(cpu)))
        .or_else(|| pick(&|cpu| cpu != control && lone(cpu)))
        .or_else(|| pick(&|cpu| cpu == control))
        .unwrap_or_else(|| [dataplane].into_iter().collect())
}

type Cores = (Vec<RuntimeCore>, Box<[CpuId]>);

/// Cores with the numbers of their CPUs.
fn real_cores(
    topology: &Topology,
    cpus: &CpuList,
    park: CpuId,
    options: &PlanOptions,
) -> Result<Cores, PlanError> {
    let mut cpu_of = vec![park; MAX_CORES].into_boxed_slice();
    let mut runtime = Vec::new();
    for cpu in cpus.iter() {
        *cpu_of
            .get_mut(cpu.index())
            .ok_or(PlanError::CoreTooHigh(cpu))? = cpu;
        runtime.push(RuntimeCore {
            core: CoreId(cpu.0),
            sibling: topology
                .sibling(cpu)
                .filter(|&s| !options.no_smt && cpus.contains(s))
                .map(|s| CoreId(s.0)),
        });
    }
    Ok((runtime, cpu_of))
}

/// Cores `0..count`, on the CPUs in turn.
fn virtual_cores(count: u16, cpus: &CpuList, park: CpuId) -> Cores {
    let mut cpu_of = vec![park; MAX_CORES].into_boxed_slice();
    let turns = cpu_of.iter_mut().zip(cpus.0.iter().cycle());
    for (entry, &cpu) in turns.take(usize::from(count)) {
        *entry = cpu;
    }
    let runtime = (0..count)
        .map(|core| RuntimeCore {
            core: CoreId(core),
            sibling: None,
        })
        .collect();
    (runtime, cpu_of)
}

/// Two lines: the daemon's own CPUs, and the runtimes' cores.
impl fmt::Display for CorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "cores: dataplane on CPU {}, control and parked kthreads on CPU {}",
            self.dataplane_cpu, self.control_cpu
        )?;
        let count = self.runtime.len();
        let plural = if count == 1 { "" } else { "s" };
        let cpus = self.runtime_cpus();
        if self.is_virtual {
            write!(
                f,
                "cores: {count} virtual runtime core{plural} on CPU {cpus}"
            )?;
        } else {
            write!(f, "cores: {count} runtime core{plural}: {cpus}")?;
        }
        let mut separator = "; siblings ";
        for c in &self.runtime {
            if let Some(sibling) = c.sibling.filter(|&s| s > c.core) {
                write!(f, "{separator}{}+{sibling}", c.core)?;
                separator = " ";
            }
        }
        if cpus.contains(self.control_cpu) && self.control_cpu != self.dataplane_cpu {
            write!(f, "; core {} is shared with control", self.control_cpu)?;
        }
        if self.dataplane_shared {
            write!(
                f,
                "; core {} is shared with the dataplane",
                self.dataplane_cpu
            )?;
        }
        Ok(())
    }
}
