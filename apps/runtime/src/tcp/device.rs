//! smoltcp's view of a worker: one packet in, packets out.
//!
//! Packets are IPv4 packets without Ethernet header: neighbours are ours. A received
//! one is read in its ingress buffer, a sent one written in its egress buffer.

use std::net::Ipv4Addr;

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::wire::{ETH_LEN, IPV4_LEN, MTU};
use crate::worker::Worker;

/// A worker, and at most one packet to be received.
#[derive(Debug)]
pub(crate) struct Device<'a> {
    worker: &'a mut Worker,
    packet: Option<&'a [u8]>,
    /// A packet could not be sent for want of a buffer.
    pub(crate) exhausted: bool,
}

impl<'a> Device<'a> {
    /// For sending.
    pub(crate) fn new(worker: &'a mut Worker) -> Device<'a> {
        Device {
            worker,
            packet: None,
            exhausted: false,
        }
    }

    /// For receiving a packet.
    pub(crate) fn with(worker: &'a mut Worker, packet: &'a [u8]) -> Device<'a> {
        Device {
            packet: Some(packet),
            ..Device::new(worker)
        }
    }
}

/// What smoltcp need not do: the IPv4 header's checksum was verified, and is filled in by the I/O
/// kernel. TCP's are made here, by the many, and not by the one dispatcher.
pub(crate) fn capabilities() -> DeviceCapabilities {
    let mut c = DeviceCapabilities::default();
    c.medium = Medium::Ip;
    c.max_transmission_unit = MTU;
    c.checksum.ipv4 = Checksum::None;
    c.checksum.tcp = Checksum::Both;
    c
}

#[derive(Debug)]
pub(crate) struct RxToken<'a>(&'a [u8]);

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

#[derive(Debug)]
pub(crate) struct TxToken<'a> {
    worker: &'a mut Worker,
    buf: Option<u32>,
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, len: usize, f: F) -> R {
        let Some(buf) = self.buf.take() else {
            // An answer for which there was no buffer is lost like any other packet.
            return f(&mut vec![0; len]);
        };
        let packet = &mut self.worker.frame(buf)[ETH_LEN..ETH_LEN + len];
        let result = f(packet);
        let mut dst = [0; 4];
        dst.copy_from_slice(&packet[IPV4_LEN - 4..IPV4_LEN]);
        // What is not sent is counted there, and sent again by TCP.
        let _ = self.worker.send_ipv4(buf, Ipv4Addr::from(dst), len);
        result
    }
}

impl Drop for TxToken<'_> {
    fn drop(&mut self) {
        if let Some(buf) = self.buf {
            self.worker.give(buf);
        }
    }
}

impl phy::Device for Device<'_> {
    type RxToken<'b>
        = RxToken<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = TxToken<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(RxToken<'_>, TxToken<'_>)> {
        let packet = self.packet.take()?;
        let buf = self.worker.take();
        let worker = &mut *self.worker;
        Some((RxToken(packet), TxToken { worker, buf }))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_>> {
        let buf = self.worker.take();
        self.exhausted |= buf.is_none();
        buf?;
        let worker = &mut *self.worker;
        Some(TxToken { worker, buf })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}
