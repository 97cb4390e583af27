//! Models of parks and wakes under loom: a message is not left with a kthread that sleeps.
//!
//! The race: a kthread finds its rxq empty and parks, while the polling loop, for which it
//! is still awake, sends it a message. Rings and arbiter are the real ones, and the loop's
//! steps are taken in its order (`steer`, `rx`: wake, then send; `commands`: a park does
//! not stand while a message is under way). Eventfds are a counter under a lock.
//!
//! A wake that is lost leaves a kthread waiting and the loop turning: loom reports it.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --lib park_wake::` runs the models.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};

use crate::abi::lrpc::tests::Ring;
use crate::abi::lrpc::{LrpcRx, LrpcTx};
use crate::abi::types::TXCMD_PARKED;
use crate::cores::arbiter::{
    Arbiter, Decision, Decisions, Park, ProcSpec, QueueObs, Queues, RuntimeCore,
};
use crate::ids::{CoreId, KthreadIdx, Micros, ProcSlot};

const KTHREAD: KthreadIdx = KthreadIdx(0);
/// Slots of each ring: more than are ever under way.
const SLOTS: usize = 4;
/// Preemptions that loom tries in one execution. All that is known of such races
/// needs two.
const PREEMPTIONS: usize = 2;

/// What a runtime of one kthread shares with the loop.
struct Runtime {
    rxq: Ring,
    txcmdq: Ring,
    efd: Mutex<u64>,
    woken: Condvar,
}

#[allow(unsafe_code, reason = "rings are shared with a model's thread")]
// SAFETY: slots and words are atomics; the rest is loom's own.
unsafe impl Send for Runtime {}
#[allow(unsafe_code, reason = "rings are shared with a model's thread")]
// SAFETY: as for Send.
unsafe impl Sync for Runtime {}

impl Runtime {
    fn new() -> Arc<Runtime> {
        Arc::new(Runtime {
            rxq: Ring::new(SLOTS),
            txcmdq: Ring::new(SLOTS),
            efd: Mutex::new(0),
            woken: Condvar::new(),
        })
    }

    /// The loop's side of the eventfd.
    fn wake(&self, core: CoreId) {
        *self.efd.lock().expect("nobody panics") += u64::from(core.0) + 1;
        self.woken.notify_one();
    }

    /// The kthread's: waits until it is woken.
    fn wait(&self) {
        let mut count = self.efd.lock().expect("nobody panics");
        while *count == 0 {
            count = self.woken.wait(count).expect("nobody panics");
        }
        *count = 0;
    }

    /// The kthread: takes what there is, and parks when there is nothing, until each of
    /// `all` has had the messages that it `wanted`. (C: runtime/sched.c, runtime/kthread.c.)
    fn kthread(&self, wanted: usize, done: &AtomicUsize, all: usize) {
        let (_, mut rxq) = self.rxq.ends();
        let (mut txcmdq, _) = self.txcmdq.ends();
        let mut got = 0;
        loop {
            self.wait();
            while rxq.recv().is_some() {
                got += 1;
                if got == wanted {
                    done.fetch_add(1, Ordering::Release);
                }
            }
            rxq.write_back();
            if done.load(Ordering::Acquire) == all {
                return;
            }
            assert!(txcmdq.send(u64::from(TXCMD_PARKED), 0));
        }
    }
}

/// The loop's side: an arbiter, and the ends of each runtime's rings.
struct Loop {
    arbiter: Arbiter,
    decisions: Decisions,
    runtimes: Vec<(Arc<Runtime>, Ends)>,
    now: u64,
}

struct Ends {
    rxq: LrpcTx,
    txcmdq: LrpcRx,
}

/// What the arbiter may look at.
struct Look<'a>(&'a mut [(Arc<Runtime>, Ends)]);

impl Queues for Look<'_> {
    fn observe(&mut self, slot: ProcSlot, _: KthreadIdx) -> QueueObs {
        let rxq = &mut self.0[slot.index()].1.rxq;
        let in_flight = rxq
            .poll_in_flight()
            .expect("the kthread keeps the contract");
        QueueObs {
            rxq_sent: rxq.sent(),
            rxq_consumed: rxq.sent().wrapping_sub(in_flight),
            ..QueueObs::default()
        }
    }
}

impl Loop {
    /// A loop with one core.
    fn new() -> Loop {
        let core = RuntimeCore {
            core: CoreId(0),
            sibling: None,
        };
        Loop {
            arbiter: Arbiter::new(&[core], 2),
            decisions: Decisions::new(),
            runtimes: Vec::new(),
            now: 0,
        }
    }

