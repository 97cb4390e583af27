//! A runtime: its kthreads, its flows, its steering, its counts.

use calisto::hint::prefetch_write;
use calisto::ids::{CoreId, KthreadIdx};
use calisto::pages::{Pages, Zero};
use calisto::stats::SteerStats;
use calisto::steering::{ProcSteering, Rxqs};
use rand_pcg::Pcg64Mcg;

use super::kthread::{Kthread, Message, Uthread};
use super::meter::Meter;
use crate::arrivals::{self, Packet};
use crate::cache::{Footprint, Place};
use crate::error::SimError;
use crate::scenario::{Batch, Scenario};

/// What is known of a flow. There may be ten millions of them. All zero: one that is new.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flow {
    pub(super) place: Place,
    /// The core to which its last packet was steered, and one; 0: none came.
    steered: u16,
    pub(super) generation: u16,
    /// Packets that came, and the latest of them that was touched. These wrap.
    pub(super) sent: u16,
    pub(super) seen: u16,
}

const _: () = assert!(size_of::<Flow>() <= 24, "ten million flows are 240 MB");

#[allow(unsafe_code, reason = "says that zeroed memory is a value")]
// SAFETY: it and the place in it are integers.
unsafe impl Zero for Flow {}

impl Flow {
    /// A packet is steered to `core`; the core of the one before.
    pub(super) fn steered(&mut self, core: CoreId) -> Option<CoreId> {
        let last = std::mem::replace(&mut self.steered, core.0 + 1);
        last.checked_sub(1).map(CoreId)
    }

    /// Asks for it to be in the cache soon. It may lie in two lines.
    pub(super) fn prefetch(&self) {
        let first: *const Flow = self;
        prefetch_write(first);
        prefetch_write(first.cast::<u8>().wrapping_add(size_of::<Flow>() - 1));
    }

    /// Another flow takes its place. Packets that are under way keep their numbers.
    pub(super) fn renew(&mut self, generation: u16) {
        *self = Flow {
            generation,
            sent: self.sent,
            seen: self.seen,
            ..Flow::default()
        };
    }
}

/// A runtime.
#[derive(Debug)]
pub(super) struct ProcSim {
    pub(super) steering: Box<ProcSteering>,
    pub(super) stats: SteerStats,
    pub(super) kthreads: Vec<Kthread>,
    /// Kthreads from which others steal. C: `ks`.
    pub(super) attached: Vec<u16>,
    /// Of those, how many have parked.
    pub(super) parked_attached: usize,
    /// Messages and uthreads in all rxqs and on all run queues.
    pub(super) waiting: usize,
    /// Those that look for work.
    pub(super) spinning: Vec<u16>,
    /// By core: the kthread that ran there last. C: `cpu_map[].recent_kthread`.
    pub(super) recent: Vec<Option<u16>>,
    pub(super) round_robin: u32,
    pub(super) guaranteed: u16,
    pub(super) flows: Pages<Flow>,
    pub(super) footprint: Footprint,
    pub(super) other_bytes: u32,
    pub(super) batch: Option<Batch>,
    pub(super) victims: Pcg64Mcg,
    /// Emptied lists of messages, to be used again.
    pub(super) spare: Vec<Vec<Message>>,
    pub(super) meter: Meter,
}

impl ProcSim {
    pub(super) fn new(scenario: &Scenario, at: usize, cores: usize) -> Result<ProcSim, SimError> {
        let proc = &scenario.procs[at];
        let kthreads = scenario.kthreads(proc);
        let load = proc.load.as_ref();
        let flows = load.map_or(0, |load| load.flows);
        let spec = scenario.steering.spec(flows);
        Ok(ProcSim {
            steering: ProcSteering::new(&spec, kthreads, || {})?,
            stats: SteerStats::default(),
            kthreads: (0..kthreads).map(|_| Kthread::new()).collect(),
            attached: Vec::with_capacity(kthreads.into()),
            parked_attached: 0,
            waiting: 0,
            spinning: Vec::with_capacity(kthreads.into()),
            recent: vec![None; cores],
            round_robin: 0,
            guaranteed: proc.guaranteed,
            flows: Pages::zeroed(flows as usize, || {})?,
            footprint: load.map_or(Footprint::new(0, 0.0), |load| {
                Footprint::new(load.state_bytes, load.write_share)
            }),
            other_bytes: load.map_or(0, |load| load.other_bytes),
            batch: proc.batch,
            victims: arrivals::stream(scenario.seed, at, 5),
            spare: Vec::new(),
            meter: Meter::new(),
        })
    }

    /// The RSS hash of a packet.
    pub(super) fn hash(&self, packet: &Packet) -> u32 {
        #[allow(clippy::cast_possible_truncation, reason = "MAX_FLOWS")]
        let flows = self.flows.len() as u32;
        arrivals::rss_hash(packet.flow, flows, packet.generation)
    }

    /// Asks for what will be read when the packet comes to be in the cache by then.
    pub(super) fn ask_for(&self, packet: &Packet) {
        self.flows[packet.flow as usize].prefetch();
        self.steering.ahead().ask_for(self.hash(packet));
    }

    /// Puts a uthread on a kthread's run queue.
    pub(super) fn ready(&mut self, k: usize, uthread: Uthread, now: u64) {
        self.kthreads[k].ready(uthread, now);
        self.waiting += 1;
    }

    /// Takes the next uthread from it.
    pub(super) fn take_ready(&mut self, k: usize) -> Option<Uthread> {
        let ready = self.kthreads[k].take_ready()?;
        self.waiting -= 1;
        Some(ready.uthread)
    }

    /// Takes messages from a kthread's rxq; nothing if there are none. Also says how many are packets.
    pub(super) fn softirq(&mut self, k: usize, budget: u32) -> Option<(Uthread, u64)> {
        if self.kthreads[k].rxq.is_empty() {
            return None;
        }
        let mut messages = self.spare.pop().unwrap_or_default();
        let packets = self.kthreads[k].take_messages(budget, &mut messages);
        self.waiting -= messages.len();
        Some((Uthread::Softirq(messages), packets))
    }

    /// Others may steal from the kthread from now on.
    pub(super) fn attach(&mut self, k: usize) {
        self.kthreads[k].detached = false;
        self.attached.push(index(k));
    }

    /// A parked kthread has nothing left, and others need not look at it any more: unless the
    /// dispatcher has not seen its park, or sent it something. C: `kthread_detach`.
    pub(super) fn detach(&mut self, k: usize) {
        let kthread = &mut self.kthreads[k];
        if !kthread.park_seen || !kthread.rxq.is_empty() {
            return;
        }
        kthread.detached = true;
        self.parked_attached -= 1;
        let at = self.attached.iter().position(|&r| usize::from(r) == k);
        self.attached
            .swap_remove(at.expect("who is not detached is in the list"));
    }
}

/// A kthread's or proc's number as it is stored.
pub(super) fn index(n: usize) -> u16 {
    u16::try_from(n).expect("256 kthreads and 64 procs at most")
}

/// The rxqs of a runtime, as steering sees them.
#[derive(Debug)]
pub(super) struct SimRxqs<'a>(pub(super) &'a [Kthread]);

impl Rxqs for SimRxqs<'_> {
    fn sent(&self, kthread: KthreadIdx) -> u32 {
        self.0[kthread.index()].sent
    }

    fn consumed(&mut self, kthread: KthreadIdx) -> u32 {
        self.0[kthread.index()].consumed
    }
}
