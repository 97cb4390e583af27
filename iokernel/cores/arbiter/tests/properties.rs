//! The module's properties, over random events.

use proptest::prelude::*;

use super::model::Model;
use super::*;

const PROCS: u16 = 5;
const KTHREADS: u16 = 4;

/// Something that happens to the arbiter. Slots and kthreads reach past what
/// exists, as a hostile runtime's would.
#[derive(Debug, Clone)]
enum Event {
    Add(ProcSlot, ProcSpec),
    Remove(ProcSlot),
    Park {
        slot: ProcSlot,
        kthread: KthreadIdx,
        /// A message was sent just before.
        in_flight: bool,
        /// Microseconds until the timer, for a last park.
        timer: Option<u64>,
    },
    /// The n-th running kthread parks: what honest runtimes do.
    ParkRunning(usize),
    /// A message for whichever kthread the number steers it to.
    Packet(ProcSlot, usize),
    /// The n-th unread message is read, if a kthread of its proc runs.
    Read(usize),
    PinFailed(ProcSlot, KthreadIdx),
    /// A tick, after so many microseconds, with these kthreads' queues behind.
    Tick(u64, BTreeSet<(ProcSlot, KthreadIdx)>),
}

fn slot() -> impl Strategy<Value = ProcSlot> {
    (0..PROCS).prop_map(ProcSlot)
}

fn kthread() -> impl Strategy<Value = KthreadIdx> {
    (0..KTHREADS + 1).prop_map(KthreadIdx)
}

fn event() -> impl Strategy<Value = Event> {
    let spec = (1..=KTHREADS, 0..3u16).prop_map(|(kthreads, guaranteed)| ProcSpec {
        kthreads,
        guaranteed,
    });
    let thread = || (slot(), kthread());
    prop_oneof![
        2 => (slot(), spec).prop_map(|(s, spec)| Event::Add(s, spec)),
        1 => slot().prop_map(Event::Remove),
        3 => (thread(), any::<bool>(), prop::option::of(0..30u64)).prop_map(
            |((slot, kthread), in_flight, timer)| Event::Park { slot, kthread, in_flight, timer }
        ),
        4 => (0..8usize).prop_map(Event::ParkRunning),
        3 => (slot(), 0..8usize).prop_map(|(slot, hash)| Event::Packet(slot, hash)),
        2 => (0..8usize).prop_map(Event::Read),
        1 => thread().prop_map(|(s, k)| Event::PinFailed(s, k)),
        6 => (0..20u64, prop::collection::btree_set(thread(), 0..12))
            .prop_map(|(us, behind)| Event::Tick(us, behind)),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 1..120)
}

fn machine() -> impl Strategy<Value = Vec<RuntimeCore>> {
    prop_oneof![
        (1..6u16).prop_map(plain_cores),
        Just(one_by_four_by_two()),
        Just(one_by_four_by_two()[..3].to_vec()),
    ]
}

/// An arbiter, the model beside it, and all that was decided.
struct World {
    arbiter: Arbiter,
    model: Model,
    now: Micros,
    log: Vec<Decision>,
    /// Kthreads with messages in their rxq.
    unread: BTreeSet<(ProcSlot, KthreadIdx)>,
}

impl World {
    fn new(cores: &[RuntimeCore]) -> World {
        World {
            arbiter: Arbiter::new(cores, usize::from(PROCS)),
            model: Model::new(cores),
            now: Micros(1000),
            log: Vec::new(),
            unread: BTreeSet::new(),
        }
    }

    fn play(cores: &[RuntimeCore], events: &[Event]) -> World {
        let mut world = World::new(cores);
        for event in events {
            world.happen(event);
        }
        world
    }

