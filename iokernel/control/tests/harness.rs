//! The control thread in namespaces of its own, with the test as its dataplane.

use crate::steering::SteeringSpec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::control::admission::Admission;
use crate::control::directory::Directory;
use crate::control::messages::{DataplaneEnd, DetachReason, ToControl, ToDataplane, channel};
use crate::control::server::{ControlStats, Server, ServerConfig};
use crate::control::socket::ControlSocket;
use crate::control::test_runtime::{log_of, private_namespaces, remember_log};
use crate::ids::ProcId;
use crate::port::dma::NoDma;
use crate::proc::Proc;

/// The control thread, and this test as its dataplane.
pub(super) struct Harness {
    pub(super) thread: Option<JoinHandle<()>>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) stats: Arc<ControlStats>,
    pub(super) directory: Directory,
    pub(super) dataplane: DataplaneEnd,
    #[allow(clippy::vec_box, reason = "the messages carry boxes")]
    pub(super) procs: Vec<Box<Proc>>,
    /// Departures are not answered.
    pub(super) hold: bool,
    pub(super) held: Vec<ProcId>,
    /// Calls of the watch.
    pub(super) watched: Arc<AtomicU64>,
}

/// A control thread that may promise `cores` cores, and its dataplane's end.
pub(in crate::control) fn config(cores: u16) -> (ServerConfig, DataplaneEnd) {
    let (control, dataplane) = channel();
    let config = ServerConfig {
        socket: ControlSocket::bind().unwrap(),
        channel: control,
        ingress_shmid: -1,
        mapper: Arc::new(NoDma),
        admission: Admission::default(),
        // Small, for many runtimes come and go here.
        steering: SteeringSpec {
            flow_entries: 1000,
            ..SteeringSpec::default()
        },
        runtime_cores: cores,
        control_cpu: None,
        park_cpus: Vec::new(),
        watch: None,
        stop: Arc::new(AtomicBool::new(false)),
        directory: Directory::default(),
        stats: Arc::new(ControlStats::default()),
    };
    (config, dataplane)
}

impl Harness {
    #[track_caller]
    pub(super) fn start(cores: u16) -> Option<Harness> {
        Harness::start_with(cores, Vec::new())
    }

    /// `None` where tests have no namespaces of their own.
    #[track_caller]
    pub(super) fn start_with(cores: u16, park_cpus: Vec<u16>) -> Option<Harness> {
        Harness::start_for(Admission::default(), cores, park_cpus)
    }

    /// The same for runtimes of these users.
    #[track_caller]
    pub(super) fn start_for(
        admission: Admission,
        cores: u16,
        park_cpus: Vec<u16>,
    ) -> Option<Harness> {
        if !private_namespaces() {
            return None;
        }
        remember_log();
        let (mut config, dataplane) = config(cores);
        let watched = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&watched);
        config.park_cpus = park_cpus;
        config.admission = admission;
        config.watch = Some(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let (stop, stats) = (Arc::clone(&config.stop), Arc::clone(&config.stats));
        let directory = config.directory.clone();
        let thread = Server::spawn(config).unwrap();
        Some(Harness {
            thread: Some(thread),
            stop,
            stats,
            directory,
            dataplane,
            procs: Vec::new(),
            hold: false,
            held: Vec::new(),
            watched,
        })
    }

    /// Does what a dataplane does with its messages.
    pub(super) fn pump(&mut self) {
        while let Ok(message) = self.dataplane.from_control.pop() {
            match message {
                ToDataplane::Attach(proc) => {
                    assert!(
                        self.procs.iter().all(|p| p.id.slot != proc.id.slot),
                        "slot in use"
                    );
                    self.procs.push(proc);
                }
                ToDataplane::Detach(id) if self.hold => self.held.push(id),
                ToDataplane::Detach(id) => self.give_back(id, DetachReason::HungUp),
            }
        }
    }

    /// Returns a runtime, unless it was returned already.
    pub(super) fn give_back(&mut self, id: ProcId, reason: DetachReason) {
        if let Some(i) = self.procs.iter().position(|proc| proc.id == id) {
            let proc = self.procs.swap_remove(i);
            self.dataplane
                .to_control
                .push(ToControl::Detached { proc, reason })
                .unwrap();
        }
    }

    /// Answers the departures that were held.
    pub(super) fn release(&mut self) {
        self.hold = false;
        for id in std::mem::take(&mut self.held) {
            self.give_back(id, DetachReason::HungUp);
        }
    }

    /// Waits for something that must come; the watchdog is far beyond any schedule.
    pub(super) fn until(&mut self, what: &str, mut done: impl FnMut(&Harness) -> bool) {
        let watchdog = Instant::now() + Duration::from_secs(60);
        while !done(self) {
            self.pump();
            assert!(
                Instant::now() < watchdog,
                "never: {what}; log: {:#?}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn until_attached(&mut self, n: usize) {
        self.until("attached", |h| h.procs.len() == n);
    }

    pub(super) fn until_refused(&mut self, n: u64) {
        self.until("refused", |h| h.refused() == n);
    }

    pub(super) fn refused(&self) -> u64 {
        self.stats.refused.load(Ordering::Relaxed)
    }

    pub(super) fn reserved(&self) -> u64 {
        self.stats.reserved_cores.load(Ordering::Relaxed)
    }

    pub(super) fn log(&self) -> Vec<String> {
        log_of(self.thread.as_ref().unwrap().thread().id())
    }

    pub(super) fn last_line(&self) -> String {
        self.log().last().cloned().unwrap_or_default()
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if std::thread::panicking() {
            return;
        }
        self.pump();
        for proc in std::mem::take(&mut self.procs) {
            let reason = DetachReason::Shutdown;
            self.dataplane
                .to_control
                .push(ToControl::Detached { proc, reason })
                .unwrap();
        }
        self.thread.take().unwrap().join().unwrap();
        assert_eq!(
            self.stats.attached.load(Ordering::Relaxed),
            0,
            "a slot stays taken"
        );
        assert_eq!(self.reserved(), 0, "a guarantee stays reserved");
    }
}
