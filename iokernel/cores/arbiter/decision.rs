//! What the arbiter decides, for others to carry out.

use arrayvec::ArrayVec;

use super::MAX_CORES;
use crate::ids::{CoreId, KthreadIdx, ProcSlot};

/// Room for what one call may decide: in one tick every core can be granted,
/// and the grant preempted.
pub const MAX_DECISIONS: usize = 2 * MAX_CORES;

/// What a call decided, in the order in which it is to be carried out.
///
/// The caller empties it between calls.
pub type Decisions = ArrayVec<Decision, MAX_DECISIONS>;

/// Why a proc was given a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It has just attached.
    Launch,
    /// A message came while all its kthreads were parked, or was left with one that
    /// parked.
    Packet,
    /// Uthreads waited an interval on a run queue.
    Runqueue,
    /// Messages waited an interval in an `rxq`.
    Rxq,
    /// The deadline given with `PARKED_LAST` has come.
    Timer,
    /// It had lost a core to another proc's guarantee.
    Preempted,
    /// A packet came for a flow that is at home on that core.
    Affinity,
}

/// Something to be done about a kthread.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The core is free: pin the kthread to it and wake it.
    Wake {
        /// The proc that gets the core.
        proc: ProcSlot,
        /// Its kthread that will run there.
        kthread: KthreadIdx,
        /// The core.
        core: CoreId,
        /// The kthread's affinity is another core; set it first.
        pin: bool,
        /// False if the kthread becomes active by this; true if it has been so
        /// since the [`Decision::Preempt`] that made it wait for the core.
        handover: bool,
        /// Why the proc got the core.
        cause: Cause,
        /// The active kthread whose queue stood still; never with `handover`.
        from: Option<KthreadIdx>,
    },
    /// The core is held: ask its holder to park. `kthread` becomes active, and
    /// waits; a `Wake` follows when the holder has parked.
    Preempt {
        /// The proc that loses the core.
        victim: ProcSlot,
        /// Its kthread that runs there.
        victim_kthread: KthreadIdx,
        /// The core.
        core: CoreId,
        /// The proc that gets the core.
        proc: ProcSlot,
        /// Its kthread that waits.
        kthread: KthreadIdx,
        /// Why the proc gets the core.
        cause: Cause,
        /// The active kthread whose queue stood still.
        from: Option<KthreadIdx>,
    },
    /// The kthread keeps its core: wake it again, for messages are on their way.
    Rewake {
        /// The proc.
        proc: ProcSlot,
        /// The kthread that wanted to park.
        kthread: KthreadIdx,
        /// Its core.
        core: CoreId,
    },
}

/// What became of a park.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Park {
    /// The kthread is parked, and its core was given up. (It may have been given
    /// the next core already: then a [`Decision::Wake`] says so.)
    Stands,
    /// Messages were in flight: the kthread is to go on ([`Decision::Rewake`]).
    Refused,
    /// The kthread held no core, or does not exist: the runtime's fault.
    NotRunning,
}
