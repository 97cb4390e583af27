//! Rings: one message at a time, and bursts published in either order.
//!
//! On one thread the figures are those of the instructions alone. Between two
//! threads they are mostly the cost of moving cache lines from one core to the
//! other, which is what the order of publication is about. The two threads run
//! on CPU 0 (consumer) and CPU 1 (producer); with fewer CPUs these are left out.

#![allow(unsafe_code, reason = "rings over private memory; pins threads")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "counts of at most one burst"
)]
#![allow(
    missing_docs,
    reason = "criterion's macros make undocumented functions"
)]

use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use calisto::abi::lrpc::{LrpcRx, LrpcTx, Reserved, Slot};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rustix::thread::CpuSet;

/// Slots, as in upstream's rings.
const SLOTS: u32 = 4096;
/// Messages of one burst, as the dataplane's.
const BURST: u32 = 64;

/// A ring in private memory, all of it zero: empty.
#[repr(C, align(4096))]
struct Memory {
    slots: [[u64; 2]; SLOTS as usize],
    wb: AtomicU32,
}

const _: () = assert!(size_of::<Slot>() == size_of::<[u64; 2]>());

/// Both ends of a new ring. Its memory is leaked: the ends may go to other threads.
fn ring() -> (LrpcTx, LrpcRx) {
    let memory = NonNull::from(Box::leak(Box::new(Memory {
        slots: [[0; 2]; SLOTS as usize],
        wb: AtomicU32::new(0),
    })));
    // SAFETY: both are fields of the leaked allocation, which stays valid.
    let (slots, wb) = unsafe {
        (
            NonNull::new_unchecked(&raw mut (*memory.as_ptr()).slots).cast::<Slot>(),
            NonNull::new_unchecked(&raw mut (*memory.as_ptr()).wb),
        )
    };
    // SAFETY: SLOTS slots, a power of two (page-aligned, of Slot's size, asserted above); never freed.
    unsafe {
        (
            LrpcTx::from_raw(slots, SLOTS - 1, wb),
            LrpcRx::from_raw(slots, SLOTS - 1, wb),
        )
    }
}

/// How a burst gets into the ring.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// Each message sent for itself.
    OneByOne,
    /// All reserved, then published from the last slot to the first.
    LastToFirst,
}

/// Sends up to `most` messages of one burst; returns how many there was room for.
#[inline]
fn send_burst(tx: &mut LrpcTx, order: Order, most: u32) -> u32 {
    match order {
        Order::OneByOne => (0..most).take_while(|&i| tx.send(0, u64::from(i))).count() as u32,
        Order::LastToFirst => {
            let mut places: ArrayVec<Reserved, { BURST as usize }> = ArrayVec::new();
            places.extend((0..most).map_while(|_| tx.reserve()));
            for (i, place) in places.iter().enumerate().rev() {
                // SAFETY: reserved just now; ring() never frees its memory.
                unsafe { place.publish(0, i as u64) };
            }
            places.len() as u32
        }
    }
}

fn one_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("lrpc/send_recv");
    group.throughput(Throughput::Elements(1));
    group.bench_function("single", |b| {
        let (mut tx, mut rx) = ring();
        b.iter(|| {
            tx.send(0, black_box(1));
            let msg = rx.recv();
            rx.write_back();
            msg
        });
    });
    group.throughput(Throughput::Elements(u64::from(BURST)));
    for order in [Order::OneByOne, Order::LastToFirst] {
        group.bench_function(BenchmarkId::new("burst64", format!("{order:?}")), |b| {
            let (mut tx, mut rx) = ring();
            b.iter(|| {
                send_burst(&mut tx, order, BURST);
                while let Some(msg) = rx.recv() {
                    black_box(msg);
                }
                rx.write_back();
            });
        });
    }
    group.finish();
}

fn pin_to(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).expect("CPUs 0 and 1 are ours to use");
}

/// Time in which a consumer on the other CPU takes so many bursts.
fn two_thread_time(bursts: u64, order: Order) -> Duration {
    let (mut tx, mut rx) = ring();
    let go = Arc::new(AtomicBool::new(false));
    let consumer = {
        let go = Arc::clone(&go);
        thread::spawn(move || {
            pin_to(0);
            go.store(true, Ordering::Release);
            let mut left = bursts * u64::from(BURST);
            while left > 0 {
                while let Some(msg) = rx.recv() {
                    black_box(msg);
                    left -= 1;
                }
                rx.write_back();
            }
        })
    };
    while !go.load(Ordering::Acquire) {
        std::hint::spin_loop();
    }
    let start = Instant::now();
    for _ in 0..bursts {
        let mut left = BURST;
        while left > 0 {
            left -= send_burst(&mut tx, order, left);
        }
    }
    consumer.join().expect("the consumer does not panic");
    start.elapsed()
}

fn two_threads(c: &mut Criterion) {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return;
    }
    pin_to(1);
    let mut group = c.benchmark_group("lrpc/two_threads");
    group.throughput(Throughput::Elements(u64::from(BURST)));
    for order in [Order::OneByOne, Order::LastToFirst] {
        group.bench_function(BenchmarkId::new("burst64", format!("{order:?}")), |b| {
            b.iter_custom(|bursts| two_thread_time(bursts, order));
        });
    }
    group.finish();
}

criterion_group!(benches, one_thread, two_threads);
criterion_main!(benches);
