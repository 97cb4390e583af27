//! The polling loop between a runtime that keeps the contract and two that do what they
//! like: ring messages, headers of frames, tags, parks, write-back words, any bytes of
//! their regions, a device that is slow.
//!
//! The first must notice nothing: it gets each of its frames once, and each completion
//! once. Every frame that goes to the port lies in its sender's memory. In the end
//! everything that anybody held is back.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use calisto::abi::shm::ShmPtr;
use calisto::abi::types::{RX_JOIN, RX_NET_COMPLETE, RX_NET_RECV, tx_net_hdr};
use calisto::control::ToControl;
use calisto::ids::Mac;
use calisto::testing::{Peer, World, mac, udp_frame};
use calisto_fuzz::memory::Value;
use calisto_fuzz::world::{Steering, hang_up_all, unblock_port, with_world};
use libfuzzer_sys::fuzz_target;

/// Slot 0 is the honest one's.
const HONEST: u16 = 0;
const KTHREADS: usize = 2;
const RECV: u64 = RX_NET_RECV as u64;
const COMPLETE: u64 = RX_NET_COMPLETE as u64;
const JOIN: u64 = RX_JOIN as u64;

#[derive(Debug, Arbitrary)]
struct Input {
    cores: u8,
    steering: [Steering; 3],
    ops: Vec<Op>,
}

#[derive(Debug, Arbitrary)]
enum Op {
    Turn(u8),
    Arrive {
        to: To,
        frames: u8,
        flow: u8,
    },
    Honest(Honest),
    Liar {
        second: bool,
        kthread: bool,
        what: Lie,
    },
    Device(Device),
}

#[derive(Debug, Arbitrary)]
enum To {
    Slot(u8),
    Everybody,
    Nobody,
}

#[derive(Debug, Arbitrary)]
enum Honest {
    Take,
    Send { kthread: bool, frames: u8 },
    Park { kthread: bool, join: bool },
}

#[derive(Debug, Arbitrary)]
enum Device {
    Slow { descriptors: u8, takes: u8 },
    Finish(u8),
    Fast,
}

#[derive(Debug, Arbitrary)]
enum Lie {
    /// Takes what it was sent, and remembers the tags.
    Take,
    /// Any command.
    Command {
        cmd: u8,
        payload: Value,
    },
    /// Returns the tag of a packet that somebody was lent.
    Tag {
        nth: u8,
        bend: u64,
        of_honest: bool,
    },
    /// Sends a message about a packet.
    Packet {
        cmd: u8,
        at: Value,
    },
    /// Sends a packet with this header, near the end of the region or not.
    Header {
        back: u16,
        len: Len,
        olflags: u32,
    },
    WriteBack(u32),
    RunQueue(u32, u32),
    Scribble {
        at: Value,
        value: u64,
    },
    HangUp,
    Attach,
}

#[derive(Debug, Arbitrary)]
enum Len {
    Any(u32),
    Near(i8),
}

struct Liar {
    peer: Peer,
    /// Where the loop has its region mapped, by address.
    region: std::ops::Range<usize>,
    attached: bool,
    /// It may not come back before it is gone.
    gone: bool,
}

/// The runtime that keeps the contract.
struct Keeper {
    peer: Peer,
    running: [bool; KTHREADS],
    /// Frames on their way to it: number and flow.
    expected: BTreeMap<u32, u32>,
    /// Egress buffers under way.
    sending: BTreeSet<u64>,
    joins: Vec<u64>,
    /// Tags that it was lent and has returned.
    tags: Vec<u64>,
}

struct Scene<'a> {
    world: &'a mut World,
    cores: u16,
    steering: [Steering; 3],
    keeper: Keeper,
    region: std::ops::Range<usize>,
    liars: [Option<Liar>; 2],
    tags: Vec<u64>,
    frames: u32,
}

fuzz_target!(|input: Input| {
    let cores = [1, 2, 4][usize::from(input.cores) % 3];
    with_world(cores, |world| run(world, &input, cores));
});

fn run(world: &mut World, input: &Input, cores: u16) {
    let (peer, proc) = World::steered_peer(
        HONEST,
        KTHREADS,
        if cores > 2 { 2 } else { 1 },
        input.steering[0].spec(),
    );
    let start = proc.region.base().addr().get();
    let region = start..start + proc.region.len();
    world.admit(proc);
    let mut scene = Scene {
        world,
        cores,
        steering: input.steering,
        keeper: Keeper {
            peer,
            running: [false; KTHREADS],
            expected: BTreeMap::new(),
            sending: BTreeSet::new(),
            joins: Vec::new(),
            tags: Vec::new(),
        },
        region,
        liars: [None, None],
        tags: Vec::new(),
        frames: 0,
    };
    scene.attach(0);
    scene.attach(1);
    for op in input.ops.iter().take(200) {
        scene.step(op);
    }
    scene.end();
}

