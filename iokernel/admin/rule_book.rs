//! The rules as they were given, and their way to the polling loop.

use std::time::Duration;

use crate::config::rule::{RuleSpec, Selector, check_core};
use crate::control::RulesLink;
use crate::control::rules_link::NoAnswer;
use crate::ids::CoreId;
use crate::steering::Policy;
use crate::steering::rules::RuleSet;

/// Longest wait for the polling loop, before a change and after it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The rules in force, or about to be.
#[derive(Debug)]
pub(super) struct RuleBook {
    policy: Policy,
    /// Those of runtimes.
    cores: Vec<CoreId>,
    specs: Vec<RuleSpec>,
    link: RulesLink,
}

impl RuleBook {
    /// `specs` are those that `link` was made with.
    pub(super) fn new(
        policy: Policy,
        cores: Vec<CoreId>,
        specs: Vec<RuleSpec>,
        link: RulesLink,
    ) -> RuleBook {
        RuleBook {
            policy,
            cores,
            specs,
            link,
        }
    }

    pub(super) fn specs(&self) -> &[RuleSpec] {
        &self.specs
    }

    /// # Errors
    /// One line, as for the others.
    pub(super) fn add(&mut self, spec: RuleSpec) -> Result<(), String> {
        if self.policy != Policy::Hybrid {
            return Err("rules need --policy hybrid".into());
        }
        check_core(&spec, &self.cores)?;
        let hash = spec.selector.hash();
        if let Some(held) = self.specs.iter().find(|s| s.selector.hash() == hash) {
            return Err(format!(
                "hash {hash:#010x} has a rule already, {held}: delete it first"
            ));
        }
        let mut specs = self.specs.clone();
        specs.push(spec);
        self.change(specs)
    }

    pub(super) fn del(&mut self, selector: Selector) -> Result<(), String> {
        let mut specs = self.specs.clone();
        specs.retain(|spec| spec.selector.hash() != selector.hash());
        if specs.len() == self.specs.len() {
            return Err(format!(
                "there is no rule for hash {:#010x}",
                selector.hash()
            ));
        }
        self.change(specs)
    }

    pub(super) fn clear(&mut self) -> Result<(), String> {
        self.change(Vec::new())
    }

    /// Makes these the rules. Once sent they are, even if the polling loop is late.
    fn change(&mut self, specs: Vec<RuleSpec>) -> Result<(), String> {
        let set = RuleSet::build(specs.iter().map(RuleSpec::rule)).map_err(|e| e.to_string())?;
        self.wait("nothing was changed")?;
        self.link.send(set).expect("waited for above");
        self.specs = specs;
        self.wait("the change is made as soon as it does")
    }

    fn wait(&mut self, meanwhile: &str) -> Result<(), String> {
        self.link.wait(PATIENCE).map_err(|e| match e {
            NoAnswer::Silent => format!("the polling loop does not answer: {meanwhile}"),
            NoAnswer::Gone => "the polling loop has ended".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::rules_link;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// As many as the rules here name.
    fn cores() -> Vec<CoreId> {
        (0..8).map(CoreId).collect()
    }

    #[test]
    fn a_core_on_which_no_runtime_runs_is_refused() {
        let ((), rules) = with_loop(Policy::Hybrid, |book| {
            let refused = book.add(spec("core=200 hash=7")).unwrap_err();
            assert!(
                refused.contains("no runtime core: those are 0,1,2"),
                "{refused}"
            );
        });
        assert!(rules.is_empty());
    }

    fn spec(text: &str) -> RuleSpec {
        text.parse().unwrap()
    }

    /// A loop that does nothing but take rules, until told to stop; its last set.
    fn with_loop<T>(policy: Policy, f: impl FnOnce(&mut RuleBook) -> T) -> (T, Box<RuleSet>) {
        let (link, mut end) = rules_link(Box::default());
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut rules = Box::<RuleSet>::default();
                while !stop.load(Ordering::Relaxed) {
                    end.renew(&mut rules);
                    std::thread::yield_now();
                }
                rules
            }
        });
        let value = f(&mut RuleBook::new(policy, cores(), Vec::new(), link));
        stop.store(true, Ordering::Relaxed);
        (value, thread.join().unwrap())
    }

    #[test]
    fn changes_are_in_force_when_they_are_answered() {
        let ((), rules) = with_loop(Policy::Hybrid, |book| {
            book.add(spec("core=1 hash=7")).unwrap();
            book.add(spec("core=2 hash=8")).unwrap();
            book.add(spec("core=3 hash=9")).unwrap();
            book.del(Selector::of_hash(8)).unwrap();
            assert_eq!(book.specs(), [spec("core=1 hash=7"), spec("core=3 hash=9")]);
        });
        let core = |rules: &RuleSet, hash| rules.core(hash).map(|core| core.0);
        assert_eq!(core(&rules, 7), Some(1));
        assert_eq!(core(&rules, 8), None);
        assert_eq!(core(&rules, 9), Some(3));
        let ((), rules) = with_loop(Policy::Hybrid, |book| {
            book.add(spec("core=1 hash=7")).unwrap();
            book.clear().unwrap();
        });
        assert!(rules.is_empty());
    }

    #[test]
    fn what_cannot_be_done_changes_nothing() {
        let ((), rules) = with_loop(Policy::Hybrid, |book| {
            book.add(spec("core=1 hash=7")).unwrap();
            let line = book.add(spec("core=2 hash=7")).unwrap_err();
            assert!(line.contains("core=1 hash=0x00000007: delete it"), "{line}");
            let line = book.del(Selector::of_hash(8)).unwrap_err();
            assert!(line.contains("no rule for hash 0x00000008"), "{line}");
            assert_eq!(book.specs(), [spec("core=1 hash=7")]);
        });
        assert_eq!(rules.len(), 1);
    }

    #[test]
    fn other_policies_have_no_rules() {
        let ((), rules) = with_loop(Policy::Buckets, |book| {
            let line = book.add(spec("core=1 hash=7")).unwrap_err();
            assert_eq!(line, "rules need --policy hybrid");
            book.clear().unwrap();
        });
        assert!(rules.is_empty());
    }

    #[test]
    fn there_is_no_room_for_one_more_than_there_may_be() {
        let (link, _end) = rules_link(Box::default());
        let specs = (0..1024)
            .map(|hash| spec(&format!("core=1 hash={hash}")))
            .collect();
        let mut book = RuleBook::new(Policy::Hybrid, cores(), specs, link);
        let line = book.add(spec("core=1 hash=5000")).unwrap_err();
        assert!(line.contains("1025 rules: there may be 1024"), "{line}");
    }

    #[test]
    fn a_silent_loop_is_waited_for_in_vain_and_obeys_later() {
        // Takes the second of patience, twice.
        let (link, mut end) = rules_link(Box::default());
        let mut rules = Box::<RuleSet>::default();
        let mut book = RuleBook::new(Policy::Hybrid, cores(), Vec::new(), link);
        let line = book.add(spec("core=1 hash=7")).unwrap_err();
        assert!(line.starts_with("the polling loop does not answer: nothing"));
        assert!(book.specs().is_empty());
        end.renew(&mut rules);
        let line = book.add(spec("core=1 hash=7")).unwrap_err();
        assert!(line.starts_with("the polling loop does not answer: the change"));
        assert_eq!(book.specs().len(), 1);
        end.renew(&mut rules);
        assert!(rules.core(7).is_some());
        drop(end);
        book.clear().unwrap_err();
        assert_eq!(book.clear().unwrap_err(), "the polling loop has ended");
    }
}
