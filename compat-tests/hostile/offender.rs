//! A runtime whose every byte can be chosen.
//!
//! One thread does all: it is every kthread's thread, and writes to every
//! kthread's rings. What a case does not touch is as the contract wants it.
//!
//! ```text
//!   0        control_hdr, thread_spec[n]
//!   0x1000   for each kthread: rxq | txpktq | txcmdq | words, a page each
//!   then     egress buffers of 2048 bytes
//! ```

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use calisto::abi::types;

use super::fields::{header, spec};
use super::memory::{self, Segment};
pub use super::plan::Plan;
use super::socket;
use super::wire;

/// Slots of each ring.
pub const SLOTS: u32 = 256;
/// Bytes of an egress buffer.
pub const BUFFER: usize = 2048;
/// Bytes in front of a frame that is sent. C: `struct tx_net_hdr`.
pub const TX_HDR: usize = 18;
/// Bytes in front of a frame that was received. C: `struct rx_net_hdr`.
const RX_HDR: usize = 24;
const PAGE: usize = 4096;
/// Where the thread specs begin. C: `struct control_hdr`.
const SPECS: usize = 48;
/// Bytes of one. C: `struct thread_spec`.
const SPEC: usize = 88;
const PARITY: u64 = 1 << 63;
/// Seconds that an offender waits for anything; see [`patience`].
pub const PATIENCE_VAR: &str = "CALISTO_HOSTILE_PATIENCE";
/// Tells an offender the process ids of the echo runtime and of the I/O kernel.
pub const PEERS_VAR: &str = "CALISTO_HOSTILE_PEERS";
/// The peer at the other end of the wire.
pub const PEER_IP: [u8; 4] = crate::veth::PEER_IP.octets();

/// Rings that the runtime fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// Packets.
    Packets,
    /// Commands.
    Commands,
}

#[derive(Debug, Default, Clone, Copy)]
struct Heads {
    packets: u32,
    commands: u32,
    received: u32,
}

/// A message for the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its command.
    pub cmd: u64,
    /// Its argument.
    pub payload: u64,
}

/// A runtime in the hands of a case.
#[derive(Debug)]
pub struct Offender {
    /// What it was made of.
    pub plan: Plan,
    /// Its region.
    pub region: Segment,
    /// The ingress region.
    pub ingress: Segment,
    /// One a kthread.
    pub efds: Vec<OwnedFd>,
    /// Its connection, once it has one.
    pub socket: Option<UnixStream>,
    heads: Vec<Heads>,
    next_buffer: usize,
}

/// Longest wait of an offender for what an I/O kernel must do.
pub fn patience() -> Duration {
    let seconds = std::env::var(PATIENCE_VAR).ok();
    Duration::from_secs(seconds.and_then(|s| s.parse().ok()).unwrap_or(60))
}

/// Waits for something that an I/O kernel must do.
///
/// # Panics
/// When it does not.
pub fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

impl Offender {
    /// An offender with a sound region, not registered.
    ///
    /// # Panics
    /// When there is no memory for it, or no I/O kernel.
    pub fn new(plan: Plan) -> Offender {
        memory::ignore_preemption();
        let region = Segment::create(plan.len, plan.huge);
        let ingress_len = usize::try_from(types::INGRESS_MBUF_SHM_SIZE).expect("64 bits");
        let offender = Offender {
            plan,
            region,
            ingress: Segment::of_key(types::INGRESS_MBUF_SHM_KEY, ingress_len),
            efds: (0..plan.kthreads).map(|_| socket::eventfd(0)).collect(),
            socket: None,
            heads: vec![Heads::default(); plan.kthreads],
            next_buffer: 0,
        };
        offender.write_header();
        offender
    }

    /// An offender that has been given a core, as a polite runtime.
    ///
    /// # Panics
    /// When it is not.
    pub fn attached(plan: Plan) -> Offender {
        let mut offender = Offender::new(plan);
        offender.register();
        offender.wait_wake(0);
        offender
    }

    fn write_header(&self) {
        let mem = self.region.mem;
        let count = u32::try_from(self.plan.kthreads).expect("a few");
        mem.put32(header::MAGIC, types::CONTROL_HDR_MAGIC);
        mem.put32(header::THREADS, count);
        mem.put64(header::EGRESS, 32);
        mem.put(header::MAC, &wire::mac(self.plan.number));
        mem.put32(header::GUARANTEED - 8, types::SCHED_PRIORITY_NORMAL);
        mem.put32(header::GUARANTEED - 4, count);
        mem.put32(header::GUARANTEED, self.plan.guaranteed);
        for k in 0..self.plan.kthreads {
            let at = self.spec(k);
            let queues = [
                (spec::RXQ, self.ring_at(k, 0), self.q_ptrs(k)),
                (spec::TXPKTQ, self.ring_at(k, 1), self.wb(k, Ring::Packets)),
                (spec::TXCMDQ, self.ring_at(k, 2), self.wb(k, Ring::Commands)),
            ];
            for (queue, slots, wb) in queues {
                mem.put64(at + queue, u64::from(SLOTS));
                mem.put64(at + queue + spec::BUF, slots as u64);
                mem.put64(at + queue + spec::WB, wb as u64);
            }
            mem.put64(at + spec::Q_PTRS, self.q_ptrs(k) as u64);
            mem.put32(at + spec::TID, memory::gettid().cast_unsigned());
        }
    }

