//! The paper's experiment, simulated and real, and its report.

use std::path::PathBuf;

use anyhow::{Context, Result};
use calisto::terminal::answer;
use calisto_sim::Machine;
use clap::{Args, ValueEnum};

use crate::real;
use crate::report::claims::{self, Claim};
use crate::report::page::{Page, short, with_spread};
use crate::report::{measured, questions};
use crate::simulated::maps::{self, Pace};
use crate::simulated::paper::{self as simulated, Size};
use crate::simulated::{BASE, Cell, Gain, chart, find, p99_us, sanity};

/// Which parts to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// In simulated time.
    Simulated,
    /// Real processes on this machine.
    Real,
}

/// How much to run, and where the report goes.
#[derive(Debug, Args)]
pub(crate) struct PaperArgs {
    /// Where `iokerneld` and `synthetic` lie.
    #[arg(long, value_name = "DIR", default_value = "target/release")]
    bin: PathBuf,
    /// Where report, plots and samples go.
    #[arg(long, value_name = "DIR", default_value = "target/experiment")]
    out: PathBuf,
    /// A tenth of everything: to see that it runs, not to conclude from.
    #[arg(long)]
    quick: bool,
    /// Report on the real runs that are in --out already, instead of running them again.
    #[arg(long)]
    reuse: bool,
    /// One part alone.
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
    /// Packets of a simulated run.
    #[arg(long, value_name = "N")]
    packets: Option<u64>,
    /// Seeds of simulated runs.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
}

impl PaperArgs {
    fn size(&self) -> Size {
        let (packets, seeds) = if self.quick {
            (20_000, 3)
        } else {
            (150_000, 5)
        };
        Size {
            packets: self.packets.unwrap_or(packets),
            seeds: self.seeds.unwrap_or(seeds),
        }
    }
}

/// Runs it and writes the report.
pub(crate) fn run(args: &PaperArgs) -> Result<()> {
    let size = args.size();
    let mut page = Page::new(&args.out)?;
    page.heading(1, "The paper's experiment, again");
    page.paragraph(
        "Written by `scripts/experiment.sh`: every number and every verdict below was computed from the runs. \
         *Calisto: Sistema para processamento rápido de pacotes com baixa latência em centro de dados* (WGRS 2021), section 5: \
         about 700 thousand flows over ten cores of a CloudLab m510.",
    );
    if args.quick {
        page.paragraph("**A quick run: too short to conclude anything from.**");
    }
    if args.only != Some(Part::Real) {
        page.paragraph(format!(
            "Simulated runs are of {} packets each, {} seeds; numbers are medians over the seeds, with the least and the greatest. \
             All policies see the same packets, so they are compared seed by seed. A difference counts if all seeds have its sign \
             and it is at least {} %.",
            size.packets, size.seeds, claims::NOTICEABLE
        ));
        simulate(&mut page, size)?;
    }
    if args.only != Some(Part::Simulated) {
        let real = real::run(&args.bin, &args.out, args.quick, args.reuse)?;
        measured::write(&mut page, &real)?;
    }
    let path = page.save("report.md")?;
    answer(&format!("{}\n", path.display())).context("cannot write to standard output")
}

fn simulate(page: &mut Page, size: Size) -> Result<()> {
    let figure_6 = simulated::figure("Figure 6", &simulated::FIGURE_6, size)?;
    let figure_7 = simulated::figure("Figure 7", &simulated::FIGURE_7, size)?;
    page.heading(2, "The paper's claims");
    claims_table(
        page,
        &[
            claims::lower_tail(&figure_7),
            claims::slower_when_idle(&figure_6, Machine::m510().dispatcher.steer.insert_ns),
            claims::flows_stay(&figure_6),
        ],
    );
    bound(page, size)?;
    figures(page, &figure_6, &figure_7)?;
    unknowns(page, size)?;
    costs(page, size)?;
    pace(page, size)?;
    pays(page, size)?;
    beyond(page, size)?;
    checks(page, size, &figure_6)
}

