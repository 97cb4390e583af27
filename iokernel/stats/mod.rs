//! Counters of the dataplane.
//!
//! One writer, the polling loop; anyone may read. A count costs a load and a
//! store of a line that only the loop writes: no locked instruction.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// A set of counters: an enum with a name and an explanation for each.
pub trait CounterSet: Copy + 'static {
    /// All counters, in order.
    const ALL: &'static [Self];

    /// Its place in [`CounterSet::ALL`].
    fn index(self) -> usize;

    /// The name shown to people and programs.
    fn label(self) -> &'static str;

    /// One line of explanation.
    fn help(self) -> &'static str;
}

macro_rules! counters {
    (
        $(#[doc = $what:literal])+
        $set:ident {
            $( $(#[doc = $doc:literal])+ $name:ident = $label:literal, )*
        }
    ) => {
        $(#[doc = $what])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $set { $( $(#[doc = $doc])+ $name, )* }

        impl $set {
            /// All counters, in order.
            pub const ALL: &[$set] = &[$($set::$name),*];

            /// The name shown to people and programs.
            pub fn label(self) -> &'static str {
                match self { $($set::$name => $label),* }
            }

            /// One line of explanation.
            pub fn help(self) -> &'static str {
                match self { $($set::$name => concat!($($doc),+).trim_ascii()),* }
            }
        }

        impl $crate::stats::CounterSet for $set {
            const ALL: &'static [$set] = $set::ALL;

            #[inline]
            fn index(self) -> usize {
                self as usize
            }

            fn label(self) -> &'static str {
                $set::label(self)
            }

            fn help(self) -> &'static str {
                $set::help(self)
            }
        }
    };
}

mod control;
mod held;
mod steering;
pub use control::ControlCounter;
pub use held::{Gauges, Held, PortCounter};
pub use steering::{SteerCounter, Total};

counters! {
    /// What is counted. Labels are upstream's where upstream counts the same.
    Counter {
    /// Frames taken from the port.
    RxPulled = "RX_PULLED",
    /// Frames put into an rxq.
    RxDelivered = "RX_DELIVERED",
    /// Frames dropped: no runtime has their destination address.
    RxUnregisteredMac = "RX_UNREGISTERED_MAC",
    /// Frames dropped: the kthread's rxq was full.
    RxUnicastFail = "RX_UNICAST_FAIL",
    /// Copies of a broadcast not delivered: an rxq was full, or the runtime keeps too many buffers.
    RxBroadcastFail = "RX_BROADCAST_FAIL",
    /// Frames dropped: multicast other than broadcast, or a broadcast with nobody to hear it.
    RxUnhandled = "RX_UNHANDLED",
    /// Frames dropped: shorter than an Ethernet header, or longer than a runtime's buffer may take.
    RxBadLength = "RX_BAD_LENGTH",
    /// Frames dropped: the runtime keeps as many buffers as it may (--lent-max, and what others leave).
    RxLentMax = "RX_LENT_MAX",
    /// Join messages not delivered: an rxq was full, and more than one a kthread waited.
    RxJoinFail = "RX_JOIN_FAIL",
    /// Commands taken from runtimes.
    CommandsPulled = "COMMANDS_PULLED",
    /// Received packets that runtimes returned.
    RxReturned = "RX_RETURNED",
    /// Returned tags that were not lent to the runtime that returned them.
    RxBadTag = "RX_BAD_TAG",
    /// Packets taken from runtimes.
    TxPulled = "TX_PULLED",
    /// Packets that the port did not take at once.
    TxBackpressure = "TX_BACKPRESSURE",
    /// Times that a runtime's packets were left waiting because it takes no completions.
    TxThrottled = "TX_THROTTLED",
    /// Completions sent to runtimes.
    CompletionEnqueued = "COMPLETION_ENQUEUED",
    /// Completions put on a runtime's overflow list.
    TxCompletionOverflow = "TX_COMPLETION_OVERFLOW",
    /// Completions sent from overflow lists.
    CompletionDrained = "COMPLETION_DRAINED",
    /// Rounds of the core arbiter.
    Adjusts = "ADJUSTS",
    /// Times a runtime was congested because its run queue stood still.
    RqGrant = "RQ_GRANT",
    /// Times a runtime was congested because an rxq stood still.
    RxGrant = "RX_GRANT",
    /// Times a runtime was congested because its timer was due.
    TimerGrant = "TIMER_GRANT",
    /// Kthreads woken on a core.
    Wakes = "WAKES",
    /// Kthreads asked to give up their core.
    Preempts = "PREEMPTS",
    /// Parks that stood.
    Parks = "PARKS",
    /// Parks that did not stand: messages were on their way.
    ParksRefused = "PARKS_REFUSED",
    /// Kthreads moved to another CPU before a wake.
    Pins = "PINS",
    /// Kthreads woken where they were, because the core's CPU could not be had (offline, or
    /// not in their cpuset).
    PinsFailed = "PINS_FAILED",
    /// Times that the processor's counter went back, as it may where a machine sleeps or moves.
    ClockSetBack = "CLOCK_SET_BACK",
    /// Runtimes attached.
    Attached = "ATTACHED",
    /// Runtimes detached, for whatever reason.
    Detached = "DETACHED",
    /// Runtimes detached because they broke the contract.
    Faults = "FAULTS",
    /// Of these: commands that do not exist.
    FaultCommand = "FAULT_COMMAND",
    /// Of these: packets outside the region.
    FaultPointer = "FAULT_POINTER",
    /// Of these: packets of impossible lengths.
    FaultLength = "FAULT_LENGTH",
    /// Of these: too many returned packets that were not lent to them.
    FaultTags = "FAULT_TAGS",
    /// Of these: parks of kthreads that were not running.
    FaultPark = "FAULT_PARK",
    /// Of these: write-back words that cannot be true.
    FaultWriteBack = "FAULT_WRITE_BACK",
    /// Of these: eventfds that take no more wakes.
    FaultWake = "FAULT_WAKE",
    /// Of these: cores that they did not give up when others had a right to them.
    FaultCore = "FAULT_CORE",
    /// Of these: system calls on their kthreads that failed.
    FaultOs = "FAULT_OS",
    /// Buffers taken back from runtimes that went away.
    RxReclaimed = "RX_RECLAIMED",
    }
}

