//! `calisto-sim`: runs scenarios and prints tables. See the README beside this crate.

mod cli;
mod measure;

use std::process::ExitCode;

use calisto::terminal::arguments;
use calisto_sim::SimError;

fn main() -> ExitCode {
    let cli = match arguments() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("calisto-sim: {error:#}");
            match error.downcast_ref() {
                None | Some(SimError::Memory(_) | SimError::Stopped) => ExitCode::FAILURE,
                // What the user asked for cannot be.
                Some(_) => ExitCode::from(2),
            }
        }
    }
}