fn claims_table(page: &mut Page, claims: &[Claim]) {
    page.table(
        ["the paper says", "here it", "by how much", "why not"],
        claims.iter().map(|claim| {
            vec![
                claim.says.to_owned(),
                claim.verdict.to_string(),
                claim.evidence.clone(),
                claim.reason.clone(),
            ]
        }),
    );
}

fn figures(page: &mut Page, figure_6: &[Cell], figure_7: &[Cell]) -> Result<()> {
    page.heading(2, "Figures 6 and 7");
    page.paragraph(format!(
        "Ten of the m510's hyperthreads, {} flows, requests of {} us (exponential), 1 KiB of state a flow.",
        simulated::FLOWS,
        simulated::SERVICE_NS / 1000.0
    ));
    for (name, title, cells) in [
        (
            "figure-6",
            "Figure 6: 99th percentile over the whole range",
            figure_6,
        ),
        (
            "figure-7",
            "Figure 7: 99th percentile, 10 to 14 thousand",
            figure_7,
        ),
    ] {
        let plot = chart(
            cells,
            title,
            "packets a second",
            "p99 latency, us",
            Cell::p99_us,
        );
        page.picture(name, &plot)?;
        page.table(
            [
                "packets/s",
                "policy",
                "p99, us",
                "beside modulo, %",
                "median, us",
                "changed core, %",
                "grants/s",
            ],
            cells.iter().map(|cell| {
                let base = find(cells, BASE, cell.x);
                let gain = base.and_then(|base| Gain::of(cell, base, p99_us));
                vec![
                    format!("{:.0}", cell.x),
                    cell.policy.clone(),
                    with_spread(cell.p99_us(), 1),
                    with_spread(gain.map(|g| g.percent), 2),
                    short(cell.of(|p| p.latency.p50_ns as f64 / 1000.0), 1),
                    short(cell.changed_percent(), 1),
                    short(cell.grants_per_second(), 0),
                ]
            }),
        );
    }
    Ok(())
}

fn unknowns(page: &mut Page, size: Size) -> Result<()> {
    let cells = simulated::unknowns(size)?;
    page.heading(3, "What the paper does not say");
    page.paragraph(
        "How long its requests took and how much state they touched is not told. 12 thousand packets a second, p99 beside modulo, %:",
    );
    page.table(
        [
            "work, us",
            "state, bytes",
            "p99 under modulo, us",
            "paper-strict",
            "sticky",
        ],
        simulated::UNKNOWNS
            .iter()
            .enumerate()
            .map(|(place, (ns, bytes))| {
                let mut row = vec![format!("{:.0}", ns / 1000.0), bytes.to_string()];
                row.extend(beside_base(&cells, place as f64));
                row
            }),
    );
    Ok(())
}

fn costs(page: &mut Page, size: Size) -> Result<()> {
    let cells = simulated::other_costs(size)?;
    page.heading(3, "If the assumed costs are wrong");
    page.paragraph(
        "Most costs of the m510 are assumed, not measured (apps/sim/machines/m510.toml says which). 12 thousand packets a second with some of \
         them far off, p99 beside modulo, %:",
    );
    page.table(
        ["cost", "p99 under modulo, us", "paper-strict", "sticky"],
        simulated::OTHER_COSTS
            .iter()
            .enumerate()
            .map(|(place, (name, _))| {
                let mut row = vec![(*name).to_owned()];
                row.extend(beside_base(&cells, place as f64));
                row
            }),
    );
    Ok(())
}

/// p99 of the base at `x`, and what paper-strict and sticky differ from it.
fn beside_base(cells: &[Cell], x: f64) -> Vec<String> {
    let base = find(cells, BASE, x);
    let gain = |policy: &str| Some(Gain::of(find(cells, policy, x)?, base?, p99_us)?.percent);
    vec![
        with_spread(base.and_then(Cell::p99_us), 1),
        with_spread(gain("paper-strict"), 2),
        with_spread(gain("sticky"), 2),
    ]
}

