//! Serves the kthreads: one thread takes their packets, in turn.
//!
//! It consumes packets or echoes them, gives every buffer back, parks kthreads
//! that stay idle, and counts. It does not sleep, so that it empties queues
//! faster than a dispatcher fills them and the dispatcher is what is measured.

#![allow(unsafe_code, reason = "copies frames between shared regions")]

use std::mem;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use calisto::abi::lrpc::{LrpcRx, LrpcTx, Msg};
use calisto::abi::shm::{ShmPtr, ShmRegion};
use calisto::abi::types::{
    ETH_FRAME_MAX_VLAN, MBUF_DEFAULT_LEN, RX_JOIN, RX_NET_COMPLETE, RX_NET_RECV,
    TXCMD_NET_COMPLETE, TXCMD_PARKED, TXCMD_PARKED_LAST, TXPKT_NET_XMIT, rx_net_hdr, tx_net_hdr,
};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::flows::{FlowCounts, FlowWatch};
use crate::runtime::Runtime;
use crate::shared::{STAMP_AT, STAMP_LEN, STAMP_MAGIC, stamp};

/// Messages taken from one rxq before the next has its turn.
const RECV_BURST: usize = 64;
/// Passes between two looks at the eventfds of parked kthreads, while others have work.
const PASSES_PER_POLL: u64 = 32;

const HDR_LEN: u64 = size_of::<rx_net_hdr>() as u64;
const TX_HDR_LEN: u64 = size_of::<tx_net_hdr>() as u64;

/// What to do with packets.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Send each packet back; else only give its buffer back.
    pub echo: bool,
    /// Watch flows ([`FlowCounts`]).
    pub track: bool,
    /// Park a kthread that had no message for so long.
    pub park_after: Option<Duration>,
}

/// What happened. One line of JSON.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Counts {
    /// Packets taken off rxqs.
    pub received: u64,
    /// Of them, sent back.
    pub echoed: u64,
    /// Not sent back: no egress buffer was free, or txpktq was full.
    pub echo_dropped: u64,
    /// Egress buffers that came back.
    pub tx_completes: u64,
    /// `RX_JOIN` messages.
    pub joins: u64,
    /// Messages that break the contract: an unknown command, a packet outside
    /// the ingress region or too long, a completion for a buffer not sent.
    pub bad: u64,
    /// Parks of idle kthreads.
    pub parks: u64,
    /// Parks because of a preemption.
    pub preempted: u64,
    /// Writes to an eventfd.
    pub wakes: u64,
    /// Kthreads that had a packet.
    pub kthreads_used: u64,
    /// Kthreads active at once, mean over all passes.
    pub mean_active: f64,
    /// Packets of the busiest kthread, over the mean of those that had any.
    pub max_over_mean: f64,
    /// What became of flows; zeros unless they were watched.
    #[serde(flatten)]
    pub flows: FlowCounts,
}

#[derive(Debug)]
struct Kthread {
    rxq: LrpcRx,
    txpktq: LrpcTx,
    txcmdq: LrpcTx,
    active: bool,
    /// As the last wake told; without virtual cores, the CPU.
    core: u16,
    last_work: Instant,
    received: u64,
}

/// Egress buffers: which are free, and which are with the I/O kernel.
#[derive(Debug)]
struct Egress {
    free: Vec<u32>,
    sent: Vec<bool>,
}

/// The kthreads of one runtime, served by the calling thread.
#[derive(Debug)]
pub struct Sink<'a> {
    runtime: &'a Runtime,
    options: Options,
    kthreads: Vec<Kthread>,
    active: usize,
    egress: Egress,
    watch: FlowWatch,
    counts: Counts,
    passes: u64,
    active_sum: u64,
    stuck: bool,
}

