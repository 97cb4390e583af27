//! Starting a runtime, and its end.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::app::App;
use crate::config::Config;
use crate::error::{RuntimeError, StartError};
use crate::stats::Stats;

/// A running runtime. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    _later: PhantomData<()>,
}

/// Registers with the I/O kernel and starts the kthreads. One runtime at a time in a process.
///
/// # Errors
/// [`StartError`]
pub fn start<A: App>(config: Config, app: Arc<A>) -> Result<Running, StartError> {
    let _ = app;
    config.check()?;
    unimplemented!()
}

impl Running {
    /// Ends the runtime, and waits for its callbacks to come back.
    pub fn stop(self) -> Stats {
        unimplemented!()
    }

    /// Waits until the application says [`Next::Stop`](crate::Next::Stop).
    ///
    /// # Errors
    /// [`RuntimeError`]: the I/O kernel hung up, or the application panicked.
    pub fn wait(self) -> Result<Stats, RuntimeError> {
        unimplemented!()
    }

    /// Asks the runtime to end, from any thread, as [`Next::Stop`](crate::Next::Stop) does.
    pub fn request_stop(&self) {
        unimplemented!()
    }

    /// The counts so far.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }

    /// The Ethernet address in use.
    pub fn mac(&self) -> [u8; 6] {
        unimplemented!()
    }
}
