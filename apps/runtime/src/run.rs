//! A kthread's loop: messages, events, timers, the application's poll; then park.
//!
//! Every step is bounded, and the signal's flag is looked at between any two.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::app::{App, Next, StreamEvent, StreamId};
use crate::claim::Step;
use crate::net::Net;
use crate::park::Seat;
use crate::process::{End, NEVER, Process, nanos};
use crate::worker::Worker;

/// Messages taken before anything else is looked at.
const RX_BURST: usize = 32;
/// Events of connections handled before anything else is looked at.
const EVENT_BURST: usize = 64;
/// Nanoseconds after which a kthread with work looks after parked ones all the same.
const LOOK_EVERY: u64 = 100_000;

/// What kthreads' threads share, with the application.
#[derive(Debug)]
pub(crate) struct Shared<A: App> {
    /// The application.
    pub(crate) app: Arc<A>,
    /// Each kthread's own state. Held while its callbacks run, by its own thread for as
    /// long as it runs, by others only while it is parked.
    pub(crate) locals: Box<[Mutex<A::Local>]>,
    /// The rest.
    pub(crate) process: Arc<Process>,
}

/// One kthread's thread.
pub(crate) struct Runner<'p, A: App> {
    pub(crate) shared: &'p Shared<A>,
    pub(crate) process: &'p Process,
    pub(crate) worker: Worker,
    pub(crate) index: usize,
    idle_since: u64,
    looked: u64,
}

/// Why a turn on the core is over.
enum Over {
    Idle,
    Preempted,
    Ending,
}

