//! Home cores: where a new flow goes, and when one moves.
//!
//! Common to all policies in which flows, or buckets of them, have home cores. A flow
//! stays at home while its proc has that core. It moves
//!
//! - when the proc does not have the core (*core lost*): with its next packet, to the
//!   next active core in turn. With strict affinity the core is asked for first;
//! - when a core was added because its own stood still (*relief*): a share of the
//!   flows, chosen by a hash so that it is a share of the load too, and no more of them
//!   than make the two cores even, each with its next packet. A relief ends after
//!   [`RELIEF_SPAN`]: flows that send later were not what stood in the queue.
//!
//! New flows take active cores in turn, so their numbers differ by at most one; flows
//! that move have a turn of their own.

use arrayvec::ArrayVec;

use super::core_set::{CoreSet, Tenancy};
use crate::ids::{CoreId, KthreadIdx, Micros};
use crate::stats::SteerCounter;

/// How long flows are moved to a core that was added.
pub const RELIEF_SPAN: Micros = Micros(5_000);
/// Reliefs under way at once in one proc; beyond it the oldest ends early.
const RELIEFS: usize = 8;
const CORES: usize = 256;

/// Flows move from one core to another, the next time that they send.
#[derive(Debug, Clone, Copy)]
struct Relief {
    from: CoreId,
    to: CoreId,
    until: Micros,
    /// So many at most,
    left: u32,
    /// chosen with a probability of `share` / 65,536
    share: u32,
    /// by a hash that differs from relief to relief.
    salt: u32,
}

impl Relief {
    fn chooses(&self, key: u32) -> bool {
        // Other bits of a product than those that chose the table's line.
        ((key ^ self.salt).wrapping_mul(0x85eb_ca6b) >> 8 & 0xffff) < self.share
    }
}

/// Where a packet of a flow goes whose home is not plainly there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// To its home, as before.
    Stay(KthreadIdx),
    /// The flow moves.
    Move {
        /// The new home.
        to: CoreId,
        /// The kthread there.
        kthread: KthreadIdx,
        /// Why.
        cause: SteerCounter,
        /// The kthread that had the flow.
        from: Option<KthreadIdx>,
    },
    /// Its home is to be woken, if it can be.
    Wake(CoreId),
}

/// The homes of one proc's flows.
#[derive(Debug)]
pub(super) struct Homes {
    /// Flows at home on each core.
    count: [u32; CORES],
    new_turn: usize,
    move_turn: usize,
    reliefs: ArrayVec<Relief, RELIEFS>,
    salt: u32,
    strict: bool,
}

fn next_in_turn(turn: &mut usize, cores: &CoreSet) -> (CoreId, KthreadIdx) {
    let active = cores.active();
    let at = if *turn < active.len() { *turn } else { 0 };
    *turn = at + 1;
    let kthread = active[at];
    (cores.core_of(kthread), kthread)
}

impl Homes {
    pub(super) fn new(strict: bool) -> Homes {
        Homes {
            count: [0; CORES],
            new_turn: 0,
            move_turn: 0,
            reliefs: ArrayVec::new(),
            salt: 0,
            strict,
        }
    }

    /// Flows at home on a core.
    #[inline]
    pub(super) fn count(&self, core: CoreId) -> u32 {
        self.count[core.index() % CORES]
    }

    /// A new flow's home. The proc has a core.
    #[inline]
    pub(super) fn settle(&mut self, cores: &CoreSet) -> (CoreId, KthreadIdx) {
        let (core, kthread) = next_in_turn(&mut self.new_turn, cores);
        self.count[core.index() % CORES] += 1;
        (core, kthread)
    }

    /// A flow is forgotten.
    #[inline]
    pub(super) fn forget(&mut self, core: CoreId) {
        self.count[core.index() % CORES] -= 1;
    }

    /// A flow moved.
    pub(super) fn moved(&mut self, from: CoreId, to: CoreId) {
        self.count[from.index()] -= 1;
        self.count[to.index()] += 1;
    }

