//! The runtime: what a kthread does next. Upstream's scheduler (runtime/sched.c).
//!
//! In this order: a softirq for its rxq, if it is overdue; its run queue; its rxq; half the run
//! queue, else the rxq, of the kthread that ran on the sibling last, of one at random, of every
//! one that is attached. Finding nothing it looks again and again, and parks after
//! [`spin_ns`](crate::Runtime::spin_ns).
//!
//! # Simplifications
//!
//! Run queues have no end (upstream's overflow list counts for the I/O kernel here). Two
//! kthreads that look at a third at the same time do not hinder each other. Looking in vain is
//! not simulated look by look: when something comes, the time of the next look is known.

use calisto::ids::CoreId;
use rand::RngExt;

use super::dispatcher::Command;
use super::kthread::{Doing, Message, Running, Spent, Uthread};
use super::proc::index;
use super::{Sim, span};

/// Most uthreads stolen at once: half a run queue. C: `RUNTIME_RQ_SIZE`.
const STOLEN_MAX: usize = 16;

impl Sim {
    /// Plans what the kthread comes to next.
    pub(super) fn plan(&mut self, p: usize, k: usize, at: u64) {
        self.events.plan(p, k, at);
    }

    /// The kthread comes to the end of what it did.
    pub(super) fn step(&mut self, p: usize, k: usize) {
        let now = self.now;
        let kthread = &mut self.procs[p].kthreads[k];
        match std::mem::replace(&mut kthread.doing, Doing::Blocked) {
            Doing::Blocked => unreachable!("a blocked kthread has no plans"),
            Doing::Waking => self.awake(p, k),
            Doing::Running(running) => self.ran(p, k, running),
            Doing::Parking { voluntary } => {
                let (proc, kthread) = (index(p), index(k));
                self.command(Command::Park {
                    proc,
                    kthread,
                    join: !voluntary,
                });
            }
            Doing::Spinning {
                since,
                until,
                armed,
            } => {
                let found = if armed { self.find(p, k, false) } else { None };
                if let Some((uthread, cost)) = found {
                    self.stop_spinning(p, k, since);
                    self.start(p, k, uthread, cost);
                } else if now >= until {
                    self.stop_spinning(p, k, since);
                    self.park(p, k, true);
                } else {
                    self.procs[p].kthreads[k].doing = Doing::Spinning {
                        since,
                        until,
                        armed: false,
                    };
                    self.plan(p, k, until);
                }
            }
        }
    }

    /// The kthread runs again, on its core.
    fn awake(&mut self, p: usize, k: usize) {
        let proc = &mut self.procs[p];
        let kthread = &mut proc.kthreads[k];
        let core = kthread.core;
        kthread.parked = false;
        let asked_to_park = std::mem::take(&mut kthread.preempted);
        if kthread.detached {
            proc.attach(k);
        } else {
            proc.parked_attached -= 1;
        }
        proc.recent[core.index()] = Some(index(k));
        self.busy[core.index()] = true;
        if asked_to_park {
            self.park(p, k, false);
        } else {
            self.schedule(p, k, false);
        }
    }

    /// The kthread looks for something to run.
    pub(super) fn schedule(&mut self, p: usize, k: usize, yielded: bool) {
        if let Some((uthread, cost)) = self.find(p, k, yielded) {
            self.start(p, k, uthread, cost);
            return;
        }
        let until = self.now + span(self.machine.runtime.spin_ns);
        let proc = &mut self.procs[p];
        proc.spinning.push(index(k));
        proc.kthreads[k].doing = Doing::Spinning {
            since: self.now,
            until,
            armed: false,
        };
        self.plan(p, k, until);
    }

    /// What to run next, and what it took to find it.
    fn find(&mut self, p: usize, k: usize, yielded: bool) -> Option<(Uthread, f64)> {
        let budget = self.machine.runtime.softirq_budget;
        let now = self.now;
        let proc = &mut self.procs[p];
        if proc.waiting == 0 && proc.parked_attached == 0 {
            return None;
        }
        let kthread = &mut proc.kthreads[k];
        let overdue = (now - kthread.last_watchdog) > span(self.machine.runtime.watchdog_ns);
        if overdue {
            kthread.last_watchdog = now;
        }
        let mut found = None;
        if overdue || yielded {
            found = proc.softirq(k, budget).map(|(uthread, _)| uthread);
        }
        let found = found
            .or_else(|| proc.take_ready(k))
            .or_else(|| proc.softirq(k, budget).map(|(uthread, _)| uthread));
        match found {
            Some(uthread) => {
                self.touch_queues();
                Some((uthread, 0.0))
            }
            None => self.steal(p, k),
        }
    }

