//! What software finds out about a received frame: its flow's hash, and whether its
//! IPv4 header is intact.
//!
//! Received frames lie in memory that every runtime may write. What is decided from
//! a frame is therefore decided from values that were read once: from a private copy
//! of its first bytes ([`Headers`]), or, for the plain IPv4 packets that are nearly
//! all there is, from its header's words held in registers ([`Found::at`]). The copy
//! costs several times as much: words that lie across two of its 16-byte stores
//! cannot be read before these have reached the cache.

#![allow(unsafe_code, reason = "copies bytes out of shared memory")]

use std::ptr::NonNull;

use super::checksum::{header_sum_good, ipv4_header_good};
use super::hash::{hash_network, hash_words};

/// Most bytes that the headers of interest take: Ethernet with two VLAN tags
/// (22), the longest IPv4 header (60), two ports (4); rounded up.
pub const HEADERS_MAX: usize = 96;
/// Bytes that hold all of it unless an IPv4 header has many options, or an IPv6
/// header is behind two tags: one cache line, so that the second line of a short
/// frame is not fetched in vain.
const FIRST_LINE: usize = 64;

const ETHER_HEADER: usize = 14;
const VLAN_TAG: usize = 4;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
/// Bytes of Ethernet and IPv4 headers without options, and of two ports.
const PLAIN: usize = ETHER_HEADER + IPV4_HEADER + 4;
/// TCP's number in an IP header.
pub const PROTO_TCP: u8 = 6;
/// UDP's number in an IP header.
pub const PROTO_UDP: u8 = 17;
/// The bits of the IPv4 fragment field that a whole datagram has clear: more
/// fragments, and the offset.
pub const FRAGMENT: u16 = 0x3fff;
/// Shortest IPv4 header, bytes.
pub const IPV4_HEADER: usize = 20;
/// IPv6 header without extensions, bytes.
pub const IPV6_HEADER: usize = 40;

/// Where a frame's network header lies. Its fixed part is inside the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// IPv4. Options may reach beyond the frame: `at + len` is unchecked.
    Ipv4 {
        /// Offset of the header in the frame.
        at: usize,
        /// Bytes of the header with options, 20 to 60.
        len: usize,
    },
    /// IPv6.
    Ipv6 {
        /// Offset of the header in the frame.
        at: usize,
    },
    /// Anything else, or cut short.
    Other,
}

impl Network {
    /// Finds the network header, behind up to two VLAN tags.
    #[inline]
    pub fn of(frame: &[u8]) -> Network {
        let mut at = ETHER_HEADER;
        let mut ethertype = be16(frame, 12);
        for _ in 0..2 {
            if !matches!(ethertype, Some(ETHERTYPE_VLAN | ETHERTYPE_QINQ)) {
                break;
            }
            ethertype = be16(frame, at + 2);
            at += VLAN_TAG;
        }
        match ethertype {
            Some(ETHERTYPE_IPV4) if frame.len() >= at + IPV4_HEADER => {
                let len = usize::from(frame[at] & 0xf) * 4;
                if frame[at] >> 4 == 4 && len >= IPV4_HEADER {
                    return Network::Ipv4 { at, len };
                }
                Network::Other
            }
            Some(ETHERTYPE_IPV6) if frame.len() >= at + IPV6_HEADER && frame[at] >> 4 == 6 => {
                Network::Ipv6 { at }
            }
            _ => Network::Other,
        }
    }
}

/// The big-endian 16-bit number at `at`, if it is inside.
#[inline]
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

/// What was found out about a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The flow's hash, as by [`hash_frame`](super::hash::hash_frame).
    pub hash: u32,
    /// There is a whole IPv4 header, and its checksum is right.
    pub ip_csum_good: bool,
}

impl Found {
    /// Looks at the frame of `len` bytes at `data`, and at no byte of it twice.
    ///
    /// # Safety
    /// As for [`Headers::read`].
    #[inline]
    pub unsafe fn at(data: NonNull<u8>, len: usize) -> Found {
        if len >= PLAIN {
            // SAFETY: 12 + 2 and 14 + 24 bytes are within the 96 that the caller promises.
            let plain = unsafe {
                (word::<u16>(data, 12) == ETHERTYPE_IPV4.to_be())
                    .then(|| [14, 18, 22, 26, 30, 34].map(|at| word::<u32>(data, at)))
            };
            if let Some(plain) = plain
                && let Some(found) = Found::plain(plain)
            {
                return found;
            }
        }
        // SAFETY: the caller's promise. The words read above are forgotten.
        let headers = unsafe { Headers::read(data, len) };
        Found {
            hash: hash_network(headers.bytes(), headers.network()),
            ip_csum_good: ipv4_header_good(headers.bytes(), headers.network()),
        }
    }

