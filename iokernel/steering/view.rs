//! What a policy is shown, and what it answers.

use super::core_set::CoreSet;
use super::homes::{Homes, Verdict};
use super::order::{Mark, Rxqs, is_behind};
use super::rules::RuleSet;
use crate::ids::{CoreId, KthreadIdx, Micros};
use crate::stats::SteerCounter;

/// What a policy sees of the world while it steers a burst.
#[derive(Debug)]
pub(super) struct View<'a, R> {
    /// The proc's cores; one at least.
    pub(super) cores: &'a mut CoreSet,
    /// How far its rxqs have come.
    pub(super) rxqs: &'a mut R,
    /// The operator's rules.
    pub(super) rules: &'a RuleSet,
    /// The time, a few microseconds old at most.
    pub(super) now: Micros,
    /// A core may be asked for; false after a refusal.
    pub(super) may_wake: bool,
    /// What to count.
    pub(super) counts: &'a mut Delta,
}

/// How far a burst was steered.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steered {
    /// To its end.
    All,
    /// So many packets. The next one's home core is to be woken, if it can be; then
    /// the rest is to be steered.
    Wants {
        /// Packets steered.
        steered: usize,
        /// The core.
        core: CoreId,
    },
}

/// Counts since the last flush.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) packets: u32,
    pub(super) hits: u32,
    /// By [`SteerCounter`]; all zero unless `dirty`.
    pub(super) rare: [u32; SteerCounter::ALL.len()],
    pub(super) dirty: bool,
    /// A [`FlowWatch`](super::watch::FlowWatch) counts which packets changed core and
    /// could overtake: it knows better than a policy.
    pub(super) watched: bool,
}

impl Delta {
    /// Counts what seldom happens.
    #[inline]
    pub(super) fn add(&mut self, counter: SteerCounter, n: u32) {
        self.rare[counter as usize] += n;
        self.dirty = true;
    }

    /// Counts a packet with which its flow moved.
    pub(super) fn moved(&mut self, cause: SteerCounter) {
        self.add(cause, 1);
        if !self.watched {
            self.add(SteerCounter::ChangedCore, 1);
        }
    }
}

impl<R: Rxqs> View<'_, R> {
    /// Decides about a flow, or bucket, that is not plainly at home. With the order guard
    /// it is not taken from a kthread that has not taken its last packet, of which `mark`
    /// tells.
    pub(super) fn judge(
        &mut self,
        homes: &mut Homes,
        home: CoreId,
        key: u32,
        mark: Option<Mark>,
    ) -> Verdict {
        let mut waits = false;
        let verdict = homes.judge(self.cores, home, key, self.now, self.may_wake, |_| {
            waits = mark.is_some_and(|m| m.is_pending(self.rxqs));
            waits
        });
        if waits {
            self.counts.add(SteerCounter::GuardWaits, 1);
        }
        verdict
    }

    /// The kthread of a verdict, counted; `Err` is a core to be woken. `mark` is where
    /// the flow's last packet went, if that is known; `moved` hears of a new home.
    pub(super) fn carry_out(
        &mut self,
        verdict: Verdict,
        mark: Option<Mark>,
        moved: impl FnOnce(CoreId),
    ) -> Result<KthreadIdx, CoreId> {
        match verdict {
            Verdict::Stay(kthread) => Ok(kthread),
            Verdict::Wake(core) => Err(core),
            Verdict::Move {
                to,
                kthread,
                cause,
                from,
            } => {
                moved(to);
                self.count_move(cause, mark, from, kthread);
                Ok(kthread)
            }
        }
    }

    /// Counts a flow that moves to `to` with this packet.
    pub(super) fn count_move(
        &mut self,
        cause: SteerCounter,
        mark: Option<Mark>,
        from: Option<KthreadIdx>,
        to: KthreadIdx,
    ) {
        self.counts.moved(cause);
        // Without a mark, whatever lies there may be the flow's.
        let could_overtake = match mark {
            Some(mark) => mark.kthread() != to && mark.is_pending(self.rxqs),
            None => from.is_some_and(|k| k != to && is_behind(k, self.rxqs)),
        };
        if could_overtake && !self.counts.watched {
            self.counts.add(SteerCounter::CouldOvertake, 1);
        }
    }
}