impl<'p, A: App> Runner<'p, A> {
    /// The thread of kthread `index`.
    pub(crate) fn new(shared: &'p Shared<A>, worker: Worker, index: usize) -> Runner<'p, A> {
        Runner {
            shared,
            process: &shared.process,
            worker,
            index,
            idle_since: 0,
            looked: 0,
        }
    }

    /// Runs until the runtime ends. Comes back in the middle only by a panic of the application.
    pub(crate) fn run(mut self) {
        let process = self.process;
        let shared = self.shared;
        let seat = Seat::new(process, self.index);
        seat.wait_first();
        self.worker.now = process.now();
        if self.index == 0 && !process.is_ending() {
            // Before the first packet: it is here that ports are bound. Or in claim().
            self.poll(0, &mut lock(&shared.locals[0]));
        }
        loop {
            let over = self.turn(&mut lock(&shared.locals[self.index]));
            self.worker.before_park();
            match over {
                Over::Ending => return,
                Over::Preempted => seat.park_preempted(),
                Over::Idle => {
                    if !seat.park_idle() {
                        std::thread::yield_now();
                    }
                }
            }
            self.idle_since = process.now();
        }
    }

    /// Works until there is a reason to give the core up.
    fn turn(&mut self, local: &mut A::Local) -> Over {
        let process = self.process;
        let own = &process.kthreads[self.index];
        loop {
            if process.is_ending() {
                return Over::Ending;
            }
            if own.must_leave() {
                return Over::Preempted;
            }
            self.worker.now = process.now();
            let mut worked = self.take(self.index, local, RX_BURST) > 0;
            if own.must_leave() {
                continue;
            }
            worked |= self.claim(local);
            worked |= self.connections(self.index, local);
            worked |= self.worker.neighbours_due();
            let next = self.poll(self.index, local);
            worked |= next == Next::Busy;
            // What poll() wrote goes out before anything else.
            self.flush(self.index);
            let stuck = process.stuck.load(Ordering::Acquire) > 0;
            own.show_congestion(stuck || own.wants_core.load(Ordering::Relaxed));

            if !worked || self.worker.now.saturating_sub(self.looked) >= LOOK_EVERY {
                self.looked = self.worker.now;
                worked |= self.take_over(local);
                worked |= Seat::new(process, self.index).lend();
            }
            if worked {
                self.idle_since = self.worker.now;
                continue;
            }
            // Several kthreads may share a CPU: leave it to whoever has work.
            std::thread::yield_now();
            let idle = self.worker.now.saturating_sub(self.idle_since);
            if !process.config.spinning && idle >= nanos(process.config.park_after) {
                return Over::Idle;
            }
        }
    }

    /// Goes on to make our address ours, if it is time.
    fn claim(&mut self, local: &mut A::Local) -> bool {
        let process = self.process;
        // Ending: somebody else may have the address.
        if process.claim.is_held() || process.is_ending() {
            return false;
        }
        match process.claim.step(self.worker.now) {
            Step::Wait => return false,
            Step::Probe => self.worker.probe(),
            Step::Held => {
                // Kthread 0's first poll, where ports are bound, before our address is known.
                if self.index == 0 {
                    self.poll(0, local);
                } else {
                    let first = &process.kthreads[0];
                    // Release: pairs with the acquire load in Kthread::deadline().
                    first.app_deadline.store(0, Ordering::Release);
                    self.look_after(0, local);
                }
                self.worker.announce();
            }
        }
        true
    }

    /// Runs a callback of kthread `owner`.
    pub(crate) fn call<T>(&mut self, owner: usize, f: impl FnOnce(&A, &mut Net<'_>) -> T) -> T {
        let (app, process) = (&self.shared.app, self.process);
        let mut net = Net::new(&mut self.worker, process, owner, self.index);
        net.lend(|net| f(app, net))
    }

    /// Lets kthread `owner`'s application part look whether it has something to do.
    pub(crate) fn poll(&mut self, owner: usize, local: &mut A::Local) -> Next {
        let own = &self.process.kthreads[owner];
        // One load: if the address becomes ours meanwhile, this time comes soon enough.
        let held_at = self.process.claim.next();
        if held_at != NEVER {
            own.app_deadline.store(held_at, Ordering::Release);
            return Next::Idle;
        }
        let next = self.call(owner, |app, net| app.poll(local, net));
        let deadline = match next {
            // If it loses its core: at once.
            Next::Busy => 0,
            Next::Idle => NEVER,
            Next::Until(time) => self.process.at(time),
            Next::Stop => {
                self.process.end(End::Asked);
                NEVER
            }
        };
        // Release: pairs with the acquire load in Kthread::deadline().
        own.app_deadline.store(deadline, Ordering::Release);
        next
    }

    /// Handles events of kthread `owner`'s connections, and sends what comes of it. True
    /// if there was any.
    pub(crate) fn connections(&mut self, owner: usize, local: &mut A::Local) -> bool {
        let process = self.process;
        let kthread = &process.kthreads[owner];
        self.flush(owner);
        let mut handled = 0;
        if kthread.attention.swap(false, Ordering::SeqCst) {
            while handled < EVENT_BURST {
                let next = kthread.stack().next_event();
                let Some((id, event)) = next else { break };
                self.count(event);
                self.event(owner, local, id, event);
                handled += 1;
                // The rest is there for whoever comes next.
                if self.process.kthreads[self.index].must_leave() {
                    break;
                }
            }
            // The flush notes that there are more.
            self.flush(owner);
        }
        handled > 0
    }

    fn event(&mut self, owner: usize, local: &mut A::Local, id: StreamId, event: StreamEvent) {
        self.call(owner, |app, net| app.stream(local, net, id, event));
    }

    fn count(&self, event: StreamEvent) {
        if event == StreamEvent::Opened {
            self.worker.counters().tcp_opened.inc();
        }
    }

    /// Sends what kthread `owner`'s connections have to send, if it is time.
    pub(crate) fn flush(&mut self, owner: usize) {
        let process = self.process;
        let kthread = &process.kthreads[owner];
        let mut stack = kthread.stack();
        let deadline = stack.flush(&mut self.worker);
        // Release: pairs with the acquire load in Kthread::deadline().
        kthread.stack_deadline.store(deadline, Ordering::Release);
        if stack.has_events() {
            kthread.attention.store(true, Ordering::SeqCst);
        }
    }
}

/// The lock, also after a panic: then the runtime is ending.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
