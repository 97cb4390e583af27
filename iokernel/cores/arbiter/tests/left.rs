//! Messages left with a kthread that parked: whoever has them is woken for them.
//!
//! Stories as in `scenarios`.

use super::scenarios::Story;
use super::*;

/// One kthread of proc 0 parked with a message in flight while its core was wanted
/// by proc 1, and its other kthread is still active. Cores 0 and 1 are held.
fn left_with_a_message(guaranteed: u16) -> Story {
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 2, guaranteed);
    s.busy(&[(0, 0)]);
    s.tick();
    assert_eq!(s.tick(), "wake 0.1@1 Runqueue<0 pin");
    s.busy(&[]);
    assert_eq!(s.add(1, 1, 1), "preempt 0.0@0 for 1.0 Launch");
    s.unread(&[(0, 0)]);
    let handed_over = s.parks_in_flight(0, 0, Park::Stands);
    assert_eq!(handed_over, "wake 1.0@0 Launch pin handover");
    s
}

#[test]
fn a_kthread_left_with_a_message_is_woken_when_the_last_one_parks() {
    let mut s = left_with_a_message(0);
    assert_eq!(s.tick(), "", "no core is idle");
    // Kthread 1 had this core last and parked last; the message is kthread 0's.
    assert_eq!(s.parks(0, 1), "wake 0.0@1 Packet pin");
    s.unread(&[]);
    s.tick();
    assert_eq!(s.parks(0, 0), "", "read: nothing more to wake for");
    assert_eq!(s.tick(), "");
}

#[test]
fn a_kthread_left_with_a_message_takes_an_idle_core_beside_active_ones() {
    let mut s = left_with_a_message(0);
    s.tick();
    assert_eq!(s.parks(1, 0), "wake 0.0@0 Packet");
}

#[test]
fn a_message_that_others_have_read_wakes_nobody() {
    let mut s = left_with_a_message(0);
    s.unread(&[]);
    assert_eq!(s.tick(), "");
    assert_eq!(s.tick(), "");
    assert_eq!(s.parks(1, 0), "");
    assert_eq!(s.parks(0, 1), "");
    assert_eq!(s.tick(), "");
    assert_eq!(s.arbiter.idle_cores(), 2);
}

#[test]
fn a_left_message_takes_no_core_from_others_beyond_the_guarantee() {
    let mut s = Story::on(&plain_cores(3));
    s.add(0, 2, 1);
    s.busy(&[(0, 0)]);
    s.tick();
    assert_eq!(s.tick(), "wake 0.1@1 Runqueue<0 pin");
    s.busy(&[]);
    assert_eq!(s.add(2, 1, 0), "wake 2.0@2 Launch pin");
    assert_eq!(s.add(1, 1, 1), "preempt 0.0@0 for 1.0 Launch");
    s.unread(&[(0, 0)]);
    s.parks_in_flight(0, 0, Park::Stands);
    // It has its one core; proc 2 keeps the one that it has beyond its own guarantee.
    for _ in 0..3 {
        assert_eq!(s.tick(), "");
    }
    assert_eq!(s.parks(2, 0), "wake 0.0@2 Packet pin");
}

#[test]
fn a_left_message_takes_a_core_from_others_under_the_guarantee() {
    let mut s = Story::on(&plain_cores(3));
    s.add(0, 2, 1);
    s.busy(&[(0, 0)]);
    s.tick();
    assert_eq!(s.tick(), "wake 0.1@1 Runqueue<0 pin");
    s.busy(&[]);
    assert_eq!(s.add(2, 1, 0), "wake 2.0@2 Launch pin");
    // Both take a core while proc 0 has two.
    assert_eq!(s.add(1, 1, 1), "preempt 0.0@0 for 1.0 Launch");
    assert_eq!(s.add(3, 1, 1), "preempt 0.1@1 for 3.0 Launch");
    s.unread(&[(0, 0)]);
    s.parks_in_flight(0, 0, Park::Stands);
    s.parks(0, 1);
    assert_eq!(s.active(0), [0; 0]);
    assert_eq!(s.tick(), "preempt 2.0@2 for 0.0 Packet");
}

#[test]
fn messages_for_a_sleeping_proc_go_where_messages_lie_already() {
    let mut s = left_with_a_message(0);
    assert_eq!(s.add(2, 1, 1), "preempt 0.1@1 for 2.0 Launch");
    assert_eq!(s.parks(0, 1), "wake 2.0@1 Launch pin handover");
    // Kthread 1 parked last.
    assert_eq!(s.packet(0), (0, String::new()));
    assert_eq!(s.tick(), "");
    assert_eq!(s.parks(2, 0), "wake 0.0@1 Preempted pin");
}
