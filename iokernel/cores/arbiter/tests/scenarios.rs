//! Upstream's rules, one story each, with the choices worked out by hand.
//!
//! Decisions are written `wake 0.3@1 Runqueue<0 pin`: kthread 3 of proc 0 on core
//! 1, because kthread 0's run queue stood still, pinning needed. The core that
//! kthreads which never ran had "last" is the lowest one.

use super::*;

/// An arbiter, and queues that stand still for whom the story says.
pub(super) struct Story {
    pub(super) arbiter: Arbiter,
    queued: Queued,
    now: Micros,
}

impl Story {
    pub(super) fn on(cores: &[RuntimeCore]) -> Story {
        Story {
            arbiter: Arbiter::new(cores, 8),
            queued: Queued::default(),
            now: Micros(0),
        }
    }

    pub(super) fn does(&mut self, act: impl FnOnce(&mut Arbiter, &mut Decisions)) -> String {
        let mut out = Decisions::new();
        act(&mut self.arbiter, &mut out);
        self.arbiter.check();
        out.iter().map(show).collect::<Vec<_>>().join("; ")
    }

    pub(super) fn add(&mut self, slot: u16, kthreads: u16, guaranteed: u16) -> String {
        let spec = ProcSpec {
            kthreads,
            guaranteed,
        };
        self.does(|a, out| a.add(ProcSlot(slot), spec, out))
    }

    pub(super) fn remove(&mut self, slot: u16) -> String {
        self.does(|a, out| drop(a.remove(ProcSlot(slot), out)))
    }

    pub(super) fn parks(&mut self, slot: u16, kthread: u16) -> String {
        self.does(|a, out| {
            let park = a.park(ProcSlot(slot), KthreadIdx(kthread), false, out);
            assert_eq!(park, Park::Stands);
        })
    }

    pub(super) fn parks_in_flight(&mut self, slot: u16, kthread: u16, expected: Park) -> String {
        self.does(|a, out| {
            let park = a.park(ProcSlot(slot), KthreadIdx(kthread), true, out);
            assert_eq!(park, expected);
        })
    }

    pub(super) fn parks_last(&mut self, slot: u16, kthread: u16, us: u64) -> String {
        let done = self.parks(slot, kthread);
        let deadline = Micros(self.now.0 + us);
        self.arbiter.set_timer(ProcSlot(slot), deadline);
        done
    }

    pub(super) fn packet(&mut self, slot: u16) -> (u16, String) {
        let mut kthread = KthreadIdx(0);
        let done = self.does(|a, out| kthread = a.kthread_for_packet(ProcSlot(slot), out));
        (kthread.0, done)
    }

    /// From now on these kthreads' queues stand still, and no others.
    pub(super) fn busy(&mut self, threads: &[(u16, u16)]) {
        self.queued.behind = threads
            .iter()
            .map(|&(slot, kthread)| (ProcSlot(slot), KthreadIdx(kthread)))
            .collect();
    }

    /// From now on these kthreads have messages that nobody has read, and no others.
    pub(super) fn unread(&mut self, threads: &[(u16, u16)]) {
        self.queued.unread = threads
            .iter()
            .map(|&(slot, kthread)| (ProcSlot(slot), KthreadIdx(kthread)))
            .collect();
    }

    /// Five microseconds pass.
    pub(super) fn tick(&mut self) -> String {
        self.now = Micros(self.now.0 + 5);
        let (now, mut queued) = (self.now, std::mem::take(&mut self.queued));
        let done = self.does(|a, out| {
            a.tick(now, &mut queued, out);
        });
        self.arbiter.check_after_tick();
        self.queued = queued;
        done
    }

    pub(super) fn active(&self, slot: u16) -> Vec<u16> {
        let active = self.arbiter.active(ProcSlot(slot));
        active.iter().map(|k| k.0).collect()
    }
}