    fn steal(&mut self, p: usize, k: usize) -> Option<(Uthread, f64)> {
        let (probe, steal) = (self.machine.runtime.probe_ns, self.machine.runtime.steal_ns);
        let core = self.procs[p].kthreads[k].core;
        let sibling = self.sibling[core.index()].and_then(|s| self.procs[p].recent[s.index()]);
        let mut cost = 0.0;
        if let Some(victim) = sibling {
            cost += probe;
            if let Some(uthread) = self.steal_from(p, k, victim.into()) {
                return Some((uthread, cost + steal));
            }
        }
        let proc = &mut self.procs[p];
        let attached = proc.attached.len();
        let at = proc.victims.random_range(0..attached);
        let random = proc.attached[at];
        cost += probe;
        if let Some(uthread) = self.steal_from(p, k, random.into()) {
            return Some((uthread, cost + steal));
        }
        for at in 0..attached {
            // Detaching makes the list shorter.
            let Some(&victim) = self.procs[p].attached.get(at) else {
                break;
            };
            cost += probe;
            if let Some(uthread) = self.steal_from(p, k, victim.into()) {
                return Some((uthread, cost + steal));
            }
        }
        None
    }

    /// Takes what can be taken from another kthread. C: `steal_work`.
    fn steal_from(&mut self, p: usize, k: usize, victim: usize) -> Option<Uthread> {
        let budget = self.machine.runtime.softirq_budget;
        let proc = &mut self.procs[p];
        if victim == k || proc.kthreads[victim].detached {
            return None;
        }
        let there = proc.kthreads[victim].rq.len();
        if there > 0 {
            let stolen = there.div_ceil(2).min(STOLEN_MAX);
            for _ in 0..stolen {
                let ready = proc.kthreads[victim].take_ready();
                let ready = ready.expect("as many as were counted");
                proc.kthreads[k].ready(ready.uthread, ready.since);
            }
            proc.meter.counts.steals.uthreads += stolen as u64;
            let uthread = proc.take_ready(k);
            self.touch_queues();
            return uthread;
        }
        if let Some((uthread, packets)) = proc.softirq(victim, budget) {
            proc.meter.counts.steals.packets += packets;
            self.touch_queues();
            return Some(uthread);
        }
        if proc.kthreads[victim].parked {
            proc.detach(victim);
        }
        None
    }

    /// Takes over what a parked kthread left. C: `join_kthread`.
    fn join(&mut self, p: usize, k: usize, left: usize) {
        let now = self.now;
        let proc = &mut self.procs[p];
        let other = &proc.kthreads[left];
        if left == k || other.detached || !other.parked {
            return;
        }
        while let Some(uthread) = proc.take_ready(left) {
            proc.ready(k, uthread, now);
        }
        proc.detach(left);
        self.announce(p);
    }

    /// Runs a uthread, found at such a cost.
    fn start(&mut self, p: usize, k: usize, uthread: Uthread, cost: f64) {
        let r = self.machine.runtime;
        let core = self.procs[p].kthreads[k].core;
        let mut spent = Spent {
            overhead: cost + r.switch_ns,
            ..Spent::default()
        };
        let uthread = match uthread {
            Uthread::Softirq(messages) => {
                spent.softirq = r.softirq_ns + self.softirq_ns(&messages);
                Uthread::Softirq(messages)
            }
            Uthread::Request { packet, left, on } => {
                spent.overhead += r.tx_ns;
                spent.service = left;
                let proc = &mut self.procs[p];
                if self.machine.physical(on) != self.machine.physical(core) {
                    spent.overhead += self.caches.dirty_ns(r.uthread_lines);
                    proc.meter.counts.steals.ran_elsewhere += 1;
                }
                let flow = self.packets[packet as usize].flow as usize;
                let touches = &mut proc.meter.counts.touches;
                let place = &mut proc.flows[flow].place;
                spent.state = self.caches.touch(core, place, proc.footprint, touches);
                self.caches.pollute(core, proc.other_bytes.into());
                let on = core;
                Uthread::Request { packet, left, on }
            }
            Uthread::Batch { left } => {
                spent.service = left;
                Uthread::Batch { left }
            }
        };
        self.run_for(p, k, uthread, spent);
    }

