//! Users whose runtimes made the polling loop wait, and for how long they wait themselves.
//!
//! A runtime shares its eventfds with the daemon and can fill one at the wrong moment: the
//! loop then blocks until the watch ends that, and the runtime is detached. Whoever does
//! it again and again would block it again and again. So each time makes the next
//! registration of that user wait longer: the first not at all, then [`FIRST`], and twice
//! as long each time up to [`LONGEST`]. After [`FORGOTTEN`] of peace it begins anew.
//!
//! By user, because processes of one user can end each other anyway: nobody is kept
//! waiting by somebody who could not do worse.
//!
//! Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the second offence costs.
const FIRST: Duration = Duration::from_millis(100);
/// What any offence costs at most. Ten milliseconds of waiting in ten seconds are a thousandth.
const LONGEST: Duration = Duration::from_secs(10);
/// Peace, after which offences are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Who has to wait.
#[derive(Debug, Default)]
pub(super) struct Penalties {
    by_uid: BTreeMap<u32, Penalty>,
}

#[derive(Debug, Clone, Copy)]
struct Penalty {
    /// What the next offence costs.
    next: Duration,
    until: Instant,
}

impl Penalties {
    /// A runtime of `uid` made the loop wait.
    pub(super) fn add(&mut self, uid: u32, now: Instant) {
        // Few: each has had a runtime attached within the last minute.
        self.by_uid.retain(|_, p| now < p.until + FORGOTTEN);
        let cost = self.by_uid.get(&uid).map_or(Duration::ZERO, |p| p.next);
        let next = (cost * 2).clamp(FIRST, LONGEST);
        let until = now + cost;
        self.by_uid.insert(uid, Penalty { next, until });
    }

    /// Until when `uid` has to wait, if it has to.
    pub(super) fn until(&self, uid: u32, now: Instant) -> Option<Instant> {
        let until = self.by_uid.get(&uid)?.until;
        (now < until).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_costs_twice_as_much_as_the_last_up_to_ten_seconds() {
        let mut penalties = Penalties::default();
        let mut now = Instant::now();
        let mut costs = Vec::new();
        for _ in 0..10 {
            penalties.add(5, now);
            let cost = penalties.until(5, now).map_or(Duration::ZERO, |u| u - now);
            assert_eq!(penalties.until(5, now + cost), None);
            costs.push(cost.as_millis());
            now += cost;
        }
        let expected = [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        assert_eq!(costs, expected);
    }

    #[test]
    fn others_do_not_wait_and_peace_is_forgiven() {
        let mut penalties = Penalties::default();
        let now = Instant::now();
        penalties.add(5, now);
        penalties.add(5, now);
        assert!(penalties.until(5, now).is_some());
        assert_eq!(penalties.until(6, now), None);
        let later = now + FIRST + FORGOTTEN;
        penalties.add(5, later);
        assert_eq!(penalties.until(5, later), None, "as if for the first time");
        assert_eq!(penalties.by_uid.len(), 1);
    }
}
