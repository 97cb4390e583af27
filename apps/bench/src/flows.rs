//! What a dispatch policy did to flows: which moved, and what was overtaken.
//!
//! Terms: a flow *moves* when a packet of it is handled on another kthread, or
//! another core, than the packet handled before it. A packet is *overtaken*
//! when a later one of its flow was handled first.

/// Flows that are told apart; the NIC emulator makes no more (`NICGEN_FLOWS`).
const MAX_FLOWS: u32 = 100_000_000;

/// How one flow was last handled.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    /// One more than the newest sequence number; 0: never seen.
    next_seq: u64,
    kthread: u16,
    core: u16,
}

/// Watches the packets of all flows, in the order in which they are handled.
#[derive(Debug, Default)]
pub struct FlowWatch {
    last: Vec<Last>,
    counts: FlowCounts,
}

/// What was seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct FlowCounts {
    /// Flows of which a packet was handled.
    pub flows: u64,
    /// Packets whose flow was on another kthread before.
    pub moved_kthread: u64,
    /// Packets whose flow was on another core before.
    pub moved_core: u64,
    /// Packets that a later one of their flow has passed.
    pub overtaken: u64,
}

impl FlowWatch {
    /// Notes one packet.
    #[inline]
    pub fn note(&mut self, flow: u32, seq: u64, kthread: u16, core: u16) {
        let at = flow as usize;
        if at >= self.last.len() {
            if flow >= MAX_FLOWS {
                return;
            }
            self.last
                .resize((at + 1).next_power_of_two(), Last::default());
        }
        let next_seq = seq.saturating_add(1);
        let last = &mut self.last[at];
        if last.next_seq == 0 {
            self.counts.flows += 1;
        } else {
            self.counts.moved_kthread += u64::from(last.kthread != kthread);
            self.counts.moved_core += u64::from(last.core != core);
            self.counts.overtaken += u64::from(next_seq < last.next_seq);
        }
        *last = Last {
            next_seq: next_seq.max(last.next_seq),
            kthread,
            core,
        };
    }

    /// What was seen so far.
    pub fn counts(&self) -> FlowCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_stays_counts_once() {
        let mut w = FlowWatch::default();
        for seq in 0..5 {
            w.note(7, seq, 1, 3);
        }
        assert_eq!(
            w.counts(),
            FlowCounts {
                flows: 1,
                ..FlowCounts::default()
            }
        );
    }

    #[test]
    fn a_move_to_another_kthread_on_the_same_core_is_no_move_of_core() {
        let mut w = FlowWatch::default();
        w.note(0, 0, 0, 5);
        w.note(0, 1, 1, 5);
        w.note(0, 2, 1, 6);
        let c = w.counts();
        assert_eq!((c.moved_kthread, c.moved_core), (1, 1));
    }

    #[test]
    fn only_a_packet_behind_the_newest_of_its_own_flow_is_overtaken() {
        let mut w = FlowWatch::default();
        // Flow 0 sees 10, 30, 20, 25, 40: 20 and 25 come after 30. Flow 1's 5 is its first.
        for (flow, seq) in [(0, 10), (0, 30), (1, 5), (0, 20), (0, 25), (0, 40)] {
            w.note(flow, seq, 0, 0);
        }
        assert_eq!(w.counts().overtaken, 2);
        assert_eq!(w.counts().flows, 2);
    }
}
