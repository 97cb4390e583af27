//! Headers of regions: accepted exactly when a check in wide arithmetic accepts them;
//! and an accepted one's queues stay where they were when it is rewritten afterwards.
#![no_main]

use arbitrary::Arbitrary;
use calisto::abi::lrpc::MAX_SLOTS;
use calisto::abi::shm::{ShmPtr, ShmRegion};
use calisto::abi::types::{CONTROL_HDR_MAGIC, control_hdr, queue_spec, thread_spec};
use calisto::control::layout::{self, Layout};
use calisto_fuzz::memory::Value;
use libfuzzer_sys::fuzz_target;

const HDR: usize = 48;
const SPEC: usize = 88;

#[derive(Debug, Arbitrary)]
struct Input {
    kthreads: u8,
    /// Log2 of each ring's slots.
    slots: u8,
    /// How far the number of fds is from that of kthreads.
    fds_off: i8,
    /// How far the length is from what is needed.
    len_off: i16,
    changes: Vec<Change>,
    bytes: Vec<(u16, u8)>,
    /// What the header is overwritten with once it was read.
    after: u8,
}

#[derive(Debug, Arbitrary)]
enum Change {
    Magic(u32),
    ThreadCount(Value),
    Mac([u8; 6]),
    EgressBufCount(Value),
    Queue {
        kthread: u8,
        which: u8,
        field: u8,
        value: Place,
    },
    QPtrs {
        kthread: u8,
        value: Place,
        wb_too: bool,
    },
}

/// Where a part is to lie.
#[derive(Debug, Arbitrary)]
enum Place {
    At(Value),
    /// Near another kthread's part.
    Near {
        kthread: u8,
        part: u8,
        off: i8,
    },
}

fuzz_target!(|input: Input| {
    let n = usize::from(input.kthreads % 4) + 1;
    let ring = 16_usize << (input.slots % 6);
    let start = (HDR + SPEC * n).next_multiple_of(64);
    let stride = 3 * ring + 3 * 64;
    let len = (start + n * stride).saturating_add_signed(input.len_off.into());
    // Two pages are the most that any of it takes, and a bad length is one to refuse.
    let len = len.clamp(1, 1 << 16);
    let region = ShmRegion::private(len).expect("shared memory");
    fill(&region, &input, n, start, ring);
    let before = bytes_of(&region);
    let fds = n.saturating_add_signed(input.fds_off.into());
    let want = acceptable(&before, fds);
    match layout::read(&region, fds) {
        Ok(mut layout) => {
            let parts = want.expect("accepted, but it should not be");
            assert_eq!(layout.mac.0[..], before[16..22]);
            assert_eq!(layout.kthreads.len(), n.min(layout.kthreads.len()));
            use_it(&region, &mut layout, &parts, input.after);
        }
        Err(why) => {
            assert!(want.is_none(), "refused, but it is sound: {why}");
            calisto_fuzz::text::assert_one_line(&why.to_string());
            assert_eq!(bytes_of(&region), before, "a refused region is left alone");
        }
    }
});

/// A sound header, and then the changes.
fn fill(region: &ShmRegion, input: &Input, n: usize, start: usize, ring: usize) {
    let stride = 3 * ring + 3 * 64;
    let mut header = control_hdr {
        magic: CONTROL_HDR_MAGIC,
        thread_count: u32::try_from(n).expect("few"),
        egress_buf_count: 128,
        mac: [2, 0, 0, 0, 0, 1],
        ..control_hdr::default()
    };
    let mut specs: Vec<thread_spec> = (0..n)
        .map(|i| {
            let base = (start + i * stride) as u64;
            let queue = |at: usize, wb: usize| queue_spec {
                msg_count: (ring / 16) as u64,
                msg_buf: base + at as u64,
                wb: base + (3 * ring + wb) as u64,
            };
            thread_spec {
                rxq: queue(0, 0),
                txpktq: queue(ring, 64),
                txcmdq: queue(2 * ring, 128),
                q_ptrs: base + 3 * ring as u64,
                tid: 1,
                park_efd: -1,
            }
        })
        .collect();
    for change in input.changes.iter().take(6) {
        apply(&mut header, &mut specs, region.len(), change);
    }
    // A region that cannot hold a field gets none of it.
    let _ = region.write(ShmPtr(0), header);
    for (i, spec) in specs.iter().enumerate() {
        let _ = region.write(ShmPtr((HDR + SPEC * i) as u64), *spec);
    }
    for (at, byte) in input.bytes.iter().take(6) {
        let _ = region.write(ShmPtr(u64::from(*at) % region.len() as u64), *byte);
    }
}

