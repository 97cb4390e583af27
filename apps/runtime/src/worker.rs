//! What a kthread's thread sends: frames, answers, returned buffers.
//!
//! A worker belongs to the thread, whoever's work it does: frames for another
//! kthread's connection leave by the txpktq of the thread that handled it.

#![allow(unsafe_code, reason = "frames are written into the region")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use calisto::abi::shm::ShmPtr;
use calisto::abi::types::{OLFLAG_IP_CHKSUM, OLFLAG_IPV4, TXPKT_NET_XMIT, tx_net_hdr};
use smoltcp::wire::IpProtocol;

use crate::MAX_UDP;
use crate::egress::Cache;
use crate::error::{RuntimeError, SendError};
use crate::neighbours::Waiting;
use crate::park::Seat;
use crate::process::{End, Process};
use crate::registration::EGRESS_BUF_LEN;
use crate::run::lock;
use crate::stats::Counters;
use crate::wire::{self, Arp, BROADCAST, ETH_LEN, IPV4_LEN, Mac, UDP_LEN};

/// Longest that a kthread believes what it looked up, in nanoseconds.
const LOOKUP_GOOD: u64 = 1_000_000_000;
/// Addresses that a kthread keeps.
const LOOKUPS_MAX: usize = 1024;
/// Where a frame begins in its buffer.
const FRAME_AT: usize = size_of::<tx_net_hdr>();
/// Bytes of the longest frame.
const FRAME_MAX: usize = 1514;
/// Flags of every IPv4 frame: the header checksum is left to the I/O kernel.
const IPV4_FLAGS: u32 = OLFLAG_IPV4 | OLFLAG_IP_CHKSUM;

const _: () = assert!(FRAME_AT + FRAME_MAX <= EGRESS_BUF_LEN);

/// A thread's means of sending.
#[derive(Debug)]
pub(crate) struct Worker {
    process: Arc<Process>,
    index: usize,
    cache: Cache,
    lookups: HashMap<Ipv4Addr, Mac>,
    looked_up: (u32, u64),
    /// Nanoseconds since the start, as of the loop's last look.
    pub(crate) now: u64,
}

/// Where a packet goes next.
#[derive(Debug, Clone, Copy)]
enum Hop {
    Known(Mac),
    Ask(Ipv4Addr),
}

impl Worker {
    /// The means of kthread `index`.
    pub(crate) fn new(process: Arc<Process>, index: usize) -> Worker {
        Worker {
            now: process.now(),
            process,
            index,
            cache: Cache::new(),
            lookups: HashMap::new(),
            looked_up: (0, 0),
        }
    }

