//! Commands that do not exist, on rings that are not theirs, and in floods.

use super::super::Case;
use super::super::Expect::{Borne, Detached};
use super::super::offender::{Offender, Plan, Ring, SLOTS};
use super::super::random::meanwhile;
use super::registration::keep;
use calisto::abi::types;

const COMMAND: &str = "FAULT_COMMAND";

pub(super) const CASES: &[Case] = &[
    Case::new(
        1,
        "an-unknown-command",
        "sends command 99",
        Detached("sent the unknown command 0x63", COMMAND),
        || sends(Ring::Commands, 99),
    ),
    Case::new(
        1,
        "a-command-of-all-bits",
        "sends command 2^63 - 1",
        Detached("sent the unknown command 0x7fffffffffffffff", COMMAND),
        || sends(Ring::Commands, u64::MAX),
    ),
    Case::new(
        1,
        "a-command-cut-to-32-bits",
        "sends command 2^32 + 1, which is a park to who cuts it",
        Detached("sent the unknown command 0x100000001", COMMAND),
        || sends(Ring::Commands, (1 << 32) + 1),
    ),
    Case::new(
        1,
        "a-park-among-packets",
        "sends a park on txpktq",
        Detached("sent the unknown command 0x1", COMMAND),
        || sends(Ring::Packets, u64::from(types::TXCMD_PARKED)),
    ),
    Case::new(
        1,
        "noise-among-packets",
        "sends command 0xbad on txpktq",
        Detached("sent the unknown command 0xbad", COMMAND),
        || sends(Ring::Packets, 0xbad),
    ),
    Case::new(
        1,
        "from-a-kthread-that-never-ran",
        "sends command 99 and a packet from nowhere on the rings of a kthread that was never woken",
        Borne(&[]),
        || {
            let mut offender = Offender::attached(Plan::new().kthreads(2, 1));
            offender.put(1, Ring::Commands, 99, 0);
            offender.put(1, Ring::Packets, 0, u64::MAX);
            std::thread::sleep(std::time::Duration::from_millis(50));
            keep(offender);
        },
    ),
    Case::new(
        1,
        "a-million-bad-commands",
        "returns a million made-up packets as fast as it can",
        Detached("returned packets that were not lent to it", "FAULT_TAGS"),
        || {
            let mut offender = Offender::attached(Plan::new());
            for n in 0..1_000_000 {
                // Whether there is room or not.
                offender.put(0, Ring::Commands, 0, n << 17);
            }
            offender.wait_hang_up();
            keep(offender);
        },
    ),
    Case::new(
        1,
        "every-slot-at-once",
        "writes noise over all slots of both its rings for ever, from a second thread",
        Detached("kthread 0 ", "FAULTS"),
        || {
            let mut offender = Offender::attached(Plan::new());
            let mem = offender.region.mem;
            let rings = [Ring::Commands, Ring::Packets].map(|ring| offender.slots(0, ring));
            meanwhile(move |random| {
                let which = random.below(2);
                let at = rings[which];
                let slot = random.below(SLOTS as usize);
                mem.put64(at + 16 * slot, random.long());
                mem.put64(at + 16 * slot + 8, random.long());
            });
            offender.wait_hang_up();
            keep(offender);
        },
    )
    .also(&[
        "FAULT_COMMAND",
        "FAULT_POINTER",
        "FAULT_TAGS",
        "FAULT_LENGTH",
    ]),
    Case::new(
        1,
        "behind-a-gap",
        "publishes every slot of its commands but the first",
        Borne(&[]),
        || {
            let offender = Offender::attached(Plan::new());
            let at = offender.slots(0, Ring::Commands);
            for slot in 1..SLOTS as usize {
                offender.region.mem.put64(at + 16 * slot, 1 << 63 | 99);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert_eq!(offender.region.mem.get32(offender.wb(0, Ring::Commands)), 0);
            keep(offender);
        },
    ),
    Case::new(
        1,
        "of-an-old-lap",
        "writes all slots with the parity of the lap after this one",
        Borne(&[]),
        || {
            let offender = Offender::attached(Plan::new());
            for ring in [Ring::Commands, Ring::Packets] {
                let at = offender.slots(0, ring);
                for slot in 0..SLOTS as usize {
                    offender.region.mem.put64(at + 16 * slot, 99);
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!offender.is_hung_up(), "what is not published is not read");
            keep(offender);
        },
    ),
    Case::new(
        1,
        "rings-that-wrap",
        "goes round its ring of commands five times, parking and waking",
        Borne(&["PARKS"]),
        || {
            let mut offender = Offender::attached(Plan::new());
            for _ in 0..5 * SLOTS {
                offender.command(0, u64::from(types::TXCMD_PARKED_LAST), 1);
                offender.wait_wake(0);
            }
            keep(offender);
        },
    ),
];

fn sends(ring: Ring, cmd: u64) {
    let mut offender = Offender::attached(Plan::new());
    offender.put(0, ring, cmd, 0);
    offender.wait_hang_up();
    keep(offender);
}