fn bound(page: &mut Page, size: Size) -> Result<()> {
    let rates = [5_000.0, 10_000.0, 14_000.0];
    let with = simulated::figure("the bound: flows with state", &rates, size)?;
    let without = simulated::without_state(&rates, size)?;
    let bounds = questions::bounds(&with, &without, simulated::FLOWS);
    page.heading(2, "Can a gain at the paper's load come from affinity?");
    page.paragraph(questions::answer_bound(&bounds));
    page.table(
        [
            "packets/s",
            "seconds between a flow's packets",
            "p99 if there were no state, %",
            "mean latency if there were no state, %",
            "state in own caches, % by policy",
        ],
        bounds.iter().map(|b| {
            let shares = b.private_percent.iter();
            let shares: Vec<String> = shares.map(|(p, s)| format!("{p} {s:.3}")).collect();
            vec![
                format!("{:.0}", b.rate),
                format!("{:.0}", b.seconds_between),
                with_spread(b.p99.map(|g| g.percent), 2),
                with_spread(b.mean.map(|g| g.percent), 2),
                shares.join(", "),
            ]
        }),
    );
    Ok(())
}

fn pace(page: &mut Page, size: Size) -> Result<()> {
    page.heading(
        2,
        "Does smarter steering not matter, because cores move slowly?",
    );
    page.paragraph(
        "So Caladan's authors remarked. Ten cores of their own at 60 % load, requests of 2 us; the load comes in bursts of 1.5 \
         times the mean, and a batch runtime takes every core that is free: the shorter the bursts, the more often cores move.",
    );
    for (flows, state_bytes) in [(1_000, 4096), (100_000, 1024)] {
        let cells = maps::bursts(flows, state_bytes, size)?;
        page.heading(3, &format!("{flows} flows of {state_bytes} bytes"));
        page.paragraph(questions::answer_pace(&cells));
        comparison(page, "bursts of, us", &cells, &maps::BURSTS_US);
        let name = format!("pace-{flows}-{state_bytes}");
        let title = format!(
            "99th percentile against the pace of bursts ({flows} flows of {state_bytes} bytes)"
        );
        let mut plot = chart(
            &cells,
            &title,
            "length of bursts, us",
            "p99 latency, us",
            Cell::p99_us,
        );
        plot.log_x = true;
        page.picture(&name, &plot)?;
    }
    Ok(())
}

/// A row for each `x`: what moved under each policy, and what came of it.
fn comparison(page: &mut Page, x_name: &str, cells: &[Cell], xs: &[f64]) {
    let mut head = vec![
        x_name.to_owned(),
        "grants/s under modulo".to_owned(),
        "changed core under modulo, %".to_owned(),
        "p99 under modulo, us".to_owned(),
    ];
    for policy in maps::POLICIES.iter().filter(|p| **p != BASE) {
        head.push(format!("changed core under {policy}, %"));
        head.push(format!("p99 under {policy} beside modulo, %"));
        head.push("work of cores beside modulo, %".to_owned());
    }
    page.table(
        head,
        xs.iter().map(|x| {
            let mut row = vec![format!("{x:.0}")];
            row.extend(questions::compared(cells, &maps::POLICIES, *x));
            row
        }),
    );
}

