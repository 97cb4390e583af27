//! What all kthreads share: one [`Process`], with one [`Kthread`] each.
//!
//! Who may touch what:
//!
//! | | by | |
//! |---|---|---|
//! | `rxq` | its kthread; others while it is parked | lock, held for one message |
//! | `txpktq`, `txcmdq` | whoever has its core: its kthread, or one that it lent it to; the signal handler in application code | locks, never contended |
//! | `stack` | any kthread that has a segment for it | lock, never held in callbacks |
//! | flags, deadlines | any | atomics |
//!
//! No lock here is ever held while application code runs, so none is held by a
//! kthread that was parked in the middle of a callback.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use calisto::abi::lrpc::{LrpcRx, LrpcTx, RingError};
use calisto::abi::shm::{ShmPtr, ShmRegion};
use calisto::abi::types::{queue_spec, thread_spec};

use crate::claim::Claim;
use crate::config::Config;
use crate::egress::Egress;
use crate::error::RuntimeError;
use crate::neighbours::Neighbours;
use crate::ports::PortSet;
use crate::registration::Layout;
use crate::stats::{Counters, Stats};
use crate::tcp::{Flows, Stack};
use crate::wire::Mac;

/// No kthread.
pub(crate) const NOBODY: usize = usize::MAX;

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

/// Why the runtime ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It was asked to.
    Asked,
    /// Nobody had asked for it.
    Failed(RuntimeError),
}

/// The runtime's state.
#[derive(Debug)]
pub(crate) struct Process {
    /// In order of their numbers.
    pub(crate) kthreads: Box<[Kthread]>,
    /// The egress buffers.
    pub(crate) egress: Egress,
    /// Bound UDP ports.
    pub(crate) udp_ports: PortSet,
    /// TCP ports that are listened on.
    pub(crate) tcp_ports: PortSet,
    /// Ethernet addresses.
    pub(crate) neighbours: Neighbours,
    /// Whether our address is ours.
    pub(crate) claim: Claim,
    /// All TCP connections.
    pub(crate) flows: Flows,
    /// Kthreads that have a core.
    pub(crate) active: AtomicUsize,
    /// Kthreads that were parked in the middle of a callback.
    pub(crate) stuck: AtomicUsize,
    /// The I/O kernel has given a core for the first time.
    pub(crate) attached: AtomicBool,
    /// Wakes the watcher.
    pub(crate) notice: OwnedFd,
    /// As given.
    pub(crate) config: Config,
    /// Ours.
    pub(crate) mac: Mac,
    /// What lies where in the region.
    pub(crate) layout: Layout,
    ending: AtomicBool,
    end: Mutex<Option<End>>,
    started: Instant,
    /// Ours. The views into it, above, are dropped before it.
    pub(crate) region: ShmRegion,
    /// Where received packets lie.
    pub(crate) ingress: ShmRegion,
}

/// One kthread, as all see it.
#[derive(Debug)]
pub(crate) struct Kthread {
    /// From the I/O kernel.
    pub(crate) rxq: Mutex<LrpcRx>,
    /// Packets to it.
    pub(crate) txpktq: Mutex<LrpcTx>,
    /// Commands to it.
    pub(crate) txcmdq: Mutex<LrpcTx>,
    /// Its TCP connections.
    pub(crate) stack: Mutex<Stack>,
    /// It has events for its connections that nobody has handled yet.
    pub(crate) attention: AtomicBool,
    /// It has a core, or believes so.
    pub(crate) running: AtomicBool,
    /// The application says that it has more to do than it can.
    pub(crate) wants_core: AtomicBool,
    /// SIGUSR1 may park it where it is: it runs application code of its own.
    pub(crate) in_app: AtomicBool,
    /// SIGUSR1 came, and was not followed yet.
    pub(crate) preempted: AtomicBool,
    /// It was parked in the middle of a callback, and nobody has lent it a core yet (lend.rs).
    pub(crate) stuck: AtomicBool,
    /// Whose core and queues it has, or [`NOBODY`].
    pub(crate) lent_by: AtomicUsize,
    /// A core that it lent is its own again when this can be read.
    pub(crate) back: OwnedFd,
    /// Its thread.
    pub(crate) tid: AtomicI32,
    /// When [`App::poll`](crate::App::poll) is wanted again.
    pub(crate) app_deadline: AtomicU64,
    /// When its TCP stack is.
    pub(crate) stack_deadline: AtomicU64,
    /// Given a core by writes to it.
    pub(crate) eventfd: OwnedFd,
    /// Its thread's counts.
    pub(crate) counters: Counters,
    congestion: Congestion,
}

impl Process {
    /// Puts a process together.
    pub(crate) fn new(
        config: Config,
        mac: Mac,
        layout: Layout,
        kthreads: Box<[Kthread]>,
        notice: OwnedFd,
        (region, ingress): (ShmRegion, ShmRegion),
    ) -> Process {
        Process {
            kthreads,
            egress: Egress::new(layout.egress_bufs),
            udp_ports: PortSet::new(),
            tcp_ports: PortSet::new(),
            neighbours: Neighbours::new(&config.arp, layout.egress_bufs),
            claim: Claim::new(),
            flows: Flows::new(),
            active: AtomicUsize::new(0),
            stuck: AtomicUsize::new(0),
            attached: AtomicBool::new(false),
            notice,
            config,
            mac,
            layout,
            ending: AtomicBool::new(false),
            end: Mutex::new(None),
            started: Instant::now(),
            region,
            ingress,
        }
    }

