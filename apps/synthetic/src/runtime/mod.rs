//! Server and client on a runtime of `iokerneld`.

pub mod client;
mod client_app;
mod config;
mod connections;
pub mod server;
mod server_app;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context;
use calisto_runtime::{App, Config, RuntimeError, StartError, Stats};

use crate::error::Failure;

/// A runtime that was started, and how it ended.
#[derive(Debug)]
struct Started {
    ended: Receiver<Result<Stats, RuntimeError>>,
}

impl Started {
    /// Starts `app` on a runtime.
    fn start<A: App>(config: Config, app: &Arc<A>) -> Result<Started, Failure> {
        let running =
            calisto_runtime::start(config, Arc::clone(app)).map_err(|error| match error {
                StartError::Config(error) => Failure::Usage(error.to_string()),
                error => Failure::Failed(error.into()),
            })?;
        let (tell, ended) = channel();
        let wait = move || {
            // Nobody listens any more: the process ends.
            let _ = tell.send(running.wait());
        };
        std::thread::Builder::new()
            .name("waiter".to_owned())
            .spawn(wait)
            .context("cannot start a thread")?;
        Ok(Started { ended })
    }

    /// Waits for the runtime's end, at most `patience`; `None` if it still runs then.
    fn wait(&self, patience: Duration) -> Option<Result<Stats, RuntimeError>> {
        match self.ended.recv_timeout(patience) {
            Ok(end) => Some(end),
            Err(RecvTimeoutError::Timeout) => None,
            // Told once already.
            Err(RecvTimeoutError::Disconnected) => Some(Ok(Stats::default())),
        }
    }
}
