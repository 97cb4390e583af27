//! Frames through the software hash, the header check, the checksums and the loopback
//! port; each against a slow reference.
#![no_main]
#![allow(unsafe_code, reason = "Found::at reads raw memory")]

use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::Arc;

use arbitrary::Arbitrary;
use calisto::abi::ingress::INGRESS_PAGE;
use calisto::abi::shm::{ShmPtr, ShmRegion};
use calisto::ids::{KthreadIdx, ProcId, ProcSlot};
use calisto::port::checksum::{finish, ipv4_header_good};
use calisto::port::hash::hash_frame;
use calisto::port::headers::{Found, HEADERS_MAX, Network};
use calisto::port::loopback::Loopback;
use calisto::port::{Port, RX_BURST_SIZE, RxFlags, RxFrame, TxFrame, TxOffloads, TxToken};
use calisto_fuzz::frame::Frame;
use calisto_fuzz::reference;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    frame: Frame,
    pokes: Vec<(u8, u8)>,
    offloads: u8,
}

thread_local! {
    static PORT: RefCell<(Loopback, Arc<ShmRegion>)> = {
        let region = Arc::new(ShmRegion::private(INGRESS_PAGE as usize).expect("shared memory"));
        RefCell::new((Loopback::new(Arc::clone(&region)), region))
    };
}

fuzz_target!(|input: Input| {
    let mut frame = input.frame.bytes();
    for (at, value) in input.pokes.iter().take(8) {
        if let Some(byte) = frame.get_mut(usize::from(*at)) {
            *byte = *value;
        }
    }
    received(&frame);
    sent(
        &frame,
        TxOffloads::from_bits_truncate(input.offloads.into()),
    );
});

/// A frame as it comes from a device.
fn received(frame: &[u8]) {
    let hash = reference::rss_hash(frame);
    let good = reference::ipv4_header_good(frame);
    assert_eq!(hash_frame(frame), hash, "hash_frame");
    let network = Network::of(frame);
    assert_eq!(ipv4_header_good(frame, network), good, "ipv4_header_good");

    // No byte more than is promised, so that the sanitizer sees each one beyond it; and
    // bytes behind the frame that must not matter.
    let mut room = frame.to_vec();
    room.resize(frame.len().max(HEADERS_MAX), 0xee);
    let data = NonNull::new(room.as_mut_ptr()).expect("a Vec of some bytes");
    // SAFETY: HEADERS_MAX bytes at least are there.
    let found = unsafe { Found::at(data, frame.len()) };
    assert_eq!(found.hash, hash, "Found::at");
    assert_eq!(found.ip_csum_good, good, "Found::at");
}

/// A frame as a runtime sends it.
fn sent(frame: &[u8], offloads: TxOffloads) {
    let ip = offloads.contains(TxOffloads::IP_CSUM);
    let tcp = offloads.contains(TxOffloads::TCP_CSUM);
    let want = reference::finished(frame, ip, tcp);
    let mut copy = frame.to_vec();
    finish(&mut copy, offloads);
    assert_eq!(copy, want, "finish");
    if frame.is_empty() {
        return;
    }
    PORT.with_borrow_mut(|(port, region)| {
        let token = TxToken {
            completion: 77,
            proc: ProcId {
                slot: ProcSlot(0),
                generation: 0,
            },
            kthread: KthreadIdx(0),
        };
        let mut bytes = frame.to_vec();
        port.tx_push(&TxFrame {
            data: NonNull::new(bytes.as_mut_ptr()).expect("a Vec of some bytes"),
            iova: None,
            len: u16::try_from(bytes.len()).expect("at most FRAME_MAX"),
            offloads,
            token,
        });
        assert_eq!(port.tx_flush(), 1);
        let mut done = [TxToken {
            completion: 0,
            ..token
        }];
        assert_eq!(port.tx_done(&mut done), 1, "a frame is done once");
        assert_eq!(done, [token]);
        assert_eq!(port.tx_done(&mut done), 0, "and no more");
        assert_eq!(bytes, frame, "the sender's memory is the sender's");

        let mut frames = [RxFrame::EMPTY; RX_BURST_SIZE];
        assert_eq!(port.rx_burst(&mut frames), 1);
        let got = frames[0];
        assert_eq!(usize::from(got.len), want.len());
        assert_eq!(got.hash, reference::rss_hash(&want));
        let good = got.flags.contains(RxFlags::IP_CSUM_GOOD);
        assert_eq!(good, reference::ipv4_header_good(&want));
        for (i, byte) in want.iter().enumerate() {
            let at = ShmPtr(u64::from(got.data) + i as u64);
            assert_eq!(region.read::<u8>(at), Ok(*byte), "byte {i}");
        }
        port.release(&[got.buf]);
    });
}
