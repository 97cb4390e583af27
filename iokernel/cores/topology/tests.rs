#![allow(
    clippy::tests_outside_test_module,
    reason = "this file is the test module"
)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::ids::CoreId;

/// A made-up /sys/devices/system/cpu, removed on drop.
struct FakeSysfs(PathBuf);

impl FakeSysfs {
    fn new(online: &str) -> FakeSysfs {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let root = std::env::temp_dir().join(format!(
            "calisto-topology-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("online"), format!("{online}\n")).unwrap();
        FakeSysfs(root)
    }

    fn cpu(self, id: u16, package: i32, siblings: &str, node: u32) -> FakeSysfs {
        let dir = self.0.join(format!("cpu{id}"));
        fs::create_dir_all(dir.join("topology")).unwrap();
        fs::create_dir_all(dir.join(format!("node{node}"))).unwrap();
        let write = |file, text: String| fs::write(dir.join("topology").join(file), text).unwrap();
        write("physical_package_id", format!("{package}\n"));
        write("thread_siblings_list", format!("{siblings}\n"));
        self
    }

    fn topology(&self) -> Topology {
        Topology::read(&self.0, None).unwrap()
    }

    fn allowing(&self, mask: &str) -> Topology {
        Topology::read(&self.0, Some(&mask.parse().unwrap())).unwrap()
    }
}

impl Drop for FakeSysfs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// CPUs 0 and 1, no hyperthreads: a small virtual machine.
fn two_cpus() -> FakeSysfs {
    FakeSysfs::new("0-1").cpu(0, 0, "0", 0).cpu(1, 0, "1", 0)
}

/// One package of four cores with two hyperthreads each: CPU i and i + 4.
fn one_by_four_by_two() -> FakeSysfs {
    (0..8u16).fold(FakeSysfs::new("0-7"), |sys, i| {
        sys.cpu(i, 0, &format!("{},{}", i % 4, i % 4 + 4), 0)
    })
}

/// Two packages of two cores with two hyperthreads each, numbered as Linux does on such
/// machines: even CPUs on package 0, odd ones on package 1; CPU i and i + 4 are siblings.
fn two_by_two_by_two() -> FakeSysfs {
    (0..8u16).fold(FakeSysfs::new("0-7"), |sys, i| {
        let package = i32::from(i % 2);
        sys.cpu(
            i,
            package,
            &format!("{},{}", i % 4, i % 4 + 4),
            u32::from(i % 2),
        )
    })
}

fn cpu_list(text: &str) -> CpuList {
    text.parse().unwrap()
}

/// Dataplane, control, runtime CPUs.
fn places(plan: &CorePlan) -> (u16, u16, String) {
    (
        plan.dataplane_cpu.0,
        plan.control_cpu.0,
        plan.runtime_cpus().to_string(),
    )
}

fn siblings(plan: &CorePlan) -> Vec<(u16, Option<u16>)> {
    plan.runtime
        .iter()
        .map(|c| (c.core.0, c.sibling.map(|s| s.0)))
        .collect()
}

fn default_plan(topology: &Topology) -> CorePlan {
    plan(topology, &PlanOptions::default()).unwrap()
}

#[test]
fn sysfs_is_read_as_written() {
    let topology = two_by_two_by_two().topology();
    assert_eq!(topology.online(), cpu_list("0-7"));
    let cpu = topology.cpu(CpuId(5)).unwrap();
    assert_eq!((cpu.package, cpu.node, cpu.allowed), (1, Some(1), true));
    assert_eq!(cpu.siblings, cpu_list("1,5"));
    assert_eq!(topology.sibling(CpuId(5)), Some(CpuId(1)));
}

#[test]
fn this_machine_can_be_read_and_planned_for() {
    let topology = Topology::of_this_machine().unwrap();
    assert!(!topology.usable().is_empty());
    let plan = default_plan(&topology);
    assert!(topology.usable().contains(plan.dataplane_cpu));
    assert!(!plan.runtime.is_empty());
}

#[test]
fn a_machine_that_says_little_has_one_package_and_no_siblings() {
    let sys = FakeSysfs::new("0-2");
    let topology = sys.topology();
    let cpu = topology.cpu(CpuId(2)).unwrap();
    assert_eq!((cpu.package, cpu.node), (0, None));
    assert_eq!(cpu.siblings, cpu_list("2"));
    assert_eq!(topology.sibling(CpuId(2)), None);
}

#[test]
fn package_minus_one_is_package_zero() {
    let sys = FakeSysfs::new("0-1").cpu(0, -1, "0", 0).cpu(1, -1, "1", 0);
    assert_eq!(places(&default_plan(&sys.topology())), (1, 0, "0".into()));
}

#[test]
fn odd_files_are_errors_that_name_the_file() {
    let sys = FakeSysfs::new("zero").topology_error();
    assert!(sys.contains("online") && sys.contains("zero"), "{sys}");
    let sys = FakeSysfs::new("0").cpu(0, -7, "0", 0).topology_error();
    assert!(sys.contains("physical_package_id"), "{sys}");
    let missing = Topology::read(Path::new("/nonexistent/cpu"), None).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/cpu/online"));
}

impl FakeSysfs {
    fn topology_error(&self) -> String {
        Topology::read(&self.0, None).unwrap_err().to_string()
    }
}

#[test]
fn two_cpus_share_core_zero_between_control_and_runtimes() {
    let plan = default_plan(&two_cpus().topology());
    assert_eq!(places(&plan), (1, 0, "0".into()));
    assert_eq!(siblings(&plan), [(0, None)]);
    assert!(!plan.dataplane_shared && !plan.is_virtual);
    assert_eq!(
        plan.to_string(),
        "cores: dataplane on CPU 1, control and parked kthreads on CPU 0\n\
         cores: 1 runtime core: 0; core 0 is shared with control"
    );
}

#[test]
fn four_cpus_without_siblings_leave_core_zero_to_control() {
    let sys = (0..4).fold(FakeSysfs::new("0-3"), |sys, i| {
        sys.cpu(i, 0, &i.to_string(), 0)
    });
    assert_eq!(places(&default_plan(&sys.topology())), (1, 0, "2-3".into()));
}

#[test]
fn one_cpu_is_shared_by_all() {
    let sys = FakeSysfs::new("0").cpu(0, 0, "0", 0);
    let plan = default_plan(&sys.topology());
    assert_eq!(places(&plan), (0, 0, "0".into()));
    assert!(plan.dataplane_shared);
    assert!(
        plan.to_string()
            .ends_with("; core 0 is shared with the dataplane")
    );
}

#[test]
fn hyperthreads_put_control_on_the_dataplanes_sibling() {
    let plan = default_plan(&one_by_four_by_two().topology());
    assert_eq!(places(&plan), (1, 5, "0,2-4,6-7".into()));
    assert_eq!(
        siblings(&plan),
        [
            (0, Some(4)),
            (2, Some(6)),
            (3, Some(7)),
            (4, Some(0)),
            (6, Some(2)),
            (7, Some(3))
        ]
    );
    assert_eq!(
        plan.to_string(),
        "cores: dataplane on CPU 1, control and parked kthreads on CPU 5\n\
         cores: 6 runtime cores: 0,2-4,6-7; siblings 0+4 2+6 3+7"
    );
}

#[test]
fn without_smt_each_pair_is_one_core() {
    let options = PlanOptions {
        no_smt: true,
        ..PlanOptions::default()
    };
    let plan = plan(&one_by_four_by_two().topology(), &options).unwrap();
    assert_eq!(places(&plan), (1, 5, "0,2-3".into()));
    assert_eq!(siblings(&plan), [(0, None), (2, None), (3, None)]);
}

#[test]
fn only_package_zero_is_used_by_default() {
    // Package 0 has CPUs 0, 2, 4, 6; the first after CPU 0 is 2, its sibling 6.
    let plan = default_plan(&two_by_two_by_two().topology());
    assert_eq!(places(&plan), (2, 6, "0,4".into()));
    assert_eq!(plan.node, Some(0));
}

#[test]
fn naming_the_dataplane_moves_everything_to_its_package() {
    let options = PlanOptions {
        dataplane_core: Some(CpuId(3)),
        ..PlanOptions::default()
    };
    let plan = plan(&two_by_two_by_two().topology(), &options).unwrap();
    assert_eq!(places(&plan), (3, 7, "1,5".into()));
    assert_eq!(plan.node, Some(1));
}

#[test]
fn naming_the_cores_moves_dataplane_and_control_out_of_their_way() {
    let options = |list| PlanOptions {
        cores: Some(cpu_list(list)),
        ..PlanOptions::default()
    };
    let topology = one_by_four_by_two().topology();
    // 1 is free, its sibling is not: control goes to the lowest free CPU.
    let got = plan(&topology, &options("2,5")).unwrap();
    assert_eq!(places(&got), (1, 0, "2,5".into()));
    // Siblings count only if both are runtime cores.
    assert_eq!(siblings(&got), [(2, None), (5, None)]);
    // Only 0 is free: control must share, with the dataplane's sibling.
    let got = plan(&topology, &options("1-7")).unwrap();
    assert_eq!(places(&got), (0, 4, "1-7".into()));
    // Cores of package 1 bring the dataplane there.
    let got = plan(&two_by_two_by_two().topology(), &options("1,5")).unwrap();
    assert_eq!(places(&got), (3, 7, "1,5".into()));
}

#[test]
fn offline_cpus_are_nowhere() {
    // CPU 1, the default dataplane, and 7, a sibling, are offline.
    let sys = [0u16, 2, 3, 4, 5, 6]
        .into_iter()
        .fold(FakeSysfs::new("0,2-6"), |sys, i| {
            sys.cpu(i, 0, &format!("{},{}", i % 4, i % 4 + 4), 0)
        });
    let topology = sys.topology();
    assert_eq!(topology.sibling(CpuId(3)), None);
    assert_eq!(places(&default_plan(&topology)), (2, 6, "0,3-5".into()));
}

#[test]
fn the_affinity_mask_is_respected() {
    let sys = one_by_four_by_two();
    // Allowed are 2, 3 and 6: 2 takes CPU 0's part, the dataplane goes to 3, whose
    // sibling 7 is not allowed, so control goes to 2.
    let topology = sys.allowing("2-3,6");
    assert_eq!(topology.online(), cpu_list("0-7"));
    assert_eq!(places(&default_plan(&topology)), (3, 2, "6".into()));
    // A mask outside package 0.
    let topology = two_by_two_by_two().allowing("1,3,5");
    assert_eq!(places(&default_plan(&topology)), (3, 1, "5".into()));
}

#[test]
fn a_sibling_outside_the_mask_does_not_hide_a_core_from_no_smt() {
    let options = PlanOptions {
        no_smt: true,
        ..PlanOptions::default()
    };
    // 6 is the higher of 2+6, but 2 is not allowed.
    let plan = plan(&one_by_four_by_two().allowing("0-1,4-7"), &options).unwrap();
    assert_eq!(places(&plan), (1, 5, "0,6-7".into()));
}

#[test]
fn virtual_cores_take_the_runtime_cpus_in_turn() {
    let options = PlanOptions {
        virtual_cores: Some(5),
        ..PlanOptions::default()
    };
    let sys = (0..4).fold(FakeSysfs::new("0-3"), |sys, i| {
        sys.cpu(i, 0, &i.to_string(), 0)
    });
    let plan = plan(&sys.topology(), &options).unwrap();
    assert_eq!(places(&plan), (1, 0, "2-3".into()));
    let cpus: Vec<u16> = (0..5).map(|core| plan.cpu_of(CoreId(core)).0).collect();
    assert_eq!(cpus, [2, 3, 2, 3, 2]);
    assert_eq!(plan.cpu_of(CoreId(5)), plan.park_cpu);
    assert_eq!(
        plan.to_string(),
        "cores: dataplane on CPU 1, control and parked kthreads on CPU 0\n\
         cores: 5 virtual runtime cores on CPU 2-3"
    );
}

#[test]
fn virtual_cores_share_the_dataplane_only_on_one_cpu() {
    let options = PlanOptions {
        virtual_cores: Some(256),
        ..PlanOptions::default()
    };
    let two = plan(&two_cpus().topology(), &options).unwrap();
    assert_eq!(places(&two), (1, 0, "0".into()));
    assert_eq!((two.runtime.len(), two.dataplane_shared), (256, false));
    let one = FakeSysfs::new("0").cpu(0, 0, "0", 0);
    let one = plan(&one.topology(), &options).unwrap();
    assert_eq!(places(&one), (0, 0, "0".into()));
    assert!(one.dataplane_shared);
}

#[test]
fn cpus_above_255_have_no_core_number() {
    let sys = [0u16, 1, 2, 300]
        .into_iter()
        .fold(FakeSysfs::new("0-2,300"), |sys, i| {
            sys.cpu(i, 0, &i.to_string(), 0)
        });
    let topology = sys.topology();
    assert_eq!(places(&default_plan(&topology)), (1, 0, "2".into()));
    let mut options = PlanOptions {
        cores: Some(cpu_list("2,300")),
        ..PlanOptions::default()
    };
    assert_eq!(
        plan(&topology, &options).unwrap_err(),
        PlanError::CoreTooHigh(CpuId(300))
    );
    options.virtual_cores = Some(3);
    let plan = plan(&topology, &options).unwrap();
    assert_eq!(plan.cpu_of(CoreId(1)), CpuId(300));
}

#[test]
fn every_refusal_is_one_line_that_says_what_to_do() {
    let topology = one_by_four_by_two().allowing("0-3");
    let none = PlanOptions::default();
    let table = [
        (
            PlanOptions {
                cores: Some(CpuList::default()),
                ..none.clone()
            },
            "--cores is empty, so no runtime could run; name at least one CPU",
        ),
        (
            PlanOptions {
                cores: Some(cpu_list("2,9")),
                ..none.clone()
            },
            "--cores: CPU 9 is not online; choose among 0-7",
        ),
        (
            PlanOptions {
                control_core: Some(CpuId(5)),
                ..none.clone()
            },
            "--control-core: CPU 5 is not in this process' affinity mask; choose among 0-3, \
             or start with another mask (taskset, cpuset)",
        ),
        (
            PlanOptions {
                dataplane_core: Some(CpuId(8)),
                ..none.clone()
            },
            "--dataplane-core: CPU 8 is not online; choose among 0-7",
        ),
        (
            PlanOptions {
                cores: Some(cpu_list("2-3")),
                dataplane_core: Some(CpuId(2)),
                ..none.clone()
            },
            "--cores: CPU 2 is the dataplane's, which polls all the time; \
             take it out of the list or move the dataplane with --dataplane-core",
        ),
        (
            PlanOptions {
                cores: Some(cpu_list("0-3")),
                ..none.clone()
            },
            "--cores names every usable CPU (0-3) and leaves none to the dataplane; take one out",
        ),
        (
            PlanOptions {
                virtual_cores: Some(0),
                ..none.clone()
            },
            "--virtual-cores 0: a runtime knows 1 to 256 cores; choose a number in between",
        ),
        (
            PlanOptions {
                virtual_cores: Some(257),
                ..none
            },
            "--virtual-cores 257: a runtime knows 1 to 256 cores; choose a number in between",
        ),
    ];
    for (options, message) in table {
        let error = plan(&topology, &options).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let nowhere = one_by_four_by_two().allowing("");
    assert_eq!(
        plan(&nowhere, &PlanOptions::default()).unwrap_err(),
        PlanError::NoUsableCpu
    );
}
