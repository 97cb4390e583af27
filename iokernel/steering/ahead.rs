//! What steering will read, asked for ahead.
//!
//! A line that is not in the cache takes as long to come as the rest of a packet's
//! receiving; 64 asked for at once take as long as 24 can be waited for. So each is asked
//! for while the frames of a burst are looked at one after the other, long before it is
//! read. This is all that this needs to know, in one cache line of the polling loop's own.

use super::order::Marks;
use super::table::{FlowTable, mix};

/// Where the lines of a table are. Nothing is read through it.
#[derive(Debug, Clone, Copy, Default)]
struct Lines {
    /// 0: there is no table.
    count: u32,
    table: usize,
    /// Beside each line one of marks; 0: there are none.
    marks: usize,
}

impl Lines {
    fn of(table: &FlowTable, marks: &Marks) -> Lines {
        Lines {
            count: table.lines(),
            table: table.address(),
            marks: marks.address().unwrap_or(0),
        }
    }

    #[inline(always)]
    fn ask_for(self, hash: u32) {
        if self.count == 0 {
            return;
        }
        let at = FlowTable::line_of(mix(hash), self.count) as usize * 64;
        ask(self.table + at);
        if self.marks != 0 {
            ask(self.marks + at);
        }
    }
}

#[inline(always)]
fn ask(address: usize) {
    crate::hint::prefetch_read(std::ptr::without_provenance::<u8>(address));
}

/// What one proc's steering will read of a packet's flow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ahead {
    flows: Lines,
    watch: Lines,
}

impl Ahead {
    pub(super) fn flows(table: &FlowTable, marks: &Marks) -> Ahead {
        Ahead {
            flows: Lines::of(table, marks),
            watch: Lines::default(),
        }
    }

    pub(super) fn and_watch(self, table: &FlowTable, marks: &Marks) -> Ahead {
        Ahead {
            watch: Lines::of(table, marks),
            ..self
        }
    }

    /// Asks the cache for it.
    #[inline(always)]
    pub fn ask_for(&self, hash: u32) {
        self.flows.ask_for(hash);
        self.watch.ask_for(hash);
    }
}
