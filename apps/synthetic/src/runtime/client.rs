//! `runtime-client`: sends on a runtime.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::client_app::{ClientApp, FIRST_SOURCE_PORT};
use super::{Started, config};
use crate::cli::{Cli, Job, Transport};
use crate::client::Generator;
use crate::error::Failure;
use crate::run::Run;

/// Time between two looks at a kthread's doings.
const LOOK: Duration = Duration::from_millis(2);
/// How long the end waits for kthreads.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Sends on a runtime.
#[derive(Debug)]
pub struct RuntimeClient {
    app: Arc<ClientApp>,
    started: Started,
}

impl RuntimeClient {
    /// Starts the runtime that the command line says.
    ///
    /// # Errors
    /// When it cannot be started, or there are too many flows for its ports.
    pub fn start(cli: &Cli, job: &Job) -> Result<RuntimeClient, Failure> {
        let mut config = config::of_client(cli)?;
        let most = u32::from(u16::MAX - FIRST_SOURCE_PORT) + 1;
        let flows = job.flows.sources();
        if cli.transport == Transport::Udp && flows > most {
            return Err(Failure::Usage(format!(
                "so many --flows take {flows} source ports, there are {most}: give more --ports, \
                 here and to the server"
            )));
        }
        // By default at once: the I/O kernel's timers are exact, and a kthread that stays
        // awake takes the CPU from a server that shares it.
        config.park_after = Duration::from_micros(cli.client.spin_us.unwrap_or(0).into());
        config.tcp_connections = config.tcp_connections.max(job.flows.count() as usize);
        let app = Arc::new(ClientApp {
            server: cli.addr()?,
            transport: cli.transport,
            flows: job.flows.clone(),
            run: None.into(),
            probing: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            probes: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            begun: AtomicU32::new(0),
            opened: AtomicU32::new(0),
            trouble: Mutex::new(None),
        });
        let started = Started::start(config, &app)?;
        Ok(RuntimeClient { app, started })
    }

    fn silence(&self, patience: Duration) -> String {
        let app = &self.app;
        let (server, transport) = (app.server, app.transport.name());
        let seconds = patience.as_secs_f64();
        let (opened, flows) = (app.opened.load(Relaxed), app.flows.count());
        let what = match app.transport {
            Transport::Tcp if opened < flows => {
                format!("{opened} of {flows} connections to {server} are open after {seconds:.1} s")
            }
            _ => format!(
                "no answer from {server} to {} requests in {seconds:.1} s",
                app.probes.load(Relaxed)
            ),
        };
        format!("{what}: is a server with --transport {transport} there?")
    }
}

impl Generator for RuntimeClient {
    fn mode(&self) -> &'static str {
        "runtime-client"
    }

    fn connect(&mut self, patience: Duration) -> anyhow::Result<()> {
        let app = &self.app;
        app.heard.store(false, Relaxed);
        app.probes.store(0, Relaxed);
        app.probing.store(true, Relaxed);
        let end = Instant::now() + patience;
        let is_ready = || {
            let is_open =
                app.transport == Transport::Udp || app.opened.load(Relaxed) == app.flows.count();
            is_open && app.heard.load(Relaxed)
        };
        while !is_ready() {
            if let Some(why) = self.trouble() {
                bail!("{why}");
            }
            if Instant::now() > end {
                bail!("{}", self.silence(patience));
            }
            std::thread::sleep(LOOK);
        }
        app.probing.store(false, Relaxed);
        Ok(())
    }

    fn begin(&mut self, run: &Arc<Run>) -> anyhow::Result<()> {
        self.app.run.store(Some(Arc::clone(run)));
        Ok(())
    }

    fn trouble(&self) -> Option<String> {
        let ended = match self.started.wait(Duration::ZERO) {
            None => None,
            Some(Err(error)) => Some(error.to_string()),
            Some(Ok(_)) => Some("the runtime has ended".to_owned()),
        };
        ended.or_else(|| self.app.trouble())
    }

    fn end(&mut self) {
        self.app.run.store(None);
    }
}

impl Drop for RuntimeClient {
    fn drop(&mut self) {
        self.app.stop.store(true, Relaxed);
        self.started.wait(LAST_WORDS);
    }
}
