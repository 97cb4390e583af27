//! Rings whose peer writes what it likes, in both directions.
//!
//! A model with wide counters says what each call must do; and after every call each
//! byte of the page is compared, so that nothing is written beside the ring.
#![no_main]
#![allow(unsafe_code, reason = "publishes reserved slots")]

use std::cell::RefCell;

use arbitrary::Arbitrary;
use calisto::abi::lrpc::{DONE_PARITY, LrpcRx, LrpcTx, Msg, Reserved};
use calisto::abi::shm::{ShmPtr, ShmRegion};
use libfuzzer_sys::fuzz_target;

const PAGE: usize = 4096;
const WORDS: usize = PAGE / 8;
/// Where the sending ring and its word lie.
const TX: usize = 512;
const TX_WB: usize = 256;
/// The receiving ring and its word.
const RX: usize = 2048;
const RX_WB: usize = 264;

#[derive(Debug, Arbitrary)]
enum Op {
    Send {
        cmd: u64,
        payload: u64,
    },
    Reserve,
    /// Fills the `nth` reserved slot.
    Publish {
        nth: u8,
        cmd: u64,
        payload: u64,
    },
    Poll,
    Receive,
    WriteBack,
    /// The peer takes all that it was sent.
    PeerTakes,
    /// The peer sends as it should.
    PeerSends {
        cmd: u64,
        payload: u64,
    },
    /// The peer writes its write-back word.
    PeerLies {
        near: bool,
        value: u32,
    },
    /// The peer writes any word of the page.
    PeerWrites {
        word: u16,
        value: u64,
    },
}

#[derive(Debug, Arbitrary)]
struct Input {
    slots: u8,
    ops: Vec<Op>,
}

thread_local! {
    static PAGES: RefCell<[ShmRegion; 2]> =
        RefCell::new(ShmRegion::private_pair(PAGE).expect("shared memory"));
}

/// The page as it must be, and counters that do not wrap.
struct Model {
    words: Vec<u64>,
    slots: u64,
    sent: u64,
    believed: u64,
    received: u64,
    told: u64,
    /// What an honest peer would have sent.
    peer_sent: u64,
}

impl Model {
    fn parity(&self, counter: u64) -> u64 {
        if (counter / self.slots).is_multiple_of(2) {
            DONE_PARITY
        } else {
            0
        }
    }

    fn word32(&self, at: usize) -> u32 {
        let bytes = self.words[at / 8].to_le_bytes();
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| bytes[at % 8 + i]);
        u32::from_le_bytes([a, b, c, d])
    }

    fn set_word32(&mut self, at: usize, value: u32) {
        let shift = 8 * (at % 8);
        let word = &mut self.words[at / 8];
        *word = *word & !(0xffff_ffff << shift) | u64::from(value) << shift;
    }

    fn put(&mut self, ring: usize, counter: u64, cmd: u64, payload: u64) {
        let at = ring / 8 + 2 * usize::try_from(counter % self.slots).expect("small");
        self.words[at] = cmd | self.parity(counter);
        self.words[at + 1] = payload;
    }

    /// What the producer may think of the peer's word.
    fn poll(&mut self) -> Option<u64> {
        let word = u64::from(self.word32(TX_WB));
        let possible = (self.believed..=self.sent).contains(&word);
        if possible {
            self.believed = word;
        }
        possible.then(|| self.sent - word)
    }

    fn room(&mut self) -> bool {
        self.sent - self.believed < self.slots || self.poll().is_some_and(|n| n < self.slots)
    }

    fn receive(&mut self) -> Option<Msg> {
        if self.received - self.told >= self.slots {
            return None;
        }
        let at = RX / 8 + 2 * usize::try_from(self.received % self.slots).expect("small");
        let cmd = self.words[at];
        if cmd & DONE_PARITY != self.parity(self.received) {
            return None;
        }
        self.received += 1;
        Some(Msg {
            cmd: cmd & !DONE_PARITY,
            payload: self.words[at + 1],
        })
    }
}

fuzz_target!(|input: Input| {
    PAGES.with_borrow(|[ours, peers]| run(ours, peers, &input));
});

