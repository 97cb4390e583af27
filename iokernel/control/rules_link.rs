//! How a changed set of rules reaches the polling loop, and the old one comes back.
//!
//! ```text
//!   admin thread: build --news--> polling loop: swap --old--> admin thread: drop
//! ```
//!
//! Invariant: a set is sent only when the one that the last was swapped for has come
//! back. So neither ring, of one place each, is ever full, and the polling loop
//! allocates and frees nothing.

use std::time::{Duration, Instant};

use crate::steering::rules::RuleSet;

/// Between looks at the ring, while waiting.
const LOOK: Duration = Duration::from_millis(1);

/// Why a set was not seen to come into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// The polling loop does not take its messages, or is not yet up.
    Silent,
    /// It has ended.
    Gone,
}

/// The sender's end.
#[derive(Debug)]
pub struct RulesLink {
    news: rtrb::Producer<Box<RuleSet>>,
    old: rtrb::Consumer<Box<RuleSet>>,
    /// An old set is still to come back.
    owed: bool,
}

/// The polling loop's end.
#[derive(Debug)]
pub struct RulesEnd {
    news: rtrb::Consumer<Box<RuleSet>>,
    old: rtrb::Producer<Box<RuleSet>>,
}

/// Makes both ends. `first` is on its way, and in force before any runtime attaches.
///
/// # Panics
/// Never: the ring is empty.
pub fn rules_link(first: Box<RuleSet>) -> (RulesLink, RulesEnd) {
    let (news_in, news_out) = rtrb::RingBuffer::new(1);
    let (old_in, old_out) = rtrb::RingBuffer::new(1);
    let mut link = RulesLink {
        news: news_in,
        old: old_out,
        owed: false,
    };
    let end = RulesEnd {
        news: news_out,
        old: old_in,
    };
    link.send(first).expect("nothing is owed yet");
    (link, end)
}

impl RulesLink {
    /// Sends a set. Handed back while the last one was not seen to come into force.
    ///
    /// # Errors
    /// `set` itself.
    pub fn send(&mut self, set: Box<RuleSet>) -> Result<(), Box<RuleSet>> {
        if !self.settled() {
            return Err(set);
        }
        self.news
            .push(set)
            .map_err(|rtrb::PushError::Full(set)| set)?;
        self.owed = true;
        Ok(())
    }

    /// True if the last set that was sent is in force. Drops the one before it.
    pub fn settled(&mut self) -> bool {
        if self.old.pop().is_ok() {
            self.owed = false;
        }
        !self.owed
    }

    /// Waits until the last set that was sent is in force.
    ///
    /// # Errors
    /// [`NoAnswer`]; a silent loop may still take it.
    pub fn wait(&mut self, patience: Duration) -> Result<(), NoAnswer> {
        let end = Instant::now() + patience;
        loop {
            // Asked before the ring is emptied: what was sent before it is seen.
            let gone = self.old.is_abandoned();
            if self.settled() {
                return Ok(());
            }
            if gone {
                return Err(NoAnswer::Gone);
            }
            if Instant::now() >= end {
                return Err(NoAnswer::Silent);
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl RulesEnd {
    /// Puts a set that was sent in the place of `rules`.
    ///
    /// # Panics
    /// When the ring of old sets is full, which is our own bug.
    #[inline]
    pub fn renew(&mut self, rules: &mut Box<RuleSet>) {
        if let Ok(new) = self.news.pop() {
            let old = std::mem::replace(rules, new);
            self.old
                .push(old)
                .expect("no set is sent before the last old one was taken");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CoreId;
    use crate::steering::rules::Rule;

    fn set(hash: u32) -> Box<RuleSet> {
        let core = CoreId(1);
        RuleSet::build([Rule { hash, core }]).unwrap()
    }

    #[test]
    fn a_set_is_sent_when_the_last_one_is_in_force() {
        let (mut link, mut end) = rules_link(set(1));
        let mut rules = Box::<RuleSet>::default();
        assert!(link.send(set(2)).is_err(), "the first is on its way");
        end.renew(&mut rules);
        assert!(rules.core(1).is_some());
        link.send(set(2)).unwrap();
        assert!(!link.settled());
        end.renew(&mut rules);
        assert!(rules.core(1).is_none() && rules.core(2).is_some());
        assert_eq!(link.wait(Duration::ZERO), Ok(()));
        // Nothing was sent: nothing changes.
        end.renew(&mut rules);
        assert!(rules.core(2).is_some());
    }

    #[test]
    fn a_loop_that_is_silent_or_gone_is_told_apart() {
        let (mut link, mut end) = rules_link(set(1));
        assert_eq!(link.wait(Duration::ZERO), Err(NoAnswer::Silent));
        // An answer given before the end counts.
        let mut rules = Box::<RuleSet>::default();
        end.renew(&mut rules);
        drop(end);
        assert_eq!(link.wait(Duration::from_secs(60)), Ok(()));
        link.send(set(2)).unwrap();
        assert_eq!(link.wait(Duration::from_secs(60)), Err(NoAnswer::Gone));
    }
}
