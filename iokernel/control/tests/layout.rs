//! Each check of a region's layout, by a runtime that is sound but for one thing.

use std::sync::atomic::{AtomicBool, Ordering};

use super::super::error::{LayoutError, RegistrationError};
use super::super::faults::Queue;
use super::super::test_runtime::{TestRuntime, private_namespaces};
use super::checks::{error_of, try_out};
use crate::abi::lrpc::{MAX_SLOTS, RingError};
use crate::abi::types;

fn layout_error(runtime: &TestRuntime) -> LayoutError {
    match error_of(runtime) {
        RegistrationError::Layout(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn a_wrong_magic_number_is_refused_and_caladans_is_named() {
    if !private_namespaces() {
        return;
    }
    let runtime = TestRuntime::new(1).with_header(|h| h.magic = 0xdead_beef);
    assert_eq!(layout_error(&runtime), LayoutError::Magic(0xdead_beef));
    let caladan = TestRuntime::new(1).with_header(|h| {
        h.magic = 14;
        h.thread_count = types::CONTROL_HDR_MAGIC;
    });
    let error = layout_error(&caladan);
    assert_eq!(error, LayoutError::Caladan(14));
    assert!(
        error
            .to_string()
            .contains("Caladan runtime (header version 14)")
    );
}

#[test]
fn a_thread_count_unlike_the_fds_is_refused() {
    if !private_namespaces() {
        return;
    }
    for count in [0, 1, 3, 257, u32::MAX] {
        let runtime = TestRuntime::new(2).with_header(|h| h.thread_count = count);
        assert_eq!(
            layout_error(&runtime),
            LayoutError::ThreadCount { count, fds: 2 }
        );
    }
}

#[test]
fn a_thread_count_that_the_region_cannot_hold_is_refused() {
    if !private_namespaces() {
        return;
    }
    // Row 8. 20 kthreads need 48 + 20 * 88 = 1808 bytes.
    let runtime = TestRuntime::new(20);
    for len in [136, 200, 1807] {
        let mut raw = runtime.raw();
        raw.len = len;
        let error = try_out(raw).unwrap_err();
        assert!(
            matches!(
                error,
                RegistrationError::Layout(LayoutError::HeaderLength {
                    count: 20,
                    need: 1808,
                    ..
                })
            ),
            "{len}: {error}"
        );
    }
}

#[test]
fn an_address_that_is_no_stations_is_refused() {
    if !private_namespaces() {
        return;
    }
    for mac in [[0; 6], [0xff; 6], [1, 0, 0, 0, 0, 1]] {
        let runtime = TestRuntime::new(1).with_header(|h| h.mac = mac);
        assert!(matches!(layout_error(&runtime), LayoutError::Mac(m) if m.0 == mac));
    }
}

#[test]
fn an_absurd_egress_buf_count_allocates_nothing() {
    if !private_namespaces() {
        return;
    }
    // Row 9.
    let runtime = TestRuntime::new(1).with_header(|h| h.egress_buf_count = 1 << 63);
    assert!(try_out(runtime.raw()).is_ok());
}

#[test]
fn rings_of_odd_sizes_are_refused() {
    if !private_namespaces() {
        return;
    }
    // Row 6. 2^32 + 64 is 64 when cut to 32 bits.
    let sizes = [
        0,
        3,
        65,
        u64::from(MAX_SLOTS) * 2,
        (1 << 32) + 64,
        u64::MAX,
        1 << 63,
    ];
    for slots in sizes {
        for queue in [Queue::Rxq, Queue::Txpktq, Queue::Txcmdq] {
            let runtime = TestRuntime::new(2).with_spec(1, |spec| match queue {
                Queue::Rxq => spec.rxq.msg_count = slots,
                Queue::Txpktq => spec.txpktq.msg_count = slots,
                Queue::Txcmdq => spec.txcmdq.msg_count = slots,
            });
            let error = RingError::Slots(slots);
            let index = 1;
            assert_eq!(
                layout_error(&runtime),
                LayoutError::Ring {
                    queue,
                    index,
                    error
                }
            );
        }
    }
}

#[test]
fn rings_outside_the_region_or_unaligned_are_refused() {
    if !private_namespaces() {
        return;
    }
    // Row 6. 64 slots of 16 bytes end 8 bytes beyond the region; a slot needs 8-byte alignment.
    let len = TestRuntime::new(1).len;
    for at in [
        len - 1024 + 8,
        len,
        u64::MAX,
        u64::MAX - 1023,
        1 << 63,
        4 + 256,
    ] {
        let runtime = TestRuntime::new(1).with_spec(0, |spec| spec.txpktq.msg_buf = at);
        let error = layout_error(&runtime);
        assert!(
            matches!(
                error,
                LayoutError::Ring {
                    queue: Queue::Txpktq,
                    error: RingError::Shm(_),
                    ..
                }
            ),
            "{at:#x}: {error}"
        );
    }
    for wb in [len - 2, len, u64::MAX, 3074] {
        let runtime = TestRuntime::new(1).with_spec(0, |spec| spec.txcmdq.wb = wb);
        let error = layout_error(&runtime);
        assert!(
            matches!(
                error,
                LayoutError::Ring {
                    queue: Queue::Txcmdq,
                    error: RingError::Shm(_),
                    ..
                }
            ),
            "{wb:#x}: {error}"
        );
    }
}

#[test]
fn progress_words_outside_the_region_are_refused() {
    if !private_namespaces() {
        return;
    }
    // The write-back word alone still fits; the two words after it do not.
    let len = TestRuntime::new(1).len;
    let runtime = TestRuntime::new(1).with_spec(0, |spec| {
        spec.q_ptrs = len - 4;
        spec.rxq.wb = len - 4;
    });
    assert!(matches!(
        layout_error(&runtime),
        LayoutError::QPtrs { index: 0, .. }
    ));
}

#[test]
fn a_write_back_word_apart_from_the_progress_words_is_refused() {
    if !private_namespaces() {
        return;
    }
    let runtime = TestRuntime::new(1).with_spec(0, |spec| spec.rxq.wb += 4);
    assert!(matches!(
        layout_error(&runtime),
        LayoutError::RxqWriteBack { index: 0, .. }
    ));
}

#[test]
fn overlapping_parts_are_refused() {
    if !private_namespaces() {
        return;
    }
    // Row 6. Within a kthread, between kthreads, with the header, and by one slot.
    let overlaps: [fn(&TestRuntime, &mut types::thread_spec); 7] = [
        |_, spec| spec.txpktq.msg_buf = spec.rxq.msg_buf,
        |_, spec| spec.txcmdq.msg_buf = spec.txpktq.msg_buf + 1024 - 16,
        |other, spec| spec.rxq.msg_buf = other.spec(0).rxq.msg_buf,
        |_, spec| spec.rxq.msg_buf = 0,
        |_, spec| spec.txpktq.wb = spec.txcmdq.wb,
        |_, spec| spec.txcmdq.wb = spec.q_ptrs + 8,
        |other, spec| {
            spec.q_ptrs = other.spec(0).q_ptrs;
            spec.rxq.wb = spec.q_ptrs;
        },
    ];
    for (case, overlap) in overlaps.into_iter().enumerate() {
        let runtime = TestRuntime::new(3);
        let mut spec = runtime.spec(2);
        overlap(&runtime, &mut spec);
        runtime.set_spec(2, &spec);
        let error = layout_error(&runtime);
        assert!(
            matches!(error, LayoutError::Overlap { .. }),
            "case {case}: {error}"
        );
    }
}

#[test]
fn a_header_that_changes_while_it_is_read_is_read_once() {
    if !private_namespaces() {
        return;
    }
    // Row 8. Whatever moment is caught, the result is of one reading: refused, or 2 kthreads.
    let runtime = TestRuntime::new(2);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let good = runtime.header();
            while !stop.load(Ordering::Relaxed) {
                for count in [2, 200, 0, 2] {
                    runtime.set_header(&types::control_hdr {
                        thread_count: count,
                        ..good
                    });
                }
            }
        });
        let mut passed = 0;
        for _ in 0..300 {
            match try_out(runtime.raw()) {
                Ok(candidate) => {
                    assert_eq!(candidate.tids().count(), 2);
                    passed += 1;
                }
                Err(RegistrationError::Layout(LayoutError::ThreadCount { fds: 2, .. })) => {}
                Err(other) => panic!("{other}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        println!("{passed} of 300 passed");
    });
}