fn run(ours: &ShmRegion, peers: &ShmRegion, input: &Input) {
    let slots = 1 << (input.slots % 7);
    let mut model = Model {
        words: vec![0; WORDS],
        slots,
        sent: 0,
        believed: 0,
        received: 0,
        told: 0,
        peer_sent: 0,
    };
    for (i, word) in model.words.iter().enumerate() {
        peers.write(ShmPtr(8 * i as u64), *word).expect("a word");
    }
    let place = |at: usize| ShmPtr(at as u64);
    let mut tx = LrpcTx::new(ours, slots, place(TX), place(TX_WB)).expect("it fits");
    let mut rx = LrpcRx::new(ours, slots, place(RX), place(RX_WB)).expect("it fits");
    let mut reserved: Vec<(Reserved, u64)> = Vec::new();
    for op in input.ops.iter().take(400) {
        step(&mut tx, &mut rx, peers, &mut model, &mut reserved, op);
        for (i, word) in model.words.iter().enumerate() {
            let at = ShmPtr(8 * i as u64);
            assert_eq!(peers.read::<u64>(at), Ok(*word), "word {i} after {op:?}");
        }
    }
}

fn step(
    tx: &mut LrpcTx,
    rx: &mut LrpcRx,
    peers: &ShmRegion,
    model: &mut Model,
    reserved: &mut Vec<(Reserved, u64)>,
    op: &Op,
) {
    match *op {
        Op::Send { cmd, payload } => {
            let cmd = cmd & !DONE_PARITY;
            let room = model.room();
            assert_eq!(tx.send(cmd, payload), room);
            if room {
                model.put(TX, model.sent, cmd, payload);
                model.sent += 1;
            }
        }
        Op::Reserve => {
            let room = model.room();
            let slot = tx.reserve();
            assert_eq!(slot.is_some(), room);
            if let Some(slot) = slot {
                reserved.push((slot, model.sent));
                model.sent += 1;
            }
        }
        Op::Publish { nth, cmd, payload } => {
            if reserved.is_empty() {
                return;
            }
            let (slot, counter) = reserved.swap_remove(usize::from(nth) % reserved.len());
            let cmd = cmd & !DONE_PARITY;
            // SAFETY: the page stays mapped for the whole run.
            unsafe { slot.publish(cmd, payload) };
            model.put(TX, counter, cmd, payload);
        }
        Op::Poll => {
            let want = model.poll();
            let got = tx.poll_in_flight();
            assert_eq!(got.ok().map(u64::from), want);
            if let Err(bad) = got {
                assert_eq!(bad.wb, model.word32(TX_WB));
                assert_eq!(u64::from(bad.tail), model.believed);
                assert_eq!(u64::from(bad.head), model.sent);
            }
        }
        Op::Receive => assert_eq!(rx.recv(), model.receive()),
        Op::WriteBack => {
            rx.write_back();
            if model.told != model.received {
                model.told = model.received;
                let word = u32::try_from(model.told).expect("few messages");
                model.set_word32(RX_WB, word);
            }
        }
        Op::PeerTakes => lie(peers, model, u32::try_from(model.sent).expect("few")),
        Op::PeerSends { cmd, payload } => {
            let counter = model.peer_sent;
            model.peer_sent += 1;
            model.put(RX, counter, cmd & !DONE_PARITY, payload);
            let at = RX / 8 + 2 * usize::try_from(counter % model.slots).expect("small");
            for i in [at + 1, at] {
                let to = ShmPtr(8 * i as u64);
                peers.write(to, model.words[i]).expect("a word");
            }
        }
        Op::PeerLies { near, value } => {
            let near_by = u32::try_from(model.sent).expect("few");
            let value = if near {
                near_by.wrapping_sub(value % 8).wrapping_add(2)
            } else {
                value
            };
            lie(peers, model, value);
        }
        Op::PeerWrites { word, value } => {
            let word = usize::from(word) % WORDS;
            model.words[word] = value;
            peers.write(ShmPtr(8 * word as u64), value).expect("a word");
        }
    }
    assert_eq!(u64::from(tx.sent()), model.sent);
}

fn lie(peers: &ShmRegion, model: &mut Model, value: u32) {
    model.set_word32(TX_WB, value);
    peers.write(ShmPtr(TX_WB as u64), value).expect("a word");
}
