//! Rings in private memory; models of two threads under loom.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --lib lrpc` runs the models.

use super::*;

/// A ring and its write-back word, owned by the test.
pub(crate) struct Ring {
    slots: Box<[Slot]>,
    wb: Box<AtomicU32>,
}

impl Ring {
    pub(crate) fn new(slots: usize) -> Ring {
        Ring {
            slots: (0..slots)
                .map(|_| Slot {
                    cmd: AtomicU64::new(0),
                    payload: AtomicU64::new(0),
                })
                .collect(),
            wb: Box::new(AtomicU32::new(0)),
        }
    }

    pub(crate) fn ends(&self) -> (LrpcTx, LrpcRx) {
        // Of all slots: from a reference to the first, the others may not be reached.
        let table = NonNull::from(&self.slots[..]).cast();
        let mask = u32::try_from(self.slots.len()).expect("small") - 1;
        let wb = NonNull::from(&*self.wb);
        // SAFETY: the table has mask + 1 slots; tests drop the ends before the ring.
        unsafe {
            (
                LrpcTx::from_raw(table, mask, wb),
                LrpcRx::from_raw(table, mask, wb),
            )
        }
    }
}

#[cfg(not(loom))]
mod sequential {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zeroed_memory_reads_as_empty() {
        let ring = Ring::new(4);
        assert_eq!(ring.ends().1.recv(), None);
    }

    #[test]
    fn messages_arrive_in_order_over_many_laps() {
        let ring = Ring::new(4);
        let (mut tx, mut rx) = ring.ends();
        for i in 0..1000 {
            assert!(tx.send(i % 3, i));
            assert_eq!(
                rx.recv(),
                Some(Msg {
                    cmd: i % 3,
                    payload: i
                })
            );
            assert_eq!(rx.recv(), None);
            rx.write_back();
        }
    }

    #[test]
    fn counters_wrap_at_two_to_the_32() {
        let ring = Ring::new(4);
        let (mut tx, mut rx) = ring.ends();
        // Four before the wrap, on an odd lap: 2^32 - 4 = ...1100, bit 2 set, so parity is clear.
        let start = 0_u32.wrapping_sub(4);
        tx.head = start;
        tx.tail = start;
        rx.head = start;
        rx.told = start;
        ring.wb.store(start, Ordering::Relaxed);
        for slot in &ring.slots {
            slot.cmd.store(DONE_PARITY, Ordering::Relaxed);
        }
        for i in 0..40 {
            assert_eq!(rx.recv(), None);
            assert!(tx.send(0, i));
            assert_eq!(rx.recv().map(|m| m.payload), Some(i));
            rx.write_back();
        }
        assert_eq!(tx.sent(), 36);
    }

    #[test]
    fn full_ring_rejects_send_until_slots_come_back() {
        let ring = Ring::new(4);
        let (mut tx, mut rx) = ring.ends();
        for i in 0..4 {
            assert!(tx.send(0, i));
        }
        assert!(!tx.send(0, 4));
        assert!(rx.recv().is_some());
        assert!(!tx.send(0, 4), "not before the write-back");
        rx.write_back();
        assert!(tx.send(0, 4));
    }

    #[test]
    fn a_burst_published_backwards_arrives_forwards() {
        let ring = Ring::new(8);
        let (mut tx, mut rx) = ring.ends();
        let slots: Vec<_> = (0..5).map(|_| tx.reserve().expect("room")).collect();
        for (i, slot) in slots.iter().enumerate().rev() {
            assert_eq!(rx.recv(), None, "the first slot comes last");
            // SAFETY: the ring lives.
            unsafe { slot.publish(0, i as u64) };
        }
        let got: Vec<_> = std::iter::from_fn(|| rx.recv())
            .map(|m| m.payload)
            .collect();
        assert_eq!(got, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_impossible_write_back_is_reported_and_not_believed() {
        let ring = Ring::new(4);
        let (mut tx, _) = ring.ends();
        for i in 0..4 {
            assert!(tx.send(0, i));
        }
        for lie in [5, 1000, u32::MAX] {
            ring.wb.store(lie, Ordering::Relaxed);
            assert_eq!(
                tx.poll_in_flight(),
                Err(BadWriteBack {
                    wb: lie,
                    tail: 0,
                    head: 4
                })
            );
            assert!(!tx.send(0, 9), "no slot is freed by a lie");
        }
        ring.wb.store(3, Ordering::Relaxed);
        assert_eq!(tx.poll_in_flight(), Ok(1));
        ring.wb.store(2, Ordering::Relaxed);
        assert!(tx.poll_in_flight().is_err(), "it went back");
    }

    #[test]
    fn a_peer_that_ignores_flow_control_gets_one_lap() {
        let ring = Ring::new(4);
        let (_, mut rx) = ring.ends();
        for slot in &ring.slots {
            slot.cmd.store(DONE_PARITY, Ordering::Relaxed);
        }
        assert_eq!(std::iter::from_fn(|| rx.recv()).count(), 4);
        for slot in &ring.slots {
            slot.cmd.store(0, Ordering::Relaxed);
        }
        assert_eq!(rx.recv(), None, "nothing was written back");
    }

    #[test]
    fn two_threads_lose_nothing_and_reorder_nothing() {
        // Miri takes a millisecond for each.
        const MESSAGES: u64 = if cfg!(miri) { 200 } else { 20_000 };
        let ring = Ring::new(64);
        let (mut tx, mut rx) = ring.ends();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut next = 0;
                while next < MESSAGES {
                    let burst: Vec<_> = (0..7).map_while(|_| tx.reserve()).collect();
                    for (i, slot) in burst.iter().enumerate().rev() {
                        // SAFETY: the ring outlives the scope.
                        unsafe { slot.publish(1, next + i as u64) };
                    }
                    next += burst.len() as u64;
                    std::thread::yield_now();
                }
            });
            let mut want = 0;
            while want < MESSAGES {
                while let Some(msg) = rx.recv() {
                    assert_eq!((msg.cmd, msg.payload), (1, want));
                    want += 1;
                }
                rx.write_back();
                std::thread::yield_now();
            }
        });
    }

    proptest! {
        #[test]
        fn agrees_with_a_queue(ops in prop::collection::vec(0_u8..4, 0..400)) {
            let ring = Ring::new(8);
            let (mut tx, mut rx) = ring.ends();
            let mut model = std::collections::VecDeque::new();
            let (mut next, mut unwritten) = (0_u64, 0);
            for op in ops {
                match op {
                    0 | 1 => {
                        let room = model.len() + unwritten < 8;
                        prop_assert_eq!(tx.send(next % 2, next), room);
                        if room {
                            model.push_back(next);
                        }
                        next += 1;
                    }
                    2 => {
                        let got = rx.recv().map(|m| m.payload);
                        prop_assert_eq!(got, model.pop_front());
                        unwritten += usize::from(got.is_some());
                    }
                    _ => {
                        rx.write_back();
                        unwritten = 0;
                        prop_assert_eq!(tx.poll_in_flight(), Ok(u32::try_from(model.len()).expect("at most 8")));
                    }
                }
            }
        }
    }
}

