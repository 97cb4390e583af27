//! `iokerneld`: wires the parts, in order, and nothing else.
//!
//! Configuration, core plan, control socket (the lock of this network
//! namespace), ingress segment, port, control thread, polling loop; on SIGINT or
//! SIGTERM the same way back. Exit code 2 for bad usage, 1 for a failure; each
//! refusal is one line.

mod start;

use std::process::ExitCode;

use calisto::config::{Config, Stop};

fn main() -> ExitCode {
    let config = match Config::from_args(std::env::args_os()) {
        Ok(config) => config,
        Err(stop) => {
            match &stop {
                Stop::Answer(text) => {
                    if let Err(error) = start::answer(text) {
                        return fail(&error);
                    }
                }
                Stop::Usage(text) => eprintln!("iokerneld: {text}"),
            }
            return ExitCode::from(stop.exit_code());
        }
    };
    init_log(config.verbosity);
    for note in &config.notes {
        log::warn!("{note}");
    }
    match start::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("iokerneld: {error:#}");
    ExitCode::FAILURE
}

/// Messages to stderr: lifecycle by default, more with `-v`; `RUST_LOG` overrides.
fn init_log(verbosity: u8) {
    let level = match verbosity {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        .format_timestamp_millis()
        .format_target(false)
        .init();
}
