//! Counters of steering, kept for each runtime and for all together.

counters! {
    /// What is counted of one runtime's flows. Moves are counted by their cause.
    SteerCounter {
        /// Packets steered.
        Packets = "ST_PACKETS",
        /// Flows that have an entry now.
        Flows = "ST_FLOWS",
        /// Packets whose flow had an entry.
        Hits = "ST_HITS",
        /// Packets whose flow got an entry: new flows, and forgotten ones.
        Inserts = "ST_INSERTS",
        /// Entries that made room for another flow's. If the flow sends again it is a new one.
        Evictions = "ST_EVICTIONS",
        /// Entries whose flow was idle for so long that it was forgotten.
        AgedOut = "ST_AGED_OUT",
        /// Flows or buckets moved because the runtime does not have their home core.
        MovedCoreLost = "ST_MOVED_CORE_LOST",
        /// Flows or buckets moved to a core that was added to relieve theirs.
        MovedRelief = "ST_MOVED_RELIEF",
        /// Flows moved because a rule placed them elsewhere.
        MovedRule = "ST_MOVED_RULE",
        /// Flows moved because their home core could not be woken for them (affinity strict).
        MovedStrict = "ST_MOVED_STRICT",
        /// Home cores that were woken for their flows (affinity strict).
        StrictWakes = "ST_STRICT_WAKES",
        /// Moves put off because the old kthread had packets of the flow in its rxq (order guard).
        GuardWaits = "ST_GUARD_WAITS",
        /// Packets whose flow changed core since its previous packet, as far as the policy
        /// remembers flows; of all flows while they are watched.
        ChangedCore = "ST_CHANGED_CORE",
        /// Packets that could overtake an earlier one of their flow, which another kthread had not taken.
        CouldOvertake = "ST_COULD_OVERTAKE",
        /// The busiest kthread's packets over the mean of those active, last interval, in thousandths.
        Imbalance = "ST_IMBALANCE_MILLI",
        /// The greatest such value so far.
        ImbalanceMax = "ST_IMBALANCE_MAX_MILLI",
    }
}

/// What a counter's value for all runtimes together is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Total {
    /// The sum of all that ever were attached.
    Sum,
    /// The sum of those that are attached now: something that they have.
    SumOfAttached,
    /// The greatest of all that ever were attached.
    Greatest,
    /// The greatest of those that are attached now.
    GreatestOfAttached,
}

impl SteerCounter {
    /// How runtimes' counts make a total.
    pub fn total(self) -> Total {
        match self {
            SteerCounter::Flows => Total::SumOfAttached,
            SteerCounter::Imbalance => Total::GreatestOfAttached,
            SteerCounter::ImbalanceMax => Total::Greatest,
            _ => Total::Sum,
        }
    }
}
