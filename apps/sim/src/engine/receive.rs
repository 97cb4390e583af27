//! From the NIC's ring to rxqs, as the daemon does (iokernel/dataplane/steer.rs, rx.rs).

use calisto::ids::{CoreId, KthreadIdx};
use calisto::stats::SteerCounter;
use calisto::steering::{ProcSteering, Steered, Surroundings};

use super::dispatcher::RX_BURST;
use super::kthread::Message;
use super::proc::SimRxqs;
use super::{InFlight, Sim};
use crate::arrivals::Ahead;

impl Sim {
    /// Looks when the next packet will be found.
    pub(super) fn find_next_arrival(&mut self) {
        let next = self.streams.iter().flatten().map(Ahead::next_at).min();
        self.next_arrival = match next {
            Some(at) if at <= self.window.end_at && self.window.closed.is_none() => {
                at + self.dispatcher.found_after
            }
            _ => u64::MAX,
        };
    }

    /// Takes what came from the streams into the NIC's ring.
    pub(super) fn pull(&mut self) {
        while self.next_arrival <= self.now {
            self.pull_one();
        }
    }

    fn pull_one(&mut self) {
        let streams = self.streams.iter_mut().enumerate();
        let (p, stream) = streams
            .filter_map(|(p, stream)| Some((p, stream.as_mut()?)))
            .min_by_key(|(_, stream)| stream.next_at())
            .expect("a packet is due");
        let (packet, later) = stream.next();
        self.procs[p].ask_for(&later);

        if self.window.pulled == self.window.warm_packets {
            self.open();
        }
        self.window.pulled += 1;
        let counts = self.window.opened.is_some();
        let proc = &mut self.procs[p];
        proc.meter.ends.arrived += 1;
        if self.dispatcher.nic_len() >= self.machine.dispatcher.nic_ring as usize {
            proc.meter.ends.nic_drops += 1;
            self.window.nic_drops += 1;
        } else {
            let hash = proc.hash(&packet);
            let flow = &mut proc.flows[packet.flow as usize];
            if flow.generation != packet.generation {
                flow.renew(packet.generation);
            }
            let seq = flow.sent;
            flow.sent = flow.sent.wrapping_add(1);
            self.dispatcher.nic.push_back(InFlight {
                at: packet.at,
                flow: packet.flow,
                service: packet.service,
                hash,
                seq,
                proc: Sim::slot(p).0,
                counts,
            });
        }
        if self.window.pulled == self.window.packets {
            self.close();
        } else {
            self.find_next_arrival();
        }
    }

    /// Gives the packets of a burst to kthreads: those of one runtime together.
    pub(super) fn steer(&mut self, burst: usize) {
        let mut at = 0;
        while at < burst {
            let proc = self.dispatcher.nic[at].proc;
            let run = (at..burst).take_while(|&i| self.dispatcher.nic[i].proc == proc);
            let end = at + run.count();
            self.steer_run(proc.into(), at, end);
            at = end;
        }
        self.dispatcher.nic.drain(..burst);
    }

