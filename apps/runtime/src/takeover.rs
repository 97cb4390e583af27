//! What one kthread does for others: what parked ones left, and segments of
//! connections that are not its own.

use std::sync::TryLockError;
use std::sync::atomic::Ordering;

use crate::app::App;
use crate::run::Runner;
use crate::tcp::{self, Flow};
use crate::wire::{self, Ipv4};

/// Messages taken from one parked kthread before anything else is looked at.
const TAKE_BURST: usize = 32;

impl<A: App> Runner<'_, A> {
    /// Looks after all parked kthreads; true if there was something to do.
    pub(crate) fn take_over(&mut self, local: &mut A::Local) -> bool {
        let mut worked = false;
        for other in 0..self.process.kthreads.len() {
            if other != self.index {
                worked |= self.look_after(other, local);
            }
        }
        worked
    }

    /// The I/O kernel passes on what a kthread said when it was preempted: its number, plus 1.
    pub(crate) fn join(&mut self, payload: u64, local: &mut A::Local) {
        let other = payload.checked_sub(1).and_then(|n| usize::try_from(n).ok());
        let other = other.filter(|&n| n < self.process.kthreads.len());
        let Some(other) = other else {
            return self.worker.counters().bad_messages.inc();
        };
        self.worker.counters().joins.inc();
        if other != self.index {
            self.look_after(other, local);
        }
    }

    /// Does what kthread `other` would do if it were not parked.
    pub(crate) fn look_after(&mut self, other: usize, local: &mut A::Local) -> bool {
        let process = self.process;
        let kthread = &process.kthreads[other];
        if kthread.running.load(Ordering::SeqCst) {
            return false;
        }
        let mut worked = self.take(other, local, TAKE_BURST) > 0;
        if kthread.attention.load(Ordering::SeqCst) || kthread.deadline() <= self.worker.now {
            worked |= self.act_for(other);
        }
        if worked {
            self.worker.counters().taken_over.inc();
        }
        worked
    }

    /// Handles the connections, timers and the poll of a parked kthread.
    fn act_for(&mut self, other: usize) -> bool {
        let shared = self.shared;
        let process = self.process;
        let kthread = &process.kthreads[other];
        let mut theirs = match shared.locals[other].try_lock() {
            Ok(local) => local,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // It was parked in a callback, or somebody else looks after it. Its
            // connections need their acknowledgements all the same.
            Err(TryLockError::WouldBlock) => {
                if kthread.stack_deadline.load(Ordering::Acquire) <= self.worker.now {
                    self.flush(other);
                    return true;
                }
                return false;
            }
        };
        let mut worked = self.connections(other, &mut theirs);
        if kthread.app_deadline.load(Ordering::Acquire) <= self.worker.now {
            self.poll(other, &mut theirs);
            self.flush(other);
            worked = true;
        }
        worked
    }

    /// A TCP segment for us.
    pub(crate) fn tcp(&mut self, ip: &Ipv4<'_>, local: &mut A::Local) {
        let Some(peek) = wire::peek_tcp(ip.payload) else {
            return self.worker.counters().dropped_malformed.inc();
        };
        let process = self.process;
        let flow = tcp::flow_of(ip.src, peek.src, peek.dst);
        let own = &process.kthreads[self.index];
        let mut stack = own.stack();
        if stack.has(&flow) {
            self.worker.counters().own_segments.inc();
            stack.input(&mut self.worker, &flow, ip.packet);
            drop(stack);
            self.connections(self.index, local);
            return;
        }
        // Never two stacks at once.
        drop(stack);
        match process.flows.owner(&flow) {
            Some(owner) if owner != self.index => {
                self.worker.counters().foreign_segments.inc();
                if peek.syn && peek.ack && self.adopt(owner, &flow) {
                    own.stack().input(&mut self.worker, &flow, ip.packet);
                    self.connections(self.index, local);
                } else {
                    self.foreign(owner, &flow, ip.packet);
                }
            }
            // It is on its way into our stack, or out: the peer will send it again.
            Some(_) => {}
            None => {
                let mut stack = own.stack();
                if peek.syn && !peek.ack && process.tcp_ports.has(flow.port) {
                    // Two at once, on two kthreads: one of them is enough.
                    if process.flows.enter(flow, self.index) {
                        self.worker.counters().own_segments.inc();
                        stack.accept(&mut self.worker, flow, ip.packet);
                    }
                } else {
                    stack.refuse(&mut self.worker, ip.packet);
                }
                drop(stack);
                self.flush(self.index);
            }
        }
    }

    /// Makes ours a connection that `owner` began: its flow comes here.
    fn adopt(&mut self, owner: usize, flow: &Flow) -> bool {
        let conn = self.process.kthreads[owner].stack().take_connecting(flow);
        let Some(conn) = conn else { return false };
        // In between it is in no stack: whoever looks drops the segment.
        let ours = self.process.flows.hand_over(flow, owner, self.index);
        debug_assert!(ours, "a connection is its stack's");
        self.process.kthreads[self.index].stack().insert(conn);
        true
    }

    /// Handles a segment in its owner's stack.
    fn foreign(&mut self, owner: usize, flow: &Flow, packet: &[u8]) {
        let process = self.process;
        let kthread = &process.kthreads[owner];
        let mut stack = kthread.stack();
        stack.input(&mut self.worker, flow, packet);
        let has_events = stack.has_events();
        drop(stack);
        if !has_events {
            return self.flush(owner);
        }
        // SeqCst, both: with Seat::park_idle. Either it sees that it is needed, or we that it is parked.
        kthread.attention.store(true, Ordering::SeqCst);
        if !kthread.running.load(Ordering::SeqCst) {
            self.act_for(owner);
        }
    }
}
