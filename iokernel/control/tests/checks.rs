//! Each check of a registration, by a runtime that is sound but for one thing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::abi::lrpc::{MAX_SLOTS, RingError};
use crate::abi::types;
use crate::port::dma::{DmaMapper, Iova, NoDma};

use super::super::checks::{Candidate, Context, check};
use super::super::error::{KthreadError, LayoutError, RegistrationError};
use super::super::faults::Queue;
use super::super::test_runtime::{
    TestRuntime, become_user, gettid, may_become_another, private_namespaces,
};
use super::super::{registration::RawRegistration, sysv};

fn context() -> Context {
    Context {
        ingress_shmid: -1,
        mapper: Arc::new(NoDma),
        allow_uids: None,
    }
}

fn try_out(raw: RawRegistration) -> Result<Candidate, RegistrationError> {
    check(raw, &context())
}

fn error_of(runtime: &TestRuntime) -> RegistrationError {
    match try_out(runtime.raw()) {
        Err(error) => {
            assert!(!error.to_string().contains('\n'));
            error
        }
        Ok(candidate) => panic!("admitted: {candidate:?}"),
    }
}

fn layout_error(runtime: &TestRuntime) -> LayoutError {
    match error_of(runtime) {
        RegistrationError::Layout(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn a_sound_runtime_passes() {
    if !private_namespaces() {
        return;
    }
    let runtime = TestRuntime::new(5).with_header(|h| h.sched_cfg.guaranteed_cores = 2);
    let candidate = try_out(runtime.raw()).unwrap();
    assert_eq!(candidate.mac.0, runtime.header().mac);
    assert_eq!(candidate.guaranteed_cores, 2);
    assert_eq!(candidate.tids().collect::<Vec<_>>(), [gettid(); 5]);
}

#[test]
fn a_user_that_is_not_allowed_is_refused() {
    if !private_namespaces() {
        return;
    }
    let runtime = TestRuntime::new(1);
    let uid = runtime.raw().peer.uid;
    let only = |uids: &[u32]| Context {
        allow_uids: Some(uids.to_vec()),
        ..context()
    };
    assert!(check(runtime.raw(), &only(&[uid + 1, uid])).is_ok());
    let error = check(runtime.raw(), &only(&[uid + 1])).unwrap_err();
    assert!(
        matches!(error, RegistrationError::UserNotAllowed(u) if u == uid),
        "{error}"
    );
}

#[test]
fn the_largest_runtime_passes() {
    if !private_namespaces() {
        return;
    }
    assert!(try_out(TestRuntime::new(256).raw()).is_ok());
}

#[test]
fn a_key_that_does_not_exist_creates_nothing() {
    if !private_namespaces() {
        return;
    }
    // Row 19 of the contract's list.
    let runtime = TestRuntime::new(1);
    for key in [0x1234_5678, 0, u32::MAX] {
        let mut raw = runtime.raw();
        raw.key = key;
        raw.len = 1 << 46;
        let error = try_out(raw).unwrap_err();
        assert!(
            matches!(error, RegistrationError::NoSegment { .. }),
            "{error}"
        );
        assert!(sysv::find(key.cast_signed()).is_err());
    }
}

#[test]
fn the_ingress_segment_is_nobodys_region() {
    if !private_namespaces() {
        return;
    }
    // Row 18: by key, and by id under another key.
    let runtime = TestRuntime::new(1);
    let mut raw = runtime.raw();
    raw.key = types::INGRESS_MBUF_SHM_KEY;
    let _ingress = sysv::create(raw.key.cast_signed(), 4096, 0o777).unwrap();
    let error = try_out(raw).unwrap_err();
    assert!(
        matches!(error, RegistrationError::IngressSegment(_)),
        "{error}"
    );
    let context = Context {
        ingress_shmid: runtime.shmid,
        ..context()
    };
    let error = check(runtime.raw(), &context).unwrap_err();
    assert!(
        matches!(error, RegistrationError::IngressSegment(_)),
        "{error}"
    );
}

#[test]
fn another_users_segment_is_refused_and_ones_own_is_not() {
    if !private_namespaces() || !may_become_another() {
        return;
    }
    // Row 18. The segment is readable by all, so only its owner tells.
    let theirs = TestRuntime::new(1);
    let mode = 0o777;
    let id = sysv::create(0x6000_0001, 4096, mode).unwrap();
    std::thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            become_user(4321);
            let own = TestRuntime::new(1);
            let own_raw = own.raw();
            let mut raw = own.raw();
            raw.key = 0x6000_0001;
            (own, own_raw, raw)
        });
        let (own, own_raw, raw) = stranger.join().unwrap();
        assert_eq!((raw.peer.uid, own_raw.peer.uid), (4321, 4321));
        let error = try_out(raw).unwrap_err();
        assert!(
            matches!(error, RegistrationError::ForeignSegment { shmid, .. } if shmid == id),
            "{error}"
        );
        // The thread has ended by now: its own segment passes, its tid does not.
        let error = try_out(own_raw).unwrap_err();
        assert!(
            matches!(error, RegistrationError::Kthread { .. }),
            "{error}"
        );
        own.set_spec(0, &{
            let mut spec = own.spec(0);
            spec.tid = gettid();
            spec
        });
        assert!(try_out(own.raw()).is_ok());
    });
    drop(theirs);
}