    /// From an IPv4 header without options and the ports behind it, if it is TCP or
    /// UDP and no fragment.
    #[inline]
    fn plain(words: [u32; 6]) -> Option<Found> {
        let [first, fragment, protocol, ..] = words.map(u32::to_ne_bytes);
        let unfragmented = u16::from_be_bytes([fragment[2], fragment[3]]) & FRAGMENT == 0;
        if first[0] != 0x45 || !unfragmented || !matches!(protocol[1], PROTO_TCP | PROTO_UDP) {
            return None;
        }
        let sum = words[..5].iter().map(|word| u64::from(*word)).sum();
        Some(Found {
            hash: hash_words([words[3], words[4], words[5]]),
            ip_csum_good: header_sum_good(sum),
        })
    }
}

/// One read of a number at any alignment.
///
/// # Safety
/// Its bytes are mapped; `T` is an integer.
#[inline]
unsafe fn word<T: Copy>(data: NonNull<u8>, at: usize) -> T {
    #[repr(C, packed)]
    struct Unaligned<T>(T);
    // SAFETY: the caller's promise; volatile: read once, whoever writes meanwhile.
    let Unaligned(value) = unsafe { data.add(at).cast::<Unaligned<T>>().as_ptr().read_volatile() };
    value
}

/// A private copy of a frame's first bytes.
#[derive(Debug)]
#[repr(align(64))]
pub struct Headers {
    bytes: [u8; HEADERS_MAX],
    len: usize,
    network: Network,
}

impl Headers {
    /// Copies what is of interest of the frame of `len` bytes at `data`.
    ///
    /// # Safety
    /// [`HEADERS_MAX`] bytes from `data` are mapped, whatever `len` is. Others may
    /// write them meanwhile: any mixture of old and new is as good as any frame.
    #[inline]
    pub unsafe fn read(data: NonNull<u8>, len: usize) -> Headers {
        let mut headers = Headers {
            bytes: [0; HEADERS_MAX],
            len: len.min(FIRST_LINE),
            network: Network::Other,
        };
        // SAFETY: the caller's promise covers 96 bytes; a private array cannot overlap.
        unsafe {
            data.as_ptr()
                .copy_to_nonoverlapping(headers.bytes.as_mut_ptr(), FIRST_LINE);
        }
        headers.network = Network::of(headers.bytes());
        let ports = match headers.network {
            Network::Ipv4 { at, len } => at + len,
            Network::Ipv6 { at } => at + IPV6_HEADER,
            Network::Other => 0,
        };
        if ports + 4 > FIRST_LINE && len > FIRST_LINE {
            // SAFETY: the same promise.
            unsafe { headers.read_long(data, len) };
        }
        headers
    }

    /// Copies again, all of it, for headers that end late.
    ///
    /// # Safety
    /// As for [`read`](Self::read).
    #[cold]
    unsafe fn read_long(&mut self, data: NonNull<u8>, len: usize) {
        self.len = len.min(HEADERS_MAX);
        // SAFETY: the caller's promise covers 96 bytes; a private array cannot overlap.
        unsafe {
            data.as_ptr()
                .copy_to_nonoverlapping(self.bytes.as_mut_ptr(), HEADERS_MAX);
        }
        // The first copy is forgotten: what was true of it may not be of this one.
        self.network = Network::of(&self.bytes[..self.len]);
    }

