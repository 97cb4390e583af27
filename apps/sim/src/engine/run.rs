//! From the first event to the last.

use calisto::cores::arbiter::ProcSpec;

use super::Sim;
use super::events::Event;
use super::kthread::Uthread;
use super::proc::index;

impl Sim {
    /// Runs until packets stopped coming and all that came have ended, or had their time.
    pub(super) fn run(&mut self) {
        self.launch();
        let (open, close) = (self.window.warm_until, self.window.end_at);
        for (at, event) in [(open, Event::Open), (close, Event::Close)] {
            if at != u64::MAX {
                self.events.plan_rare(at, event);
            }
        }
        loop {
            let kthreads = self.events.next_at();
            let next = kthreads.min(self.dispatcher.at);
            if next == u64::MAX || self.is_over(next) {
                return;
            }
            self.now = next;
            if kthreads <= self.dispatcher.at {
                self.handle();
            } else {
                self.dispatch();
            }
        }
    }

    fn is_over(&self, next: u64) -> bool {
        self.window
            .closed
            .is_some_and(|closed| self.under_way() == 0 || next > closed + self.window.drain)
    }

    /// All runtimes attach; batch work lies with their first kthreads.
    pub(super) fn launch(&mut self) {
        for p in 0..self.procs.len() {
            let proc = &mut self.procs[p];
            let kthreads = index(proc.kthreads.len());
            let guaranteed = proc.guaranteed;
            if let Some(batch) = proc.batch {
                let threads = match batch.threads {
                    0 => u32::from(kthreads),
                    given => given,
                };
                #[allow(clippy::cast_precision_loss, reason = "a slice")]
                let left = batch.slice_ns as f64;
                for _ in 0..threads {
                    proc.ready(0, Uthread::Batch { left }, 0);
                }
            }
            let spec = ProcSpec {
                kthreads,
                guaranteed,
            };
            self.arbiter.add(Sim::slot(p), spec, &mut self.decisions);
            self.apply();
        }
    }

    fn handle(&mut self) {
        match self.events.pop() {
            Some(Event::Kthread { proc, kthread }) => self.step(proc.into(), kthread.into()),
            Some(Event::Signal { proc, kthread }) => self.signalled(proc.into(), kthread.into()),
            Some(Event::Open) => self.open(),
            Some(Event::Close) => self.close(),
            None => {}
        }
    }

    /// The warm-up ends.
    pub(super) fn open(&mut self) {
        if self.window.opened.is_none() {
            self.leave_out();
            self.window.opened = Some(self.now);
            self.dispatcher.busy_ns = 0.0;
            for proc in &mut self.procs {
                proc.meter.open(self.now);
            }
        }
    }

    /// Packets stop coming.
    pub(super) fn close(&mut self) {
        if self.window.closed.is_none() {
            self.open();
            self.leave_out();
            self.window.closed = Some(self.now);
            self.find_next_arrival();
            self.window.dispatcher_ns = self.dispatcher.busy_ns;
            for proc in &mut self.procs {
                proc.meter.close(self.now);
            }
        }
    }
}
