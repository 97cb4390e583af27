//! Registration: a region, its header, N kthreads, one connection.
//!
//! Every kthread has a thread of its own, so that the I/O kernel has something
//! to pin and to signal, but these threads only sleep: they wait for SIGUSR1
//! (preemption) and note it. One other thread does the kthreads' work
//! ([`sink`](crate::sink)), which takes the operating system's scheduler out of
//! the measurement.

#![allow(unsafe_code, reason = "waits for signals")]

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use calisto::abi::shm::{ShmPtr, ShmRegion};
use calisto_runtime::registration::{self, Layout, RING_SLOTS, Segment};
use calisto_runtime::{MAX_KTHREADS, Pages};
use rustix::event::EventfdFlags;

/// Egress buffers for each kthread: a full txpktq, and as many on their way out.
const EGRESS_BUFS_PER_KTHREAD: u32 = 2 * RING_SLOTS;

/// What to register as.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Kthreads.
    pub kthreads: u16,
    /// Cores that the runtime is guaranteed.
    pub guaranteed: u16,
    /// Last byte of its Ethernet address, 02:00:00:00:00:xx.
    pub id: u8,
    /// How long to wait for the I/O kernel to be there.
    pub patience: Duration,
}

/// An attached runtime. Dropping it hangs up and removes its region.
#[derive(Debug)]
pub struct Runtime {
    /// Its own region.
    pub region: ShmRegion,
    /// Where received packets lie.
    pub ingress: ShmRegion,
    /// What lies where in the region.
    pub layout: Layout,
    /// The kthreads' eventfds, non-blocking, in kthread order.
    pub eventfds: Vec<OwnedFd>,
    /// Set when the I/O kernel preempts a kthread; cleared by whoever parks it.
    pub preempted: Arc<[AtomicBool]>,
    _segment: Segment,
    _socket: OwnedFd,
}

impl Runtime {
    /// Registers with the I/O kernel.
    ///
    /// SIGUSR1 must be blocked in the calling thread ([`block_signals`]), so that
    /// the kthreads' threads inherit that.
    ///
    /// # Errors
    /// No I/O kernel within `spec.patience`, no huge pages, or a refused system call.
    pub fn register(spec: &Spec) -> anyhow::Result<Runtime> {
        ensure!(
            (1..=MAX_KTHREADS).contains(&spec.kthreads) && spec.guaranteed <= spec.kthreads,
            "{} kthreads with {} guaranteed: give 1 to {MAX_KTHREADS}, and no larger guarantee",
            spec.kthreads,
            spec.guaranteed
        );
        let mut layout = Layout::new(spec.kthreads, EGRESS_BUFS_PER_KTHREAD);
        let what = "no ingress segment";
        let ingress = registration::patiently(spec.patience, what, registration::attach_ingress)?;
        // What upstream's runtimes have, whose cost is compared with ours.
        let segment = Segment::create(&layout, Pages::Huge)?;
        let region = segment.attach()?;
        touch(&region)?;

        let eventfds = (0..spec.kthreads)
            .map(|_| rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC))
            .collect::<Result<Vec<_>, _>>()
            .context("cannot make an eventfd for each kthread: raise ulimit -n")?;
        let preempted: Arc<[AtomicBool]> =
            eventfds.iter().map(|_| AtomicBool::new(false)).collect();
        for (i, spec) in layout.specs.iter_mut().enumerate() {
            spec.tid = spawn_kthread(&preempted, i)?;
            spec.park_efd = std::os::fd::AsRawFd::as_raw_fd(&eventfds[i]);
        }
        let mac = [2, 0, 0, 0, 0, spec.id];
        registration::write_header(&region, &layout, mac, spec.guaranteed)?;
        // Last, because an I/O kernel may wait for the rest of a registration and do nothing else.
        let socket = registration::patiently(spec.patience, "no answer", registration::connect)?;
        registration::send(&socket, &segment, &eventfds.iter().collect::<Vec<_>>())?;
        Ok(Runtime {
            region,
            ingress,
            layout,
            eventfds,
            preempted,
            _segment: segment,
            _socket: socket,
        })
    }
}

/// Touches every page, so that no page fault falls into the measurement.
fn touch(region: &ShmRegion) -> anyhow::Result<()> {
    for at in (0..region.len()).step_by(4096) {
        region.write(ShmPtr(at as u64), 0u8)?;
    }
    Ok(())
}

/// Blocks SIGUSR1, SIGINT and SIGTERM in this thread and those it starts.
pub fn block_signals() {
    let set = signal_set(&[libc::SIGUSR1, libc::SIGINT, libc::SIGTERM]);
    // SAFETY: `set` was filled by signal_set(); no old mask is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// A flag that SIGINT and SIGTERM set. They must be blocked ([`block_signals`]).
///
/// # Errors
/// When no thread can be started.
pub fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    thread::Builder::new().spawn(move || {
        wait_for(&signal_set(&[libc::SIGINT, libc::SIGTERM]));
        flag.store(true, Ordering::Relaxed);
    })?;
    Ok(stop)
}

/// Starts the thread that stands for a kthread; returns its thread id.
fn spawn_kthread(preempted: &Arc<[AtomicBool]>, kthread: usize) -> anyhow::Result<i32> {
    let (tell, told) = std::sync::mpsc::channel();
    let preempted = Arc::clone(preempted);
    thread::Builder::new()
        .name(format!("kthread {kthread}"))
        .stack_size(64 << 10)
        .spawn(move || {
            // A receiver that is gone means that registration has failed: nobody waits for us.
            let _ = tell.send(rustix::thread::gettid().as_raw_nonzero().get());
            let set = signal_set(&[libc::SIGUSR1]);
            loop {
                wait_for(&set);
                preempted[kthread].store(true, Ordering::Relaxed);
            }
        })
        .context("cannot start a thread for each kthread")?;
    told.recv().context("a kthread's thread ended at once")
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset() initialises the set that it is given; sigaddset() is then given that
    // one, and signal numbers from libc's own constants.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

fn wait_for(set: &libc::sigset_t) {
    let mut signal = 0;
    // SAFETY: both point to locals that outlive the call.
    unsafe { libc::sigwait(set, &raw mut signal) };
}
