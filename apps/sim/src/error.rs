//! What can be wrong with a simulation before it runs.

use std::path::PathBuf;

/// Why a scenario is not simulated. Each is one line that says all: none has a source, for who
/// prints those too would say the reason twice.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The scenario cannot be.
    #[error("scenario: {0}")]
    Scenario(String),
    /// The machine cannot be.
    #[error("machine: {0}")]
    Machine(String),
    /// No policy has the name.
    #[error(
        "no policy '{0}': modulo, kthread-table, flow-table, buckets, hybrid; the last three also with -strict, -guard behind"
    )]
    UnknownPolicy(String),
    /// A file is not what it should be.
    #[error("{0}")]
    Toml(String),
    /// A line is not a measured run.
    #[error("not a run: {0}")]
    Run(String),
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: std::io::Error,
    },
    /// Whoever had it simulated wanted no more of it.
    #[error("stopped before it began")]
    Stopped,
    /// There is no memory for a table.
    #[error("no memory for flows and steering: {0}")]
    Memory(std::io::Error),
}

impl From<std::io::Error> for SimError {
    /// The only failure of a table is that of its memory.
    fn from(error: std::io::Error) -> SimError {
        SimError::Memory(error)
    }
}
