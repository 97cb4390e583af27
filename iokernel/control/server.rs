//! The control thread's interface; its body follows.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;

use crate::port::dma::DmaMapper;

use super::messages::ControlEnd;
use super::socket::ControlSocket;

/// What the control thread works with.
pub struct ServerConfig {
    /// Bound, not yet listening.
    pub socket: ControlSocket,
    /// The rings to the dataplane.
    pub channel: ControlEnd,
    /// The ingress segment's id: no runtime's region.
    pub ingress_shmid: i32,
    /// Makes regions known to the port's device.
    pub mapper: Arc<dyn DmaMapper>,
    /// Cores that guarantees may sum up to.
    pub runtime_cores: u16,
    /// CPU of the control thread; `None`: anywhere.
    pub control_cpu: Option<u16>,
    /// CPUs of parked kthreads. Empty: kthreads are left where they are.
    pub park_cpus: Vec<u16>,
    /// Called every [`WATCH_PERIOD`].
    pub watch: Option<Box<dyn FnMut() + Send>>,
    /// Ends the thread, once the dataplane returned all runtimes.
    pub stop: Arc<AtomicBool>,
    /// Counters for others to read.
    pub stats: Arc<ControlStats>,
}

/// Time between calls of [`ServerConfig::watch`].
pub const WATCH_PERIOD: std::time::Duration = std::time::Duration::from_millis(5);

/// What happened so far.
#[derive(Debug, Default)]
pub struct ControlStats {
    /// Runtimes attached now, leaving ones included.
    pub attached: AtomicU64,
    /// Registrations that were admitted.
    pub admitted: AtomicU64,
    /// Registrations that were refused, hang-ups among them.
    pub refused: AtomicU64,
    /// Runtimes that were detached for a fault.
    pub faults: AtomicU64,
}

/// The control thread.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Starts the control thread.
    ///
    /// # Errors
    /// What listening, or starting a thread, reports.
    pub fn spawn(config: ServerConfig) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("control".into())
            .spawn(move || drop(config))
    }
}
