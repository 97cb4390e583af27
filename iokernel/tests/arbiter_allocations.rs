//! The arbiter allocates when a proc is added, and never after.

#![allow(unsafe_code, reason = "a global allocator that counts")]
#![allow(
    clippy::tests_outside_test_module,
    reason = "an integration test is a test module"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use calisto::cores::arbiter::{
    Arbiter, Decision, Decisions, ProcSpec, QueueObs, Queues, RuntimeCore,
};
use calisto::ids::{CoreId, KthreadIdx, Micros, ProcSlot};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(p, layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(p, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// Congestion here and there, by a generator of its own (xorshift).
struct Noise(u32);

impl Noise {
    fn next(&mut self, below: u32) -> u16 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        u16::try_from(self.0 % below).unwrap()
    }
}

impl Queues for Noise {
    fn observe(&mut self, _: ProcSlot, _: KthreadIdx) -> QueueObs {
        QueueObs {
            rq_head: 100,
            rq_tail: 99 + u32::from(self.next(2)),
            ..QueueObs::default()
        }
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn nothing_allocates_after_the_procs_are_added() {
    let cores: Vec<RuntimeCore> = (0..8)
        .map(|core| RuntimeCore {
            core: CoreId(core),
            sibling: Some(CoreId(core ^ 4)),
        })
        .collect();
    let mut arbiter = Arbiter::new(&cores, 64);
    let mut out = Decisions::new();
    for slot in 0..20u16 {
        let spec = ProcSpec {
            kthreads: 6,
            guaranteed: u16::from(slot < 8),
        };
        arbiter.add(ProcSlot(slot), spec, &mut out);
        out.clear();
    }

    let mut noise = Noise(2463534242);
    let (mut wakes, mut preempts, mut rewakes) = (0, 0, 0);
    let count = allocations(|| {
        for step in 0..100_000u64 {
            let (slot, kthread) = (ProcSlot(noise.next(20)), KthreadIdx(noise.next(6)));
            match noise.next(4) {
                0 => {
                    arbiter.tick(Micros(step * 5), &mut noise, &mut out);
                }
                1 => {
                    arbiter.kthread_for_packet(slot, &mut out);
                }
                _ => {
                    let in_flight = noise.next(4) == 0;
                    let _ = arbiter.park(slot, kthread, in_flight, &mut out);
                    arbiter.set_timer(slot, Micros(step * 5 + u64::from(noise.next(99))));
                }
            }
            for decision in out.drain(..) {
                match decision {
                    Decision::Wake { .. } => wakes += 1,
                    Decision::Preempt { .. } => preempts += 1,
                    Decision::Rewake { .. } => rewakes += 1,
                }
            }
        }
        for slot in (0..20).map(ProcSlot) {
            arbiter.remove(slot, &mut out);
            out.clear();
        }
    });
    assert_eq!(count, 0);
    // All paths were taken, many times over.
    assert!(
        wakes > 1000 && preempts > 100 && rewakes > 100,
        "{wakes} wakes, {preempts} preempts, {rewakes} rewakes"
    );
}