    fn run_for(&mut self, p: usize, k: usize, uthread: Uthread, spent: Spent) {
        let core = self.procs[p].kthreads[k].core;
        let factor = match self.sibling[core.index()] {
            Some(sibling) if self.busy[sibling.index()] => self.machine.cache.sibling_factor,
            _ => 1.0,
        };
        let until = self.now + span(spent.total() * factor);
        self.procs[p].kthreads[k].doing = Doing::Running(Running {
            uthread,
            since: self.now,
            until,
            factor,
            spent,
        });
        self.plan(p, k, until);
    }

    /// The time of messages up to the next packet.
    fn softirq_ns(&self, messages: &[Message]) -> f64 {
        let r = &self.machine.runtime;
        let mut ns = 0.0;
        for message in messages.iter().rev() {
            if let Message::Packet(_) = message {
                return ns + r.packet_ns;
            }
            ns += r.message_ns;
        }
        ns
    }

    /// A uthread came to its end, or a softirq to that of a packet.
    fn ran(&mut self, p: usize, k: usize, running: Running) {
        self.charge(p, &running, 1.0);
        match running.uthread {
            Uthread::Softirq(messages) => self.softirq_on(p, k, messages),
            Uthread::Request { packet, .. } => {
                self.reply(packet, k);
                self.schedule(p, k, false);
            }
            Uthread::Batch { .. } => {
                let core = self.procs[p].kthreads[k].core;
                let proc = &mut self.procs[p];
                proc.meter.counts.slices += 1;
                let batch = proc.batch.expect("it has batch uthreads");
                self.caches
                    .pollute(core, batch.slice_ns * u64::from(batch.bytes_per_us) / 1000);
                #[allow(clippy::cast_precision_loss, reason = "a slice")]
                let left = batch.slice_ns as f64;
                proc.ready(k, Uthread::Batch { left }, self.now);
                self.announce(p);
                self.schedule(p, k, true);
            }
        }
    }

    /// Does what was paid for, and goes on with the next messages.
    fn softirq_on(&mut self, p: usize, k: usize, mut messages: Vec<Message>) {
        while let Some(message) = messages.pop() {
            match message {
                Message::Complete => {}
                Message::Join(left) => self.join(p, k, left.into()),
                Message::Packet(packet) => {
                    self.deliver(p, k, packet);
                    break;
                }
            }
        }
        if messages.is_empty() {
            self.procs[p].spare.push(messages);
            return self.schedule(p, k, false);
        }
        let spent = Spent {
            softirq: self.softirq_ns(&messages),
            ..Spent::default()
        };
        self.run_for(p, k, Uthread::Softirq(messages), spent);
    }

    /// Receive processing of a packet is done: a uthread can work on it.
    fn deliver(&mut self, p: usize, k: usize, packet: u32) {
        let InFlightView { flow, seq, service } = self.view(packet);
        let proc = &mut self.procs[p];
        let flow = &mut proc.flows[flow];
        if seq.wrapping_sub(flow.seen) >= 1 << 15 {
            proc.meter.counts.reordered += 1;
        } else {
            flow.seen = seq;
        }
        let on = proc.kthreads[k].core;
        let uthread = Uthread::Request {
            packet,
            left: service,
            on,
        };
        proc.ready(k, uthread, self.now);
        self.announce(p);
        // Its buffer goes back.
        self.command(Command::Returned);
    }

    fn view(&self, packet: u32) -> InFlightView {
        let packet = &self.packets[packet as usize];
        InFlightView {
            flow: packet.flow as usize,
            seq: packet.seq,
            service: packet.service.into(),
        }
    }