    /// The copied bytes that belong to the frame.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Where the network header lies in [`bytes`](Self::bytes).
    #[inline]
    pub fn network(&self) -> Network {
        self.network
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(frame: &[u8]) -> Headers {
        let mut room = frame.to_vec();
        room.resize(frame.len().max(HEADERS_MAX), 0xee);
        // SAFETY: at least 96 bytes are there.
        unsafe { Headers::read(NonNull::new(room.as_mut_ptr()).unwrap(), frame.len()) }
    }

    /// An Ethernet frame of `len` bytes with these tags and this first byte of a header.
    fn frame(tags: &[u16], ethertype: u16, version: u8, len: usize) -> Vec<u8> {
        let mut f = vec![2; 12];
        for tag in tags {
            f.extend(tag.to_be_bytes());
            f.extend([0, 7]);
        }
        f.extend(ethertype.to_be_bytes());
        f.push(version);
        f.resize(len, 0);
        f
    }

    #[test]
    fn network_header_is_found_behind_vlan_tags() {
        let ipv4 = |at| Network::Ipv4 { at, len: 20 };
        assert_eq!(Network::of(&frame(&[], 0x800, 0x45, 60)), ipv4(14));
        assert_eq!(Network::of(&frame(&[0x8100], 0x800, 0x45, 60)), ipv4(18));
        assert_eq!(
            Network::of(&frame(&[0x88a8, 0x8100], 0x800, 0x45, 60)),
            ipv4(22)
        );
        assert_eq!(
            Network::of(&frame(&[0x8100], 0x86dd, 0x60, 60)),
            Network::Ipv6 { at: 18 }
        );
        let three = frame(&[0x8100, 0x8100, 0x8100], 0x800, 0x45, 60);
        assert_eq!(Network::of(&three), Network::Other);
    }

    #[test]
    fn cut_or_mislabelled_headers_are_other() {
        assert_eq!(Network::of(&[]), Network::Other);
        // 14 + 20 bytes are needed, one is missing.
        assert_eq!(Network::of(&frame(&[], 0x800, 0x45, 33)), Network::Other);
        assert_eq!(Network::of(&frame(&[], 0x86dd, 0x60, 53)), Network::Other);
        // Version 6 in an IPv4 frame; a header of 16 bytes.
        assert_eq!(Network::of(&frame(&[], 0x800, 0x65, 60)), Network::Other);
        assert_eq!(Network::of(&frame(&[], 0x800, 0x44, 60)), Network::Other);
    }

    #[test]
    fn a_long_ipv4_header_is_copied_whole() {
        // 14 + 60 bytes of header and 4 of ports: 78.
        let mut f = frame(&[], 0x800, 0x4f, 100);
        f[77] = 9;
        let h = read(&f);
        assert_eq!(h.bytes().len(), 96);
        assert_eq!(h.bytes()[77], 9);
        // 14 + 44 + 4 is 62: the first line is enough.
        assert_eq!(read(&frame(&[], 0x800, 0x4b, 100)).bytes().len(), 64);
    }

    /// What both ways must agree on.
    fn found(frame: &[u8]) -> Found {
        let mut room = frame.to_vec();
        room.resize(frame.len().max(HEADERS_MAX), 0xee);
        // SAFETY: at least 96 bytes are there.
        unsafe { Found::at(NonNull::new(room.as_mut_ptr()).unwrap(), frame.len()) }
    }

    /// 22 + 40 bytes of headers: the ports are cut off after the first 64.
    #[test]
    fn ports_behind_two_tags_and_an_ipv6_header_count() {
        let mut f = frame(&[0x88a8, 0x8100], 0x86dd, 0x60, 80);
        f[28] = PROTO_UDP;
        f[62..66].copy_from_slice(&[0x10, 1, 0x20, 2]);
        let with_ports = crate::port::hash::hash_frame(&f);
        assert_eq!(found(&f).hash, with_ports);
        f[62..66].fill(0);
        assert_ne!(crate::port::hash::hash_frame(&f), with_ports);
    }

    proptest! {
        #[test]
        fn the_short_way_finds_what_the_copy_finds(
            mut f in proptest::collection::vec(any::<u8>(), 34..120),
            plain: bool, fragment in 0..4_u8, proto in prop_oneof![Just(6_u8), Just(17), Just(1)], fill: bool,
        ) {
            f[12..14].copy_from_slice(&[8, 0]);
            f[14] = if plain { 0x45 } else { 0x46 };
            f[20..22].copy_from_slice(&[fragment << 5, 0]);
            f[23] = proto;
            if fill {
                super::super::checksum::finish(&mut f, super::super::TxOffloads::IP_CSUM);
            }
            let network = Network::of(&f);
            prop_assert_eq!(found(&f), Found {
                hash: super::super::hash::hash_frame(&f),
                ip_csum_good: ipv4_header_good(&f, network),
            });
            prop_assert!(!fill || found(&f).ip_csum_good || f.len() < 38);
        }

        #[test]
        fn the_copy_is_a_prefix_of_the_frame(f in proptest::collection::vec(any::<u8>(), 0..200)) {
            let h = read(&f);
            prop_assert!(f.starts_with(h.bytes()));
        }
    }
}