    /// Decides about a flow at home on `home`, which is not plainly there. `key` is
    /// what it is known by; `may_wake`, false after a refusal; `busy`, whether the
    /// order guard forbids to take it from this kthread. The proc has a core.
    #[cold]
    pub(super) fn judge(
        &mut self,
        cores: &mut CoreSet,
        home: CoreId,
        key: u32,
        now: Micros,
        may_wake: bool,
        busy: impl FnOnce(KthreadIdx) -> bool,
    ) -> Verdict {
        match cores.tenancy(home) {
            Tenancy::Runs(kthread) => Verdict::Stay(kthread),
            Tenancy::Free(_) if self.strict && may_wake => Verdict::Wake(home),
            Tenancy::Free(from) => {
                let (to, kthread) = next_in_turn(&mut self.move_turn, cores);
                let cause = if self.strict {
                    SteerCounter::MovedStrict
                } else {
                    SteerCounter::MovedCoreLost
                };
                Verdict::Move {
                    to,
                    kthread,
                    cause,
                    from,
                }
            }
            Tenancy::Relieved(kthread) => {
                self.expire(cores, home, now);
                let chosen = |r: &Relief| r.from == home && r.chooses(key);
                let Some(at) = self.reliefs.iter().position(chosen) else {
                    return Verdict::Stay(kthread);
                };
                let to = self.reliefs[at].to;
                let (Tenancy::Runs(there) | Tenancy::Relieved(there)) = cores.tenancy(to) else {
                    return Verdict::Stay(kthread);
                };
                if busy(kthread) {
                    return Verdict::Stay(kthread);
                }
                self.reliefs[at].left -= 1;
                if self.reliefs[at].left == 0 {
                    self.end(cores, at);
                }
                Verdict::Move {
                    to,
                    kthread: there,
                    cause: SteerCounter::MovedRelief,
                    from: Some(kthread),
                }
            }
        }
    }

    /// Flows are to move from `from` to `to`: as many as make the two even.
    pub(super) fn relieve(&mut self, cores: &mut CoreSet, from: CoreId, to: CoreId, now: Micros) {
        // What was promised before counts as moved.
        let (mut here, mut there) = (self.count(from), self.count(to));
        for r in &self.reliefs {
            for (count, core) in [(&mut here, from), (&mut there, to)] {
                if r.from == core {
                    *count = count.saturating_sub(r.left);
                } else if r.to == core {
                    *count += r.left;
                }
            }
        }
        let left = here.saturating_sub(there) / 2;
        if left == 0 {
            return;
        }
        if self.reliefs.is_full() {
            self.end(cores, 0);
        }
        self.salt = self.salt.wrapping_add(0x9e37_79b9);
        #[allow(clippy::cast_possible_truncation, reason = "at most 65,536")]
        let share = (u64::from(left) * 65_536).div_ceil(u64::from(here)) as u32;
        self.reliefs.push(Relief {
            from,
            to,
            until: Micros(now.0 + RELIEF_SPAN.0),
            left,
            share,
            salt: self.salt,
        });
        cores.set_relieved(from, true);
    }

    /// A core is gone: nothing is moved from it or to it any more.
    pub(super) fn lost(&mut self, cores: &mut CoreSet, core: CoreId) {
        self.end_all(cores, |r| r.from == core || r.to == core);
    }

    fn expire(&mut self, cores: &mut CoreSet, from: CoreId, now: Micros) {
        self.end_all(cores, |r| r.from == from && r.until < now);
    }

    fn end_all(&mut self, cores: &mut CoreSet, which: impl Fn(&Relief) -> bool) {
        for at in (0..self.reliefs.len()).rev() {
            if which(&self.reliefs[at]) {
                self.end(cores, at);
            }
        }
    }