impl<'a> Sink<'a> {
    /// All kthreads parked, as after registration.
    ///
    /// # Errors
    /// When the layout does not fit the region: our own mistake.
    pub fn new(runtime: &'a Runtime, options: Options) -> anyhow::Result<Sink<'a>> {
        let now = Instant::now();
        let region = &runtime.region;
        let kthreads = runtime
            .layout
            .specs
            .iter()
            .map(|s| {
                let tx = |q: &calisto::abi::types::queue_spec| {
                    LrpcTx::new(region, q.msg_count, ShmPtr(q.msg_buf), ShmPtr(q.wb))
                };
                let (buf, wb) = (ShmPtr(s.rxq.msg_buf), ShmPtr(s.rxq.wb));
                Ok(Kthread {
                    rxq: LrpcRx::new(region, s.rxq.msg_count, buf, wb)?,
                    txpktq: tx(&s.txpktq)?,
                    txcmdq: tx(&s.txcmdq)?,
                    active: false,
                    core: 0,
                    last_work: now,
                    received: 0,
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let bufs = runtime.layout.egress_bufs;
        Ok(Sink {
            runtime,
            options,
            kthreads,
            active: 0,
            egress: Egress {
                free: (0..bufs).rev().collect(),
                sent: vec![false; bufs as usize],
            },
            watch: FlowWatch::default(),
            counts: Counts::default(),
            passes: 0,
            active_sum: 0,
            stuck: false,
        })
    }

    /// Packets taken so far.
    #[inline]
    pub fn received(&self) -> u64 {
        self.counts.received
    }

    /// True once the I/O kernel does not take messages any more.
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Gives every kthread one turn.
    ///
    /// # Errors
    /// When the eventfds cannot be polled.
    pub fn pass(&mut self) -> anyhow::Result<()> {
        self.passes += 1;
        if self.active < self.kthreads.len()
            && (self.active == 0 || self.passes.is_multiple_of(PASSES_PER_POLL))
        {
            self.poll_wakes()?;
        }
        self.active_sum += self.active as u64;
        let now = self.options.park_after.map(|_| Instant::now());
        for i in 0..self.kthreads.len() {
            if !self.kthreads[i].active {
                continue;
            }
            let worked = self.drain(i);
            if self.runtime.preempted[i].load(Ordering::Relaxed) {
                self.runtime.preempted[i].store(false, Ordering::Relaxed);
                self.counts.preempted += 1;
                self.park(i);
            } else if let (Some(now), Some(limit)) = (now, self.options.park_after) {
                if worked {
                    self.kthreads[i].last_work = now;
                } else if now.duration_since(self.kthreads[i].last_work) > limit {
                    self.counts.parks += 1;
                    self.park(i);
                }
            }
        }
        Ok(())
    }

    /// The counts, with the means worked out.
    pub fn finish(mut self) -> Counts {
        let packets = || self.kthreads.iter().map(|k| k.received);
        let used = packets().filter(|&n| n > 0).count() as u64;
        let busiest = packets().max().unwrap_or(0);
        let received = self.counts.received;
        self.counts.kthreads_used = used;
        if self.passes > 0 {
            self.counts.mean_active = ratio(self.active_sum, self.passes);
        }
        if received > 0 {
            self.counts.max_over_mean = ratio(busiest * used, received);
        }
        self.counts.flows = self.watch.counts();
        self.counts
    }

    /// Wakes the kthreads whose eventfd was written.
    #[cold]
    fn poll_wakes(&mut self) -> anyhow::Result<()> {
        let parked: Vec<usize> = (0..self.kthreads.len())
            .filter(|&i| !self.kthreads[i].active)
            .collect();
        let mut fds: Vec<PollFd<'_>> = parked
            .iter()
            .map(|&i| PollFd::from_borrowed_fd(self.runtime.eventfds[i].as_fd(), PollFlags::IN))
            .collect();
        rustix::event::poll(&mut fds, Some(&Timespec::default()))
            .context("cannot poll eventfds")?;
        for (&i, fd) in parked.iter().zip(&fds) {
            let mut value = [0u8; 8];
            if !fd.revents().contains(PollFlags::IN)
                || rustix::io::read(&self.runtime.eventfds[i], &mut value) != Ok(8)
            {
                continue;
            }
            let k = &mut self.kthreads[i];
            // A wake writes the core's number plus one.
            k.core = u16::try_from(u64::from_le_bytes(value).wrapping_sub(1)).unwrap_or(u16::MAX);
            k.active = true;
            k.last_work = Instant::now();
            self.active += 1;
            self.counts.wakes += 1;
        }
        Ok(())
    }

    fn park(&mut self, i: usize) {
        self.active -= 1;
        self.kthreads[i].active = false;
        // There are no uthreads, so nothing is left to be joined, and no timer.
        let cmd = if self.active == 0 {
            TXCMD_PARKED_LAST
        } else {
            TXCMD_PARKED
        };
        self.command(i, cmd, 0);
    }

    /// Sends a command, which must not be lost.
    #[inline]
    fn command(&mut self, i: usize, cmd: u32, payload: u64) {
        if self.kthreads[i].txcmdq.send(u64::from(cmd), payload) {
            return;
        }
        self.stuck |= !self.command_when_room(i, cmd, payload);
    }

    #[cold]
    fn command_when_room(&mut self, i: usize, cmd: u32, payload: u64) -> bool {
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline {
            if self.kthreads[i].txcmdq.send(u64::from(cmd), payload) {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Takes a burst from one rxq; true when there was a message.
    #[inline]
    fn drain(&mut self, i: usize) -> bool {
        for n in 0..RECV_BURST {
            let Some(msg) = self.kthreads[i].rxq.recv() else {
                self.kthreads[i].rxq.write_back();
                return n > 0;
            };
            self.handle(i, msg);
        }
        self.kthreads[i].rxq.write_back();
        true
    }

    #[inline]
    fn handle(&mut self, i: usize, msg: Msg) {
        match u32::try_from(msg.cmd).unwrap_or(u32::MAX) {
            RX_NET_RECV => self.receive(i, ShmPtr(msg.payload)),
            RX_NET_COMPLETE => self.complete(msg.payload),
            RX_JOIN => self.counts.joins += 1,
            _ => self.counts.bad += 1,
        }
    }

    #[inline]
    fn receive(&mut self, i: usize, at: ShmPtr) {
        let ingress = &self.runtime.ingress;
        // The check that a C runtime makes.
        let whole = at.check(MBUF_DEFAULT_LEN as usize, ingress.len());
        let Some(hdr) = whole.ok().and_then(|_| ingress.read::<rx_net_hdr>(at).ok()) else {
            self.counts.bad += 1;
            return;
        };
        self.counts.received += 1;
        self.kthreads[i].received += 1;
        let frame = ShmPtr(at.0 + HDR_LEN);
        if hdr.len > ETH_FRAME_MAX_VLAN {
            self.counts.bad += 1;
        } else {
            if self.options.track && hdr.len >= STAMP_LEN {
                self.track(i, frame);
            }
            if self.options.echo {
                self.echo(i, frame, hdr.len);
            }
        }
        self.command(i, TXCMD_NET_COMPLETE, hdr.completion_data);
    }

    #[inline]
    fn complete(&mut self, tag: u64) {
        let buf = u32::try_from(tag).unwrap_or(u32::MAX);
        let sent = self.egress.sent.get_mut(buf as usize);
        if sent.is_some_and(mem::take) {
            self.counts.tx_completes += 1;
            self.egress.free.push(buf);
        } else {
            self.counts.bad += 1;
        }
    }

    fn track(&mut self, i: usize, frame: ShmPtr) {
        let ingress = &self.runtime.ingress;
        let at = |field: u64| ShmPtr(frame.0 + STAMP_AT + field);
        let magic = ingress.read::<u32>(at(stamp::MAGIC));
        let flow = ingress.read::<u32>(at(stamp::FLOW));
        let seq = ingress.read::<u64>(at(stamp::SEQ));
        if let (Ok(STAMP_MAGIC), Ok(flow), Ok(seq)) = (magic, flow, seq) {
            let (kthread, core) = (i, self.kthreads[i].core);
            #[allow(clippy::cast_possible_truncation, reason = "at most MAX_KTHREADS")]
            self.watch.note(flow, seq, kthread as u16, core);
        }
    }

    /// Sends a frame back to where it came from.
    #[inline]
    fn echo(&mut self, i: usize, frame: ShmPtr, len: u32) {
        let Some(buf) = self.egress.free.pop() else {
            self.counts.echo_dropped += 1;
            return;
        };
        let at = self.runtime.layout.egress_buf(buf);
        let hdr = tx_net_hdr {
            completion_data: u64::from(buf),
            len,
            olflags: 0,
            pad: 0,
        };
        let written = self.runtime.region.write(at, hdr).is_ok()
            && reply(
                &self.runtime.ingress,
                frame,
                &self.runtime.region,
                ShmPtr(at.0 + TX_HDR_LEN),
                len as usize,
            );
        if written
            && self.kthreads[i]
                .txpktq
                .send(u64::from(TXPKT_NET_XMIT), at.0)
        {
            self.egress.sent[buf as usize] = true;
            self.counts.echoed += 1;
        } else {
            self.egress.free.push(buf);
            self.counts.echo_dropped += 1;
        }
    }
}

/// Copies a UDP frame with the ends of its addresses and ports exchanged;
/// false, and nothing done, when it is too short or a range leaves its region.
///
/// Checksums need nothing: sums do not depend on the order of their words.
#[inline]
fn reply(from: &ShmRegion, frame: ShmPtr, to: &ShmRegion, at: ShmPtr, len: usize) -> bool {
    // Ethernet addresses, IPv4 addresses, ports: each pair adjacent.
    const PAIRS: [(usize, usize); 3] = [(0, 6), (26, 4), (34, 2)];
    let (Ok(src), Ok(dst)) = (from.array::<u8>(frame, len), to.array::<u8>(at, len)) else {
        return false;
    };
    if len < 38 {
        return false;
    }
    // SAFETY: array() checked that `len` bytes lie in each region, and the regions are two
    // mappings; len >= 38 covers the last pair, bytes 34 to 37.
    unsafe {
        src.copy_to_nonoverlapping(dst, len);
        for (at, width) in PAIRS {
            src.add(at)
                .copy_to_nonoverlapping(dst.add(at + width), width);
            src.add(at + width)
                .copy_to_nonoverlapping(dst.add(at), width);
        }
    }
    true
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a figure to be read, not compared"
)]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}
