//! Completions and man pages, made from the command line itself.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Cli, print};

/// Prints the completions of a shell.
///
/// # Errors
/// Standard output cannot be written to.
pub(crate) fn completions(shell: Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "calistoctl", &mut text);
    print(&String::from_utf8(text).context("completions are text")?)
}

/// Writes a page for the program, and one for each command.
///
/// # Errors
/// The directory cannot be written to.
pub(crate) fn man(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .with_context(|| format!("cannot write man pages to {}", dir.display()))
}