    fn end(&mut self, cores: &mut CoreSet, at: usize) {
        // In order: the oldest stays first.
        let from = self.reliefs.remove(at).from;
        let more = self.reliefs.iter().any(|r| r.from == from);
        cores.set_relieved(from, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros(1_000);

    fn judge(homes: &mut Homes, cores: &mut CoreSet, home: u16, key: u32, now: Micros) -> Verdict {
        let verdict = homes.judge(cores, CoreId(home), key, now, true, |_| false);
        if let Verdict::Move { to, .. } = verdict {
            homes.moved(CoreId(home), to);
        }
        verdict
    }

    /// Kthread n on core 10 + n, and flows at home on core 10.
    fn with_flows(kthreads: u16, flows: u32) -> (Homes, CoreSet) {
        let (mut homes, mut cores) = (Homes::new(false), CoreSet::new(8));
        cores.activated(KthreadIdx(0), CoreId(10));
        for _ in 0..flows {
            assert_eq!(homes.settle(&cores).0, CoreId(10));
        }
        for n in 1..kthreads {
            cores.activated(KthreadIdx(n), CoreId(10 + n));
        }
        (homes, cores)
    }

    #[test]
    fn a_relief_moves_a_share_that_is_the_same_however_often_flows_send() {
        let (mut homes, mut cores) = with_flows(2, 1000);
        homes.relieve(&mut cores, CoreId(10), CoreId(11), NOW);
        let mut at = vec![10; 1000];
        for round in 0..5 {
            for (key, home) in (0..).zip(&mut at) {
                if *home == 10
                    && cores.runs(CoreId(10)).is_none()
                    && let Verdict::Move { to, cause, .. } =
                        judge(&mut homes, &mut cores, 10, key * 77, NOW)
                {
                    assert_eq!((to, cause), (CoreId(11), SteerCounter::MovedRelief));
                    assert_eq!(round, 0, "a flow that stayed once stays");
                    *home = 11;
                }
            }
        }
        // Half of them, by the chance of a hash, and never more.
        let moved = at.iter().filter(|home| **home == 11).count();
        assert!((430..=500).contains(&moved), "{moved}");
        assert_eq!(homes.count(CoreId(11)) as usize, moved);
    }

    #[test]
    fn a_second_relief_counts_what_the_first_promised() {
        let (mut homes, mut cores) = with_flows(3, 100);
        homes.relieve(&mut cores, CoreId(10), CoreId(11), NOW);
        homes.relieve(&mut cores, CoreId(10), CoreId(12), NOW);
        for key in 0..100_000 {
            if cores.runs(CoreId(10)).is_none() {
                judge(&mut homes, &mut cores, 10, key, NOW);
            }
        }
        let counts = [10, 11, 12].map(|c| homes.count(CoreId(c)));
        assert_eq!(counts, [25, 50, 25]);
    }

    #[test]
    fn a_lone_flow_is_never_moved_for_relief() {
        let (mut homes, mut cores) = with_flows(2, 1);
        homes.relieve(&mut cores, CoreId(10), CoreId(11), NOW);
        assert_eq!(cores.runs(CoreId(10)), Some(KthreadIdx(0)));
    }

    #[test]
    fn a_relief_ends_with_its_time_or_its_cores() {
        let (mut homes, mut cores) = with_flows(2, 100);
        homes.relieve(&mut cores, CoreId(10), CoreId(11), NOW);
        let late = Micros(NOW.0 + RELIEF_SPAN.0 + 1);
        for key in 0..100 {
            if cores.runs(CoreId(10)).is_none() {
                let stays = judge(&mut homes, &mut cores, 10, key, late);
                assert_eq!(stays, Verdict::Stay(KthreadIdx(0)));
            }
        }
        assert!(cores.runs(CoreId(10)).is_some());

        homes.relieve(&mut cores, CoreId(10), CoreId(11), NOW);
        let core = cores.parked(KthreadIdx(1));
        homes.lost(&mut cores, core);
        assert_eq!(cores.runs(CoreId(10)), Some(KthreadIdx(0)));
    }

    #[test]
    fn a_busy_flow_stays_until_it_is_not() {
        let (mut homes, mut cores) = with_flows(2, 100);
        homes.relieve(&mut cores, CoreId(10), CoreId(11), NOW);
        let chosen = (0..).find(|&key| homes.reliefs[0].chooses(key)).unwrap();
        let ask = |homes: &mut Homes, cores: &mut CoreSet, busy| {
            homes.judge(cores, CoreId(10), chosen, NOW, true, |_| busy)
        };
        assert_eq!(
            ask(&mut homes, &mut cores, true),
            Verdict::Stay(KthreadIdx(0))
        );
        assert!(matches!(
            ask(&mut homes, &mut cores, false),
            Verdict::Move { .. }
        ));
        assert_eq!(homes.reliefs[0].left, 49);
    }

    #[test]
    fn flows_of_a_lost_core_go_to_all_others_in_turn() {
        let (mut homes, mut cores) = with_flows(4, 90);
        cores.parked(KthreadIdx(0));
        for key in 0..90 {
            judge(&mut homes, &mut cores, 10, key, NOW);
        }
        let counts = [10, 11, 12, 13].map(|c| homes.count(CoreId(c)));
        assert_eq!(counts, [0, 30, 30, 30]);
    }

    #[test]
    fn strict_affinity_asks_once_and_then_moves() {
        let (mut homes, mut cores) = (Homes::new(true), CoreSet::new(2));
        cores.activated(KthreadIdx(0), CoreId(1));
        let home = CoreId(5);
        homes.count[5] = 1;
        let ask = |homes: &mut Homes, cores: &mut CoreSet, may| {
            homes.judge(cores, home, 1, NOW, may, |_| false)
        };
        assert_eq!(ask(&mut homes, &mut cores, true), Verdict::Wake(home));
        assert!(matches!(
            ask(&mut homes, &mut cores, false),
            Verdict::Move {
                to: CoreId(1),
                cause: SteerCounter::MovedStrict,
                ..
            }
        ));
    }
}
