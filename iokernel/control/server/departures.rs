//! Runtimes that leave: because they hang up, because the dataplane gave them
//! up, or because the daemon ends.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::net::{RecvFlags, recv};

use crate::control::faults::Fault;
use crate::control::kthreads;
use crate::control::messages::{DetachReason, ToControl, ToDataplane};
use crate::control::rate_limit::Suppressed;
use crate::control::socket::Peer;
use crate::control::table::{SegmentLeft, Tenant};
use crate::ids::{Mac, ProcId};
use crate::proc::Proc;
use crate::stats::ControlCounter;

use super::Server;

/// How long the dataplane has to return all runtimes at the end.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// True if the peer sent something that was not read.
fn has_bytes(connection: &OwnedFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    recv(connection, &mut [0_u8], flags).is_ok_and(|(n, _)| n > 0)
}

impl Server {
    /// A peer hung up, or sent something, which it never should again.
    pub(super) fn depart(&mut self, id: ProcId) {
        let Some(tenant) = self.table.get_mut(id).filter(|tenant| !tenant.leaving) else {
            return;
        };
        tenant.leaving = true;
        let sent_more = has_bytes(&tenant.connection).then_some((tenant.peer, tenant.mac));
        // It stays readable from now on.
        let _ = epoll::delete(&self.epoll, &tenant.connection);
        if let Some((who, mac)) = sent_more {
            let why = "it sent more than its registration";
            self.note_fault(who, mac, why, ControlCounter::FaultSocket);
        }
        self.send(ToDataplane::Detach(id));
    }

    /// Runtimes that hung up, whether the kernel's events were looked at or not. True if
    /// there were any.
    pub(super) fn depart_hung_up(&mut self) -> bool {
        let gone = self.table.hung_up();
        for id in &gone {
            self.depart(*id);
        }
        !gone.is_empty()
    }

    /// Runtimes that took pages of their region away.
    pub(super) fn depart_broken(&mut self) {
        let broken = |t: &&Tenant| t.guard.hit() && !t.leaving;
        loop {
            let first = self.table.tenants().find(broken);
            let Some((id, who, mac)) = first.map(|t| (t.id, t.peer, t.mac)) else {
                return;
            };
            let why = "pages of its region are gone";
            self.note_fault(who, mac, why, ControlCounter::FaultRegion);
            self.depart(id);
        }
    }

    /// The line and the count of a fault that the control thread sees.
    fn note_fault(&mut self, who: Peer, mac: Mac, why: &str, reason: ControlCounter) {
        if let Some(more) = self.faults.take(Instant::now()) {
            let Peer { pid, uid } = who;
            let more = Suppressed(more);
            log::warn!("pid {pid} (uid {uid}, {mac}) is detached: {why}{more}");
        }
        self.config.stats.reasons.add(reason, 1);
    }

    pub(super) fn send(&mut self, message: ToDataplane) {
        if self.config.channel.to_dataplane.push(message).is_err() {
            panic!("the ring to the dataplane holds three messages a slot, and is full");
        }
    }

    /// Drops what the dataplane returned.
    pub(super) fn take_returned(&mut self) {
        while let Ok(ToControl::Detached { proc, reason }) =
            self.config.channel.from_dataplane.pop()
        {
            self.dismiss(proc, reason);
        }
    }

    fn dismiss(&mut self, proc: Box<Proc>, reason: DetachReason) {
        let tenant = self.table.remove(proc.id);
        let tenant = tenant.expect("the dataplane returns each runtime once");
        let _ = epoll::delete(&self.epoll, &tenant.connection);
        self.release_threads(&proc, reason);
        let broken = matches!(
            reason,
            DetachReason::Fault(_) | DetachReason::ThreadGone { .. }
        );
        if let Err(left) = tenant.remove_segment(broken) {
            self.note_segment(tenant.peer, &left);
        }
        // The guard goes before the region that it guards.
        drop(tenant);
        self.config.directory.leave(proc.id);
        if let DetachReason::Fault(Fault::WakeBlocked { .. }) = reason {
            self.penalties.add(proc.uid, Instant::now());
        }
        if let DetachReason::Fault(_) = reason {
            self.config.stats.faults.fetch_add(1, Ordering::Relaxed);
        }
        let bucket = match reason {
            DetachReason::Fault(_) => &mut self.faults,
            _ => &mut self.departures,
        };
        if let Some(more) = bucket.take(Instant::now()) {
            let who = format_args!("pid {} (uid {}, {})", proc.pid, proc.uid, proc.mac);
            let more = Suppressed(more);
            match reason {
                DetachReason::HungUp => log::info!("{who} left{more}"),
                DetachReason::ThreadGone { .. } => log::info!("{who} is detached: {reason}{more}"),
                DetachReason::Fault(fault) => log::warn!("{who} is detached: {fault}{more}"),
                DetachReason::Shutdown => log::info!("{who} is detached: iokerneld ends{more}"),
            }
            let counts = proc.steer_stats.to_string();
            if !counts.is_empty() {
                log::info!("{who} steering: {counts}");
            }
        }
    }

    /// The line and the count of a segment that nobody uses and that stays.
    fn note_segment(&mut self, who: Peer, left: &SegmentLeft) {
        if let Some(more) = self.leftovers.take(Instant::now()) {
            let Peer { pid, uid } = who;
            let (remedy, more) = (left.remedy(), Suppressed(more));
            log::warn!("pid {pid} (uid {uid}) left: {left}; {remedy}{more}");
        }
        let reasons = &self.config.stats.reasons;
        reasons.add(ControlCounter::SegmentsLeft, 1);
    }

    /// Takes the kthreads that still live off the runtime cores.
    fn release_threads(&self, proc: &Proc, reason: DetachReason) {
        let cpus = match reason {
            DetachReason::Shutdown => Some(&self.everywhere),
            DetachReason::HungUp | DetachReason::ThreadGone { .. } | DetachReason::Fault(_) => {
                self.park.as_ref()
            }
        };
        let Some(cpus) = cpus else { return };
        for kthread in &proc.kthreads {
            // It may end at any moment, which is as good.
            let _ = kthreads::pin_kthread(proc.pid, kthread.tid, kthread.pidfd.as_ref(), cpus);
        }
    }

    /// Closes what is pending, and takes all runtimes back.
    pub(super) fn shut_down(mut self) {
        self.pending.clear();
        self.waiting.clear();
        let deadline = Instant::now() + SHUTDOWN;
        loop {
            // Asked before the ring is emptied: what was sent before it is seen.
            let gone = self.config.channel.from_dataplane.is_abandoned();
            self.take_returned();
            if self.table.len() == 0 || gone {
                break;
            }
            if Instant::now() > deadline {
                log::warn!(
                    "{} runtimes did not come back from the dataplane",
                    self.table.len()
                );
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.publish_stats();
    }
}