fn show(decision: &Decision) -> String {
    let why = |cause, from: Option<KthreadIdx>| match from {
        Some(KthreadIdx(from)) => format!("{cause:?}<{from}"),
        None => format!("{cause:?}"),
    };
    match *decision {
        Decision::Wake {
            proc: ProcSlot(p),
            kthread: KthreadIdx(k),
            core,
            pin,
            handover,
            cause,
            from,
        } => format!(
            "wake {p}.{k}@{core} {}{}{}",
            why(cause, from),
            if pin { " pin" } else { "" },
            if handover { " handover" } else { "" }
        ),
        Decision::Preempt {
            victim: ProcSlot(v),
            victim_kthread: KthreadIdx(vk),
            core,
            proc: ProcSlot(p),
            kthread: KthreadIdx(k),
            cause,
            from,
        } => format!("preempt {v}.{vk}@{core} for {p}.{k} {}", why(cause, from)),
        Decision::Rewake {
            proc: ProcSlot(p),
            kthread: KthreadIdx(k),
            core,
        } => format!("rewake {p}.{k}@{core}"),
    }
}

#[test]
fn a_congested_proc_grows_by_one_core_a_tick() {
    let mut s = Story::on(&plain_cores(4));
    assert_eq!(s.add(0, 4, 1), "wake 0.0@0 Launch pin");
    s.busy(&[(0, 0)]);
    assert_eq!(s.tick(), "", "just woken: passed over once");
    // The kthread parked last is 1, whose core 0 is held: the lowest idle core is 1.
    // Nobody ran there, so it is the kthread parked for longest: 3 of [1, 2, 3].
    assert_eq!(s.tick(), "wake 0.3@1 Runqueue<0 pin");
    assert_eq!(s.tick(), "wake 0.2@2 Runqueue<0 pin");
    assert_eq!(s.tick(), "wake 0.1@3 Runqueue<0 pin");
    assert_eq!(s.tick(), "", "all kthreads are active");
    assert_eq!(s.active(0), [0, 3, 2, 1]);
}

#[test]
fn the_rxq_is_a_cause_of_its_own() {
    struct Packets;
    impl Queues for Packets {
        fn observe(&mut self, _: ProcSlot, _: KthreadIdx) -> QueueObs {
            QueueObs {
                rxq_sent: 7,
                rxq_consumed: 6,
                ..QueueObs::default()
            }
        }
    }
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 2, 0);
    let mut stats = TickStats::default();
    let mut tick = |a: &mut Arbiter, out: &mut Decisions| {
        stats = a.tick(Micros(0), &mut Packets, out);
    };
    assert_eq!(s.does(&mut tick), "");
    assert_eq!(s.does(&mut tick), "wake 0.1@1 Rxq<0 pin");
    let expected = TickStats {
        procs: 1,
        runqueue: 0,
        rxq: 1,
        timers: 0,
        overdue: None,
    };
    assert_eq!(stats, expected);
}

#[test]
fn guarantees_take_cores_from_a_bursting_proc() {
    let mut s = Story::on(&plain_cores(4));
    // Proc 0, guaranteed one core, takes all four: 0@0, 3@1, 2@2, 1@3.
    s.add(0, 4, 1);
    s.busy(&[(0, 0)]);
    for _ in 0..4 {
        s.tick();
    }
    s.busy(&[]);
    assert_eq!(s.arbiter.idle_cores(), 0);

    // Proc 1 is guaranteed two. Its kthreads' core is 0, which proc 0 (4 > 1) must cede.
    assert_eq!(s.add(1, 2, 2), "preempt 0.0@0 for 1.0 Launch");
    assert!(s.arbiter.is_active(ProcSlot(1), KthreadIdx(0)));
    assert!(!s.arbiter.is_running(ProcSlot(1), KthreadIdx(0)));
    // The victim's park stands although messages are in flight to it.
    assert_eq!(
        s.parks_in_flight(0, 0, Park::Stands),
        "wake 1.0@0 Launch pin handover"
    );
    // The last active one filled the gap.
    assert_eq!(s.active(0), [1, 3, 2]);

    s.busy(&[(1, 0)]);
    assert_eq!(s.tick(), "");
    // 1 < 2: at once. Kthread 1's core 0 is its own proc's; core 1 is the lowest that a
    // bursting proc (3 > 1) holds.
    assert_eq!(s.tick(), "preempt 0.3@1 for 1.1 Runqueue<0");
    assert_eq!(s.parks(0, 3), "wake 1.1@1 Runqueue pin handover");
    // 2 cores each: proc 0 is above its guarantee, but proc 1 is not below.
    assert_eq!(s.tick(), "");
    assert_eq!((s.active(0), s.active(1)), (vec![1, 2], vec![0, 1]));
}