impl Scene<'_> {
    fn attach(&mut self, which: usize) {
        if self.liars[which].as_ref().is_some_and(|l| !l.gone) {
            return;
        }
        let slot = u16::try_from(which + 1).expect("few");
        // The control thread keeps the sum of guarantees within the cores.
        let guaranteed = u16::from(self.cores >= 2 && (which == 0 || self.cores > 2));
        let spec = self.steering[which + 1].spec();
        let (peer, proc) = World::steered_peer(slot, KTHREADS, guaranteed, spec);
        let start = proc.region.base().addr().get();
        let region = start..start + proc.region.len();
        self.world.admit(proc);
        self.liars[which] = Some(Liar {
            peer,
            region,
            attached: true,
            gone: false,
        });
        self.departures();
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Turn(n) => self.turns(usize::from(n % 8) + 1),
            Op::Arrive { to, frames, flow } => {
                for n in 0..frames % 32 {
                    self.arrive(to, flow.wrapping_add(n % 4));
                }
            }
            Op::Honest(what) => self.honest(what),
            Op::Liar {
                second,
                kthread,
                what,
            } => self.lie(usize::from(*second), usize::from(*kthread), what),
            Op::Device(what) => {
                let port = self.world.dataplane.port_mut();
                match what {
                    Device::Slow { descriptors, takes } => {
                        port.auto_done = false;
                        port.descriptors = usize::from(*descriptors);
                        port.takes = usize::from(*takes);
                    }
                    Device::Finish(n) => port.finish(usize::from(*n)),
                    Device::Fast => unblock_port(self.world),
                }
            }
        }
    }

    fn turns(&mut self, n: usize) {
        self.world.turns(n);
        self.look_at_sent();
        self.departures();
    }

    /// Who was let go; and that nobody went who should not.
    fn departures(&mut self) {
        while let Some(ToControl::Detached { proc, reason }) = self.world.detached() {
            let slot = proc.id.slot.0;
            assert_ne!(slot, HONEST, "the honest one was detached: {reason}");
            calisto_fuzz::text::assert_one_line(&reason.to_string());
            let liar = self.liars[usize::from(slot) - 1].as_mut();
            liar.expect("it was attached").gone = true;
        }
    }

    /// Each frame that went to the port lay in its sender's memory.
    fn look_at_sent(&mut self) {
        for frame in self.world.dataplane.port_mut().places.drain(..) {
            let region = match frame.proc.slot.0 {
                HONEST => &self.region,
                slot => {
                    let liar = self.liars[usize::from(slot) - 1].as_ref();
                    &liar.expect("it was attached").region
                }
            };
            let end = frame.at + usize::from(frame.len);
            assert!(region.start <= frame.at && end <= region.end);
            assert!((14..=1518).contains(&frame.len));
        }
    }

    fn arrive(&mut self, to: &To, flow: u8) {
        let (dst, for_honest) = match to {
            To::Slot(n) => (mac(u16::from(n % 3)), n % 3 == 0),
            To::Everybody => (Mac::BROADCAST, true),
            To::Nobody => (mac(77), false),
        };
        let mut frame = udp_frame(dst, flow.into());
        frame[42..46].copy_from_slice(&self.frames.to_le_bytes());
        if self.world.dataplane.port_mut().receive(&frame, flow.into()) && for_honest {
            self.keeper.expected.insert(self.frames, flow.into());
        }
        self.frames += 1;
    }

    fn honest(&mut self, what: &Honest) {
        let keeper = &mut self.keeper;
        for kthread in 0..KTHREADS {
            keeper.running[kthread] |= keeper.peer.woken(kthread).is_some();
        }
        match what {
            Honest::Take => keeper.take(self.world),
            Honest::Send { kthread, frames } => {
                let kthread = usize::from(*kthread);
                if keeper.running[kthread] {
                    keeper.send(kthread, usize::from(frames % 16));
                }
            }
            Honest::Park { kthread, join } => {
                let kthread = usize::from(*kthread);
                if keeper.running[kthread] {
                    let payload = if *join { 0x1000 + kthread as u64 } else { 0 };
                    keeper.joins.extend(join.then_some(payload));
                    keeper.peer.park(kthread, payload);
                    keeper.running[kthread] = false;
                }
            }
        }
    }

    fn lie(&mut self, which: usize, kthread: usize, what: &Lie) {
        if matches!(what, Lie::Attach) {
            return self.attach(which);
        }
        let Some(liar) = self.liars[which].as_mut() else {
            return;
        };
        let len = liar.region.len();
        let peer = &mut liar.peer;
        match what {
            Lie::Attach => {}
            Lie::Take => {
                for _ in 0..64 {
                    let Some(msg) = peer.recv(kthread) else { break };
                    if msg.cmd == RECV {
                        self.tags
                            .push(self.world.rx_hdr(msg.payload).completion_data);
                    }
                }
            }
            Lie::Command { cmd, payload } => {
                peer.command(kthread, (cmd % 5).into(), payload.of(len));
            }
            Lie::Tag {
                nth,
                bend,
                of_honest,
            } => {
                let tags = if *of_honest {
                    &self.keeper.tags
                } else {
                    &self.tags
                };
                let tag = tags.iter().rev().nth(usize::from(*nth)).copied();
                peer.command(kthread, 0, tag.unwrap_or(0) ^ bend);
            }
            Lie::Packet { cmd, at } => {
                peer.send_raw(kthread, (cmd % 3 / 2).into(), at.of(len));
            }
            Lie::Header {
                back,
                len: frame,
                olflags,
            } => {
                let at = len as u64 - u64::from(*back).min(len as u64);
                let room = i64::from(*back) - 18;
                let frame = match frame {
                    Len::Any(n) => *n,
                    Len::Near(off) => {
                        u32::try_from((room + i64::from(*off)).max(0)).expect("from 16 bits")
                    }
                };
                let hdr = tx_net_hdr {
                    completion_data: 7,
                    len: frame,
                    olflags: *olflags,
                    pad: 0,
                };
                // Where it does not fit, its offset alone is the lie.
                let _ = peer.region.write(ShmPtr(at), hdr);
                peer.send_raw(kthread, 0, at);
            }
            Lie::WriteBack(word) => peer.set_rxq_write_back(kthread, *word),
            Lie::RunQueue(head, tail) => peer.set_runqueue(kthread, *head, *tail),
            Lie::Scribble { at, value } => {
                let _ = peer.region.write(ShmPtr(at.of(len) % len as u64), *value);
            }
            Lie::HangUp => {
                if liar.attached {
                    liar.attached = false;
                    self.world.hang_up(u16::try_from(which + 1).expect("few"));
                }
            }
        }
    }

    /// The honest one gets what is its own; then all go.
    fn end(&mut self) {
        for _ in 0..600 {
            unblock_port(self.world);
            self.turns(2);
            self.keeper.take(self.world);
            if self.keeper.expected.is_empty() && self.keeper.sending.is_empty() {
                break;
            }
        }
        assert!(self.keeper.expected.is_empty(), "frames are lost");
        assert!(self.keeper.sending.is_empty(), "completions are lost");
        // What it returned last is taken, for it keeps the contract to the end.
        self.turns(4);
        let mut slots = vec![HONEST];
        for (slot, liar) in (1..).zip(&self.liars) {
            if liar.as_ref().is_some_and(|l| !l.gone) {
                slots.push(slot);
            }
        }
        hang_up_all(self.world, &slots);
    }
}

