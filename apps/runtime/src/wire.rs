//! Ethernet, ARP, IPv4, ICMP and UDP: reading what came, writing what goes.
//!
//! A parsed header is a copy, checked against the bytes that there are; nothing
//! is read from a frame twice. TCP is smoltcp's.

use std::net::Ipv4Addr;

use smoltcp::wire::IpProtocol;

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// All stations.
pub(crate) const BROADCAST: Mac = [0xff; 6];
/// Bytes of an Ethernet header.
pub(crate) const ETH_LEN: usize = 14;
/// Bytes of an IPv4 header without options.
pub(crate) const IPV4_LEN: usize = 20;
/// Bytes of a UDP header.
pub(crate) const UDP_LEN: usize = 8;
/// Bytes of an ARP frame.
pub(crate) const ARP_FRAME_LEN: usize = ETH_LEN + 28;
/// Bytes of an IPv4 packet in a frame of 1514 bytes.
pub(crate) const MTU: usize = 1500;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const TTL: u8 = 64;

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn ip_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

fn mac_at(bytes: &[u8], at: usize) -> Mac {
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[at..at + 6]);
    mac
}

/// What an Ethernet frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ether<'a> {
    /// An ARP packet.
    Arp(Arp),
    /// An IPv4 packet, unchecked, and who sent the frame.
    Ipv4(Mac, &'a [u8]),
}

/// An ARP packet for IPv4 on Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arp {
    /// A request, or an answer.
    pub(crate) request: bool,
    /// Who sent it.
    pub(crate) from_mac: Mac,
    /// The same by IPv4 address.
    pub(crate) from: Ipv4Addr,
    /// Whom it is about.
    pub(crate) to_mac: Mac,
    /// The same by IPv4 address.
    pub(crate) to: Ipv4Addr,
}

/// Parses a frame; `None`: neither ARP nor IPv4, or cut off.
pub(crate) fn parse_ether(frame: &[u8]) -> Option<Ether<'_>> {
    let (header, rest) = frame.split_at_checked(ETH_LEN)?;
    match be16(header, 12) {
        TYPE_IPV4 => Some(Ether::Ipv4(mac_at(header, 6), rest)),
        TYPE_ARP => parse_arp(rest).map(Ether::Arp),
        _ => None,
    }
}

fn parse_arp(p: &[u8]) -> Option<Arp> {
    let p = p.get(..28)?;
    let ethernet_ipv4 = be16(p, 0) == 1 && be16(p, 2) == TYPE_IPV4 && p[4] == 6 && p[5] == 4;
    let op = be16(p, 6);
    if !ethernet_ipv4 || !(op == ARP_REQUEST || op == ARP_REPLY) {
        return None;
    }
    Some(Arp {
        request: op == ARP_REQUEST,
        from_mac: mac_at(p, 8),
        from: ip_at(p, 14),
        to_mac: mac_at(p, 18),
        to: ip_at(p, 24),
    })
}

/// Writes an ARP frame of [`ARP_FRAME_LEN`] bytes to `dst`.
pub(crate) fn put_arp(frame: &mut [u8], dst: Mac, arp: &Arp) {
    put_ether(frame, dst, arp.from_mac, TYPE_ARP);
    let p = &mut frame[ETH_LEN..ARP_FRAME_LEN];
    let op = if arp.request { ARP_REQUEST } else { ARP_REPLY };
    p[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 0]);
    p[6..8].copy_from_slice(&op.to_be_bytes());
    p[8..14].copy_from_slice(&arp.from_mac);
    p[14..18].copy_from_slice(&arp.from.octets());
    p[18..24].copy_from_slice(&arp.to_mac);
    p[24..28].copy_from_slice(&arp.to.octets());
}

fn put_ether(frame: &mut [u8], dst: Mac, src: Mac, kind: u16) {
    frame[..6].copy_from_slice(&dst);
    frame[6..12].copy_from_slice(&src);
    frame[12..14].copy_from_slice(&kind.to_be_bytes());
}

/// Writes the Ethernet header of an IPv4 packet.
pub(crate) fn put_ipv4_ether(frame: &mut [u8], dst: Mac, src: Mac) {
    put_ether(frame, dst, src, TYPE_IPV4);
}

/// The parts of an IPv4 packet, in bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ipv4<'a> {
    /// Where from.
    pub(crate) src: Ipv4Addr,
    /// Where to.
    pub(crate) dst: Ipv4Addr,
    /// What is in it.
    pub(crate) protocol: IpProtocol,
    /// It is a piece of a larger packet.
    pub(crate) fragment: bool,
    /// Header and payload, without the frame's padding.
    pub(crate) packet: &'a [u8],
    /// The payload.
    pub(crate) payload: &'a [u8],
}

