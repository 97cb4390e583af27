//! Offsets and lengths, all of them: over small regions, and at the ends of the numbers,
//! each check against one in wider arithmetic that nobody can get wrong.
//!
//! They stand in for proofs: the checks compare and subtract, so what holds for all small
//! numbers and around each power where a type ends holds in between.

#![allow(
    clippy::tests_outside_test_module,
    reason = "this file is the test module"
)]

use std::mem::{align_of, size_of};
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::lrpc::{LrpcRx, LrpcTx, MAX_SLOTS, Slot};
use super::qptrs::QPtrs;
use super::shm::{Plain, ShmError, ShmPtr, ShmRegion};
use super::types::{rx_net_hdr, tx_net_hdr};

/// All numbers up to `small`, and those around the ends of the types.
fn numbers(small: u64) -> Vec<u64> {
    let mut all: Vec<u64> = (0..=small).collect();
    for bits in [16, 31, 32, 63] {
        let end = 1_u64 << bits;
        all.extend(end - 3..=end + 3);
    }
    all.extend(u64::MAX - small..=u64::MAX);
    all
}

fn size(n: u64) -> usize {
    usize::try_from(n).expect("64 bits")
}

#[test]
fn an_offset_is_good_exactly_if_its_bytes_are_inside() {
    for region in numbers(33) {
        for len in numbers(33) {
            for offset in numbers(35) {
                let inside = u128::from(offset) + u128::from(len) <= u128::from(region);
                let checked = ShmPtr(offset).check(size(len), size(region));
                let want = inside.then(|| size(offset));
                assert_eq!(checked.ok(), want, "{offset} + {len} in {region}");
            }
        }
    }
}

/// Every offset and count of `T` in the region.
fn arrays_of<T>(region: &ShmRegion) {
    for offset in numbers(80) {
        for count in numbers(80) {
            let end = u128::from(offset) + u128::from(count) * size_of::<T>() as u128;
            let inside = end <= region.len() as u128;
            let aligned = offset.is_multiple_of(align_of::<T>() as u64);
            match region.array::<T>(ShmPtr(offset), size(count)) {
                Ok(at) => {
                    assert!(inside && aligned, "{count} at {offset}");
                    let from = at.addr().get() - region.base().addr().get();
                    assert_eq!(from as u64, offset);
                }
                Err(ShmError::OutOfRange { .. }) => assert!(!inside, "{count} at {offset}"),
                Err(ShmError::Unaligned { .. }) => {
                    assert!(inside && !aligned, "{count} at {offset}");
                }
            }
        }
    }
}

#[test]
fn an_array_is_good_exactly_if_it_is_inside_and_aligned() {
    // No multiple of any alignment.
    let region = ShmRegion::private(77).expect("shared memory");
    arrays_of::<u8>(&region);
    arrays_of::<AtomicU32>(&region);
    arrays_of::<AtomicU64>(&region);
    arrays_of::<Slot>(&region);
    arrays_of::<[AtomicU32; 3]>(&region);
}

/// Every offset of a `T`: what is read is what is there.
fn reads_of<T: Plain>(region: &ShmRegion, bytes: fn(T) -> Vec<u8>) {
    for offset in numbers(80) {
        let end = u128::from(offset) + size_of::<T>() as u128;
        match region.read::<T>(ShmPtr(offset)) {
            Ok(value) => {
                assert!(end <= region.len() as u128);
                let there = offset..offset + size_of::<T>() as u64;
                let there: Result<Vec<u8>, _> = there.map(|at| u8::try_from(at + 1)).collect();
                assert_eq!(Ok(bytes(value)), there, "at {offset}");
            }
            Err(_) => assert!(end > region.len() as u128, "at {offset}"),
        }
    }
}

#[test]
fn a_value_is_read_exactly_if_it_is_inside_at_any_alignment() {
    let region = ShmRegion::private(77).expect("shared memory");
    for at in 0..77_u8 {
        region.write(ShmPtr(at.into()), at + 1).expect("inside");
    }
    reads_of::<u8>(&region, |v| vec![v]);
    reads_of::<u16>(&region, |v| v.to_le_bytes().to_vec());
    reads_of::<u32>(&region, |v| v.to_le_bytes().to_vec());
    reads_of::<u64>(&region, |v| v.to_le_bytes().to_vec());
    reads_of::<tx_net_hdr>(&region, |v| {
        let (completion, len, olflags, pad) = (v.completion_data, v.len, v.olflags, v.pad);
        let mut all = completion.to_le_bytes().to_vec();
        all.extend(len.to_le_bytes());
        all.extend(olflags.to_le_bytes());
        all.extend(pad.to_le_bytes());
        all
    });
    reads_of::<rx_net_hdr>(&region, |v| {
        let mut all = v.completion_data.to_le_bytes().to_vec();
        for word in [v.len, v.rss_hash, v.csum_type, v.csum] {
            all.extend(word.to_le_bytes());
        }
        all
    });
}

#[test]
fn a_ring_is_good_exactly_if_its_parts_are_inside_aligned_and_a_power_of_two() {
    let region = ShmRegion::private(100).expect("shared memory");
    let inside = |at: u64, bytes: u128, align: u64| {
        u128::from(at) + bytes <= 100 && at.is_multiple_of(align)
    };
    let mut sizes = numbers(9);
    sizes.extend([u64::from(MAX_SLOTS), 2 * u64::from(MAX_SLOTS), 1 << 60]);
    for slots in sizes {
        let power = slots.count_ones() == 1 && slots <= u64::from(MAX_SLOTS);
        for buf in numbers(102) {
            let ring = power && inside(buf, u128::from(slots) * 16, 8);
            for wb in numbers(102) {
                let want = ring && inside(wb, 4, 4);
                let (buf, wb) = (ShmPtr(buf), ShmPtr(wb));
                let tx = LrpcTx::new(&region, slots, buf, wb);
                let rx = LrpcRx::new(&region, slots, buf, wb);
                assert_eq!(tx.is_ok(), want, "{slots} slots at {buf:?}, {wb:?}");
                assert_eq!(rx.is_ok(), want, "{slots} slots at {buf:?}, {wb:?}");
            }
        }
    }
}

#[test]
fn progress_words_are_good_exactly_if_they_are_inside_and_aligned() {
    let region = ShmRegion::private(50).expect("shared memory");
    for at in numbers(52) {
        let want = u128::from(at) + 12 <= 50 && at.is_multiple_of(4);
        assert_eq!(QPtrs::new(&region, ShmPtr(at)).is_ok(), want, "{at}");
    }
}