    /// Nanoseconds since the start.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(NEVER)
    }

    /// A moment, in nanoseconds since the start.
    pub(crate) fn at(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.started);
        u64::try_from(since.as_nanos()).unwrap_or(NEVER)
    }

    /// The earliest deadline of all: of kthreads, and of questions on the network.
    pub(crate) fn next_deadline(&self) -> u64 {
        let kthreads = self.kthreads.iter().map(Kthread::deadline).min();
        let questions = self.neighbours.next().min(self.claim.next());
        kthreads.unwrap_or(NEVER).min(questions)
    }

    /// True when the kthreads are to end.
    #[inline]
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Ends the runtime. The first reason stands.
    pub(crate) fn end(&self, why: End) {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.get_or_insert(why);
        drop(end);
        // Release: pairs with the acquire load in is_ending().
        self.ending.store(true, Ordering::Release);
        self.claim.wake();
        for fd in self
            .kthreads
            .iter()
            .map(|k| &k.eventfd)
            .chain([&self.notice])
        {
            // A full eventfd wakes its reader as well.
            let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
        }
    }

    /// Why it ended.
    pub(crate) fn why(&self) -> Option<End> {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.clone()
    }

    /// The sum of all counts.
    pub(crate) fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for kthread in &self.kthreads {
            kthread.counters.add_to(&mut sum);
        }
        sum
    }
}

impl Kthread {
    /// A kthread whose queues lie where `spec` says.
    pub(crate) fn new(
        region: &ShmRegion,
        spec: &thread_spec,
        (eventfd, back): (OwnedFd, OwnedFd),
        stack: Stack,
    ) -> Result<Kthread, RingError> {
        let rxq = &spec.rxq;
        let rxq = LrpcRx::new(region, rxq.msg_count, ShmPtr(rxq.msg_buf), ShmPtr(rxq.wb))?;
        let sender =
            |q: &queue_spec| LrpcTx::new(region, q.msg_count, ShmPtr(q.msg_buf), ShmPtr(q.wb));
        let (txpktq, txcmdq) = (sender(&spec.txpktq)?, sender(&spec.txcmdq)?);
        Ok(Kthread {
            rxq: Mutex::new(rxq),
            txpktq: Mutex::new(txpktq),
            txcmdq: Mutex::new(txcmdq),
            stack: Mutex::new(stack),
            attention: AtomicBool::new(false),
            running: AtomicBool::new(false),
            wants_core: AtomicBool::new(false),
            in_app: AtomicBool::new(false),
            preempted: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            lent_by: AtomicUsize::new(NOBODY),
            back,
            tid: AtomicI32::new(0),
            app_deadline: AtomicU64::new(NEVER),
            stack_deadline: AtomicU64::new(NEVER),
            eventfd,
            counters: Counters::default(),
            congestion: Congestion::new(region, ShmPtr(spec.q_ptrs))?,
        })
    }

    /// When something of it is due.
    #[inline]
    pub(crate) fn deadline(&self) -> u64 {
        let app = self.app_deadline.load(Ordering::Acquire);
        app.min(self.stack_deadline.load(Ordering::Acquire))
    }

    /// It has another kthread's core.
    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        self.lent_by.load(Ordering::SeqCst) != NOBODY
    }

    /// Its core is wanted, by the I/O kernel or by the kthread that lent it.
    #[inline]
    pub(crate) fn must_leave(&self) -> bool {
        self.preempted.load(Ordering::SeqCst) || self.is_lent()
    }

    /// Its TCP connections.
    #[inline]
    pub(crate) fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the I/O kernel that more is to be done than gets done, or no longer.
    pub(crate) fn show_congestion(&self, congested: bool) {
        self.congestion.show(congested);
    }
}

/// The words by which a kthread tells how far its run queue has come.
///
/// We have no run queue, so this is a sign and no number: one more queued than taken.
#[derive(Debug)]
struct Congestion {
    head: SharedWord,
    shown: AtomicBool,
}

impl Congestion {
    fn new(region: &ShmRegion, q_ptrs: ShmPtr) -> Result<Congestion, RingError> {
        // rxq_wb, rq_head, rq_tail: the tail stays 0.
        let head = SharedWord::new(region, ShmPtr(q_ptrs.0 + 4))?;
        Ok(Congestion {
            head,
            shown: AtomicBool::new(false),
        })
    }

    #[inline]
    fn show(&self, congested: bool) {
        if self.shown.load(Ordering::Relaxed) != congested {
            self.shown.store(congested, Ordering::Relaxed);
            self.head.store(u32::from(congested));
        }
    }
}

/// A word of the region that we write and the I/O kernel reads.
#[derive(Debug)]
struct SharedWord(std::ptr::NonNull<AtomicU32>);

#[allow(unsafe_code, reason = "a word of the region")]
impl SharedWord {
    fn new(region: &ShmRegion, at: ShmPtr) -> Result<SharedWord, RingError> {
        Ok(SharedWord(region.array::<AtomicU32>(at, 1)?))
    }

    fn store(&self, value: u32) {
        // SAFETY: array() checked bounds and alignment; Process drops its views before the region.
        // Relaxed: the I/O kernel compares the word with itself; nothing is published by it.
        unsafe { self.0.as_ref() }.store(value, Ordering::Relaxed);
    }
}

#[allow(unsafe_code, reason = "a pointer to an atomic")]
// SAFETY: the word is only ever accessed atomically, and the region is Send and Sync.
unsafe impl Send for SharedWord {}
#[allow(unsafe_code, reason = "a pointer to an atomic")]
// SAFETY: as for Send.
unsafe impl Sync for SharedWord {}

/// Nanoseconds of a duration.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}
