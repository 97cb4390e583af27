//! Kthreads that do not give up a core that another proc has a right to.

use super::*;

/// One core: proc 0, without a guarantee, has it, and proc 1, with one, waits for it.
fn waiting() -> (Arbiter, Decisions) {
    let (mut a, mut out) = (Arbiter::new(&plain_cores(1), 8), Decisions::new());
    let spec = |guaranteed| ProcSpec {
        kthreads: 1,
        guaranteed,
    };
    let _ = a.tick(Micros(5), &mut Queued::default(), &mut out);
    a.add(ProcSlot(0), spec(0), &mut out);
    a.add(ProcSlot(1), spec(1), &mut out);
    assert!(matches!(
        out[..],
        [Decision::Wake { .. }, Decision::Preempt { .. }]
    ));
    out.clear();
    (a, out)
}

/// The holder, after `ticks` more, a period apart.
fn overdue(a: &mut Arbiter, out: &mut Decisions, ticks: u64, period: u64) -> Option<ProcSlot> {
    let mut found = None;
    for _ in 0..ticks {
        let now = Micros(a.last_tick.time.0 + period);
        let stats = a.tick(now, &mut Queued::default(), out);
        found = found.or(stats.overdue.map(|(slot, ..)| slot));
    }
    found
}

#[test]
fn who_keeps_a_core_for_too_long_is_reported_and_its_core_goes_on() {
    let (mut a, mut out) = waiting();
    let ticks = CEDE_PATIENCE.0 / 5;
    assert_eq!(overdue(&mut a, &mut out, ticks - 1, 5), None);
    assert_eq!(overdue(&mut a, &mut out, 1, 5), Some(ProcSlot(0)));
    a.remove(ProcSlot(0), &mut out);
    let handed_on = matches!(
        out[..],
        [Decision::Wake {
            proc: ProcSlot(1),
            handover: true,
            ..
        }]
    );
    assert!(handed_on, "{out:?}");
    assert_eq!(overdue(&mut a, &mut out, 300_000, 5), None);
}

#[test]
fn time_in_which_nobody_ticked_does_not_count() {
    let (mut a, mut out) = waiting();
    // A machine that stood still for an hour.
    assert_eq!(overdue(&mut a, &mut out, 1, 3_600_000_000), None);
    assert_eq!(overdue(&mut a, &mut out, CEDE_TICKS - 2, 5), None);
    assert_eq!(overdue(&mut a, &mut out, 1, 5), Some(ProcSlot(0)));
}

#[test]
fn who_parks_in_time_is_not_reported() {
    let (mut a, mut out) = waiting();
    assert_eq!(overdue(&mut a, &mut out, 199_990, 5), None);
    let park = a.park(ProcSlot(0), KthreadIdx(0), false, &mut out);
    assert_eq!(park, Park::Stands);
    out.clear();
    assert_eq!(overdue(&mut a, &mut out, 400_000, 5), None);
}