fn pays(page: &mut Page, size: Size) -> Result<()> {
    page.heading(2, "Where affinity pays");
    page.paragraph(
        "The flow table (sticky) beside modulo, by live flows and bytes of state of each: p99, and in brackets the work of cores \
         (time that they were not looking for work in vain), both in %, medians over the seeds; **bold** where p99 or work is \
         clearly less.",
    );
    for pace in Pace::ALL {
        page.heading(
            3,
            match pace {
                Pace::Calm => "Calm: Poisson arrivals, no other runtime",
                Pace::Restless => "Restless: bursts of 100 us against a batch runtime",
            },
        );
        let mut rows = Vec::new();
        for state_bytes in maps::STATE_BYTES {
            let cells = maps::row(pace, state_bytes, size)?;
            let spots = questions::spots(&cells, "sticky");
            let mut row = vec![state_bytes.to_string()];
            for flows in maps::FLOWS {
                let spot = spots.iter().find(|s| s.x == f64::from(flows));
                row.push(spot.map_or("-".to_owned(), |spot| {
                    let (p99, work) = (spot.p99.percent.middle, spot.work.percent.middle);
                    let text = format!("{p99:+.1} ({work:+.1})");
                    let clear =
                        questions::clearly_less(&spot.p99) || questions::clearly_less(&spot.work);
                    if clear { format!("**{text}**") } else { text }
                }));
            }
            rows.push(row);
        }
        let flows = maps::FLOWS.map(|n| format!("{n} flows"));
        page.table(
            std::iter::once("bytes of state".to_owned()).chain(flows),
            rows,
        );
    }
    Ok(())
}

fn beyond(page: &mut Page, size: Size) -> Result<()> {
    page.heading(2, "Past the paper: to saturation, and 64 cores");
    for (name, title, cells) in [
        (
            "saturation",
            "Ten hyperthreads, 700 thousand flows",
            simulated::saturation(size)?,
        ),
        (
            "cores-64",
            "64 cores, 20 thousand flows",
            simulated::many_cores(size)?,
        ),
    ] {
        let mut plot = chart(
            &cells,
            title,
            "load, share of what the cores could do",
            "p99 latency, us",
            Cell::p99_us,
        );
        plot.log_y = true;
        page.picture(name, &plot)?;
        page.table(
            [
                "load",
                "policy",
                "packets/s",
                "p99, us",
                "beside modulo, %",
                "changed core, %",
                "cores working",
                "dispatcher busy, %",
                "lost, %",
            ],
            cells.iter().map(|cell| {
                let base = find(&cells, BASE, cell.x);
                let gain = base.and_then(|base| Gain::of(cell, base, p99_us));
                let lost = cell.of(|p| {
                    100.0 * (p.ends.arrived - p.ends.answered) as f64 / p.ends.arrived as f64
                });
                let rate = cell
                    .reports
                    .first()
                    .map_or(0.0, |r| r.packets as f64 / r.seconds);
                vec![
                    format!("{:.2}", cell.x),
                    cell.policy.clone(),
                    format!("{rate:.0}"),
                    with_spread(cell.p99_us(), 1),
                    with_spread(gain.map(|g| g.percent), 1),
                    short(cell.changed_percent(), 1),
                    short(cell.working_cores(), 2),
                    short(cell.dispatcher_percent(), 0),
                    short(lost, 2),
                ]
            }),
        );
    }
    Ok(())
}

fn checks(page: &mut Page, size: Size, cells: &[Cell]) -> Result<()> {
    page.heading(2, "Is the simulator right?");
    let queues = sanity::queues(size)?;
    page.table(
        [
            "queue",
            "theory, us",
            "simulated, us",
            "off by, %",
            "allowed, %",
            "",
        ],
        queues.iter().map(|check| {
            vec![
                check.what.clone(),
                format!("{:.2}", check.theory_us),
                format!("{:.2}", check.simulated_us),
                format!("{:+.2}", check.off_percent()),
                format!("{:.2}", check.tolerance_percent),
                if check.holds() { "ok" } else { "**off**" }.to_owned(),
            ]
        }),
    );
    let packets = sanity::packets(cells);
    let lost = sanity::lost_count(cells);
    page.paragraph(
        "Beside a measured run of one core on a real machine: what a core can serve, the median without wakes and wakes a request agree, tails \
         of a noisy virtual machine do not; several cores, stealing, preemption and caches were not compared (apps/sim/MEASURED.md).",
    );
    page.paragraph(format!(
        "Work conservation: of the {packets} packets of Figure 6 each ended in exactly one way, but for {lost}."
    ));
    Ok(())
}