    fn happen(&mut self, event: &Event) {
        let mut out = Decisions::new();
        match *event {
            Event::Add(slot, spec) if !self.model.procs.contains_key(&slot) => {
                self.arbiter.add(slot, spec, &mut out);
                self.model.added(slot, spec);
            }
            Event::Add(..) => {}
            Event::Remove(slot) => {
                self.arbiter.remove(slot, &mut out);
                self.model.removed(slot);
                self.unread.retain(|thread| thread.0 != slot);
            }
            Event::Park {
                slot,
                kthread,
                in_flight,
                timer,
            } => {
                if in_flight && self.arbiter.is_active(slot, kthread) {
                    self.unread.insert((slot, kthread));
                }
                self.park(slot, kthread, timer, &mut out);
            }
            Event::ParkRunning(n) => {
                let running = self.running();
                if !running.is_empty() {
                    let (slot, kthread) = running[n % running.len()];
                    self.park(slot, kthread, None, &mut out);
                }
            }
            Event::Packet(slot, hash) => {
                if let Some(p) = self.model.procs.get(&slot) {
                    let kthread = if p.active.is_empty() {
                        let kthread = self.arbiter.kthread_for_packet(slot, &mut out);
                        self.model.apply(&out);
                        self.model.promised(slot, kthread);
                        self.log.extend(out.drain(..));
                        kthread
                    } else {
                        p.active[hash % p.active.len()]
                    };
                    self.unread.insert((slot, kthread));
                }
            }
            Event::Read(n) => {
                let thread = self.unread.iter().nth(n).copied();
                if let Some((slot, kthread)) = thread
                    && self.running().iter().any(|reader| reader.0 == slot)
                {
                    self.unread.remove(&(slot, kthread));
                }
            }
            Event::PinFailed(slot, kthread) => {
                self.arbiter.pin_failed(slot, kthread);
                self.model.pin_failed((slot, kthread));
            }
            Event::Tick(us, ref behind) => {
                let mut queued = Queued {
                    behind: behind.clone(),
                    unread: self.unread.clone(),
                };
                self.tick(us, &mut queued, &mut out);
            }
        }
        self.model.apply(&out);
        self.log.extend(out);
        self.model.compare(&self.arbiter);
        self.arbiter.check();
    }

    fn park(
        &mut self,
        slot: ProcSlot,
        kthread: KthreadIdx,
        timer: Option<u64>,
        out: &mut Decisions,
    ) {
        let in_flight = self.unread.contains(&(slot, kthread));
        let ran = self.model.running((slot, kthread));
        match self.arbiter.park(slot, kthread, in_flight, out) {
            Park::NotRunning => assert!(!ran && out.is_empty()),
            Park::Refused => {
                assert!(ran && in_flight);
                assert!(matches!(out[..], [Decision::Rewake { .. }]));
            }
            Park::Stands => {
                assert!(ran);
                self.model.parked((slot, kthread));
                self.model.apply(out);
                self.log.extend(out.drain(..));
                if let Some(us) = timer {
                    let deadline = Micros(self.now.0 + us);
                    self.arbiter.set_timer(slot, deadline);
                    self.model.timer_set(slot, deadline);
                }
            }
        }
    }

    fn running(&self) -> Vec<(ProcSlot, KthreadIdx)> {
        let procs = self.model.procs.iter();
        procs
            .flat_map(|(&slot, p)| p.active.iter().map(move |&k| (slot, k)))
            .filter(|&thread| self.model.running(thread))
            .collect()
    }

    /// No message lies with a parked kthread unless its proc is watched for it.
    fn check_unread(&self) {
        for &(slot, kthread) in &self.unread {
            let p = self.arbiter.proc(slot);
            assert!(
                self.arbiter.is_active(slot, kthread)
                    || self.arbiter.overloaded.contains(slot.0)
                    || !p.active().is_empty(),
                "kthread {} of proc {} sleeps on a message",
                kthread.0,
                slot.0
            );
        }
    }

    fn tick(&mut self, us: u64, queued: &mut Queued, out: &mut Decisions) {
        self.now = Micros(self.now.0 + us);
        let before = self.model.clone();
        let wanting = self.model.looked_at(self.now, queued);
        let stats = self.arbiter.tick(self.now, queued, out);
        self.model.apply(out);
        self.log.extend(out.drain(..));
        self.arbiter.check_after_tick();

        let congested = stats.runqueue + stats.rxq;
        let found = usize::try_from(congested + stats.timers).unwrap();
        assert!(found >= wanting.len(), "{wanting:?} want cores: {stats:?}");
        for slot in wanting {
            let (then, now) = (&before.procs[&slot], &self.model.procs[&slot]);
            let grown = now.active.len() > then.active.len();
            let full = then.active.len() == usize::from(then.spec.kthreads);
            let guaranteed = then.active.len() < usize::from(then.spec.guaranteed);
            assert!(!(full && grown));
            if !full && !grown {
                assert_eq!(self.model.idle(), 0, "proc {slot:?} was passed over");
                assert!(
                    !guaranteed || !self.model.core_to_be_had(slot),
                    "proc {slot:?} was denied its guarantee"
                );
            }
        }
    }
}

