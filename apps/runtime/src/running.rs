//! Starting a runtime, and its end.

use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::rand::GetRandomFlags;

use crate::app::App;
use crate::config::Config;
use crate::error::{RuntimeError, StartError};
use crate::park::{self, Seat};
use crate::process::{End, Kthread, Process};
use crate::registration::{self, Layout, Segment};
use crate::run::{Runner, Shared};
use crate::stats::Stats;
use crate::tcp::Stack;
use crate::worker::Worker;

/// SIGUSR1 has one handler, and the I/O kernel one runtime of a process.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// Held while a runtime is there.
#[derive(Debug)]
struct OnlyOne;

impl OnlyOne {
    fn take() -> Result<OnlyOne, StartError> {
        if IN_USE.swap(true, Ordering::AcqRel) {
            return Err(StartError::Twice);
        }
        Ok(OnlyOne)
    }
}

impl Drop for OnlyOne {
    fn drop(&mut self) {
        IN_USE.store(false, Ordering::Release);
    }
}

/// A running runtime. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    process: Arc<Process>,
    threads: Vec<JoinHandle<()>>,
    _only: OnlyOne,
}

/// Registers with the I/O kernel and starts the kthreads. One runtime at a time in a process.
///
/// It comes back when nobody else on the network answered to our address, 150 ms after the
/// first core was given. Where none is given for [`Config::patience`] it comes back all
/// the same, and [`Running::wait`] tells what is found out later.
///
/// # Errors
/// [`StartError`]
pub fn start<A: App>(config: Config, app: Arc<A>) -> Result<Running, StartError> {
    config.check()?;
    let only = OnlyOne::take()?;
    let mut layout = Layout::new(config.kthreads, config.egress_bufs);
    // Before our own memory: without an I/O kernel there is nothing to undo.
    let ingress = registration::patiently(
        config.patience,
        "no ingress segment",
        registration::attach_ingress,
    )?;
    let segment = Segment::create(&layout, config.pages)?;
    let region = segment.attach()?;
    park::install_handler().map_err(|e| StartError::Os("sigaction", e))?;

    let mac = match config.mac {
        Some(mac) => mac,
        None => random_mac()?,
    };
    let kthreads = (0..config.kthreads)
        .map(usize::from)
        .map(|i| kthread(&config, i, &region, &layout))
        .collect::<Result<Box<[Kthread]>, StartError>>()?;
    let notice = eventfd()?;
    let locals = (0..kthreads.len()).map(|i| Mutex::new(app.local(i)));
    let locals = locals.collect();
    let memory = (region, ingress);
    let plan = layout.clone();
    let process = Arc::new(Process::new(config, mac, plan, kthreads, notice, memory));
    let shared = Arc::new(Shared {
        app,
        locals,
        process: Arc::clone(&process),
    });
    // From here on, dropping it ends the threads.
    let mut running = Running {
        process: Arc::clone(&process),
        threads: Vec::new(),
        _only: only,
    };
    for index in 0..process.kthreads.len() {
        let worker = Worker::new(Arc::clone(&process), index);
        let (thread, tid) = spawn(Arc::clone(&shared), worker, index)?;
        running.threads.push(thread);
        process.kthreads[index].tid.store(tid, Ordering::Relaxed);
        let spec = &mut layout.specs[index];
        spec.tid = tid;
        spec.park_efd = process.kthreads[index].eventfd.as_raw_fd();
    }
    let guaranteed = process.config.guaranteed;
    registration::write_header(&process.region, &layout, mac, guaranteed)
        .expect("the header lies in the region");
    // Last, because an I/O kernel may wait for the rest of a registration and do nothing else.
    let socket =
        registration::patiently(process.config.patience, "no answer", registration::connect)?;
    let eventfds: Vec<_> = process.kthreads.iter().map(|k| &k.eventfd).collect();
    registration::send(&socket, &segment, &eventfds)?;
    running.threads.push(watch(&process, socket, segment)?);
    process
        .claim
        .wait(process.config.patience, || process.is_ending());
    match process.why() {
        Some(End::Failed(why)) => Err(why.into()),
        _ => Ok(running),
    }
}

fn eventfd() -> Result<OwnedFd, StartError> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC)
        .map_err(|e| StartError::Os("eventfd", e.into()))
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|e| StartError::Os("getrandom", e.into()))?;
    Ok(bytes)
}

