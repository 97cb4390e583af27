//! Each check of a registration but of its region's layout, by a runtime that is
//! sound but for one thing.

use std::sync::Arc;

use crate::abi::types;
use crate::port::dma::{DmaMapper, Iova, NoDma};

use super::super::admission::Admission;
use super::super::checks::{Candidate, Context, check};
use super::super::error::{KthreadError, RegistrationError};
use super::super::test_runtime::{
    TestRuntime, become_member, become_user, gettid, may_become_another, private_namespaces,
};
use super::super::{registration::RawRegistration, sysv};

fn context() -> Context {
    Context {
        ingress_shmid: -1,
        mapper: Arc::new(NoDma),
        admission: Admission::default(),
    }
}

pub(super) fn try_out(raw: RawRegistration) -> Result<Candidate, RegistrationError> {
    check(raw, &context(), || {})
}

pub(super) fn error_of(runtime: &TestRuntime) -> RegistrationError {
    match try_out(runtime.raw()) {
        Err(error) => {
            assert!(!error.to_string().contains('\n'));
            error
        }
        Ok(candidate) => panic!("admitted: {candidate:?}"),
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
        admission: Admission {
            uids: Some(uids.to_vec()),
            gids: None,
        },
        ..context()
    };
    assert!(check(runtime.raw(), &only(&[uid + 1, uid]), || {}).is_ok());
    let error = check(runtime.raw(), &only(&[uid + 1]), || {}).unwrap_err();
    assert!(
        matches!(error, RegistrationError::NotAllowed(u) if u == uid),
        "{error}"
    );
}

#[test]
fn a_group_that_is_allowed_lets_its_members_in() {
    if !private_namespaces() {
        return;
    }
    if !may_become_another() {
        return;
    }
    let (own, other, spare) = (1001, 1002, 1003);
    let runtime = TestRuntime::new(1);
    let only = |uids: Option<Vec<u32>>, gids: &[u32]| Context {
        admission: Admission {
            uids,
            gids: Some(gids.to_vec()),
        },
        ..context()
    };
    let raw = || {
        std::thread::scope(|scope| {
            let member = scope.spawn(|| {
                become_member(own, &[other, spare]);
                runtime.raw()
            });
            member.join().unwrap()
        })
    };
    let uid = raw().peer.uid;
    for group in [own, other, spare] {
        assert!(
            check(raw(), &only(None, &[7, group]), || {}).is_ok(),
            "{group}"
        );
    }
    // Either is enough: a user of a list, or a group of one.
    assert!(check(raw(), &only(Some(vec![uid]), &[7]), || {}).is_ok());
    assert!(check(raw(), &only(Some(vec![uid + 1]), &[own]), || {}).is_ok());
    for uids in [None, Some(vec![uid + 1])] {
        let error = check(raw(), &only(uids, &[7]), || {}).unwrap_err();
        assert!(
            matches!(error, RegistrationError::NotAllowed(u) if u == uid),
            "{error}"
        );
    }
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
    let error = check(runtime.raw(), &context, || {}).unwrap_err();
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
    let error = check(runtime.raw(), &context, || {}).unwrap_err();
    assert!(error.to_string().contains("no IOMMU group"), "{error}");
}
