//! What the loop holds, told to whoever asks.

use super::{Dataplane, GAUGE_INTERVAL};
use crate::ids::Micros;
use crate::port::Port;
use crate::stats::{Held, PortCounter};

/// Rounds of the gauges between looks at the port's counters, for which a driver may
/// make a system call: about eight a second.
const PORT_ROUNDS: u32 = 128;

impl<P: Port> Dataplane<P> {
    /// Publishes what is held now. Not in every turn: it walks over the runtimes.
    #[cold]
    pub(super) fn publish_gauges(&mut self, now: Micros) {
        self.next_gauges = Micros(now.0 + GAUGE_INTERVAL.0);
        if self.gauge_turn.is_multiple_of(PORT_ROUNDS) {
            self.publish_port();
        }
        let (mut lent, mut in_flight) = (0, 0);
        for slot in self.live.iter().chain(&self.leaving) {
            if let Some(proc) = &self.procs[slot.index()] {
                lent += u64::from(proc.notes.lent);
                in_flight += u64::from(proc.notes.tx_in_flight);
            }
        }
        // Drivers give frames back when they need room for others: without others, when asked.
        if in_flight > 0 && in_flight == self.in_flight_before {
            self.port.tx_reap();
        }
        self.in_flight_before = in_flight;
        let cores = self.arbiter.total_cores() - self.arbiter.idle_cores();
        for (gauge, value) in [
            (Held::BufsFree, u64::from(self.port.free_buffers())),
            (Held::BufsLent, lent),
            (Held::Addresses, self.macs.len() as u64),
            (Held::Runtimes, self.live.len() as u64),
            (Held::Leaving, self.leaving.len() as u64),
            (Held::CoresHeld, cores as u64),
            (Held::KthreadsPolled, self.polled.len() as u64),
            (Held::TxInFlight, in_flight),
            (Held::Overflowing, self.overflowing.len() as u64),
        ] {
            self.gauges.held.set(gauge, value);
        }
        self.gauge_turn = self.gauge_turn.wrapping_add(1);
    }

    /// Publishes the port's counters.
    #[cold]
    pub(super) fn publish_port(&mut self) {
        let stats = self.port.stats();
        for (counter, count) in [
            (PortCounter::RxPackets, stats.rx_packets),
            (PortCounter::RxMissed, stats.rx_missed),
            (PortCounter::RxErrors, stats.rx_errors),
            (PortCounter::RxNoBuf, stats.rx_no_buf),
            (PortCounter::TxPackets, stats.tx_packets),
            (PortCounter::TxErrors, stats.tx_errors),
            (PortCounter::RxSoftHash, stats.rx_soft_hash),
            (PortCounter::TxSoftCsum, stats.tx_soft_csum),
            (PortCounter::TxCopied, stats.tx_copied),
        ] {
            self.gauges.port.set(counter, count);
        }
    }

    /// Rounds of the gauges so far: for tests that wait for the next.
    pub fn gauge_turn(&self) -> u32 {
        self.gauge_turn
    }
}
