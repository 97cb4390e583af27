//! What this machine costs: `calisto-sim measure`.
//!
//! Takes a machine as a base, measures what can be measured by one process without rights
//! ([`memory`], [`kernel`], [`code`]), and prints a machine file in which every number says whether
//! it was measured or is the base's. Of what the processor does alone the least of many rounds
//! counts, for others who use the machine only make it slower; of what the kernel does the median.

mod code;
mod kernel;
mod memory;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use calisto::cores::topology::Topology;
use calisto_sim::Machine;
use rustix::thread::{CpuSet, Pid};

/// What is to be measured, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine whose numbers stay where none is measured.
    #[arg(long, default_value = "server64")]
    base: String,
    /// The name of the result.
    #[arg(long, default_value = "measured")]
    name: String,
    /// Two CPUs, for what takes two: the I/O kernel's and a runtime's.
    #[arg(long, num_args = 2, default_values_t = [0, 1])]
    cpus: Vec<usize>,
    /// Microseconds between two wakes or signals. Where a CPU that was idle for long wakes late, they
    /// are to be about what they are under the load that is to be simulated.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    apart_us: u64,
}

/// Measured numbers, by section and key: the value, and how it was found.
pub(crate) type Found = BTreeMap<(&'static str, &'static str), (f64, &'static str)>;

/// Measures, and gives the machine file.
pub(crate) fn measure(args: &Args) -> anyhow::Result<String> {
    let base = Machine::load(&args.base)?;
    let cpus = [args.cpus[0], args.cpus[1]];
    ensure!(
        cpus[0] != cpus[1],
        "--cpus: two different ones are needed, to measure what lies between them"
    );
    let before = rustix::thread::sched_getaffinity(None).context("cannot read my affinity")?;
    for cpu in cpus {
        ensure!(
            cpu < CpuSet::MAX_CPU && before.is_set(cpu),
            "--cpus: I may not run on CPU {cpu}; see taskset"
        );
    }
    let mut found = Found::new();
    topology(&mut found)?;
    eprintln!("measuring memory ...");
    memory::measure(&mut found, cpus)?;
    eprintln!("measuring wakes and signals ...");
    kernel::measure(&mut found, cpus, Duration::from_micros(args.apart_us))?;
    eprintln!("measuring steering and the arbiter ...");
    pin(None, cpus[0])?;
    code::measure(&mut found)?;
    render(&base, &args.name, &found)
}

/// Cores, threads, sockets, as Linux says.
fn topology(found: &mut Found) -> anyhow::Result<()> {
    let machine = Topology::of_this_machine()?;
    let cpus = machine.cpus();
    let threads = if cpus.iter().any(|c| machine.sibling(c.id).is_some()) {
        2
    } else {
        1
    };
    let mut sockets: Vec<u32> = cpus.iter().map(|c| c.package).collect();
    sockets.dedup();
    let mut put = |key, n: usize| {
        #[allow(clippy::cast_precision_loss, reason = "numbers of cores")]
        found.insert(("topology", key), (n as f64, "sysfs"));
    };
    put("physical", cpus.len() / threads);
    put("threads", threads);
    put("sockets", sockets.len());
    Ok(())
}

/// The base with what was found, each line with its source.
fn render(base: &Machine, name: &str, found: &Found) -> anyhow::Result<String> {
    let mut machine = base.clone();
    name.clone_into(&mut machine.name);
    let text = toml::to_string(&machine).context("cannot write a machine")?;
    let mut out = format!(
        "# Measured by `calisto-sim measure`; what was not is as in machine '{}'.\n\n",
        base.name
    );
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        }
        let known = line.split_once(" = ").map(|(key, old)| {
            let hit = found.iter().find(|((s, k), _)| *s == section && *k == key);
            (key, old, hit.map(|(_, value)| *value))
        });
        let line = match known {
            Some((key, old, Some((value, how)))) => {
                let value = if old.contains('.') {
                    format!("{value:.1}")
                } else {
                    format!("{value:.0}")
                };
                format!("{:<28}# [measured] {how}", format!("{key} = {value}"))
            }
            Some((key, old, None)) if !section.is_empty() => {
                format!("{:<28}# [{}]", format!("{key} = {old}"), base.name)
            }
            _ => line.to_owned(),
        };
        out.push_str(&line);
        out.push('\n');
    }
    // What is printed can be read again.
    Machine::parse(&out)?;
    Ok(out)
}

/// Pins a thread, or this one.
pub(crate) fn pin(thread: Option<Pid>, cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(thread, &set)
        .with_context(|| format!("cannot pin a thread to CPU {cpu}"))
}

/// The least.
pub(crate) fn least(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, f64::min)
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_in_the_file_with_its_source_and_all_else_with_the_bases() {
        let base = Machine::m510();
        let mut found = Found::new();
        found.insert(("cache", "l3_ns"), (17.26, "a chase"));
        found.insert(("cache", "l3_bytes"), (33_554_432.0, "sysfs"));
        let text = render(&base, "here", &found).unwrap();
        let machine = Machine::parse(&text).unwrap();
        assert_eq!(machine.name, "here");
        assert_eq!(machine.cache.l3_ns, 17.3);
        assert_eq!(machine.cache.l3_bytes, 33_554_432);
        assert_eq!(machine.kernel, base.kernel);
        assert!(text.contains("l3_ns = 17.3"));
        assert!(text.contains("# [measured] a chase"));
        assert!(text.contains("# [m510]"));
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