fn apply(header: &mut control_hdr, specs: &mut [thread_spec], len: usize, change: &Change) {
    let n = specs.len();
    let place = |specs: &[thread_spec], p: &Place| match p {
        Place::At(value) => value.of(len),
        Place::Near { kthread, part, off } => {
            let spec = &specs[usize::from(*kthread) % n];
            let parts = [
                spec.rxq.msg_buf,
                spec.txpktq.msg_buf,
                spec.txpktq.wb,
                spec.txcmdq.msg_buf,
                spec.txcmdq.wb,
                spec.q_ptrs,
            ];
            let at = parts[usize::from(*part) % parts.len()];
            // Mostly a multiple of what things are aligned to.
            at.wrapping_add_signed(i64::from(*off) * 4)
        }
    };
    match change {
        Change::Magic(magic) => header.magic = *magic,
        Change::ThreadCount(value) => {
            header.thread_count = u32::try_from(value.of(len) & 0xffff_ffff).expect("masked");
        }
        Change::Mac(mac) => header.mac = *mac,
        Change::EgressBufCount(value) => header.egress_buf_count = value.of(len),
        Change::Queue {
            kthread,
            which,
            field,
            value,
        } => {
            let value = place(specs, value);
            let spec = &mut specs[usize::from(*kthread) % n];
            let queue = match which % 3 {
                0 => &mut spec.rxq,
                1 => &mut spec.txpktq,
                _ => &mut spec.txcmdq,
            };
            match field % 3 {
                0 => queue.msg_count = value,
                1 => queue.msg_buf = value,
                _ => queue.wb = value,
            }
        }
        Change::QPtrs {
            kthread,
            value,
            wb_too,
        } => {
            let value = place(specs, value);
            let spec = &mut specs[usize::from(*kthread) % n];
            spec.q_ptrs = value;
            if *wb_too {
                spec.rxq.wb = value;
            }
        }
    }
}

fn bytes_of(region: &ShmRegion) -> Vec<u8> {
    (0..region.len() as u64)
        .map(|i| region.read(ShmPtr(i)).expect("inside"))
        .collect()
}

/// A part of the region, and whether we are to write it.
type Part = (u128, u128, bool);

/// The parts of a sound region; `None` if it is to be refused.
fn acceptable(bytes: &[u8], fds: usize) -> Option<Vec<Part>> {
    let u32_at = |at: usize| {
        let word = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(word.try_into().expect("four bytes")))
    };
    let u64_at = |at: usize| {
        let word = bytes.get(at..at + 8)?;
        Some(u128::from(u64::from_le_bytes(
            word.try_into().expect("eight bytes"),
        )))
    };
    let n = u32_at(4)? as usize;
    let need = (HDR + SPEC) as u128 * 1 + SPEC as u128 * (n.max(1) as u128 - 1);
    if u32_at(0)? != CONTROL_HDR_MAGIC || n == 0 || n > 256 || n != fds {
        return None;
    }
    if bytes.len() as u128 <= need - 1 {
        return None;
    }
    let mac = &bytes[16..22];
    if mac[0] & 1 == 1 || mac == [0; 6] {
        return None;
    }
    let mut parts: Vec<Part> = vec![(0, need, false)];
    for i in 0..n {
        let spec = HDR + SPEC * i;
        for queue in 0..3 {
            let at = spec + 24 * queue;
            let (count, buf, wb) = (u64_at(at)?, u64_at(at + 8)?, u64_at(at + 16)?);
            if count.count_ones() != 1 || count > u128::from(MAX_SLOTS) || buf % 8 != 0 {
                return None;
            }
            parts.push((buf, buf + 16 * count, queue == 0));
            if wb % 4 != 0 {
                return None;
            }
            if queue > 0 {
                parts.push((wb, wb + 4, true));
            } else if wb != u64_at(spec + 72)? {
                return None;
            }
        }
        let words = u64_at(spec + 72)?;
        parts.push((words, words + 12, false));
    }
    let outside = parts.iter().any(|p| p.1 > bytes.len() as u128);
    let overlap = parts
        .iter()
        .enumerate()
        .any(|(i, a)| parts[..i].iter().any(|b| a.0 < b.1 && b.0 < a.1));
    (!outside && !overlap).then_some(parts)
}

/// Rewrites the header, as a hostile runtime may, and uses all queues to the full.
fn use_it(region: &ShmRegion, layout: &mut Layout, parts: &[Part], after: u8) {
    for at in parts[0].0..parts[0].1 {
        let at = u64::try_from(at).expect("inside");
        region.write(ShmPtr(at), after).expect("inside");
    }
    let before = bytes_of(region);
    for kthread in &mut layout.kthreads {
        while kthread.rxq.send(1, u64::MAX) && kthread.rxq.sent() < 1000 {}
        let _ = kthread.rxq.poll_in_flight();
        for _ in 0..MAX_SLOTS {
            if kthread.txpktq.recv().is_none() && kthread.txcmdq.recv().is_none() {
                break;
            }
        }
        kthread.txpktq.write_back();
        kthread.txcmdq.write_back();
        let _ = (kthread.q_ptrs.rq_head(), kthread.q_ptrs.rq_tail());
    }
    let now = bytes_of(region);
    for (at, (was, is)) in before.iter().zip(&now).enumerate() {
        let ours = |p: &Part| p.2 && (p.0..p.1).contains(&(at as u128));
        assert!(was == is || parts.iter().any(ours), "byte {at} was written");
    }
}