#[test]
fn above_its_guarantee_a_proc_gets_idle_cores_only() {
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 2, 0);
    s.add(1, 2, 0);
    s.busy(&[(0, 0), (1, 0)]);
    assert_eq!(s.tick(), "");
    assert_eq!(s.tick(), "");
    // Both are overloaded; the core's last user gets it back, and as it is down to
    // nothing, the kthread that parked last. That is no longer active, so no `from`.
    assert_eq!(s.parks(1, 0), "wake 1.0@1 Runqueue");
}

/// Cores 0 and 4 are siblings. Core 0: last user 0, before that 1. Core 4: proc 2.
/// Procs 3 and 4 wait, in that order. Who gets core 0 when proc 0 parks, if those
/// named want more?
fn freed_core(last: bool, sibling: bool, previous: bool) -> String {
    let cores = [0, 4].map(|core| RuntimeCore {
        core: CoreId(core),
        sibling: Some(CoreId(core ^ 4)),
    });
    let mut s = Story::on(&cores);
    assert_eq!(s.add(1, 2, 0), "wake 1.0@0 Launch pin");
    assert_eq!(s.add(2, 2, 1), "wake 2.0@4 Launch pin");
    assert_eq!(s.parks(1, 0), "");
    assert_eq!(s.add(0, 2, 1), "wake 0.0@0 Launch pin");
    // Nobody is bursting and no core is idle: they wait, the newest first.
    if previous {
        assert_eq!(s.packet(1), (0, String::new()));
    }
    assert_eq!(s.add(3, 1, 0), "");
    assert_eq!(s.add(4, 1, 0), "");
    let mut busy = Vec::new();
    busy.extend(last.then_some((0, 0)));
    busy.extend(sibling.then_some((2, 0)));
    s.busy(&busy);
    assert_eq!(s.tick(), "");
    assert_eq!(s.tick(), "");
    s.parks(0, 0)
}

#[test]
fn a_freed_core_goes_to_its_last_user_first() {
    assert_eq!(freed_core(true, true, true), "wake 0.0@0 Runqueue");
}

#[test]
fn a_freed_core_goes_to_its_siblings_user_next() {
    assert_eq!(freed_core(false, true, true), "wake 2.1@0 Runqueue<0 pin");
}

#[test]
fn a_freed_core_goes_to_its_previous_user_next() {
    assert_eq!(freed_core(false, false, true), "wake 1.0@0 Packet");
}

#[test]
fn a_freed_core_goes_to_the_newest_overloaded_proc_last() {
    assert_eq!(freed_core(false, false, false), "wake 4.0@0 Launch pin");
}

#[test]
fn a_freed_core_passes_by_procs_without_parked_kthreads() {
    let cores = [0, 4].map(|core| RuntimeCore {
        core: CoreId(core),
        sibling: Some(CoreId(core ^ 4)),
    });
    let mut s = Story::on(&cores);
    // Proc 0 holds core 0 within its guarantee, proc 1 holds core 4 beyond its own.
    s.add(0, 1, 1);
    assert_eq!(s.add(3, 1, 0), "wake 3.0@4 Launch pin");
    s.parks(3, 0);
    assert_eq!(s.add(1, 1, 0), "wake 1.0@4 Launch pin");
    // Proc 3 waits. So does 2, for core 4: proc 1 is overloaded, the newest, and the
    // sibling's user, but has no parked kthread.
    assert_eq!(s.packet(3), (0, String::new()));
    assert_eq!(s.add(2, 1, 1), "preempt 1.0@4 for 2.0 Launch");
    assert_eq!(s.parks(0, 0), "wake 3.0@0 Packet pin");
}

#[test]
fn a_full_proc_that_is_congested_keeps_the_core_it_parks_on() {
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 2, 0);
    s.busy(&[(0, 0)]);
    s.tick();
    assert_eq!(s.tick(), "wake 0.1@1 Runqueue<0 pin");
    assert_eq!(s.tick(), "");
    // Kthread 0's queue stood still, so kthread 1 had better go on.
    assert_eq!(s.parks(0, 1), "wake 0.1@1 Runqueue<0");
}