impl Keeper {
    fn take(&mut self, world: &World) {
        for kthread in 0..KTHREADS {
            while let Some(msg) = self.peer.recv(kthread) {
                match msg.cmd {
                    RECV => {
                        let hdr = world.rx_hdr(msg.payload);
                        let at = ShmPtr(msg.payload + 24 + 42);
                        let number = world.ingress.read::<u32>(at).expect("in the region");
                        let flow = self.expected.remove(&number);
                        assert_eq!(flow, Some(hdr.rss_hash), "not its own, or a second time");
                        assert_eq!(hdr.len, 60);
                        self.tags.push(hdr.completion_data);
                        self.peer.give_back(kthread, hdr.completion_data);
                    }
                    COMPLETE => {
                        assert!(self.sending.remove(&msg.payload), "completed twice");
                    }
                    JOIN => {
                        let at = self.joins.iter().position(|j| *j == msg.payload);
                        self.joins.swap_remove(at.expect("a join that nobody left"));
                    }
                    cmd => panic!("a message of an unknown kind {cmd}"),
                }
            }
        }
    }

    fn send(&mut self, kthread: usize, frames: usize) {
        let frame = udp_frame(mac(9), 1);
        for _ in 0..frames {
            // From 1: a completion of 0 could be anybody's.
            let Some(buf) = (1..256).find(|buf| !self.sending.contains(buf)) else {
                return;
            };
            if self.peer.send(kthread, buf, &frame, 0) {
                self.sending.insert(buf);
            }
        }
    }
}
