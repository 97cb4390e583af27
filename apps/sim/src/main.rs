//! `calisto-sim`: runs scenarios and prints tables. See the README beside this crate.

mod cli;
mod measure;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("calisto-sim: {error:#}");
            // What the user asked for cannot be; everything else is a failure.
            if error.is::<calisto_sim::SimError>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
