//! Received frames, from the port to the right kthreads: who gets which, with which
//! header, in which order; and that all buffers come back.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use calisto::abi::ingress::INGRESS_LEN;
use calisto::abi::shm::ShmPtr;
use calisto::abi::types::{CHECKSUM_TYPE_UNNECESSARY, RX_NET_RECV};
use calisto::stats::Counter;
use calisto::testing::{Peer, World, mac};
use calisto_fuzz::frame::Frame;
use calisto_fuzz::world::{Steering, hang_up_all, with_world};
use libfuzzer_sys::fuzz_target;

const PEERS: usize = 2;
const KTHREADS: usize = 3;

#[derive(Debug, Arbitrary)]
struct Input {
    cores: bool,
    steering: [Steering; PEERS],
    steps: Vec<Step>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Frame {
        to: To,
        frame: Frame,
        hash: u8,
    },
    Turn,
    /// A kthread that has a core parks.
    Park {
        peer: bool,
        kthread: u8,
    },
    /// A runtime takes what came and gives it back.
    Take {
        peer: bool,
    },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum To {
    First,
    Second,
    Everybody,
    AsItIs,
}

/// A frame on its way, by its place in the order of arrival.
struct Sent {
    bytes: Vec<u8>,
    hash: u32,
}

/// Who must get a frame; the count of those that nobody gets.
fn receivers(bytes: &[u8]) -> Result<Vec<usize>, Counter> {
    let tagged = bytes.get(12..14) == Some(&[0x81, 0]);
    match bytes.len() {
        0..14 => return Err(Counter::RxBadLength),
        14..1515 => {}
        1515..1519 if tagged => {}
        _ => return Err(Counter::RxBadLength),
    }
    let dst = &bytes[..6];
    if dst == [0xff; 6] {
        return Ok((0..PEERS).collect());
    }
    if dst[0] & 1 == 1 {
        return Err(Counter::RxUnhandled);
    }
    match (0..PEERS).find(|n| dst == mac(u16::try_from(*n).expect("few")).0) {
        Some(n) => Ok(vec![n]),
        None => Err(Counter::RxUnregisteredMac),
    }
}

struct Runtime {
    peer: Peer,
    /// Frames that it must get, by place.
    expected: BTreeMap<u32, Sent>,
    /// The last place seen on each kthread since the last park.
    last: [Option<u32>; KTHREADS],
    running: [bool; KTHREADS],
}

fuzz_target!(|input: Input| {
    let cores = if input.cores { 4 } else { 1 };
    with_world(cores, |world| run(world, &input, cores));
});

fn run(world: &mut World, input: &Input, cores: u16) {
    let mut runtimes: Vec<Runtime> = Vec::new();
    for (slot, steering) in (0..).zip(input.steering) {
        let guaranteed = u16::from(slot == 0 || cores > 1);
        let (peer, proc) = World::steered_peer(slot, KTHREADS, guaranteed, steering.spec());
        world.admit(proc);
        runtimes.push(Runtime {
            peer,
            expected: BTreeMap::new(),
            last: [None; KTHREADS],
            running: [false; KTHREADS],
        });
    }
    let drops = [
        Counter::RxBadLength,
        Counter::RxUnhandled,
        Counter::RxUnregisteredMac,
    ];
    let before = drops.map(|c| world.count(c));
    let mut dropped = [0; 3];
    let mut place = 0;
    for step in input.steps.iter().take(300) {
        match step {
            Step::Frame { to, frame, hash } => {
                let mut bytes = frame.bytes();
                address(&mut bytes, *to);
                mark(&mut bytes, place);
                let hash = u32::from(*hash) << 24 | u32::from(*hash);
                assert!(world.dataplane.port_mut().receive(&bytes, hash));
                match receivers(&bytes) {
                    Ok(all) => {
                        for n in all {
                            let bytes = bytes.clone();
                            runtimes[n].expected.insert(place, Sent { bytes, hash });
                        }
                    }
                    Err(why) => {
                        let at = drops.iter().position(|c| *c == why).expect("one of them");
                        dropped[at] += 1;
                    }
                }
                place += 1;
            }
            Step::Turn => world.turns(1),
            Step::Park { peer, kthread } => {
                let runtime = &mut runtimes[usize::from(*peer)];
                let kthread = usize::from(*kthread) % KTHREADS;
                runtime.look_who_runs();
                if runtime.running[kthread] {
                    runtime.peer.park(kthread, 0);
                    runtime.running[kthread] = false;
                    runtime.last = [None; KTHREADS];
                }
            }
            Step::Take { peer } => runtimes[usize::from(*peer)].take(world),
        }
    }
    for _ in 0..8 {
        world.turns(1);
        for runtime in &mut runtimes {
            runtime.take(world);
        }
    }
    for runtime in &runtimes {
        assert!(runtime.expected.is_empty(), "frames are lost");
    }
    let after = drops.map(|c| world.count(c));
    for i in 0..3 {
        assert_eq!(after[i] - before[i], dropped[i], "{}", drops[i].label());
    }
    hang_up_all(world, &[0, 1]);
}

fn address(bytes: &mut [u8], to: To) {
    let dst = match to {
        To::First => mac(0).0,
        To::Second => mac(1).0,
        To::Everybody => [0xff; 6],
        To::AsItIs => return,
    };
    if let Some(start) = bytes.get_mut(..6) {
        start.copy_from_slice(&dst);
    }
}

/// Writes a frame's place where its source address is, so that it can be told.
fn mark(bytes: &mut [u8], place: u32) {
    if let Some(source) = bytes.get_mut(6..10) {
        source.copy_from_slice(&place.to_le_bytes());
    }
}

impl Runtime {
    fn look_who_runs(&mut self) {
        for kthread in 0..KTHREADS {
            self.running[kthread] |= self.peer.woken(kthread).is_some();
        }
    }

    /// Takes all that came, looks at it, and returns it.
    fn take(&mut self, world: &World) {
        for kthread in 0..KTHREADS {
            while let Some(msg) = self.peer.recv(kthread) {
                assert_eq!(msg.cmd, u64::from(RX_NET_RECV));
                // The runtime's own check. C: runtime/rx.c.
                assert!(msg.payload + 2048 <= INGRESS_LEN as u64);
                let hdr = world.rx_hdr(msg.payload);
                let byte = |i: usize| {
                    let at = ShmPtr(msg.payload + 24 + i as u64);
                    world.ingress.read::<u8>(at).expect("in the region")
                };
                let bytes: Vec<u8> = (0..hdr.len as usize).map(byte).collect();
                let place = u32::from_le_bytes(bytes[6..10].try_into().expect("four bytes"));
                let sent = self.expected.remove(&place);
                let sent = sent.expect("a frame for another, or a second time");
                assert_eq!(bytes, sent.bytes);
                assert_eq!(hdr.rss_hash, sent.hash);
                assert_eq!(hdr.csum_type, CHECKSUM_TYPE_UNNECESSARY);
                assert!(self.last[kthread] < Some(place), "out of order");
                self.last[kthread] = Some(place);
                self.peer.give_back(kthread, hdr.completion_data);
            }
        }
    }
}