#[test]
fn siblings_that_are_no_runtime_cores_are_ignored() {
    // The dataplane's 1 with its sibling; a core number that cannot be; itself.
    let cores = [(0, Some(5)), (1, Some(300)), (2, Some(2))].map(|(core, sibling)| RuntimeCore {
        core: CoreId(core),
        sibling: sibling.map(CoreId),
    });
    let mut s = Story::on(&cores);
    s.add(0, 3, 0);
    s.busy(&[(0, 0)]);
    s.tick();
    assert_eq!(s.tick(), "wake 0.2@1 Runqueue<0 pin");
    assert_eq!(s.tick(), "wake 0.1@2 Runqueue<0 pin");
}

#[test]
fn positions_are_remembered_behind_the_first_congested_kthread() {
    /// (head, tail) of kthreads 0 and 1 at one look.
    struct At([(u32, u32); 2]);
    impl Queues for At {
        fn observe(&mut self, _: ProcSlot, kthread: KthreadIdx) -> QueueObs {
            let (rq_head, rq_tail) = self.0[kthread.index()];
            QueueObs {
                rq_head,
                rq_tail,
                ..QueueObs::default()
            }
        }
    }
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 2, 0);
    let mut look = |positions| {
        let mut stats = TickStats::default();
        s.does(|a, out| stats = a.tick(Micros(0), &mut At(positions), out));
        stats.runqueue
    };
    // Kthread 0 is behind until kthread 1 is active too; then both work for a while.
    assert_eq!(look([(1, 0), (0, 0)]), 0);
    assert_eq!(look([(1, 0), (0, 0)]), 1);
    assert_eq!(look([(1, 1), (0, 0)]), 0);
    assert_eq!(look([(2, 1), (0, 0)]), 0);
    // Kthread 0 is behind again (at 1, not 2) while kthread 1's head goes to 10.
    assert_eq!(look([(2, 1), (10, 0)]), 1);
    // Kthread 0 has caught up; kthread 1 is behind, at 5 of those 10.
    assert_eq!(look([(2, 2), (10, 5)]), 1);
    assert_eq!(look([(2, 2), (10, 10)]), 0);
}

#[test]
fn siblings_are_filled_first() {
    let mut s = Story::on(&one_by_four_by_two());
    s.add(0, 6, 0);
    s.busy(&[(0, 0)]);
    s.tick();
    // Core 0's sibling is 4.
    assert_eq!(s.tick(), "wake 0.5@4 Runqueue<0 pin");
    // 0 and 4 are both held: the lowest idle core is 2, and then its sibling 6.
    assert_eq!(s.tick(), "wake 0.4@2 Runqueue<0 pin");
    assert_eq!(s.tick(), "wake 0.3@6 Runqueue<0 pin");
    assert_eq!(s.tick(), "wake 0.2@3 Runqueue<0 pin");
    assert_eq!(s.tick(), "wake 0.1@7 Runqueue<0 pin");
    s.busy(&[(1, 0)]);
    // Proc 1: core 0 as the one its kthreads had "last", then core 0's sibling.
    assert_eq!(s.add(1, 2, 2), "preempt 0.0@0 for 1.0 Launch");
    assert_eq!(s.tick(), "");
    assert_eq!(s.tick(), "preempt 0.5@4 for 1.1 Runqueue<0");
}

#[test]
fn an_idle_core_is_better_than_a_preempted_sibling() {
    let mut s = Story::on(&one_by_four_by_two());
    s.add(0, 1, 1);
    s.add(1, 2, 0);
    // Proc 0 is on 0, proc 1 on 2; make proc 1 burst onto 6.
    s.busy(&[(1, 0)]);
    s.tick();
    assert_eq!(s.tick(), "wake 1.1@6 Runqueue<0 pin");
    s.parks(0, 0);
    // Proc 2 gets 0, then 0's sibling 4, and then not ...
    s.busy(&[(2, 0)]);
    assert_eq!(s.add(2, 4, 4), "wake 2.0@0 Launch pin");
    s.tick();
    assert_eq!(s.tick(), "wake 2.3@4 Runqueue<0 pin");
    // ... proc 1's, but the lowest idle one.
    assert_eq!(s.tick(), "wake 2.2@3 Runqueue<0 pin");
}