    /// Where the spec of kthread `k` lies.
    pub fn spec(&self, k: usize) -> usize {
        SPECS + SPEC * k
    }

    fn ring_at(&self, k: usize, page: usize) -> usize {
        PAGE + (4 * k + page) * PAGE
    }

    /// Where the slots of a ring lie.
    pub fn slots(&self, k: usize, ring: Ring) -> usize {
        self.ring_at(k, 1 + usize::from(ring == Ring::Commands))
    }

    /// Where the write-back word of a ring lies, which the I/O kernel writes.
    pub fn wb(&self, k: usize, ring: Ring) -> usize {
        self.ring_at(k, 3) + 64 * usize::from(ring == Ring::Commands)
    }

    /// Where the slots of `rxq` lie.
    pub fn rxq(&self, k: usize) -> usize {
        self.ring_at(k, 0)
    }

    /// Where `q_ptrs` lie: `rxq`'s write-back word, `rq_head`, `rq_tail`.
    pub fn q_ptrs(&self, k: usize) -> usize {
        self.ring_at(k, 3) + 128
    }

    /// Where egress buffer `i` lies.
    pub fn buffer(&self, i: usize) -> usize {
        let first = PAGE * (1 + 4 * self.plan.kthreads);
        first + (i * BUFFER) % (self.plan.len - first - BUFFER) / BUFFER * BUFFER
    }

    /// Sets a field of the spec of kthread 0.
    pub fn set_spec(&self, field: usize, value: u64) {
        self.region.mem.put64(self.spec(0) + field, value);
    }

    /// Claims another thread to be kthread 0's.
    pub fn set_tid(&self, tid: i32) {
        let at = self.spec(0) + spec::TID;
        self.region.mem.put32(at, tid.cast_unsigned());
    }

    // Registration.