#[cfg(loom)]
mod models {
    use super::*;
    use std::sync::Arc;

    /// Shares a ring between model threads.
    struct Shared(Ring);
    // SAFETY: slots and word are atomics.
    unsafe impl Send for Shared {}
    // SAFETY: slots and word are atomics.
    unsafe impl Sync for Shared {}

    /// Every payload arrives whole and in order, over a lap of a two-slot ring.
    #[test]
    fn payload_is_visible_with_its_parity() {
        loom::model(|| {
            let ring = Arc::new(Shared(Ring::new(2)));
            let (mut tx, mut rx) = ring.0.ends();
            let keep = ring.clone();
            let producer = loom::thread::spawn(move || {
                let _keep = keep;
                for i in 1..=3 {
                    while !tx.send(0, i) {
                        loom::thread::yield_now();
                    }
                }
            });
            let mut want = 1;
            while want <= 3 {
                if let Some(msg) = rx.recv() {
                    assert_eq!(msg.payload, want);
                    want += 1;
                    rx.write_back();
                } else {
                    loom::thread::yield_now();
                }
            }
            producer.join().expect("producer");
        });
    }

    /// A burst published last slot first is seen whole once its first is seen.
    #[test]
    fn backwards_burst_is_whole_when_its_first_slot_is_seen() {
        loom::model(|| {
            let ring = Arc::new(Shared(Ring::new(4)));
            let (mut tx, mut rx) = ring.0.ends();
            let keep = ring.clone();
            let producer = loom::thread::spawn(move || {
                let _keep = keep;
                let slots = [tx.reserve(), tx.reserve()].map(|s| s.expect("room"));
                for (i, slot) in slots.iter().enumerate().rev() {
                    // SAFETY: `_keep` holds the ring.
                    unsafe { slot.publish(0, i as u64 + 10) };
                }
            });
            if let Some(first) = rx.recv() {
                assert_eq!(first.payload, 10);
                assert_eq!(rx.recv().map(|m| m.payload), Some(11));
            }
            producer.join().expect("producer");
        });
    }

    /// A peer that writes any word at any time gets neither panic nor a slot.
    #[test]
    fn a_lying_write_back_frees_nothing_unread() {
        loom::model(|| {
            let ring = Arc::new(Shared(Ring::new(2)));
            let (mut tx, _) = ring.0.ends();
            let liar = ring.clone();
            let peer = loom::thread::spawn(move || {
                liar.0.wb.store(7, Ordering::Release);
                liar.0.wb.store(1, Ordering::Release);
            });
            let mut sent = 0;
            for i in 0..4 {
                sent += u32::from(tx.send(0, i));
            }
            // Two slots, and one more if the true word was seen.
            assert!((2..=3).contains(&sent));
            peer.join().expect("peer");
        });
    }

    /// A producer that writes any command at any time: what is taken was written, one lap
    /// at most before the write-back, and the write-back word is only what was taken.
    #[test]
    fn a_lying_producer_gets_one_lap_and_no_more() {
        loom::model(|| {
            let ring = Arc::new(Shared(Ring::new(2)));
            let (_, mut rx) = ring.0.ends();
            let liar = ring.clone();
            let peer = loom::thread::spawn(move || {
                let slots = &liar.0.slots;
                // The second slot first, the first one for this lap and at once for the next.
                slots[1].cmd.store(DONE_PARITY | 6, Ordering::Relaxed);
                slots[0].payload.store(50, Ordering::Relaxed);
                slots[0].cmd.store(DONE_PARITY | 5, Ordering::Release);
                slots[0].cmd.store(7, Ordering::Relaxed);
            });
            let mut taken = 0;
            for _ in 0..3 {
                if let Some(msg) = rx.recv() {
                    taken += 1;
                    let cmds: &[u64] = if taken == 1 { &[5] } else { &[6] };
                    assert!(cmds.contains(&msg.cmd));
                    // Written before the command, and the command was seen.
                    assert!(taken != 1 || msg.payload == 50);
                }
            }
            assert!(taken <= 2);
            rx.write_back();
            assert_eq!(ring.0.wb.load(Ordering::Relaxed), taken);
            // A lap later, the lie of before is a message.
            if let Some(msg) = rx.recv() {
                assert!(taken == 2 && msg.cmd == 7 || taken < 2);
            }
            peer.join().expect("peer");
        });
    }
}