#[test]
fn a_kthread_returns_to_the_core_it_had() {
    let mut s = Story::on(&plain_cores(3));
    s.add(0, 3, 0);
    s.busy(&[(0, 0)]);
    for _ in 0..3 {
        s.tick();
    }
    // 0@0, 2@1, 1@2. First 2 parks, then 1.
    assert_eq!(s.parks(0, 2), "");
    assert_eq!(s.parks(0, 1), "");
    // Kthread 1 parked last: its core 2, and there the last kthread was 1 itself,
    // although 2 has been parked for longer.
    assert_eq!(s.tick(), "wake 0.1@2 Runqueue<0");
    assert_eq!(s.tick(), "wake 0.2@1 Runqueue<0");
}

#[test]
fn a_kthread_returns_to_its_core_after_another_proc_had_it() {
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 3, 0);
    s.busy(&[(0, 0)]);
    s.tick();
    assert_eq!(s.tick(), "wake 0.2@1 Runqueue<0 pin");
    s.parks(0, 2);
    assert_eq!(s.add(1, 1, 0), "wake 1.0@1 Launch pin");
    s.busy(&[]);
    s.tick();
    assert_eq!(s.parks(1, 0), "");
    s.busy(&[(0, 0)]);
    // Kthread 2 parked last, on core 1; there proc 1 was last, and 2 before it.
    assert_eq!(s.tick(), "wake 0.2@1 Runqueue<0");
}

#[test]
fn a_timer_wakes_the_kthread_that_parked_last() {
    let mut s = Story::on(&plain_cores(1));
    s.add(0, 2, 0);
    assert_eq!(s.parks_last(0, 0, 10), "");
    assert_eq!(s.tick(), "", "5 of 10 us");
    assert_eq!(s.tick(), "wake 0.0@0 Timer");
    assert_eq!(s.tick(), "");
}

#[test]
fn a_grant_cancels_the_timer() {
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 2, 0);
    s.parks_last(0, 0, 10);
    assert_eq!(s.packet(0), (0, "wake 0.0@0 Packet".into()));
    for _ in 0..4 {
        assert_eq!(s.tick(), "", "no second core at 10 us");
    }
}

#[test]
fn a_timer_is_not_set_while_a_kthread_is_active() {
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 2, 0);
    s.arbiter.set_timer(ProcSlot(0), Micros(5));
    assert_eq!(s.tick(), "");
    assert_eq!(s.tick(), "");
}

/// Both kthreads of proc 0 run, each on a core of its own.
fn two_running() -> Story {
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 2, 0);
    s.busy(&[(0, 0)]);
    assert_eq!(s.tick(), "", "kthread 0 has only just been woken");
    assert_eq!(s.tick(), "wake 0.1@1 Runqueue<0 pin");
    s.busy(&[]);
    s
}

#[test]
fn a_last_park_seen_before_another_ones_park_keeps_its_timer() {
    let mut s = two_running();
    // Kthread 1 parked first and 0 last, with a timer; but 0's ring is read first.
    s.parks_last(0, 0, 10);
    assert_eq!(s.parks(0, 1), "");
    assert_eq!(s.tick(), "", "5 us");
    assert_eq!(s.tick(), "wake 0.1@1 Timer", "10 us");
}

#[test]
fn a_wake_after_a_last_park_cancels_its_timer() {
    let mut s = two_running();
    s.parks_last(0, 0, 10);
    // Kthread 0 runs again, so what it said when it parked is void.
    s.busy(&[(0, 1)]);
    assert_eq!(s.tick(), "", "kthread 1 has only just been woken");
    assert_eq!(s.tick(), "wake 0.0@0 Runqueue<1");
    s.busy(&[]);
    assert_eq!(s.parks(0, 0), "");
    assert_eq!(s.parks(0, 1), "");
    for _ in 0..4 {
        assert_eq!(s.tick(), "");
    }
}