/// A unicast address of local administration.
fn random_mac() -> Result<[u8; 6], StartError> {
    let mut mac: [u8; 6] = random()?;
    mac[0] = mac[0] & 0xfc | 0x02;
    Ok(mac)
}

fn kthread(
    config: &Config,
    index: usize,
    region: &calisto::abi::shm::ShmRegion,
    layout: &Layout,
) -> Result<Kthread, StartError> {
    let seed = u64::from_ne_bytes(random()?);
    let network = (config.addr, config.prefix_len);
    let stack = Stack::new(
        index,
        network,
        config.tcp_buffer,
        config.tcp_connections,
        seed,
    );
    let kthread = Kthread::new(
        region,
        &layout.specs[index],
        (eventfd()?, eventfd()?),
        stack,
    );
    Ok(kthread.expect("the layout is right"))
}

/// Starts a kthread's thread; returns its thread id.
fn spawn<A: App>(
    shared: Arc<Shared<A>>,
    worker: Worker,
    index: usize,
) -> Result<(JoinHandle<()>, i32), StartError> {
    let (tell, told) = mpsc::channel();
    let body = move || {
        // A receiver that is gone means that registration has failed: the end comes soon.
        let _ = tell.send(rustix::thread::gettid().as_raw_nonzero().get());
        let process = &shared.process;
        let seat = Seat::new(process, index);
        let run = AssertUnwindSafe(|| Runner::new(&shared, worker, index).run());
        if seat.occupy(|| catch_unwind(run)).is_err() {
            process.end(End::Failed(RuntimeError::Panicked(index)));
        }
    };
    let builder = thread::Builder::new().name(format!("kthread {index}"));
    let thread = builder
        .spawn(body)
        .map_err(|e| StartError::Os("clone", e))?;
    let tid = told.recv().expect("a thread that was started says its id");
    Ok((thread, tid))
}

/// Watches the connection to the I/O kernel, and takes the segment's name away as soon as that has it.
fn watch(
    process: &Arc<Process>,
    socket: OwnedFd,
    segment: Segment,
) -> Result<JoinHandle<()>, StartError> {
    let process = Arc::clone(process);
    let body = move || {
        while !process.is_ending() {
            let mut fds = [
                PollFd::new(&socket, PollFlags::IN | PollFlags::RDHUP),
                PollFd::new(&process.notice, PollFlags::IN),
            ];
            // Interrupted: look again.
            let _ = rustix::event::poll(&mut fds, None);
            let hung_up = !fds[0].revents().is_empty();
            let noticed = !fds[1].revents().is_empty();
            if noticed {
                let _ = rustix::io::read(&process.notice, &mut [0; 8]);
            }
            let attached = process.attached.load(Ordering::Acquire);
            if attached {
                segment.forget();
            }
            if hung_up {
                let why = if attached {
                    RuntimeError::HungUp
                } else {
                    RuntimeError::Refused
                };
                process.end(End::Failed(why));
            }
        }
    };
    let builder = thread::Builder::new().name("watcher".into());
    builder.spawn(body).map_err(|e| StartError::Os("clone", e))
}

impl Running {
    /// Ends the runtime, and waits for its callbacks to come back.
    pub fn stop(mut self) -> Stats {
        self.request_stop();
        self.join();
        self.process.stats()
    }

    /// Waits until the application says [`Next::Stop`](crate::Next::Stop).
    ///
    /// # Errors
    /// [`RuntimeError`]: the I/O kernel hung up, the application panicked, or our address is another's.
    pub fn wait(mut self) -> Result<Stats, RuntimeError> {
        self.join();
        match self.process.why() {
            Some(End::Failed(why)) => Err(why),
            Some(End::Asked) | None => Ok(self.process.stats()),
        }
    }

    /// Asks the runtime to end, from any thread, as [`Next::Stop`](crate::Next::Stop) does.
    pub fn request_stop(&self) {
        self.process.end(End::Asked);
    }

    /// The counts so far.
    pub fn stats(&self) -> Stats {
        self.process.stats()
    }

    /// The Ethernet address in use.
    pub fn mac(&self) -> [u8; 6] {
        self.process.mac
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // Panics of the application are caught inside.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.request_stop();
        self.join();
    }
}
