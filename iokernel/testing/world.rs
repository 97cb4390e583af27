//! A whole polling loop around a fake port.

use std::sync::Arc;

use crate::abi::ingress::{INGRESS_LEN, Ingress};
use crate::abi::shm::ShmRegion;
use crate::abi::types::rx_net_hdr;
use crate::control::{ControlEnd, RulesLink, ToControl, ToDataplane, channel, rules_link};
use crate::cores::arbiter::{Arbiter, RuntimeCore};
use crate::cores::executor::WakeWatch;
use crate::cores::topology::CpuId;
use crate::dataplane::effects::Effects;
use crate::dataplane::lending::Lending;
use crate::dataplane::{Dataplane, Idle, Parts};
use crate::ids::{CoreId, Mac, ProcId, ProcSlot};
use crate::proc::Proc;
use crate::stats::{Counter, Gauges, Held, Stats};
use crate::steering::SteeringSpec;
use crate::steering::rules::RuleSet;
use crate::testing::{FakePort, Peer, PeerSpec};
use crate::time::Clock;

/// A dataplane, the control thread's end of its rings, and the ingress region.
#[derive(Debug)]
pub struct World {
    /// The loop; the test turns it.
    pub dataplane: Dataplane<FakePort>,
    /// What the control thread would hold.
    pub control: ControlEnd,
    /// Where rules are changed.
    pub rules: RulesLink,
    /// What runtimes map.
    pub ingress: Arc<ShmRegion>,
    /// The loop's counters.
    pub stats: Stats,
    /// What the loop holds.
    pub gauges: Gauges,
}

impl World {
    /// A loop for `cores` runtime cores. Nothing is really pinned: every core
    /// is whatever CPU the test runs on.
    ///
    /// # Panics
    /// When the machine has no memory left.
    pub fn new(cores: u16) -> World {
        World::with(cores, Effects::unpinned())
    }

    /// The same, with every core on CPU 0: kthreads of which the thread is gone
    /// cannot be woken.
    ///
    /// # Panics
    /// When the machine has no memory left.
    pub fn pinned(cores: u16) -> World {
        World::on(CpuId(0), cores)
    }

    /// The same, with every core on `cpu`, which need not be there.
    ///
    /// # Panics
    /// When the machine has no memory left.
    pub fn on(cpu: CpuId, cores: u16) -> World {
        let cpus = vec![cpu; cores.into()];
        World::with(cores, Effects::new(WakeWatch::new(), cpus.into()))
    }

    fn with(cores: u16, effects: Effects) -> World {
        let ingress = Arc::new(ShmRegion::private(INGRESS_LEN).expect("shared memory"));
        let (control, dataplane_end) = channel();
        let (rules, rules_end) = rules_link(Box::default());
        let stats = Stats::default();
        let gauges = Gauges::default();
        let runtime: Vec<_> = (0..cores)
            .map(|n| RuntimeCore {
                core: CoreId(n),
                sibling: None,
            })
            .collect();
        let dataplane = Dataplane::new(Parts {
            port: FakePort::new(ingress.clone()),
            ingress: Ingress::new(ingress.clone()),
            link: dataplane_end,
            rules: rules_end,
            arbiter: Arbiter::new(&runtime, crate::dataplane::loans::MAX_PROCS),
            effects,
            clock: Clock::calibrate(),
            stats: stats.clone(),
            gauges: gauges.clone(),
            idle: Idle::Spin,
            lending: Lending::default(),
        });
        World {
            dataplane,
            control,
            rules,
            ingress,
            stats,
            gauges,
        }
    }

    /// Puts these rules into force.
    ///
    /// # Panics
    /// When the loop does not take them.
    pub fn set_rules(&mut self, rules: Box<RuleSet>) {
        self.until_rules_settled();
        self.rules.send(rules).expect("nothing is owed");
        self.until_rules_settled();
    }

    fn until_rules_settled(&mut self) {
        // The loop hears control messages in this many turns, whatever arrives.
        let patience = crate::dataplane::CONTROL_PATIENCE;
        let settled = (0..=patience).any(|_| {
            self.dataplane.turn();
            self.rules.settled()
        });
        assert!(settled, "the loop takes rules");
    }