#[test]
fn a_due_timer_waits_for_a_core() {
    let mut s = Story::on(&plain_cores(1));
    s.add(0, 1, 0);
    s.parks_last(0, 0, 5);
    s.add(1, 1, 0);
    // No guarantee: it does not take the core of proc 1, nor for a packet.
    assert_eq!(s.tick(), "");
    assert_eq!(s.tick(), "");
    assert_eq!(s.packet(0), (0, String::new()));
    assert_eq!(s.parks(1, 0), "wake 0.0@0 Timer");
}

#[test]
fn a_due_timer_under_guarantee_preempts() {
    let mut s = Story::on(&plain_cores(1));
    s.add(0, 1, 1);
    s.parks_last(0, 0, 5);
    s.add(1, 1, 0);
    assert_eq!(s.tick(), "preempt 1.0@0 for 0.0 Timer");
}

#[test]
fn a_park_with_messages_in_flight_does_not_stand() {
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 2, 0);
    assert_eq!(s.parks_in_flight(0, 0, Park::Refused), "rewake 0.0@0");
    assert!(s.arbiter.is_running(ProcSlot(0), KthreadIdx(0)));
    assert_eq!(s.parks(0, 0), "");
    assert_eq!(s.active(0), [0; 0]);
}

#[test]
fn parks_of_kthreads_without_a_core_are_the_runtimes_fault() {
    let mut s = Story::on(&plain_cores(1));
    s.add(0, 2, 0);
    assert_eq!(s.add(1, 1, 1), "preempt 0.0@0 for 1.0 Launch");
    // Waiting, parked, of no kthread, of no proc, of no slot.
    for (slot, kthread) in [(1, 0), (0, 1), (0, 2), (5, 0), (999, 0)] {
        assert_eq!(s.parks_in_flight(slot, kthread, Park::NotRunning), "");
    }
    assert_eq!(s.parks(0, 0), "wake 1.0@0 Launch pin handover");
    assert_eq!(s.parks_in_flight(0, 0, Park::NotRunning), "", "twice");
}

#[test]
fn a_launch_without_a_core_waits_unharmed() {
    let mut s = Story::on(&plain_cores(1));
    s.add(0, 1, 1);
    assert_eq!(s.add(1, 2, 0), "", "upstream stops here");
    assert_eq!(s.tick(), "");
    // Packets queue up on the kthread that will be the first to run.
    assert_eq!(s.packet(1), (0, String::new()));
    assert_eq!(s.parks(0, 0), "wake 1.0@0 Launch pin");
}

#[test]
fn a_guarantee_that_found_no_core_is_asked_for_again() {
    let mut s = Story::on(&plain_cores(1));
    // Guarantees of two on one core: the registration would refuse the second.
    s.add(0, 1, 1);
    assert_eq!(s.add(1, 1, 1), "");
    assert_eq!(s.add(2, 1, 0), "");
    assert_eq!(s.tick(), "");
    // The newest overloaded proc is 2. It has the core beyond its guarantee, so the
    // next tick takes it.
    assert_eq!(s.parks(0, 0), "wake 2.0@0 Launch pin");
    assert_eq!(
        s.packet(1),
        (0, String::new()),
        "not searched for in between"
    );
    assert_eq!(s.tick(), "preempt 2.0@0 for 1.0 Launch");
    assert_eq!(s.tick(), "");
}

#[test]
fn a_packet_wakes_a_sleeping_proc() {
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 2, 0);
    assert_eq!(s.packet(0), (0, String::new()), "active already");
    s.parks(0, 0);
    assert_eq!(s.packet(0), (0, "wake 0.0@0 Packet".into()));
}

#[test]
fn a_packet_under_guarantee_preempts() {
    let mut s = Story::on(&plain_cores(1));
    s.add(0, 1, 1);
    s.parks(0, 0);
    s.add(1, 1, 0);
    assert_eq!(s.packet(0), (0, "preempt 1.0@0 for 0.0 Packet".into()));
    assert_eq!(s.parks(1, 0), "wake 0.0@0 Packet handover");
    // Proc 1 was left overloaded with nothing, so it is the next.
    assert_eq!(s.parks(0, 0), "wake 1.0@0 Preempted");
}

