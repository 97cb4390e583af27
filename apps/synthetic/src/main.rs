//! `synthetic`: reads the command line and starts what it names.
//!
//! Exit code 2 for bad usage, 1 for a failure; each refusal is one line.

use std::process::ExitCode;

use anyhow::Context;
use calisto::terminal::{answer, arguments};
use calisto_synthetic::cli::{Cli, Mode};
use calisto_synthetic::error::Failure;
use calisto_synthetic::json::Sink;
use calisto_synthetic::linux::client::LinuxClient;
use calisto_synthetic::runtime::client::RuntimeClient;
use calisto_synthetic::server::Report;
use calisto_synthetic::{calibrate, client, linux, runtime};

fn main() -> ExitCode {
    let cli = match arguments() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("synthetic: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn say(text: &str) -> Result<(), Failure> {
    Ok(answer(text).context("cannot write to standard output")?)
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let mode = match cli.mode {
        Some(mode) if !cli.calibrate => mode,
        _ => Mode::WorkBench,
    };
    match mode {
        Mode::WorkBench => say(&calibrate::run(&cli.fakework)),
        Mode::LinuxServer => serve(cli, linux::server::run),
        Mode::LinuxClient => {
            let job = cli.job()?;
            let mut generator = LinuxClient::new(cli, &job)?;
            client::run(cli, &job, &mut generator)
        }
        Mode::SpawnerServer => serve(cli, runtime::server::run),
        Mode::RuntimeClient => {
            let job = cli.job()?;
            let mut generator = RuntimeClient::start(cli, &job)?;
            client::run(cli, &job, &mut generator)
        }
    }
}

/// Runs a server to its end, and says what it did.
fn serve(cli: &Cli, server: impl Fn(&Cli) -> Result<Report, Failure>) -> Result<(), Failure> {
    let json = cli.json.as_deref().map(Sink::create).transpose()?;
    let report = server(cli)?;
    match json {
        Some(mut json) if json.is_stdout() => json.write(&report.object())?,
        Some(mut json) => {
            json.write(&report.object())?;
            say(&report.text())?;
        }
        None => say(&report.text())?,
    }
    Ok(())
}
