//! SIGINT and SIGTERM: what waits looks here, so that what was started is ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on these signals are noted instead of ending us at once.
pub(crate) fn listen() -> Result<()> {
    let flag = STOP.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot handle signals")?;
    }
    Ok(())
}

/// # Errors
/// When such a signal has come.
pub(crate) fn check() -> Result<()> {
    if STOP.get().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
        bail!("interrupted");
    }
    Ok(())
}