proptest! {
    /// No core has two holders, idle and held cores are all cores, at most one waits
    /// for a core, guarantees are met, removed procs get nothing, what the arbiter
    /// says of itself agrees with its decisions; and nothing panics: all of it is in
    /// the model and in `check`, after every event.
    #[test]
    fn any_events_leave_everything_in_order(cores in machine(), events in events()) {
        World::play(&cores, &events);
    }

    #[test]
    fn an_idle_system_stays_still(cores in machine(), events in events()) {
        let mut world = World::play(&cores, &events);
        // Far in the future every timer is due; the first tick also serves what was
        // denied a core before, and finds every message read.
        world.unread.clear();
        world.happen(&Event::Tick(1_000_000, BTreeSet::new()));
        let settled = world.log.len();
        for _ in 0..3 {
            world.happen(&Event::Tick(1_000_000, BTreeSet::new()));
        }
        prop_assert_eq!(&world.log[settled..], &[]);
    }

    /// Once everybody reads what it has and parks, every message is read, and then
    /// nobody is woken any more.
    #[test]
    fn no_message_is_forgotten(cores in machine(), events in events()) {
        let mut world = World::new(&cores);
        for event in &events {
            world.happen(event);
            world.check_unread();
        }
        let mut settled = world.log.len();
        // A round wakes somebody, or nobody is left: timers are due at once, and each
        // kthread waits for a core or has messages once. Losing kthread by kthread, at
        // one look a tick, takes as many rounds at most.
        for round in 0..4 * PROCS * KTHREADS {
            for (slot, kthread) in world.running() {
                world.unread.remove(&(slot, kthread));
            }
            world.happen(&Event::Tick(1_000_000, BTreeSet::new()));
            world.check_unread();
            for (slot, kthread) in world.running() {
                world.unread.remove(&(slot, kthread));
                world.happen(&Event::Park { slot, kthread, in_flight: false, timer: None });
                world.check_unread();
            }
            if round < 2 * PROCS * KTHREADS {
                settled = world.log.len();
            }
        }
        prop_assert_eq!(&world.unread, &BTreeSet::new());
        prop_assert_eq!(&world.log[settled..], &[]);
        prop_assert_eq!(world.arbiter.idle_cores(), world.arbiter.total_cores());
    }

    #[test]
    fn the_same_events_give_the_same_decisions(cores in machine(), events in events()) {
        prop_assert_eq!(World::play(&cores, &events).log, World::play(&cores, &events).log);
    }

    /// A removed proc leaves nothing behind that a fresh tenant would feel.
    #[test]
    fn a_slot_starts_afresh(cores in machine(), events in events()) {
        let mut world = World::play(&cores, &events);
        for slot in (0..PROCS).map(ProcSlot) {
            world.happen(&Event::Remove(slot));
        }
        prop_assert_eq!(world.arbiter.idle_cores(), world.arbiter.total_cores());
        let mut fresh = World::new(&cores);
        fresh.now = world.now;
        let start = world.log.len();
        for event in &events {
            world.happen(event);
            fresh.happen(event);
        }
        prop_assert_eq!(&world.log[start..], &fresh.log[..]);
    }

    /// Positions that no honest runtime shows.
    #[test]
    fn hostile_positions_harm_nobody(
        cores in machine(),
        events in events(),
        noise in any::<[u32; 32]>(),
    ) {
        struct Noise([u32; 32], usize);
        impl Queues for Noise {
            fn observe(&mut self, _: ProcSlot, _: KthreadIdx) -> QueueObs {
                self.1 += 1;
                let at = |i| self.0[(self.1 + i) % 32];
                QueueObs { rq_head: at(0), rq_tail: at(1), rxq_sent: at(2), rxq_consumed: at(3) }
            }
        }
        let mut world = World::new(&cores);
        let mut queues = Noise(noise, 0);
        for event in &events {
            if let Event::Tick(us, _) = event {
                world.now = Micros(world.now.0 + us);
                let mut out = Decisions::new();
                world.arbiter.tick(world.now, &mut queues, &mut out);
                world.model.apply(&out);
                world.model.compare(&world.arbiter);
                world.arbiter.check();
                world.arbiter.check_after_tick();
            } else {
                world.happen(event);
            }
        }
    }
}