    fn attach(&mut self, runtime: Arc<Runtime>, guaranteed: u16) -> ProcSlot {
        let slot = ProcSlot(u16::try_from(self.runtimes.len()).expect("few"));
        let ends = Ends {
            rxq: runtime.rxq.ends().0,
            txcmdq: runtime.txcmdq.ends().1,
        };
        self.runtimes.push((runtime, ends));
        let spec = ProcSpec {
            kthreads: 1,
            guaranteed,
        };
        self.arbiter.add(slot, spec, &mut self.decisions);
        self.apply();
        slot
    }

    fn apply(&mut self) {
        for decision in self.decisions.drain(..) {
            match decision {
                Decision::Wake { proc, core, .. } | Decision::Rewake { proc, core, .. } => {
                    self.runtimes[proc.index()].0.wake(core);
                }
                // The victim parks anyway as soon as it has nothing to do.
                Decision::Preempt { .. } => {}
            }
        }
    }

    /// A packet comes for a runtime.
    fn packet(&mut self, slot: ProcSlot) {
        if self.arbiter.active(slot).is_empty() {
            let _ = self.arbiter.kthread_for_packet(slot, &mut self.decisions);
            self.apply();
        }
        assert!(self.runtimes[slot.index()].1.rxq.send(0, 0));
    }

    /// Takes the commands of all.
    fn commands(&mut self) {
        for at in 0..self.runtimes.len() {
            let slot = ProcSlot(u16::try_from(at).expect("few"));
            let ends = &mut self.runtimes[at].1;
            if ends.txcmdq.recv().is_none() {
                continue;
            }
            ends.txcmdq.write_back();
            let in_flight = ends.rxq.poll_in_flight().expect("an honest word") > 0;
            let park = self
                .arbiter
                .park(slot, KTHREAD, in_flight, &mut self.decisions);
            assert_ne!(park, Park::NotRunning, "only who has a core can park");
            self.apply();
        }
    }

    fn tick(&mut self) {
        self.now += 5;
        let mut look = Look(&mut self.runtimes);
        self.arbiter
            .tick(Micros(self.now), &mut look, &mut self.decisions);
        self.apply();
    }

    /// Turns until all kthreads have had what they wanted; then lets them end.
    fn turn_until_done(&mut self, done: &AtomicUsize) {
        while done.load(Ordering::Acquire) < self.runtimes.len() {
            self.commands();
            self.tick();
            loom::thread::yield_now();
        }
        for (runtime, _) in &self.runtimes {
            runtime.wake(CoreId(0));
        }
    }
}

/// Checks a model whose first thread is the loop.
fn model(f: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.max_branches = 10_000;
    builder.check(move || {
        // Decisions need more room than loom gives its first thread.
        let it = loom::thread::Builder::new().stack_size(1 << 20).spawn(f);
        it.expect("a thread").join().expect("the loop");
    });
}

/// Two packets, each of which may come while the kthread is parking.
#[test]
fn a_packet_that_meets_a_park_is_taken() {
    model(|| {
        let runtime = Runtime::new();
        let done = Arc::new(AtomicUsize::new(0));
        let (theirs, its_done) = (runtime.clone(), done.clone());
        let kthread = loom::thread::spawn(move || theirs.kthread(2, &its_done, 1));
        let mut it = Loop::new();
        let slot = it.attach(runtime, 1);
        it.packet(slot);
        it.commands();
        it.packet(slot);
        it.turn_until_done(&done);
        kthread.join().expect("the kthread");
    });
}

/// One core for two: the first has no guarantee, and a packet under way when the second
/// comes and takes the core. Both get their packets.
#[test]
fn a_packet_left_by_a_preempted_kthread_is_taken_when_the_core_is_free() {
    model(|| {
        let runtimes = [Runtime::new(), Runtime::new()];
        let done = Arc::new(AtomicUsize::new(0));
        let kthreads = runtimes.clone().map(|runtime| {
            let done = done.clone();
            loom::thread::spawn(move || runtime.kthread(1, &done, 2))
        });
        let [first, second] = runtimes;
        let mut it = Loop::new();
        let first = it.attach(first, 0);
        let second = it.attach(second, 1);
        it.packet(first);
        it.packet(second);
        it.turn_until_done(&done);
        for kthread in kthreads {
            kthread.join().expect("a kthread");
        }
    });
}
