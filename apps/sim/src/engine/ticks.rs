//! The dispatcher's ticks: every 5 us a round of the arbiter and a little housekeeping.
//!
//! # Ticks that are left out
//!
//! Ticks in a row without a decision, before and between which no queue and no core changed,
//! are followed by more of the same until something changes. Three are enough (one forgives a
//! kthread just woken, one remembers, one compares), and one more for each kthread that parked
//! with messages, for the arbiter looks after one of these a tick; as long as such messages
//! lie there, no tick is left out. Where nobody has or wants a core and nothing waits, even the
//! first finds nothing to decide. Those that are left out are not carried out; only the time
//! they take is kept: who comes in the middle of one waits for its end. Of the first ones, this
//! is also counted as the dispatcher's busy time, as if they had been carried out; of further
//! ones only what somebody waited.

use calisto::dataplane::ADJUST_INTERVAL;
use calisto::ids::Micros;

use super::dispatcher::times;
use super::{Sim, span};

/// Time between ticks, nanoseconds.
const TICK_NS: u64 = ADJUST_INTERVAL.0 * 1000;

impl Sim {
    pub(super) fn tick_ns(&self) -> f64 {
        let d = &self.machine.dispatcher;
        let procs = 0..self.procs.len();
        let active: usize = procs.map(|p| self.arbiter.active(Sim::slot(p)).len()).sum();
        d.tick_ns + times(active, d.tick_kthread_ns)
    }

    /// A little of what need not be done at once, for one runtime, another each time.
    pub(super) fn housekeep(&mut self, now: u64) {
        self.dispatcher.clock = Micros(now / 1000);
        self.dispatcher.house_turn += 1;
        if self.dispatcher.house_turn >= self.procs.len() {
            self.dispatcher.house_turn = 0;
        }
        let proc = &mut self.procs[self.dispatcher.house_turn];
        let kthreads = &proc.kthreads;
        proc.steering
            .housekeep(self.dispatcher.clock, &proc.stats, |k| {
                kthreads[k.index()].received
            });
    }

    /// True if ticks are left out from now on.
    pub(super) fn is_still(&mut self) -> bool {
        // One that is overdue comes late, and so do all after it.
        if !self.skip_idle_ticks || self.dispatcher.next_tick <= self.now {
            return false;
        }
        let repeats = self.dispatcher.repeats() && !self.is_left_behind();
        if repeats {
            self.dispatcher.left = 0;
        }
        self.dispatcher.leaving_out = repeats || self.is_quiet();
        self.dispatcher.leaving_out
    }

    /// True if a tick has nothing to decide: nobody has a core or wants one. (A tick that is
    /// longer than the time between them would be overdue.)
    fn is_quiet(&self) -> bool {
        self.arbiter.is_at_rest()
            && self.procs.iter().all(|proc| proc.waiting == 0)
            && span(self.tick_ns()) < TICK_NS
    }

    /// Ticks are no longer left out; the next one is not.
    pub(super) fn catch_up(&mut self) {
        self.leave_out();
        self.dispatcher.leaving_out = false;
    }

    /// Leaves out ticks up to the last before now, if they are left out just now. Counts wait
    /// for the next one that is carried out.
    pub(super) fn leave_out(&mut self) {
        if !self.dispatcher.leaving_out {
            return;
        }
        while self.dispatcher.next_tick < self.now {
            let began = self.dispatcher.next_tick;
            self.housekeep(began);
            let first = !self.dispatcher.repeats();
            if first {
                let took = self.tick_ns();
                self.dispatcher.busy_ns += took;
                self.dispatcher.still += 1;
                if self.dispatcher.repeats() && began + span(took) < self.now {
                    self.dispatcher.left = 0;
                }
            }
            self.dispatcher.left_out = Some(began);
            self.dispatcher.is_counted = first;
            self.dispatcher.next_tick += TICK_NS;
        }
    }

    /// Time until a tick that was left out would have ended.
    pub(super) fn tick_in_progress(&self) -> u64 {
        let ends = self
            .dispatcher
            .left_out
            .map(|began| began + span(self.tick_ns()));
        ends.unwrap_or(0).saturating_sub(self.now)
    }

    /// True if a parked kthread has messages.
    pub(super) fn is_left_behind(&self) -> bool {
        let mut kthreads = self.procs.iter().flat_map(|proc| &proc.kthreads);
        kthreads.any(|k| k.parked && !k.rxq.is_empty())
    }

    /// How long something has waited although a core is idle and its runtime could take it.
    pub(super) fn look_at_waits(&mut self) {
        let Some(idle_since) = self.window.idle_since else {
            return;
        };
        for (at, proc) in self.procs.iter().enumerate() {
            let active = self.arbiter.active(Sim::slot(at)).len();
            if proc.waiting == 0 || active == proc.kthreads.len() {
                continue;
            }
            let waits = proc.kthreads.iter().filter_map(|k| k.waiting_since());
            let longest = waits.map(|since| self.now - since.max(idle_since)).max();
            let most = &mut self.window.idle_while_waiting;
            *most = (*most).max(longest.unwrap_or(0));
        }
    }

    /// A tick: what it sees is how things are when it begins.
    pub(super) fn adjust(&mut self) {
        self.dispatcher.next_tick = self.now + TICK_NS;
        self.dispatcher.left_out = None;
        self.housekeep(self.now);
        let proc = &mut self.procs[self.dispatcher.house_turn];
        proc.steering.flush(&proc.stats);
        self.dispatcher.lag = self.tick_ns();
        self.dispatcher.still += 1;
        self.look_at_waits();
        self.tick(Micros(self.now / 1000));
    }
}
