//! What comes from the I/O kernel: messages, and the packets that they name.

use std::net::SocketAddrV4;

use calisto::abi::lrpc::Msg;
use calisto::abi::types::{RX_JOIN, RX_NET_COMPLETE, RX_NET_RECV};
use smoltcp::wire::IpProtocol;

use crate::app::{App, Datagram};
use crate::ingress::{self, Frame};
use crate::run::{Runner, lock};
use crate::wire::{self, Ether, Ipv4, Mac};

impl<A: App> Runner<'_, A> {
    /// Takes up to `max` messages off kthread `from`'s rxq; returns how many. Packets
    /// are handled as this thread's own, with its `local`.
    pub(crate) fn take(&mut self, from: usize, local: &mut A::Local, max: usize) -> usize {
        let own = &self.process.kthreads[self.index];
        for taken in 0..max {
            if own.must_leave() {
                return taken;
            }
            let Some(message) = self.receive(from) else {
                return taken;
            };
            self.message(message, local);
        }
        max
    }

    /// One message, for one only: if this kthread is parked while it handles it, the rest
    /// is there for others. The I/O kernel is told at once, so that it sees in time what waits.
    fn receive(&self, from: usize) -> Option<Msg> {
        let mut rxq = lock(&self.process.kthreads[from].rxq);
        let message = rxq.recv();
        rxq.write_back();
        message
    }

    fn message(&mut self, message: Msg, local: &mut A::Local) {
        const RECV: u64 = RX_NET_RECV as u64;
        const COMPLETE: u64 = RX_NET_COMPLETE as u64;
        const JOIN: u64 = RX_JOIN as u64;
        match message.cmd {
            RECV => self.received(message.payload, local),
            COMPLETE => self.worker.completed(message.payload),
            JOIN => self.join(message.payload, local),
            _ => self.worker.counters().bad_messages.inc(),
        }
    }

    fn received(&mut self, payload: u64, local: &mut A::Local) {
        let process = self.process;
        match ingress::frame(&process.ingress, payload) {
            Ok(frame) => {
                self.worker.counters().received.inc();
                self.frame(&frame, local);
                self.worker.complete(frame.tag);
            }
            Err(tag) => {
                self.worker.counters().bad_messages.inc();
                if let Some(tag) = tag {
                    self.worker.complete(tag);
                }
            }
        }
    }

    fn frame(&mut self, frame: &Frame<'_>, local: &mut A::Local) {
        match wire::parse_ether(frame.bytes) {
            Some(Ether::Arp(arp)) => self.worker.arp(&arp),
            // The address may be somebody else's, and nothing is bound yet.
            Some(Ether::Ipv4(..)) if !self.process.claim.is_held() => {
                self.worker.counters().dropped_no_port.inc();
            }
            Some(Ether::Ipv4(from, packet)) => match wire::parse_ipv4(packet, frame.verified) {
                Some(ip) => self.ipv4(from, &ip, frame.rss_hash, local),
                None => self.worker.counters().dropped_malformed.inc(),
            },
            None => self.worker.counters().dropped_malformed.inc(),
        }
    }

    fn ipv4(&mut self, mac: Mac, ip: &Ipv4<'_>, rss_hash: u32, local: &mut A::Local) {
        let ours = self.process.config.addr;
        let to_all = self.worker.is_broadcast(ip.dst);
        if (ip.dst != ours && !to_all) || ip.src == ours || mac[0] & 1 != 0 {
            return self.worker.counters().dropped_malformed.inc();
        }
        if ip.fragment {
            return self.worker.counters().dropped_fragments.inc();
        }
        match ip.protocol {
            IpProtocol::Udp => self.udp(mac, ip, rss_hash, local),
            IpProtocol::Tcp if !to_all => self.tcp(ip, local),
            IpProtocol::Icmp if !to_all && wire::is_ping(ip.payload) => {
                self.worker.pong(ip.src, mac, ip.payload);
            }
            _ => self.worker.counters().dropped_malformed.inc(),
        }
    }

    fn udp(&mut self, mac: Mac, ip: &Ipv4<'_>, rss_hash: u32, local: &mut A::Local) {
        let Some((from, to, payload)) = wire::parse_udp(ip) else {
            return self.worker.counters().dropped_malformed.inc();
        };
        if !self.process.udp_ports.has(to) {
            return self.worker.counters().dropped_no_port.inc();
        }
        self.worker.counters().datagrams.inc();
        let datagram = Datagram {
            from: SocketAddrV4::new(ip.src, from),
            to: SocketAddrV4::new(ip.dst, to),
            payload,
            rss_hash,
            from_mac: mac,
        };
        self.call(self.index, |app, net| app.datagram(local, net, &datagram));
    }
}