    fn steer_run(&mut self, p: usize, start: usize, end: usize) {
        let mut hashes = [0; RX_BURST];
        let mut kthreads = [KthreadIdx(0); RX_BURST];
        let run = self.dispatcher.nic.range(start..end);
        for (hash, packet) in hashes[start..end].iter_mut().zip(run) {
            *hash = packet.hash;
        }
        if self.procs[p].steering.active().is_empty()
            && let Some(kthread) = self.wake_for(p, hashes[start])
        {
            // None is to be had: all wait with the kthread that will run first.
            for i in start..end {
                self.queue(p, i, kthread);
            }
            return;
        }
        let mut at = start;
        while at < end {
            let until = if self.procs[p].steering.one_by_one() {
                at + 1
            } else {
                end
            };
            let out = &mut kthreads[at..until];
            let hashes_now = &hashes[at..until];
            let steered = self.decide(p, |steering, around| {
                steering.steer_burst(hashes_now, around, out)
            });
            let (done, wanted) = match steered {
                Steered::All => (until, None),
                Steered::Wants { steered, core } => (at + steered, Some(core)),
            };
            for (i, kthread) in (at..done).zip(&kthreads[at..done]) {
                self.queue(p, i, *kthread);
            }
            at = done;
            if let Some(core) = wanted
                && !self.wake_home(p, core)
            {
                let out = &mut kthreads[at..=at];
                self.decide(p, |steering, around| {
                    steering.steer_refused(hashes[at], around, out);
                });
                self.queue(p, at, kthreads[at]);
                at += 1;
            }
        }
        let inserts = self.procs[p].stats.get(SteerCounter::Inserts);
        let proc = &mut self.procs[p];
        proc.steering.flush(&proc.stats);
        let inserts = proc.stats.get(SteerCounter::Inserts) - inserts;
        #[allow(clippy::cast_precision_loss, reason = "a burst")]
        {
            self.dispatcher.lag += inserts as f64 * self.machine.dispatcher.steer.insert_ns;
        }
    }

    /// Lets a runtime's steering decide, with its rxqs and all else before its eyes.
    fn decide<T>(
        &mut self,
        p: usize,
        how: impl FnOnce(&mut ProcSteering, &mut Surroundings<'_, SimRxqs<'_>>) -> T,
    ) -> T {
        let proc = &mut self.procs[p];
        let rxqs = &mut SimRxqs(&proc.kthreads);
        let around = &mut Surroundings {
            rxqs,
            rules: &self.rules,
            now: self.dispatcher.clock,
        };
        how(&mut proc.steering, around)
    }

    /// Wakes a flow's home, if that can be.
    fn wake_home(&mut self, p: usize, core: CoreId) -> bool {
        let woken = self
            .arbiter
            .wake_on(Sim::slot(p), core, &mut self.decisions);
        if woken.is_some() {
            self.apply();
            self.procs[p].steering.woken_for_flow();
        }
        woken.is_some()
    }

    /// Wakes a kthread of a runtime that has none active. If none can be woken, the parked one
    /// that the packet is to wait with.
    fn wake_for(&mut self, p: usize, hash: u32) -> Option<KthreadIdx> {
        if let Some(core) = self.procs[p].steering.core_to_wake(hash, &self.rules)
            && self.wake_home(p, core)
        {
            return None;
        }
        let kthread = self.kthread_of_idle_proc(p);
        self.procs[p]
            .steering
            .active()
            .is_empty()
            .then_some(kthread)
    }

    /// Puts a packet of the ring into a kthread's rxq.
    fn queue(&mut self, p: usize, i: usize, kthread: KthreadIdx) {
        let packet = self.dispatcher.nic[i];
        let core = self.arbiter.core_of(Sim::slot(p), kthread);
        let proc = &mut self.procs[p];
        let k = &mut proc.kthreads[kthread.index()];
        if k.rxq.len() >= self.machine.runtime.rxq_slots as usize {
            proc.meter.ends.rxq_drops += 1;
            return;
        }
        let counts = &mut proc.meter.counts;
        let flow = &mut proc.flows[packet.flow as usize];
        if let Some(last) = flow.steered(core) {
            counts.known += 1;
            counts.changed_core += u64::from(last != core);
        }
        let number = self.keep(packet);
        self.send(p, kthread.index(), Message::Packet(number));
        let proc = &mut self.procs[p];
        proc.steering
            .queued(packet.hash, kthread, &mut SimRxqs(&proc.kthreads));
    }

    fn keep(&mut self, packet: InFlight) -> u32 {
        if let Some(number) = self.free.pop() {
            self.packets[number as usize] = packet;
            return number;
        }
        self.packets.push(packet);
        u32::try_from(self.packets.len() - 1).expect("rxqs are bounded")
    }
}