    /// Something came to a queue of the runtime: who looks for work will find it.
    pub(super) fn announce(&mut self, p: usize) {
        self.touch_queues();
        let now = self.now;
        for at in 0..self.procs[p].spinning.len() {
            let proc = &mut self.procs[p];
            let k = usize::from(proc.spinning[at]);
            #[allow(clippy::cast_precision_loss, reason = "256 at most")]
            let round = self.machine.runtime.probe_ns * proc.attached.len() as f64;
            let round = span(round).max(1);
            let Doing::Spinning {
                since,
                until,
                ref mut armed,
            } = proc.kthreads[k].doing
            else {
                continue;
            };
            let next = since + ((now - since) / round + 1) * round;
            if !*armed && next < until {
                *armed = true;
                self.plan(p, k, next);
            }
        }
    }

    fn stop_spinning(&mut self, p: usize, k: usize, since: u64) {
        let proc = &mut self.procs[p];
        proc.spinning.retain(|&s| usize::from(s) != k);
        #[allow(clippy::cast_precision_loss, reason = "a few microseconds")]
        {
            proc.meter.counts.time.spin += (self.now - since) as f64;
        }
    }

    /// The signal that asks the kthread to park has come. C: `handle_sigusr1`.
    pub(super) fn signalled(&mut self, p: usize, k: usize) {
        let kthread = &mut self.procs[p].kthreads[k];
        match std::mem::replace(&mut kthread.doing, Doing::Blocked) {
            Doing::Waking => {
                kthread.preempted = true;
                kthread.doing = Doing::Waking;
            }
            // It is about to give its core up anyway.
            other @ (Doing::Blocked | Doing::Parking { .. }) => kthread.doing = other,
            Doing::Spinning { since, .. } => {
                self.stop_spinning(p, k, since);
                self.park(p, k, false);
            }
            Doing::Running(running) => {
                self.interrupted(p, k, running);
                self.park(p, k, false);
            }
        }
    }

    /// A uthread is taken off its core, and goes on later, maybe elsewhere.
    #[allow(clippy::cast_precision_loss, reason = "a span")]
    fn interrupted(&mut self, p: usize, k: usize, running: Running) {
        let whole = (running.until - running.since).max(1) as f64;
        let done = (self.now - running.since) as f64 / whole;
        self.charge(p, &running, done);
        let rest = (running.until - self.now) as f64 / running.factor;
        let uthread = match running.uthread {
            Uthread::Softirq(messages) => Uthread::Softirq(messages),
            // What it spent first was overhead, what comes last is sending.
            Uthread::Request { packet, left, on } => Uthread::Request {
                packet,
                left: (rest - self.machine.runtime.tx_ns).clamp(0.0, left),
                on,
            },
            Uthread::Batch { left } => Uthread::Batch {
                left: rest.min(left),
            },
        };
        self.procs[p].ready(k, uthread, self.now);
        self.announce(p);
    }

    /// Counts a share of a span.
    fn charge(&mut self, p: usize, running: &Running, share: f64) {
        let time = &mut self.procs[p].meter.counts.time;
        let spent = &running.spent;
        time.service += spent.service * share;
        time.state += spent.state * share;
        time.softirq += spent.softirq * share;
        time.overhead += spent.overhead * share;
        time.sibling += spent.total() * (running.factor - 1.0) * share;
    }

    /// The kthread gives up its core. C: `kthread_park`.
    fn park(&mut self, p: usize, k: usize, voluntary: bool) {
        let proc = &mut self.procs[p];
        let kthread = &mut proc.kthreads[k];
        kthread.parked = true;
        kthread.park_seen = false;
        kthread.doing = Doing::Parking { voluntary };
        proc.parked_attached += 1;
        self.busy[kthread.core.index()] = false;
        let park_ns = self.machine.runtime.park_ns;
        proc.meter.counts.time.overhead += park_ns;
        let at = self.now + span(park_ns);
        self.plan(p, k, at);
    }

    /// The dispatcher has written the kthread's eventfd; it will run after `latency`.
    pub(super) fn wake(&mut self, p: usize, k: usize, core: CoreId, at: u64) {
        let kthread = &mut self.procs[p].kthreads[k];
        debug_assert!(matches!(kthread.doing, Doing::Blocked));
        kthread.core = core;
        kthread.doing = Doing::Waking;
        self.plan(p, k, at);
    }
}

/// What receive processing learns of a packet.
struct InFlightView {
    flow: usize,
    seq: u16,
    service: f64,
}