    /// Attaches a runtime of `kthreads` kthreads in `slot` and gives the loop a
    /// turn to launch it.
    ///
    /// # Panics
    /// When the slot is taken.
    pub fn attach(&mut self, slot: u16, kthreads: usize, guaranteed: u16) -> Peer {
        let (peer, proc) = World::peer(slot, kthreads, guaranteed);
        self.admit(proc);
        peer
    }

    /// A runtime for `slot`, not attached yet.
    pub fn peer(slot: u16, kthreads: usize, guaranteed: u16) -> (Peer, Box<Proc>) {
        World::steered_peer(slot, kthreads, guaranteed, SteeringSpec::default())
    }

    /// The same, with its flows steered so.
    pub fn steered_peer(
        slot: u16,
        kthreads: usize,
        guaranteed: u16,
        steering: SteeringSpec,
    ) -> (Peer, Box<Proc>) {
        Peer::new(PeerSpec {
            id: ProcId {
                slot: ProcSlot(slot),
                generation: 1,
            },
            mac: mac(slot),
            kthreads,
            guaranteed,
            egress: 256,
            steering,
        })
    }

    /// Hands a runtime to the loop, and gives that turns to launch it.
    ///
    /// # Panics
    /// When its slot is taken.
    pub fn admit(&mut self, proc: Box<Proc>) {
        self.control
            .to_dataplane
            .push(ToDataplane::Attach(proc))
            .expect("room in the ring");
        self.turns(2);
    }

    /// The peer in `slot` hangs up.
    ///
    /// # Panics
    /// When the ring is full.
    pub fn hang_up(&mut self, slot: u16) {
        let id = ProcId {
            slot: ProcSlot(slot),
            generation: 1,
        };
        self.control
            .to_dataplane
            .push(ToDataplane::Detach(id))
            .expect("room in the ring");
    }

    /// The next runtime that the loop let go.
    pub fn detached(&mut self) -> Option<ToControl> {
        self.control.from_dataplane.pop().ok()
    }

    /// Turns the loop `n` times.
    pub fn turns(&mut self, n: usize) {
        for _ in 0..n {
            self.dataplane.turn();
        }
    }

    /// A UDP frame of flow `flow` arrives for the runtime in `slot`; its RSS
    /// hash is `flow`. False if no buffer is free.
    pub fn receive(&mut self, slot: u16, flow: u32) -> bool {
        let frame = udp_frame(mac(slot), flow);
        self.dataplane.port_mut().receive(&frame, flow)
    }

    /// The header of a received packet.
    pub fn rx_hdr(&self, payload: u64) -> rx_net_hdr {
        super::peer::rx_hdr(&self.ingress, payload)
    }

    /// Turns the loop until it has looked at its gauges again, and reads one.
    pub fn held(&mut self, gauge: Held) -> u64 {
        let turn = self.dataplane.gauge_turn();
        while self.dataplane.gauge_turn() == turn {
            self.turns(1);
        }
        self.gauges.held.get(gauge)
    }

    /// A count.
    pub fn count(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }
}

/// The address of the runtime in `slot`.
pub fn mac(slot: u16) -> Mac {
    let [a, b] = slot.to_be_bytes();
    Mac([2, 0, 0, 0, a, b])
}

/// A UDP frame of 60 bytes; source address and port tell the flow.
pub fn udp_frame(dst: Mac, flow: u32) -> [u8; 60] {
    let mut f = [0_u8; 60];
    f[..6].copy_from_slice(&dst.0);
    f[6..12].copy_from_slice(&[2, 0xff, 0, 0, 0, 1]);
    f[12..14].copy_from_slice(&[8, 0]);
    f[14] = 0x45;
    f[16..18].copy_from_slice(&46_u16.to_be_bytes());
    f[22] = 64;
    f[23] = 17;
    f[26..30].copy_from_slice(&flow.to_be_bytes());
    f[30..34].copy_from_slice(&[192, 168, 1, 3]);
    f[34..36].copy_from_slice(&[0x10, (flow & 0xff) as u8]);
    f[36..38].copy_from_slice(&5000_u16.to_be_bytes());
    f[38..40].copy_from_slice(&26_u16.to_be_bytes());
    f
}
