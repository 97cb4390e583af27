//! `calisto-sim`: runs scenarios and prints tables. See the README beside this crate.

mod cli;
mod measure;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What the user asked for cannot be; everything else is a failure.
            if let Some(error) = error.downcast_ref::<calisto_sim::SimError>() {
                eprintln!("calisto-sim: {error}");
                ExitCode::from(2)
            } else {
                eprintln!("calisto-sim: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}
