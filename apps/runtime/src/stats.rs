//! What a runtime counts.
//!
//! Each kthread's thread counts for itself, so that counting costs a load and
//! a store of its own cache line; [`Stats`] is the sum of all.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the start, over all kthreads.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            /// All counts by name, in order of declaration.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }

        /// One kthread's counts. Only its thread writes them.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            /// Adds these counts to `sum`.
            pub(crate) fn add_to(&self, sum: &mut Stats) {
                $(sum.$name += self.$name.get();)*
            }
        }
    };
}

counters! {
    /// Frames taken off the rxqs.
    received,
    /// Frames put on the txpktqs.
    sent,
    /// Datagrams given to the application.
    datagrams,
    /// Dropped: no IPv4 or ARP, broken, or for another address.
    dropped_malformed,
    /// Dropped: fragments of IPv4 packets, which are not put together.
    dropped_fragments,
    /// Dropped: a datagram for a port that is not bound, or any packet before our address was ours.
    dropped_no_port,
    /// Not sent: every egress buffer is under way.
    dropped_no_buffer,
    /// Not sent: the txpktq had no room.
    dropped_queue_full,
    /// Not sent: the destination's Ethernet address stayed unknown.
    dropped_unresolved,
    /// Not taken: TCP connections beyond what a kthread may have.
    dropped_no_room,
    /// Parks for want of work.
    parks,
    /// Of those, parks of the last active kthread.
    parks_last,
    /// Cores given.
    wakes,
    /// Parks because the I/O kernel wanted the core.
    preemptions,
    /// Of those, parks in the middle of a callback.
    preemptions_in_callback,
    /// Parked callbacks that went on with the core of another kthread of ours.
    lends,
    /// Preemption signals to kthreads that had parked already.
    late_preemptions,
    /// `RX_JOIN` messages.
    joins,
    /// Messages, segments and timers of parked kthreads that others took over.
    taken_over,
    /// TCP segments that arrived on another kthread than their connection's.
    foreign_segments,
    /// TCP segments that arrived on their connection's kthread.
    own_segments,
    /// TCP connections opened, by either side.
    tcp_opened,
    /// TCP connections that ended.
    tcp_closed,
    /// Pings answered.
    pings,
    /// ARP packets of others that say our address is theirs, after the start.
    address_conflicts,
    /// Messages that break the contract: unknown commands, places outside the
    /// ingress region, completions of what was not sent.
    bad_messages,
}

/// A count with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts one more.
    #[inline]
    pub(crate) fn inc(&self) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The count, which may be a moment old.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