    /// Registers as the contract says.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn register(&mut self) {
        self.register_as(self.region.key, self.plan.len as u64);
    }

    /// The same with another key and length.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn register_as(&mut self, key: u32, len: u64) {
        let mut socket = socket::connect();
        let fds: Vec<BorrowedFd<'_>> = self.efds.iter().map(AsFd::as_fd).collect();
        // Who is refused in between is hung up upon.
        let _ = socket.write_all(&socket::head(key, len));
        let _ = socket::send_fds(&socket, &[0], &fds);
        self.socket = Some(socket);
    }

    /// Waits until the I/O kernel hung up. When it does not, the case ends here, with
    /// the offender alive: whether others bear that is to be seen.
    ///
    /// # Panics
    /// When it says something.
    pub fn wait_hang_up(&mut self) {
        let socket = self.socket.as_mut().expect("it has a connection");
        socket
            .set_read_timeout(Some(patience()))
            .expect("a timeout");
        match socket.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => panic!("it said something"),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(e) => {
                eprintln!("never hung up: {e}");
                super::stay();
            }
        }
    }

    /// True if the I/O kernel hung up.
    pub fn is_hung_up(&self) -> bool {
        self.socket.as_ref().is_some_and(socket::is_hung_up)
    }

    /// Waits until kthread `k` is given a core; the core.
    ///
    /// # Panics
    /// When it is not.
    pub fn wait_wake(&self, k: usize) -> u64 {
        until("a wake", || socket::take_wake(&self.efds[k])) - 1
    }

    // Rings.

    /// Puts a message into a ring, whether there is room or not.
    pub fn put(&mut self, k: usize, ring: Ring, cmd: u64, payload: u64) {
        let at = self.slots(k, ring);
        let head = match ring {
            Ring::Packets => &mut self.heads[k].packets,
            Ring::Commands => &mut self.heads[k].commands,
        };
        let slot = at + (*head % SLOTS) as usize * 16;
        let parity = if *head & SLOTS == 0 { PARITY } else { 0 };
        *head = head.wrapping_add(1);
        self.region.mem.put64(slot + 8, payload);
        self.region.mem.put64(slot, cmd & !PARITY | parity);
    }

    /// Puts a message into a ring once there is room; not after the I/O kernel hung up.
    ///
    /// # Panics
    /// When there never is.
    pub fn put_waiting(&mut self, k: usize, ring: Ring, cmd: u64, payload: u64) {
        let head = match ring {
            Ring::Packets => self.heads[k].packets,
            Ring::Commands => self.heads[k].commands,
        };
        until("room in a ring", || {
            let taken = self.region.mem.get32(self.wb(k, ring));
            (head.wrapping_sub(taken) < SLOTS || self.is_hung_up()).then_some(())
        });
        self.put(k, ring, cmd, payload);
    }

    /// Sends a command.
    pub fn command(&mut self, k: usize, cmd: u64, payload: u64) {
        self.put_waiting(k, Ring::Commands, cmd, payload);
    }

    /// Returns a tag.
    pub fn give_back(&mut self, tag: u64) {
        self.command(0, u64::from(types::TXCMD_NET_COMPLETE), tag);
    }

    /// Parks kthread `k`.
    pub fn park(&mut self, k: usize, payload: u64) {
        self.command(k, u64::from(types::TXCMD_PARKED), payload);
    }

    /// Lets the I/O kernel send the packet at `offset`.
    pub fn send_at(&mut self, k: usize, offset: u64) {
        self.put_waiting(k, Ring::Packets, u64::from(types::TXPKT_NET_XMIT), offset);
    }

    /// Waits until all packets and commands of kthread `k` were taken, or it was hung up upon.
    ///
    /// # Panics
    /// When they never are.
    pub fn wait_taken(&self, k: usize) {
        let heads = self.heads[k];
        let mem = self.region.mem;
        until("the rings are empty", || {
            let packets = mem.get32(self.wb(k, Ring::Packets)) == heads.packets;
            let commands = mem.get32(self.wb(k, Ring::Commands)) == heads.commands;
            (packets && commands || self.is_hung_up()).then_some(())
        });
    }

    /// Writes a packet's header at `offset`, which may be odd.
    pub fn write_tx_hdr(&self, offset: usize, len: u32, olflags: u32) {
        let mut hdr = Vec::from((offset as u64).to_le_bytes());
        hdr.extend(len.to_le_bytes());
        hdr.extend(olflags.to_le_bytes());
        hdr.extend([0; 2]);
        self.region.mem.put(offset, &hdr);
    }

    /// Writes a packet at `offset`, which may be odd.
    pub fn write_packet(&self, offset: usize, frame: &[u8], olflags: u32) {
        let len = u32::try_from(frame.len()).expect("a frame");
        self.write_tx_hdr(offset, len, olflags);
        self.region.mem.put(offset + TX_HDR, frame);
    }

    /// Sends a frame from the next buffer.
    pub fn send(&mut self, frame: &[u8], olflags: u32) {
        let at = self.buffer(self.next_buffer);
        self.next_buffer += 1;
        self.write_packet(at, frame, olflags);
        self.send_at(0, at as u64);
    }

    /// The next message of kthread `k`, and takes it.
    pub fn take(&mut self, k: usize) -> Option<Received> {
        let message = self.peek(k)?;
        let head = &mut self.heads[k].received;
        *head = head.wrapping_add(1);
        let taken = *head;
        self.region.mem.put32(self.q_ptrs(k), taken);
        Some(message)
    }

    /// The next message of kthread `k`, left where it is.
    pub fn peek(&self, k: usize) -> Option<Received> {
        let head = self.heads[k].received;
        let slot = self.rxq(k) + (head % SLOTS) as usize * 16;
        let cmd = self.region.mem.get64(slot);
        let parity = if head & SLOTS == 0 { PARITY } else { 0 };
        (cmd & PARITY == parity).then(|| Received {
            cmd: cmd & !PARITY,
            payload: self.region.mem.get64(slot + 8),
        })
    }

    /// Waits for a message of that command on kthread 0, and takes those before it.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_for(&mut self, cmd: u32) -> Received {
        until("a message", || {
            self.take(0).filter(|m| m.cmd == u64::from(cmd))
        })
    }

    /// Borrows a packet: asks the peer for its address, and keeps the answer.
    /// Its tag, and the peer's address.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn borrow(&mut self) -> (u64, [u8; 6]) {
        self.send(&wire::arp(self.plan.number, PEER_IP), 0);
        loop {
            let message = self.wait_for(types::RX_NET_RECV);
            let at = usize::try_from(message.payload).expect("64 bits");
            let tag = self.ingress.mem.get64(at);
            let frame = self.ingress.mem.get(at + RX_HDR, 42);
            // An ARP reply, and none of the witness' broadcasts.
            if frame[12..14] == [8, 6] && frame[20..22] == [0, 2] {
                let peer = frame[22..28].try_into().expect("six bytes");
                return (tag, peer);
            }
            self.give_back(tag);
        }
    }

    /// Borrows a broadcast, which others borrow too; its tag.
    ///
    /// # Panics
    /// When none comes.
    pub fn borrow_broadcast(&mut self) -> u64 {
        loop {
            let message = self.wait_for(types::RX_NET_RECV);
            let at = usize::try_from(message.payload).expect("64 bits");
            let tag = self.ingress.mem.get64(at);
            if self.ingress.mem.get(at + RX_HDR, 6) == wire::ALL {
                return tag;
            }
            self.give_back(tag);
        }
    }

    /// From this runtime to the peer, whom it asks for the address.
    ///
    /// # Panics
    /// When the peer does not answer.
    pub fn ends(&mut self) -> wire::Ends {
        let (tag, to_mac) = self.borrow();
        self.give_back(tag);
        wire::Ends {
            from_mac: wire::mac(self.plan.number),
            from: wire::ip(self.plan.number),
            to_mac,
            to: PEER_IP,
        }
    }
}