/// The loop's counters.
pub type Stats = Counts<Counter>;
/// The control thread's counters.
pub type ControlCounts = Counts<ControlCounter>;
/// Counters of one runtime's steering.
pub type SteerStats = Counts<SteerCounter>;

/// Readable by any thread, written by one. See the module's head.
#[derive(Debug)]
pub struct Counts<C> {
    counts: Arc<[CachePadded<[AtomicU64; LINE]>]>,
    of: PhantomData<C>,
}

impl<C> Clone for Counts<C> {
    /// The same counters, not a copy of them.
    fn clone(&self) -> Self {
        Counts {
            counts: Arc::clone(&self.counts),
            of: PhantomData,
        }
    }
}

/// Counters in one (padded) cache line.
const LINE: usize = 8;

impl<C: CounterSet> Default for Counts<C> {
    fn default() -> Self {
        let lines = C::ALL.len().div_ceil(LINE);
        Counts {
            counts: (0..lines).map(|_| CachePadded::default()).collect(),
            of: PhantomData,
        }
    }
}

impl<C: CounterSet> fmt::Display for Counts<C> {
    /// Those that are not zero, in one line; nothing if all are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (label, count)) in self.non_zero().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{label} {count}")?;
        }
        Ok(())
    }
}

impl<C: CounterSet> Counts<C> {
    /// Adds `n`. To be called by the one writer only.
    #[inline]
    pub fn add(&self, counter: C, n: u64) {
        let cell = self.cell(counter);
        // Relaxed load and store: the only writer cannot lose its own counts.
        cell.store(cell.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// Sets a gauge. To be called by the one writer only.
    #[inline]
    pub fn set(&self, counter: C, n: u64) {
        self.cell(counter).store(n, Ordering::Relaxed);
    }

    /// The count. From another thread it may be a moment old.
    pub fn get(&self, counter: C) -> u64 {
        self.cell(counter).load(Ordering::Relaxed)
    }

    /// Those that are not zero, with their names.
    pub fn non_zero(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = C::ALL.iter().map(|c| (c.label(), self.get(*c)));
        all.filter(|(_, count)| *count > 0)
    }

    #[inline]
    fn cell(&self, counter: C) -> &AtomicU64 {
        let at = counter.index();
        &self.counts[at / LINE][at % LINE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_counted_is_shown() {
        let stats = Stats::default();
        assert_eq!(stats.to_string(), "");
        stats.add(Counter::RxDelivered, 7);
        stats.add(Counter::Faults, 1);
        assert_eq!(stats.to_string(), "RX_DELIVERED 7, FAULTS 1");
    }

    #[test]
    fn every_counter_has_its_own_cell_and_name() {
        let stats = Stats::default();
        for (i, c) in Counter::ALL.iter().enumerate() {
            stats.add(*c, i as u64 + 1);
        }
        for (i, c) in Counter::ALL.iter().enumerate() {
            assert_eq!(stats.get(*c), i as u64 + 1, "{}", c.label());
        }
        // One name space: both sets are shown together.
        let control = ControlCounter::ALL.iter().map(|c| c.label());
        let mut names: Vec<_> = Counter::ALL
            .iter()
            .map(|c| c.label())
            .chain(control)
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len() + ControlCounter::ALL.len());
    }
}