    /// Its thread's counts.
    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        &self.process.kthreads[self.index].counters
    }

    /// The process.
    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Returns a received packet's buffer.
    #[inline]
    pub(crate) fn complete(&self, tag: u64) {
        Seat::new(&self.process, self.index).complete(tag);
    }

    /// A packet of ours was sent.
    #[inline]
    pub(crate) fn completed(&mut self, tag: u64) {
        match self.process.egress.arrive(tag) {
            Some(buf) => self.process.egress.give(&mut self.cache, buf),
            None => self.counters().bad_messages.inc(),
        }
    }

    /// Gives back what a parked kthread has no use for.
    pub(crate) fn before_park(&mut self) {
        self.process.egress.empty(&mut self.cache);
    }

    /// A free buffer.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<u32> {
        self.process.egress.take(&mut self.cache)
    }

    /// Gives an unused buffer back.
    pub(crate) fn give(&mut self, buf: u32) {
        self.process.egress.give(&mut self.cache, buf);
    }

    /// The frame in a buffer that [`take`](Self::take) gave.
    #[inline]
    pub(crate) fn frame(&mut self, buf: u32) -> &mut [u8] {
        let at = self.process.layout.egress_buf(buf);
        let at = usize::try_from(at.0).expect("an offset in a mapping") + FRAME_AT;
        let frame = self.process.region.at(at, FRAME_MAX);
        // SAFETY: at() checked the bounds. The buffer is in our hands (Egress), so nobody else
        // of this process has it, and the I/O kernel does not look at it before it is sent.
        unsafe { std::slice::from_raw_parts_mut(frame.as_ptr(), FRAME_MAX) }
    }

    /// Sends a finished frame.
    fn send(&mut self, buf: u32, len: usize, olflags: u32) -> Result<(), SendError> {
        let tag = self.process.egress.depart(&mut self.cache, buf);
        let at = self.process.layout.egress_buf(buf);
        let header = tx_net_hdr {
            completion_data: tag,
            len: u32::try_from(len).expect("a frame's length"),
            olflags,
            pad: 0,
        };
        let written = self.process.region.write(ShmPtr(at.0), header);
        written.expect("egress buffers lie in the region");
        let seat = Seat::new(&self.process, self.index);
        if lock(&seat.queues().txpktq).send(u64::from(TXPKT_NET_XMIT), at.0) {
            self.counters().sent.inc();
            return Ok(());
        }
        self.counters().dropped_queue_full.inc();
        self.process.egress.stay(buf);
        self.give(buf);
        Err(SendError::QueueFull)
    }

    /// True if packets to `dst` have somewhere to go.
    pub(crate) fn has_route(&self, dst: Ipv4Addr) -> bool {
        self.next_hop(dst).is_some()
    }

    /// The neighbour that packets to `dst` are given to; itself, if it is one.
    fn next_hop(&self, dst: Ipv4Addr) -> Option<Ipv4Addr> {
        let config = &self.process.config;
        if dst == config.addr || dst.is_unspecified() || dst.is_multicast() {
            return None;
        }
        if dst.is_broadcast() || self.is_local(dst) {
            return Some(dst);
        }
        config.gateway
    }

    fn mask(&self) -> u32 {
        u32::MAX
            .checked_shl(32 - u32::from(self.process.config.prefix_len))
            .unwrap_or(0)
    }

    fn is_local(&self, dst: Ipv4Addr) -> bool {
        (dst.to_bits() ^ self.process.config.addr.to_bits()) & self.mask() == 0
    }

    /// True for the addresses of all hosts, here or everywhere.
    pub(crate) fn is_broadcast(&self, dst: Ipv4Addr) -> bool {
        let hosts = !self.mask();
        dst.is_broadcast() || (hosts > 1 && self.is_local(dst) && dst.to_bits() & hosts == hosts)
    }

    fn hop(&mut self, dst: Ipv4Addr) -> Option<Hop> {
        if self.is_broadcast(dst) {
            return Some(Hop::Known(BROADCAST));
        }
        let hop = self.next_hop(dst)?;
        let generation = self.process.neighbours.generation();
        let (as_of, at) = self.looked_up;
        if as_of != generation
            || self.now.saturating_sub(at) > LOOKUP_GOOD
            || self.lookups.len() >= LOOKUPS_MAX
        {
            self.lookups.clear();
            self.looked_up = (generation, self.now);
        }
        if let Some(&mac) = self.lookups.get(&hop) {
            return Some(Hop::Known(mac));
        }
        let answer = self.process.neighbours.lookup(hop, self.now);
        if answer.ask {
            self.ask(hop);
        }
        let Some(mac) = answer.mac else {
            return Some(Hop::Ask(hop));
        };
        self.lookups.insert(hop, mac);
        Some(Hop::Known(mac))
    }

    /// Sends the IPv4 packet of `len` bytes that lies in `buf` behind the room for an
    /// Ethernet header, or lets it wait for its neighbour's address.
    pub(crate) fn send_ipv4(
        &mut self,
        buf: u32,
        dst: Ipv4Addr,
        len: usize,
    ) -> Result<(), SendError> {
        match self.hop(dst) {
            Some(Hop::Known(mac)) => self.send_ipv4_to(buf, mac, len),
            Some(Hop::Ask(hop)) => {
                let len = ETH_LEN + len;
                let waiting = Waiting { buf, len };
                match self.process.neighbours.wait(hop, waiting, self.now) {
                    Ok(true) => self.ask(hop),
                    Ok(false) => {}
                    Err(Waiting { buf, .. }) => {
                        self.counters().dropped_unresolved.inc();
                        self.give(buf);
                        return Err(SendError::NoRoute);
                    }
                }
                Ok(())
            }
            None => {
                self.give(buf);
                Err(SendError::NoRoute)
            }
        }
    }

    /// The same to a neighbour whose address is known.
    pub(crate) fn send_ipv4_to(&mut self, buf: u32, mac: Mac, len: usize) -> Result<(), SendError> {
        let ours = self.process.mac;
        wire::put_ipv4_ether(self.frame(buf), mac, ours);
        self.send(buf, ETH_LEN + len, IPV4_FLAGS)
    }

    /// Sends a datagram; `mac`: the way is known.
    pub(crate) fn send_udp(
        &mut self,
        from_port: u16,
        to: SocketAddrV4,
        mac: Option<Mac>,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendError> {
        if len > MAX_UDP {
            return Err(SendError::TooLong);
        }
        if mac.is_none() && !self.has_route(*to.ip()) {
            return Err(SendError::NoRoute);
        }
        let Some(buf) = self.take() else {
            self.counters().dropped_no_buffer.inc();
            return Err(SendError::NoBuffer);
        };
        let from = self.process.config.addr;
        let packet = &mut self.frame(buf)[ETH_LEN..ETH_LEN + IPV4_LEN + UDP_LEN + len];
        wire::put_ipv4(packet, from, *to.ip(), IpProtocol::Udp, UDP_LEN + len);
        wire::put_udp(&mut packet[IPV4_LEN..], from_port, to.port(), len);
        fill(&mut packet[IPV4_LEN + UDP_LEN..]);
        let len = packet.len();
        match mac {
            Some(mac) => self.send_ipv4_to(buf, mac, len),
            None => self.send_ipv4(buf, *to.ip(), len),
        }
    }

    /// Answers a ping, whose ICMP message was checked.
    pub(crate) fn pong(&mut self, to: Ipv4Addr, mac: Mac, ping: &[u8]) {
        let len = IPV4_LEN + ping.len();
        if ETH_LEN + len > FRAME_MAX {
            return;
        }
        let Some(buf) = self.take() else {
            return self.counters().dropped_no_buffer.inc();
        };
        let from = self.process.config.addr;
        let packet = &mut self.frame(buf)[ETH_LEN..ETH_LEN + len];
        wire::put_ipv4(packet, from, to, IpProtocol::Icmp, ping.len());
        packet[IPV4_LEN..].copy_from_slice(ping);
        wire::ping_to_pong(&mut packet[IPV4_LEN..]);
        if self.send_ipv4_to(buf, mac, len).is_ok() {
            self.counters().pings.inc();
        }
    }

    fn send_arp(&mut self, dst: Mac, arp: &Arp) {
        let Some(buf) = self.take() else {
            return self.counters().dropped_no_buffer.inc();
        };
        wire::put_arp(self.frame(buf), dst, arp);
        // One that finds the queue full is counted there, and asked again.
        let _ = self.send(buf, wire::ARP_FRAME_LEN, 0);
    }

    /// Asks everybody for an address.
    fn ask(&mut self, ip: Ipv4Addr) {
        let arp = Arp {
            request: true,
            from_mac: self.process.mac,
            from: self.process.config.addr,
            to_mac: [0; 6],
            to: ip,
        };
        self.send_arp(BROADCAST, &arp);
    }

    /// Asks everybody for our own address, in nobody's name: what they know stays as it is.
    pub(crate) fn probe(&mut self) {
        let arp = Arp {
            request: true,
            from_mac: self.process.mac,
            from: Ipv4Addr::UNSPECIFIED,
            to_mac: [0; 6],
            to: self.process.config.addr,
        };
        self.send_arp(BROADCAST, &arp);
    }

    /// Tells everybody our address: one that we had before may be remembered.
    pub(crate) fn announce(&mut self) {
        self.ask(self.process.config.addr);
    }

    /// Handles an ARP packet.
    pub(crate) fn arp(&mut self, arp: &Arp) {
        let ours = self.process.config.addr;
        // Some networks bring back what we sent to everybody.
        if arp.from_mac == self.process.mac || arp.from_mac[0] & 1 != 0 {
            return;
        }
        if arp.from == ours {
            return self.conflict(arp);
        }
        let is_held = self.process.claim.is_held();
        let is_for_us = arp.request && arp.to == ours;
        if arp.from.is_unspecified() {
            return match is_held {
                true if is_for_us => self.answer(arp),
                // Two want it at the same time: neither has it.
                false if is_for_us => self.conflict(arp),
                _ => {}
            };
        }
        // Also what others tell everybody: it may be a restarted neighbour's new address.
        let waiting = self
            .process
            .neighbours
            .learn(arp.from, arp.from_mac, self.now);
        for Waiting { buf, len } in waiting {
            // Counted where it fails.
            let _ = self.send_ipv4_to(buf, arp.from_mac, len - ETH_LEN);
        }
        if is_held && is_for_us {
            self.answer(arp);
        }
    }

    fn answer(&mut self, question: &Arp) {
        let answer = Arp {
            request: false,
            from_mac: self.process.mac,
            from: self.process.config.addr,
            to_mac: question.from_mac,
            to: question.from,
        };
        self.send_arp(question.from_mac, &answer);
    }

    /// Somebody else has our address. If they had it before us, the runtime ends.
    #[cold]
    fn conflict(&self, arp: &Arp) {
        let claim = &self.process.claim;
        let answers_probe = !arp.request && arp.to.is_unspecified() && claim.awaits(self.now);
        if claim.is_held() && !answers_probe {
            return self.counters().address_conflicts.inc();
        }
        self.process.end(End::Failed(RuntimeError::AddressInUse {
            addr: self.process.config.addr,
            mac: arp.from_mac,
        }));
    }

    /// Asks again for addresses that did not answer, if it is time.
    pub(crate) fn neighbours_due(&mut self) -> bool {
        if self.now < self.process.neighbours.next() {
            return false;
        }
        let due = self.process.neighbours.due(self.now);
        for ip in due.ask {
            self.ask(ip);
        }
        for Waiting { buf, .. } in due.given_up {
            self.counters().dropped_unresolved.inc();
            self.give(buf);
        }
        true
    }
}
