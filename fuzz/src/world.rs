//! The whole polling loop, kept from one input to the next: making one takes
//! milliseconds, and one that was left as it was found is as good as a new one.

use std::cell::RefCell;
use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use calisto::abi::ingress::INGRESS_BUFS;
use calisto::control::{DetachReason, ToControl};
use calisto::ids::ProcSlot;
use calisto::stats::Counter;
use calisto::steering::{Affinity, Policy, SteeringSpec};
use calisto::testing::World;

/// Turns in which everything comes to an end: 128 for the buffers of one runtime, each
/// at least in every 256th turn while packets come.
const TURNS_MAX: usize = 4000;

thread_local! {
    static WORLDS: RefCell<BTreeMap<u16, World>> = RefCell::default();
}

/// How a runtime's flows are steered.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Steering {
    policy: u8,
    strict: bool,
    order_guard: bool,
    watch_flows: bool,
}

impl Steering {
    /// What that means; with a small table, which is soon full.
    pub fn spec(self) -> SteeringSpec {
        SteeringSpec {
            policy: Policy::ALL[usize::from(self.policy) % Policy::ALL.len()],
            affinity: if self.strict {
                Affinity::Strict
            } else {
                Affinity::Sticky
            },
            flow_entries: 64,
            order_guard: self.order_guard,
            watch_flows: self.watch_flows,
            ..SteeringSpec::default()
        }
    }
}

/// Lets `run` use the loop for `cores` cores, and then looks whether it is as it was.
///
/// # Panics
/// When something is left behind.
pub fn with_world(cores: u16, run: impl FnOnce(&mut World)) {
    WORLDS.with_borrow_mut(|worlds| {
        let world = worlds.entry(cores).or_insert_with(|| {
            ignore_preemption();
            let mut world = World::new(cores);
            world.dataplane.port_mut().places.reserve(1 << 14);
            world
        });
        run(world);
        let port = world.dataplane.port_mut();
        port.sent.clear();
        port.places.clear();
        assert_eq!(port.free_bufs(), INGRESS_BUFS as usize, "buffers are gone");
        assert_eq!(port.in_device(), 0);
        let count = |counter| world.count(counter);
        assert_eq!(
            count(Counter::RxDelivered),
            count(Counter::RxReturned) + count(Counter::RxReclaimed),
            "each delivery ends once"
        );
        assert_eq!(count(Counter::Attached), count(Counter::Detached));
    });
}

/// Kthreads are the fuzzer itself: the signal that asks one to park is for nobody.
fn ignore_preemption() {
    #[allow(unsafe_code, reason = "a signal's disposition")]
    // SAFETY: ignoring a signal installs no handler.
    unsafe {
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
    }
}

/// The port does all that it was asked, at once.
pub fn unblock_port(world: &mut World) {
    let port = world.dataplane.port_mut();
    port.auto_done = true;
    port.takes = usize::MAX;
    port.descriptors = usize::MAX;
    port.finish(usize::MAX.min(port.in_device()));
}

/// Detaches the runtimes in `slots`, and waits for it.
///
/// # Panics
/// When one does not go, or goes for a reason of its own.
pub fn hang_up_all(world: &mut World, slots: &[u16]) {
    for slot in slots {
        world.hang_up(*slot);
    }
    let mut left: Vec<ProcSlot> = slots.iter().map(|slot| ProcSlot(*slot)).collect();
    for _ in 0..TURNS_MAX {
        if left.is_empty() {
            return;
        }
        world.turns(1);
        unblock_port(world);
        while let Some(ToControl::Detached { proc, reason }) = world.detached() {
            left.retain(|slot| *slot != proc.id.slot);
            let fault = matches!(reason, DetachReason::Fault(_));
            assert!(!fault || proc.id.slot != ProcSlot(0), "{reason}");
        }
    }
    panic!("{left:?} do not go");
}
