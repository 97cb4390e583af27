//! The client: one sample after the other, whatever requests travel by.

mod progress;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::cli::{Cli, Job, PlannedRun};
use crate::error::Failure;
use crate::json::{Load, SampleObject, Sink};
use crate::output::{self, HEADER};
use crate::run::{Limits, Run};
use crate::sample::{Sample, TimedFrom};
use crate::schedule;
use progress::Progress;

/// Upstream sends nothing that is later than this.
const UPSTREAM_LATE_LIMIT: Duration = Duration::from_micros(5);

/// The number of the request that asks for a first answer. No run has it.
pub const PROBE: u64 = u64::MAX;

/// What sends requests and receives answers.
pub trait Generator {
    /// What the mode is called.
    fn mode(&self) -> &'static str;

    /// Makes everything ready for a run, and waits for the server to answer once.
    ///
    /// # Errors
    /// When it does not within `patience`, or something cannot be had.
    fn connect(&mut self, patience: Duration) -> anyhow::Result<()>;

    /// Begins to send what `run` has scheduled, and to tell it of answers.
    ///
    /// # Errors
    /// When threads cannot be had.
    fn begin(&mut self, run: &Arc<Run>) -> anyhow::Result<()>;

    /// Why the run cannot go on, if it cannot.
    fn trouble(&self) -> Option<String>;

    /// Ends the run: nothing is told to it any more.
    fn end(&mut self);
}

/// Runs the client's job.
///
/// # Errors
/// The first failure. What was printed before stands.
pub fn run(cli: &Cli, job: &Job, generator: &mut dyn Generator) -> Result<(), Failure> {
    let mut client = Client::new(cli, job, generator)?;
    client.say(&format!("{HEADER}\n"))?;
    let mut first = true;
    for (seed, planned) in (job.seed..).zip(&job.runs) {
        if !std::mem::take(&mut first) || planned.sample != 0 {
            std::thread::sleep(cli.client.pause);
        }
        client.run(planned, seed)?;
    }
    Ok(())
}

struct Client<'a> {
    cli: &'a Cli,
    job: &'a Job,
    generator: &'a mut dyn Generator,
    json: Option<Sink>,
    progress: Progress,
    load: Load,
    runs: u32,
}

impl Client<'_> {
    fn new<'a>(
        cli: &'a Cli,
        job: &'a Job,
        generator: &'a mut dyn Generator,
    ) -> Result<Client<'a>, Failure> {
        let load = Load {
            mode: generator.mode(),
            transport: cli.transport.name(),
            distribution: job.service.name(),
            mean: cli.client.mean,
            flows: job.flows.count(),
            zipf: cli.client.zipf,
            timed_from: cli.client.timed_from.name(),
            seed: job.seed,
        };
        Ok(Client {
            json: cli.json.as_deref().map(Sink::create).transpose()?,
            progress: Progress::new(cli.client.progress),
            runs: 0,
            cli,
            job,
            generator,
            load,
        })
    }

    /// Prints to standard output, unless that is JSON's.
    fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.json.as_ref().is_some_and(Sink::is_stdout) {
            return Ok(());
        }
        calisto::terminal::answer(text).context("cannot write to standard output")
    }

    fn run(&mut self, planned: &PlannedRun, seed: u64) -> anyhow::Result<()> {
        let patience = self.cli.client.patience;
        let bounds = schedule::bounds(&planned.phases);
        let requests = schedule::draw(&planned.phases, self.job.service, &self.job.flows, seed);
        self.generator.connect(patience)?;
        self.runs += 1;
        let limits = Limits {
            late: match self.cli.client.timed_from {
                TimedFrom::Due => None,
                TimedFrom::Sent => Some(UPSTREAM_LATE_LIMIT),
            },
            grace: self.cli.client.grace,
        };
        let run = Arc::new(Run::start(
            self.runs,
            requests,
            self.job.flows.clone(),
            self.job.lanes,
            bounds.last().map_or(0, |b| b.end),
            limits,
        ));
        self.progress.begin(planned.sample, self.cli.client.samples);
        let begun = self.generator.begin(&run);
        let watched =
            begun.and_then(|()| watch::watch(&run, &*self.generator, patience, &mut self.progress));
        run.stop();
        self.generator.end();
        self.progress.clear();
        watched.with_context(|| match planned.sample {
            0 => "in the warm-up".to_owned(),
            n => format!("in sample {n} of {}", self.cli.client.samples),
        })?;
        if planned.sample != 0 {
            self.report(&run, planned, &bounds, seed)?;
        }
        Ok(())
    }

    fn report(
        &mut self,
        run: &Run,
        planned: &PlannedRun,
        bounds: &[std::ops::Range<u64>],
        seed: u64,
    ) -> anyhow::Result<()> {
        let client = &self.cli.client;
        self.load.seed = seed;
        let is_shift = !client.loadshift.is_empty();
        // As upstream: a shifting load is traced, and nothing of it left out.
        let (discard, output) = match is_shift {
            true => (0, output::Output::Trace),
            false => (client.discard, client.output),
        };
        let mut number = planned.sample;
        for (phase, range) in planned.phases.iter().zip(bounds) {
            if !phase.measured {
                continue;
            }
            let Some(sample) = Sample::of(run, range, discard, client.timed_from) else {
                eprintln!(
                    "synthetic: no request counts in sample {number}: raise --mpps or --runtime"
                );
                continue;
            };
            let name = self.job.service.name();
            self.say(&output::text(&sample, name, output, client.timed_from))?;
            if let Some(json) = &mut self.json {
                json.write(&SampleObject::new(&sample, number, &self.load, phase.rate))?;
            }
            number += 1;
        }
        Ok(())
    }
}