/// Parses an IPv4 packet; `None` when it is broken. `verified`: the header's
/// checksum was verified by others.
pub(crate) fn parse_ipv4(bytes: &[u8], verified: bool) -> Option<Ipv4<'_>> {
    let fixed = bytes.get(..IPV4_LEN)?;
    let header_len = usize::from(fixed[0] & 0xf) * 4;
    let packet = bytes.get(..usize::from(be16(fixed, 2)))?;
    if fixed[0] >> 4 != 4 || header_len < IPV4_LEN {
        return None;
    }
    let (header, payload) = packet.split_at_checked(header_len)?;
    if !verified && checksum(0, header) != 0 {
        return None;
    }
    Some(Ipv4 {
        src: ip_at(fixed, 12),
        dst: ip_at(fixed, 16),
        protocol: IpProtocol::from(fixed[9]),
        // More fragments, or an offset.
        fragment: be16(fixed, 6) & 0x3fff != 0,
        packet,
        payload,
    })
}

/// Writes an IPv4 header in front of `len` bytes of payload. Its checksum is left
/// zero, as the I/O kernel wants it.
pub(crate) fn put_ipv4(
    p: &mut [u8],
    src: Ipv4Addr,
    dst: Ipv4Addr,
    protocol: IpProtocol,
    len: usize,
) {
    let total = u16::try_from(IPV4_LEN + len).expect("a packet fits a frame");
    p[..4].copy_from_slice(&[0x45, 0, 0, 0]);
    p[2..4].copy_from_slice(&total.to_be_bytes());
    // No identification, since never fragmented: "do not fragment".
    p[4..12].copy_from_slice(&[0, 0, 0x40, 0, TTL, u8::from(protocol), 0, 0]);
    p[12..16].copy_from_slice(&src.octets());
    p[16..20].copy_from_slice(&dst.octets());
}

/// A UDP datagram's ports and payload; `None` when it is broken, or its checksum is wrong.
pub(crate) fn parse_udp<'a>(ip: &Ipv4<'a>) -> Option<(u16, u16, &'a [u8])> {
    let header = ip.payload.get(..UDP_LEN)?;
    let datagram = ip.payload.get(..usize::from(be16(header, 4)))?;
    let payload = datagram.get(UDP_LEN..)?;
    // Zero: the sender made none.
    if be16(header, 6) != 0 {
        let pseudo = pseudo_sum(ip.src, ip.dst, IpProtocol::Udp, datagram.len());
        if checksum(pseudo, datagram) != 0 {
            return None;
        }
    }
    Some((be16(header, 0), be16(header, 2), payload))
}

/// Writes a UDP header without a checksum, which IPv4 allows.
pub(crate) fn put_udp(p: &mut [u8], from: u16, to: u16, payload_len: usize) {
    let len = u16::try_from(UDP_LEN + payload_len).expect("a datagram fits a frame");
    p[..2].copy_from_slice(&from.to_be_bytes());
    p[2..4].copy_from_slice(&to.to_be_bytes());
    p[4..6].copy_from_slice(&len.to_be_bytes());
    p[6..8].copy_from_slice(&[0, 0]);
}

/// True for an ICMP echo request with a right checksum.
pub(crate) fn is_ping(payload: &[u8]) -> bool {
    payload.len() >= 8 && payload[..2] == [8, 0] && checksum(0, payload) == 0
}

/// Turns the copy of a ping into its answer.
pub(crate) fn ping_to_pong(p: &mut [u8]) {
    p[0] = 0;
    p[2..4].copy_from_slice(&[0, 0]);
    let sum = checksum(0, p);
    p[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// TCP ports and flags, for finding a segment's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcpPeek {
    pub(crate) src: u16,
    pub(crate) dst: u16,
    pub(crate) syn: bool,
    pub(crate) ack: bool,
}

/// Looks at a TCP segment; `None` when it is cut off.
pub(crate) fn peek_tcp(payload: &[u8]) -> Option<TcpPeek> {
    let header = payload.get(..20)?;
    Some(TcpPeek {
        src: be16(header, 0),
        dst: be16(header, 2),
        syn: header[13] & 0x02 != 0,
        ack: header[13] & 0x10 != 0,
    })
}

/// The sum that TCP and UDP checksums begin with.
fn pseudo_sum(src: Ipv4Addr, dst: Ipv4Addr, protocol: IpProtocol, len: usize) -> u64 {
    let halves = |a: Ipv4Addr| u64::from(a.to_bits() >> 16) + u64::from(a.to_bits() & 0xffff);
    halves(src) + halves(dst) + u64::from(u8::from(protocol)) + len as u64
}

/// The Internet checksum of `bytes`, after `sum`; 0 over bytes with a right one in them.
fn checksum(mut sum: u64, bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_be_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum += u64::from(u32::from_be_bytes(last));
    while sum >> 16 != 0 {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    #[allow(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    let folded = sum as u16;
    !folded
}

#[cfg(test)]
mod tests;
