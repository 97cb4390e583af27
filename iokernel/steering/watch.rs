//! Watches all flows: which packets changed core, and which could overtake.
//!
//! A witness beside the policy, the same for all of them, for those who compare
//! policies. It costs a lookup of its own and four more bytes an entry.

#![allow(unsafe_code, reason = "the table's lookup")]

use std::io;

use super::ahead::Ahead;
use super::order::{Marks, Rxqs};
use super::spec::SteeringSpec;
use super::table::{Baseline, FlowTable};
use super::view::Delta;
use crate::ids::{CoreId, KthreadIdx, Micros};
use crate::stats::SteerCounter;

/// The flows of one proc, and where their newest packets went.
#[derive(Debug)]
pub(super) struct FlowWatch {
    table: FlowTable,
    marks: Marks,
}

impl FlowWatch {
    pub(super) fn new(spec: &SteeringSpec, mut pause: impl FnMut()) -> io::Result<FlowWatch> {
        let table = FlowTable::new(spec.flow_entries, spec.flow_idle, &mut pause)?;
        Ok(FlowWatch {
            marks: Marks::new(true, table.slots(), &mut pause)?,
            table,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes() + self.marks.bytes()
    }

    pub(super) fn ahead(&self, policys: Ahead) -> Ahead {
        policys.and_watch(&self.table, &self.marks)
    }

    pub(super) fn sweep(&mut self, now: Micros) {
        self.table.sweep(now, |_| ());
    }

    /// A packet was queued to `kthread`, on `core`.
    pub(super) fn note(
        &mut self,
        hash: u32,
        kthread: KthreadIdx,
        core: CoreId,
        rxqs: &mut impl Rxqs,
        counts: &mut Delta,
    ) {
        let key = self.table.key(hash);
        // SAFETY: every processor has the baseline.
        let place = match unsafe { self.table.find::<Baseline>(key) } {
            Some(place) => {
                let before = self.marks.get(place.index());
                if self.table.core(place) != core {
                    counts.add(SteerCounter::ChangedCore, 1);
                    self.table.set_core(place, core);
                } else {
                    self.table.touch(place);
                }
                if before.is_some_and(|b| b.kthread() != kthread && b.is_pending(rxqs)) {
                    counts.add(SteerCounter::CouldOvertake, 1);
                }
                place
            }
            // SAFETY: as above.
            None => unsafe { self.table.insert::<Baseline>(key, core, |_| false) }.place,
        };
        self.marks.set_last(place.index(), kthread, rxqs);
    }
}
