//! What the tests of a port stand on: a child process, the EAL, memory, and the
//! sending side of a runtime.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use calisto::abi::ingress::INGRESS_PAGE;
use calisto::abi::shm::{ShmPtr, ShmRegion};
use calisto::ids::{KthreadIdx, ProcId, ProcSlot};
use calisto::port::dpdk::{Dpdk, Eal, EalConfig};
use calisto::port::{Port, RX_BURST_SIZE, RxFrame, TxFrame, TxOffloads, TxToken};
use calisto::testing::skip;

const CHILD: &str = "CALISTO_DPDK_CHILD";
pub(crate) const CSUM: TxOffloads = TxOffloads::IP_CSUM
    .union(TxOffloads::TCP_CSUM)
    .union(TxOffloads::IPV4);

/// Runs `body` in a process of its own; an error is a reason to skip.
pub(crate) fn in_child(name: &str, body: fn() -> Result<(), String>) {
    if std::env::var_os(CHILD).is_some() {
        if let Err(why) = body() {
            skip(name, &why);
        }
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([&format!("tests::{name}"), "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("{name} hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}

pub(crate) fn eal(args: &[&str]) -> Result<Eal, String> {
    let config = EalConfig {
        cpu: first_cpu(),
        no_huge: true,
        args: ["--no-pci", "--no-telemetry"]
            .iter()
            .chain(args)
            .map(ToString::to_string)
            .collect(),
    };
    Eal::init(&config).map_err(|e| e.to_string())
}

pub(crate) fn first_cpu() -> usize {
    // SAFETY: a CPU set is plain bits, so zeroes are one; the kernel writes at most its size,
    // which it is told; CPU_ISSET is asked for no CPU beyond its 1024.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        (0..1024).find(|cpu| libc::CPU_ISSET(*cpu, &set)).unwrap()
    }
}

/// A private segment of ordinary pages, gone when detached.
pub(crate) fn region(pages: u32) -> Arc<ShmRegion> {
    let len = (pages * INGRESS_PAGE) as usize;
    // SAFETY: makes a segment and maps nothing; no memory is involved.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, len, 0o600) };
    assert!(id >= 0, "shmget: {}", std::io::Error::last_os_error());
    let region = ShmRegion::attach(id, len).unwrap();
    // SAFETY: IPC_RMID reads no buffer; the segment is our own, and stays while it is attached.
    unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    Arc::new(region)
}

pub(crate) fn bytes(region: &ShmRegion, frame: &RxFrame) -> Vec<u8> {
    (0..u64::from(frame.len))
        .map(|i| region.read(ShmPtr(u64::from(frame.data) + i)).unwrap())
        .collect()
}

/// The sending runtime: frames in a segment of their own, and tokens.
pub(crate) struct Runtime {
    pub(crate) region: Arc<ShmRegion>,
    pub(crate) sent: u64,
    pub(crate) outstanding: BTreeSet<u64>,
}

impl Runtime {
    pub(crate) fn new() -> Runtime {
        Runtime {
            region: region(2),
            sent: 0,
            outstanding: BTreeSet::new(),
        }
    }

    pub(crate) fn push(&mut self, port: &mut Dpdk, frame: &[u8], offloads: TxOffloads) {
        let offset = (self.sent as usize * 2048) % self.region.len();
        for (i, byte) in frame.iter().enumerate() {
            self.region
                .write(ShmPtr((offset + i) as u64), *byte)
                .unwrap();
        }
        // SAFETY: `offset` is a remainder by the region's length, so it lies in the region, which
        // lives as long as `self`.
        let data = unsafe { self.region.base().add(offset) };
        self.sent += 1;
        self.outstanding.insert(self.sent);
        port.tx_push(&TxFrame {
            data,
            iova: Some(data.as_ptr().addr() as u64),
            len: frame.len() as u16,
            offloads,
            token: token(self.sent),
        });
    }

    /// Takes tokens back: each must be one that is outstanding.
    pub(crate) fn done(&mut self, port: &mut Dpdk) {
        let mut done = [token(0); 16];
        loop {
            let n = port.tx_done(&mut done);
            for t in &done[..n] {
                assert_eq!(*t, token(t.completion));
                assert!(
                    self.outstanding.remove(&t.completion),
                    "twice or never sent: {t:?}"
                );
            }
            if n == 0 {
                return;
            }
        }
    }
}

pub(crate) fn token(n: u64) -> TxToken {
    TxToken {
        completion: n,
        proc: ProcId {
            slot: ProcSlot((n % 1000) as u16),
            generation: n as u32,
        },
        kthread: KthreadIdx((n % 16) as u16),
    }
}

/// Polls until `n` frames came, or for two seconds.
pub(crate) fn receive(port: &mut Dpdk, n: usize) -> Vec<RxFrame> {
    let mut burst = [RxFrame::EMPTY; RX_BURST_SIZE];
    let mut got = Vec::new();
    let start = Instant::now();
    while got.len() < n && start.elapsed() < Duration::from_secs(2) {
        let k = port.rx_burst(&mut burst);
        got.extend_from_slice(&burst[..k]);
    }
    got
}

pub(crate) fn release(port: &mut Dpdk, frames: &[RxFrame]) {
    let bufs: Vec<_> = frames.iter().map(|f| f.buf).collect();
    port.release(&bufs);
}
