//! The operator's rules under `hybrid`.

use super::bed::{Bed, spec};
use crate::ids::CoreId;
use crate::stats::SteerCounter;
use crate::steering::rules::{Rule, RuleSet};
use crate::steering::{Affinity, Policy, SteeringSpec};

const FLOW: u32 = 77;

fn rule(core: u16) -> Box<RuleSet> {
    let rule = Rule {
        hash: FLOW,
        core: CoreId(core),
    };
    RuleSet::build([rule]).unwrap()
}

/// Kthread 0 on core 10, where the flow is at home, and kthread 1 on core 11.
fn bed(spec: &SteeringSpec) -> Bed {
    let mut bed = Bed::new(spec, 4);
    bed.grant(0, 10, None);
    assert_eq!(bed.one(FLOW).core, CoreId(10));
    bed.grant(1, 11, None);
    bed
}

#[test]
fn a_rule_places_its_flow_while_its_core_is_there() {
    let mut bed = bed(&spec(Policy::Hybrid));
    bed.rules = rule(11);
    for _ in 0..3 {
        assert_eq!(bed.one(FLOW).core, CoreId(11));
    }
    assert_eq!(bed.count(SteerCounter::MovedRule), 1);
    bed.park(1);
    assert_eq!(bed.one(FLOW).core, CoreId(10), "as without the rule");
    assert_eq!(bed.count(SteerCounter::MovedCoreLost), 1);
    bed.grant(2, 11, None);
    assert_eq!(bed.one(FLOW).core, CoreId(11));
    assert_eq!(bed.count(SteerCounter::MovedRule), 2);
    // The rule ends: the flow stays where it is, until it loses that core too.
    *bed.rules = RuleSet::default();
    assert_eq!(bed.one(FLOW).core, CoreId(11));
    bed.park(2);
    assert_eq!(bed.one(FLOW).core, CoreId(10));
    assert_eq!(bed.count(SteerCounter::MovedCoreLost), 2);
    assert_eq!(bed.count(SteerCounter::ChangedCore), 4);
}

#[test]
fn with_strict_affinity_a_rules_core_is_woken() {
    let mut bed = bed(&SteeringSpec {
        affinity: Affinity::Strict,
        ..spec(Policy::Hybrid)
    });
    bed.generous = true;
    bed.rules = rule(13);
    assert_eq!(bed.one(FLOW).core, CoreId(13));
    assert_eq!(bed.count(SteerCounter::StrictWakes), 1);
}

#[test]
fn with_the_order_guard_a_rule_waits_until_the_queue_is_taken() {
    let mut bed = bed(&SteeringSpec {
        order_guard: true,
        ..spec(Policy::Hybrid)
    });
    bed.rules = rule(11);
    assert_eq!(bed.one(FLOW).core, CoreId(10), "two packets lie there");
    assert_eq!(bed.count(SteerCounter::GuardWaits), 1);
    bed.take(0, 2);
    assert_eq!(bed.one(FLOW).core, CoreId(11));
    assert_eq!(bed.count(SteerCounter::CouldOvertake), 0);
}

#[test]
fn with_the_order_guard_a_changed_rule_waits_as_well() {
    let mut bed = bed(&SteeringSpec {
        order_guard: true,
        ..spec(Policy::Hybrid)
    });
    bed.take_all();
    bed.rules = rule(11);
    assert_eq!(bed.one(FLOW).core, CoreId(11));
    bed.rules = rule(10);
    assert_eq!(bed.one(FLOW).core, CoreId(11), "a packet lies there");
    bed.take_all();
    assert_eq!(bed.one(FLOW).core, CoreId(10));
    assert_eq!(bed.count(SteerCounter::MovedRule), 2);
    assert_eq!(bed.count(SteerCounter::CouldOvertake), 0);
    // One that ends moves nothing.
    *bed.rules = RuleSet::default();
    assert_eq!(bed.one(FLOW).core, CoreId(10));
}

#[test]
fn a_lost_core_that_is_the_buckets_too_counts_once() {
    let mut bed = Bed::new(&spec(Policy::Hybrid), 4);
    bed.grant(0, 10, None);
    bed.rules = rule(10);
    assert_eq!(bed.one(FLOW).core, CoreId(10));
    bed.grant(1, 11, None);
    bed.park(0);
    assert_eq!(bed.one(FLOW).core, CoreId(11));
    // The flow, and its bucket.
    assert_eq!(bed.count(SteerCounter::ChangedCore), 1);
}

#[test]
fn a_runtime_that_sleeps_is_woken_on_its_rules_core() {
    let mut bed = bed(&SteeringSpec {
        affinity: Affinity::Strict,
        ..spec(Policy::Hybrid)
    });
    let rules = rule(13);
    assert_eq!(bed.steering.core_to_wake(FLOW, &rules), Some(CoreId(13)));
    let none = RuleSet::default();
    assert_eq!(bed.steering.core_to_wake(FLOW, &none), Some(CoreId(10)));
    assert_eq!(bed.count(SteerCounter::StrictWakes), 0);
}

#[test]
fn other_policies_know_no_rules() {
    for policy in Policy::ALL {
        if policy == Policy::Hybrid {
            continue;
        }
        let mut bed = bed(&spec(policy));
        let before = bed.one(FLOW).core;
        bed.rules = rule(if before == CoreId(10) { 11 } else { 10 });
        assert_eq!(bed.one(FLOW).core, before, "{}", policy.name());
    }
}