#[test]
fn a_packet_without_guarantee_waits_on_the_next_kthread_to_run() {
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 2, 0);
    s.busy(&[(0, 0)]);
    s.tick();
    assert_eq!(s.tick(), "wake 0.1@1 Runqueue<0 pin");
    s.parks(0, 1);
    s.parks(0, 0);
    s.add(1, 1, 1);
    s.add(2, 1, 1);
    // 0 parked last. Core 1 is freed, where kthread 1 had run: still it is 0's turn.
    assert_eq!(s.packet(0), (0, String::new()));
    assert_eq!(s.arbiter.core_of(ProcSlot(2), KthreadIdx(0)), CoreId(1));
    assert_eq!(s.parks(2, 0), "wake 0.0@1 Packet pin");
}

#[test]
fn a_waiting_proc_that_leaves_lets_the_victim_be() {
    let mut s = Story::on(&plain_cores(1));
    s.add(0, 1, 0);
    assert_eq!(s.add(1, 1, 1), "preempt 0.0@0 for 1.0 Launch");
    assert_eq!(s.remove(1), "");
    // The signal is on its way. Nobody waits now, so messages in flight count again.
    assert_eq!(s.parks_in_flight(0, 0, Park::Refused), "rewake 0.0@0");
    // And it is overloaded until the next tick, so that it gets its core back.
    assert_eq!(s.parks(0, 0), "wake 0.0@0 Preempted");
    assert_eq!(s.tick(), "");
    assert_eq!(s.parks(0, 0), "");
    assert_eq!(s.arbiter.idle_cores(), 1);
}

#[test]
fn a_victim_that_leaves_hands_its_core_over() {
    let mut s = Story::on(&plain_cores(1));
    s.add(0, 1, 0);
    assert_eq!(s.add(1, 1, 1), "preempt 0.0@0 for 1.0 Launch");
    assert_eq!(s.remove(0), "wake 1.0@0 Launch pin handover");
    // A new tenant of the slot has lost no core.
    assert_eq!(s.add(0, 1, 0), "");
    assert_eq!(s.parks(1, 0), "wake 0.0@0 Launch pin");
    assert_eq!(s.tick(), "");
    assert_eq!(s.remove(0), "");
    assert_eq!(s.remove(0), "", "nobody is there");
}

#[test]
fn a_proc_that_leaves_gives_its_cores_to_who_wants_them() {
    let mut s = Story::on(&plain_cores(2));
    s.add(0, 2, 2);
    s.busy(&[(0, 0)]);
    s.tick();
    s.tick();
    assert_eq!(s.active(0), [0, 1]);
    s.add(1, 1, 0);
    s.add(2, 1, 0);
    // Core 0 first, to the newest overloaded proc.
    assert_eq!(s.remove(0), "wake 2.0@0 Launch pin; wake 1.0@1 Launch pin");
}

#[test]
fn a_failed_pin_is_tried_again() {
    let mut s = Story::on(&plain_cores(1));
    assert_eq!(s.add(0, 1, 0), "wake 0.0@0 Launch pin");
    s.parks(0, 0);
    assert_eq!(s.packet(0).1, "wake 0.0@0 Packet");
    s.arbiter.pin_failed(ProcSlot(0), KthreadIdx(0));
    s.parks(0, 0);
    assert_eq!(s.packet(0).1, "wake 0.0@0 Packet pin");
}

#[test]
fn sleeping_procs_are_not_looked_at() {
    let mut a = Arbiter::new(&plain_cores(2), 1024);
    let mut out = Decisions::new();
    let spec = ProcSpec {
        kthreads: 1,
        guaranteed: 0,
    };
    for slot in (0..1000).map(ProcSlot) {
        a.add(slot, spec, &mut out);
        let park = a.park(slot, KthreadIdx(0), false, &mut out);
        assert_eq!(park, Park::Stands);
        a.set_timer(slot, Micros(1_000_000 + u64::from(slot.0)));
        out.clear();
    }
    a.kthread_for_packet(ProcSlot(700), &mut out);
    let mut queued = Queued::default();
    let stats = a.tick(Micros(999_999), &mut queued, &mut out);
    assert_eq!((stats.procs, stats.timers), (1, 0));
    // Those of 0, 1, 2 are due: two cores, of which 700 holds one.
    out.clear();
    let stats = a.tick(Micros(1_000_002), &mut queued, &mut out);
    assert_eq!((stats.procs, stats.timers), (4, 3));
    assert_eq!(out.len(), 1);
}