#[test]
fn a_length_beyond_the_segment_or_below_a_header_is_refused() {
    if !private_namespaces() {
        return;
    }
    let runtime = TestRuntime::new(1);
    for len in [0, 135, runtime.len + 1, 1 << 40, u64::MAX] {
        let mut raw = runtime.raw();
        raw.len = len;
        let error = try_out(raw).unwrap_err();
        assert!(
            matches!(error, RegistrationError::RegionLength { .. }),
            "{len}: {error}"
        );
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

#[test]
fn threads_of_other_processes_are_refused() {
    if !private_namespaces() {
        return;
    }
    // Row 13: init, the parent, no thread at all, and a thread that has ended.
    let parent = std::os::unix::process::parent_id().cast_signed();
    let dead = std::thread::spawn(gettid).join().unwrap();
    while std::fs::exists(format!("/proc/self/task/{dead}")).unwrap() {
        std::thread::yield_now();
    }
    for tid in [1, parent, 0, -1, i32::MAX, dead] {
        let runtime = TestRuntime::new(2).with_spec(1, |spec| spec.tid = tid);
        match error_of(&runtime) {
            RegistrationError::Kthread {
                index: 1,
                error: KthreadError::ForeignThread { tid: named, .. },
            } => assert_eq!(named, tid),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn fds_that_are_no_eventfds_are_refused() {
    if !private_namespaces() {
        return;
    }
    // Row 14.
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let socket = super::super::test_runtime::pair().0;
    for fd in [file.into(), socket] {
        let mut runtime = TestRuntime::new(2);
        runtime.fds[1] = fd;
        match error_of(&runtime) {
            RegistrationError::Kthread {
                index: 1,
                error: KthreadError::NoEventfd(_),
            } => {}
            other => panic!("{other}"),
        }
    }
    let mut runtime = TestRuntime::new(2);
    runtime.fds[1] = runtime.fds[0].try_clone().unwrap();
    match error_of(&runtime) {
        RegistrationError::Kthread {
            index: 1,
            error: KthreadError::SharedEventfd(0),
        } => {}
        other => panic!("{other}"),
    }
}

#[test]
fn a_peer_that_is_not_visible_is_refused() {
    if !private_namespaces() {
        return;
    }
    let mut raw = TestRuntime::new(1).raw();
    raw.peer.pid = 0;
    let error = try_out(raw).unwrap_err();
    assert!(matches!(error, RegistrationError::InvisiblePeer), "{error}");
}

#[test]
fn a_device_that_cannot_map_the_region_refuses_it() {
    #[derive(Debug)]
    struct Never;
    impl DmaMapper for Never {
        fn map(&self, _: std::ptr::NonNull<u8>, _: usize, _: usize) -> Result<Iova, String> {
            Err("no IOMMU group".into())
        }
        fn unmap(&self, _: std::ptr::NonNull<u8>, _: usize) {
            panic!("nothing was mapped");
        }
    }
    if !private_namespaces() {
        return;
    }
    let runtime = TestRuntime::new(1);
    let context = Context {
        mapper: Arc::new(Never),
        ..context()
    };
    let error = check(runtime.raw(), &context).unwrap_err();
    assert!(error.to_string().contains("no IOMMU group"), "{error}");
}
