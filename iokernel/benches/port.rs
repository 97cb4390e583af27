//! What a port costs per frame, beside the device: hash, checksums, both ports.
//!
//! `dpdk/*` runs on DPDK's null device with ordinary pages, so it measures our side and
//! DPDK's mempools. `dpdk/rx` includes the driver's own share: one mbuf taken per frame.

#![allow(
    unsafe_code,
    missing_docs,
    clippy::cast_possible_truncation,
    reason = "a bench that stands in for a runtime"
)]

use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::Arc;

use calisto::abi::ingress::INGRESS_PAGE;
use calisto::abi::shm::ShmRegion;
use calisto::ids::{BufIdx, KthreadIdx, ProcId, ProcSlot};
use calisto::port::hash::hash_frame;
use calisto::port::headers::Found;
use calisto::port::loopback::Loopback;
use calisto::port::{
    Port, RX_BURST_SIZE, RxFrame, TX_BURST_SIZE, TxFrame, TxOffloads, TxToken, checksum,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const CSUM: TxOffloads = TxOffloads::IP_CSUM
    .union(TxOffloads::TCP_CSUM)
    .union(TxOffloads::IPV4);

/// A TCP segment in a frame of `len` bytes, in a buffer of 2 KiB.
fn frame(len: usize) -> Vec<u8> {
    let mut f = vec![2; 12];
    f.extend([8, 0, 0x45, 0]);
    f.extend(((len - 14) as u16).to_be_bytes());
    f.extend([0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    f.extend([0, 80, 0xc0, 1, 0, 0, 0, 9, 0, 0, 0, 8, 0x50, 0x10, 1, 0]);
    f.resize(2048, 7);
    f
}

fn region() -> Arc<ShmRegion> {
    let len = 4 * INGRESS_PAGE as usize;
    // SAFETY: makes a segment and maps nothing; no memory is involved.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, len, 0o600) };
    let region = ShmRegion::attach(id, len).expect("a private segment");
    // SAFETY: IPC_RMID reads no buffer; the segment is our own, and stays while it is attached.
    unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    Arc::new(region)
}

const TOKEN: TxToken = TxToken {
    completion: 1,
    proc: ProcId {
        slot: ProcSlot(1),
        generation: 1,
    },
    kthread: KthreadIdx(0),
};

fn tx_frame(data: &mut [u8], len: u16, offloads: TxOffloads) -> TxFrame {
    let data = NonNull::new(data.as_mut_ptr()).expect("a slice has an address");
    TxFrame {
        data,
        iova: Some(data.as_ptr().addr() as u64),
        len,
        offloads,
        token: TOKEN,
    }
}

/// A burst received and given back.
fn rx(port: &mut impl Port, frames: &mut [RxFrame; RX_BURST_SIZE]) {
    let n = port.rx_burst(frames);
    let mut bufs = [BufIdx(0); RX_BURST_SIZE];
    for (buf, frame) in bufs.iter_mut().zip(&frames[..n]) {
        *buf = frame.buf;
    }
    port.release(&bufs[..n]);
}

/// A burst sent and done.
fn tx(port: &mut impl Port, frame: &TxFrame, done: &mut [TxToken; TX_BURST_SIZE]) {
    for _ in 0..port.tx_room() {
        port.tx_push(frame);
    }
    port.tx_flush();
    black_box(port.tx_done(done));
}

fn software(c: &mut Criterion) {
    let mut group = c.benchmark_group("hash");
    let mut f = frame(64);
    group.bench_function("ipv4_tcp", |b| b.iter(|| hash_frame(black_box(&f[..64]))));
    let data = NonNull::new(f.as_mut_ptr()).expect("a slice has an address");
    group.bench_function("ipv4_tcp_found", |b| {
        // SAFETY: `f` has 2048 bytes, more than HEADERS_MAX, and lives on.
        b.iter(|| unsafe { Found::at(black_box(data), 64) });
    });
    group.finish();
    let mut group = c.benchmark_group("checksum/finish");
    for len in [64, 1514] {
        let mut f = frame(len);
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| checksum::finish(black_box(&mut f[..len]), CSUM));
        });
    }
    group.finish();
}

fn loopback(c: &mut Criterion) {
    let mut group = c.benchmark_group("loopback");
    group.throughput(Throughput::Elements(TX_BURST_SIZE as u64));
    let mut port = Loopback::new(region());
    let mut frames = [RxFrame::EMPTY; RX_BURST_SIZE];
    let mut done = [TOKEN; TX_BURST_SIZE];
    for len in [64, 1514] {
        let mut data = frame(usize::from(len));
        let frame = tx_frame(&mut data, len, CSUM);
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| {
                tx(&mut port, &frame, &mut done);
                rx(&mut port, &mut frames);
            });
        });
    }
    group.finish();
}

#[cfg(feature = "dpdk")]
fn dpdk(c: &mut Criterion) {
    use calisto::port::dpdk::{Dpdk, Eal, EalConfig, PortSel};
    let config = EalConfig {
        cpu: 0,
        no_huge: true,
        args: ["--no-pci", "--no-telemetry", "--vdev=net_null0"]
            .map(str::to_owned)
            .into(),
    };
    let mut port = match Eal::init(&config)
        .and_then(|eal| Dpdk::start(eal, &PortSel::Id(0), region(), 4096))
    {
        Ok(port) => port,
        Err(e) => {
            println!("SKIPPED: {e}");
            return;
        }
    };
    let mut group = c.benchmark_group("dpdk");
    group.throughput(Throughput::Elements(TX_BURST_SIZE as u64));
    let mut frames = [RxFrame::EMPTY; RX_BURST_SIZE];
    let mut done = [TOKEN; TX_BURST_SIZE];
    group.bench_function("rx", |b| b.iter(|| rx(&mut port, &mut frames)));
    let mut data = frame(64);
    for (name, offloads) in [("tx/zero_copy", TxOffloads::empty()), ("tx/copy", CSUM)] {
        let frame = tx_frame(&mut data, 64, offloads);
        group.bench_function(name, |b| b.iter(|| tx(&mut port, &frame, &mut done)));
    }
    group.finish();
}

#[cfg(feature = "dpdk")]
criterion_group!(benches, software, loopback, dpdk);
#[cfg(not(feature = "dpdk"))]
criterion_group!(benches, software, loopback);
criterion_main!(benches);
