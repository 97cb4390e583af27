//! Packets: where they lie, how long they say they are, and what is in them.

use super::super::Case;
use super::super::Expect::{self, Borne, Detached};
use super::super::offender::{BUFFER, Offender, Plan, Received, Ring, TX_HDR};
use super::super::random::meanwhile;
use super::super::wire;
use super::registration::keep;

const POINTER: &str = "FAULT_POINTER";
const OUTSIDE: Expect = Detached("outside its region", POINTER);

const fn length(says: &'static str) -> Expect {
    Detached(says, "FAULT_LENGTH")
}

pub(super) const CASES: &[Case] = &[
    Case::new(
        1,
        "a-packet-at-the-end",
        "sends a packet that begins where the region ends",
        OUTSIDE,
        || at(|len| len),
    ),
    Case::new(
        1,
        "a-packet-in-kernel-space",
        "sends a packet at 2^63",
        OUTSIDE,
        || at(|_| 1 << 63),
    ),
    Case::new(
        1,
        "a-packet-that-wraps",
        "sends a packet 8 bytes before 2^64",
        OUTSIDE,
        || at(|_| u64::MAX - 7),
    ),
    Case::new(
        1,
        "a-packet-nowhere",
        "sends the null pointer",
        OUTSIDE,
        || at(|_| u64::MAX),
    ),
    Case::new(
        1,
        "a-header-over-the-end",
        "sends a packet whose header reaches over the region's end",
        OUTSIDE,
        || at(|len| len - TX_HDR as u64 + 1),
    ),
    Case::new(
        4,
        "a-packet-of-no-bytes",
        "sends a packet of 0 bytes",
        length("sent a packet of 0 bytes"),
        || of_length(0),
    ),
    Case::new(
        4,
        "a-packet-of-13-bytes",
        "sends a packet shorter than an Ethernet header",
        length("sent a packet of 13 bytes"),
        || of_length(13),
    ),
    Case::new(
        4,
        "a-packet-of-1519-bytes",
        "sends a packet longer than any frame",
        length("sent a packet of 1519 bytes"),
        || of_length(1519),
    ),
    Case::new(
        4,
        "a-packet-of-64-kib",
        "sends a packet of 65,600 bytes, which is a short one to who cuts it to 16 bits",
        length("sent a packet of 65600 bytes"),
        || of_length(65600),
    ),
    Case::new(
        4,
        "a-packet-of-4-gib",
        "sends a packet of 2^32 - 1 bytes",
        length("sent a packet of 4294967295 bytes"),
        || of_length(u32::MAX),
    ),
    Case::new(
        4,
        "a-packet-over-the-end",
        "sends a packet of 100 bytes of which one is behind the region",
        length("sent a packet of 100 bytes"),
        || {
            let mut offender = Offender::attached(Plan::new());
            let at = offender.plan.len - TX_HDR - 99;
            offender.write_tx_hdr(at, 100, 0);
            offender.send_at(0, at as u64);
            offender.wait_hang_up();
            keep(offender);
        },
    ),
    Case::new(
        4,
        "a-packet-at-the-very-end",
        "sends a packet whose last byte is the region's, and the shortest one",
        Borne(&[]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let ends = offender.ends();
            let frame = ends.mail(100);
            for frame in [&frame[..], &frame[..14]] {
                let at = offender.plan.len - TX_HDR - frame.len();
                offender.write_packet(at, frame, 0);
                offender.send_at(0, at as u64);
                offender.wait_taken(0);
            }
            keep(offender);
        },
    )
    .mail(1),
    Case::new(
        4,
        "packets-at-odd-places",
        "sends packets whose headers begin at every odd place of a line",
        Borne(&[]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let ends = offender.ends();
            for odd in (1..64).step_by(2) {
                let at = offender.buffer(odd) + odd;
                offender.write_packet(at, &ends.mail(120 + odd), 0);
                offender.send_at(0, at as u64);
            }
            offender.wait_taken(0);
            keep(offender);
        },
    )
    .mail(32),
    Case::new(
        4,
        "a-length-that-changes",
        "changes a packet's length between 60 and 60,000 while it is sent, over and over",
        length("sent a packet of 60000 bytes"),
        || {
            let mut offender = Offender::attached(Plan::new());
            let (mem, at) = (offender.region.mem, offender.buffer(0));
            offender.write_packet(at, &[0x11; 60], 0);
            let len = at + 8;
            meanwhile(move |random| {
                // Mostly good, so that many are sent before one is not.
                let bad = random.below(1000) == 0;
                mem.put32(len, if bad { 60_000 } else { 60 });
            });
            send_until_hung_up(&mut offender, at);
        },
    ),
    Case::new(
        4,
        "a-packets-header-that-changes",
        "changes everything in a packet's header while it is sent",
        Expect::Races(&["FAULT_LENGTH"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let (mem, at) = (offender.region.mem, offender.buffer(0));
            offender.write_packet(at, &[0x11; 1518], 0);
            meanwhile(move |random| {
                mem.put64(at, random.long());
                mem.put32(at + 8, 14 + random.word() % 1505);
                mem.put32(at + 12, random.word());
            });
            for _ in 0..20_000 {
                offender.put_waiting(0, Ring::Packets, 0, at as u64);
                while offender.take(0).is_some() {}
            }
            keep(offender);
        },
    )
    .also(&["FAULTS"]),
    Case::new(
        5,
        "a-frame-across-a-huge-page",
        "sends frames that begin on one 2 MiB page and end on the next",
        Borne(&[]),
        || {
            let plan = Plan {
                len: 4 << 20,
                ..Plan::new()
            };
            let mut offender = Offender::attached(plan);
            let ends = offender.ends();
            let page = 2 << 20;
            for before in [1, 10, TX_HDR, TX_HDR + 1, TX_HDR + 700, TX_HDR + 1399] {
                let at = page - before;
                offender.write_packet(at, &ends.mail(1400), 0);
                offender.send_at(0, at as u64);
                offender.wait_taken(0);
            }
            keep(offender);
        },
    )
    .mail(6)
    .huge(),
    Case::new(
        5,
        "frames-across-every-page",
        "sends frames that lie across each 4 KiB page of its region",
        Borne(&[]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let ends = offender.ends();
            let first = offender.buffer(0) / 4096 + 1;
            for page in first..first + 100 {
                let at = 4096 * page - 500;
                offender.write_packet(at, &ends.mail(1000), 0);
                offender.send_at(0, at as u64);
            }
            offender.wait_taken(0);
            keep(offender);
        },
    )
    .mail(100),
    Case::new(
        4,
        "checksums-of-noise",
        "asks for every combination of checksums on frames of noise and of every length",
        Borne(&[]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let mut random = super::super::random::Random::new(9);
            for n in 0..2000_u32 {
                let noise = |_| random.byte();
                let mut frame: Vec<u8> = (0..14 + n % 90).map(noise).collect();
                // To nobody, half of them called IPv4 with a header of any length.
                frame[..6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
                if n % 2 == 0 {
                    frame[12..14].copy_from_slice(&[8, 0]);
                }
                offender.send(&frame, if n % 17 == 0 { u32::MAX } else { n % 16 });
                while offender.take(0).is_some() {}
            }
            offender.wait_taken(0);
            keep(offender);
        },
    ),
    Case::new(
        4,
        "two-hundred-thousand-runts",
        "floods its ring with frames too short to be sent",
        Borne(&["TX_PULLED"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let at = offender.buffer(0);
            offender.write_packet(at, &[0x11; 14], 0);
            for _ in 0..200_000 {
                offender.put_waiting(0, Ring::Packets, 0, at as u64);
                while offender.take(0).is_some() {}
            }
            keep(offender);
        },
    ),
    Case::new(
        0,
        "somebody-elses-source",
        "sends frames with the echo runtime's Ethernet and IPv4 addresses as their source",
        Borne(&[]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let ends = offender.ends();
            let stolen = wire::Ends {
                from_mac: wire::mac(1),
                from: wire::ip(1),
                ..ends
            };
            for _ in 0..100 {
                offender.send(&stolen.udp((9, 9), &[0; 64]), 0);
            }
            offender.wait_taken(0);
            keep(offender);
        },
    ),
    Case::new(
        0,
        "a-storm-of-arp",
        "asks for 3,000 addresses that nobody has",
        Borne(&[]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let number = offender.plan.number;
            for n in 0..3000_u16 {
                let [h, l] = n.to_be_bytes();
                offender.send(&wire::arp(number, [10, 0, 100 + h, l]), 0);
                while offender.take(0).is_some() {}
            }
            offender.wait_taken(0);
            keep(offender);
        },
    ),
    Case::new(
        0,
        "flows-without-end",
        "lets the peer answer on 5,000 flows: each gets an entry in its own table of flows",
        Borne(&["RX_DELIVERED"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let ends = offender.ends();
            for port in 0..5000 {
                // Nobody listens there, so each is answered by a reset.
                offender.send(&ends.syn((10_000 + port, 1)), 0);
                while let Some(message) = offender.take(0) {
                    give_back_received(&mut offender, message);
                }
            }
            offender.wait_taken(0);
            keep(offender);
        },
    ),
    Case::new(
        4,
        "all-buffers-one",
        "sends one buffer 500 times at once, and overwrites it meanwhile",
        Borne(&[]),
        || {
            let mut offender = Offender::attached(Plan::new());
            let (mem, at) = (offender.region.mem, offender.buffer(0));
            offender.write_packet(at, &[0x22; 1000], 0);
            meanwhile(move |random| {
                let offset = TX_HDR + random.below(1000);
                mem.put(at + offset, &[random.byte() & 0xfe]);
            });
            for _ in 0..500 {
                offender.put_waiting(0, Ring::Packets, 0, at as u64);
                while offender.take(0).is_some() {}
            }
            offender.wait_taken(0);
            keep(offender);
        },
    ),
];

const _: () = assert!(BUFFER >= 1518 + TX_HDR + 64);

fn at(place: fn(u64) -> u64) {
    let mut offender = Offender::attached(Plan::new());
    let at = place(offender.plan.len as u64);
    offender.send_at(0, at);
    offender.wait_hang_up();
    keep(offender);
}

fn of_length(len: u32) {
    let mut offender = Offender::attached(Plan::new());
    let at = offender.buffer(0);
    offender.write_tx_hdr(at, len, 0);
    offender.send_at(0, at as u64);
    offender.wait_hang_up();
    keep(offender);
}

fn send_until_hung_up(offender: &mut Offender, at: usize) {
    while !offender.is_hung_up() {
        offender.put_waiting(0, Ring::Packets, 0, at as u64);
        while offender.take(0).is_some() {}
    }
}

/// Returns the buffer of a received packet; nothing for any other message.
pub(super) fn give_back_received(offender: &mut Offender, message: Received) {
    if message.cmd == u64::from(calisto::abi::types::RX_NET_RECV) {
        let at = usize::try_from(message.payload).expect("64 bits");
        let tag = offender.ingress.mem.get64(at);
        offender.give_back(tag);
    }
}
