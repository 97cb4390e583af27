//! The RSS hash in software, for ports whose device gives none.
//!
//! It is the Toeplitz hash with the key that Microsoft published, so that a
//! frame's value is the one that a NIC with that key would give:
//!
//! | frame | hashed bytes |
//! |---|---|
//! | IPv4 or IPv6, TCP or UDP | source, destination, source port, destination port |
//! | IPv4 fragments (the first one too), other protocols, cut off before the ports | source, destination |
//! | neither IPv4 nor IPv6 | none: 0 |
//!
//! Fragments leave the ports out, also where a fragment has them, so that all
//! of a datagram goes one way. So do IPv6 extension headers, which NICs do not
//! follow either. A VLAN tag does not change the hash.
//!
//! The hash is linear, so each byte of the input contributes a value that depends
//! only on the byte and its place: one table lookup and one exclusive or per byte.
//!
//! *Source:* Microsoft, "Verifying the RSS hash calculation"; DPDK: `rte_softrss`.

use std::net::{IpAddr, SocketAddr};

use super::headers::{FRAGMENT, Network, PROTO_TCP, PROTO_UDP, be16};

/// The published key.
pub const RSS_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Longest input: two IPv6 addresses and two ports.
const INPUT_MAX: usize = 36;

/// What each byte value contributes at each place of the input.
static CONTRIBUTION: [[u32; 256]; INPUT_MAX] = contributions();

const fn contributions() -> [[u32; 256]; INPUT_MAX] {
    let mut table = [[0; 256]; INPUT_MAX];
    let mut place = 0;
    while place < INPUT_MAX {
        // Bit n of the input, counted from the first, adds the 32 key bits from bit n on.
        let mut window: u64 = 0;
        let mut i = 0;
        while i < 5 {
            window = window << 8 | RSS_KEY[place + i] as u64;
            i += 1;
        }
        let mut value = 1;
        while value < 256_usize {
            let bit = value.trailing_zeros();
            // 40 key bits from the byte's first bit on; its lowest bit is 7 bits further.
            #[allow(
                clippy::cast_possible_truncation,
                reason = "the low 32 bits are the window"
            )]
            let lowest = (window >> (bit + 1)) as u32;
            table[place][value] = table[place][value & (value - 1)] ^ lowest;
            value += 1;
        }
        place += 1;
    }
    table
}

/// The Toeplitz hash of `N` bytes.
#[inline]
fn toeplitz<const N: usize>(input: &[u8; N]) -> u32 {
    const { assert!(N <= INPUT_MAX) };
    fold(input)
}

/// The Toeplitz hash of at most [`INPUT_MAX`] bytes.
#[inline]
fn fold(input: &[u8]) -> u32 {
    input
        .iter()
        .zip(&CONTRIBUTION)
        .fold(0, |hash, (&byte, table)| hash ^ table[usize::from(byte)])
}

/// The hash of source, destination and ports of an IPv4 packet, as they lie in memory.
#[inline]
pub fn hash_words(words: [u32; 3]) -> u32 {
    let mut input = [0; 12];
    for (bytes, word) in input.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    toeplitz(&input)
}

/// The hash of a frame, of which the caller alone has the bytes.
///
/// Only the first [`HEADERS_MAX`](super::headers::HEADERS_MAX) bytes matter.
#[inline]
pub fn hash_frame(frame: &[u8]) -> u32 {
    hash_network(frame, Network::of(frame))
}

/// The hash of a frame whose network header was found before.
#[inline]
pub fn hash_network(frame: &[u8], network: Network) -> u32 {
    match network {
        Network::Ipv4 { at, len } => {
            let flow = matches!(frame[at + 9], PROTO_TCP | PROTO_UDP)
                && be16(frame, at + 6).is_some_and(|field| field & FRAGMENT == 0);
            tuple::<8, 12>(frame, at + 12, at + len, flow)
        }
        Network::Ipv6 { at } => {
            let flow = matches!(frame[at + 6], PROTO_TCP | PROTO_UDP);
            tuple::<32, 36>(frame, at + 8, at + 40, flow)
        }
        Network::Other => 0,
    }
}

/// Hashes `ADDRS` bytes at `addrs`, and the ports at `ports` if asked and there.
#[inline]
fn tuple<const ADDRS: usize, const ALL: usize>(
    frame: &[u8],
    addrs: usize,
    ports: usize,
    flow: bool,
) -> u32 {
    let addrs = &frame[addrs..addrs + ADDRS];
    match frame.get(ports..ports + 4) {
        Some(ports) if flow => {
            let mut input = [0; ALL];
            input[..ADDRS].copy_from_slice(addrs);
            input[ADDRS..].copy_from_slice(ports);
            toeplitz(&input)
        }
        _ => {
            let mut input = [0; ADDRS];
            input.copy_from_slice(addrs);
            toeplitz(&input)
        }
    }
}

/// The hash of the TCP and UDP packets from `src` to `dst` that are no fragments;
/// `None` if one end speaks IPv4 and the other IPv6.
pub fn hash_flow(src: SocketAddr, dst: SocketAddr) -> Option<u32> {
    let mut input = Vec::with_capacity(INPUT_MAX);
    match (src.ip(), dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => input.extend([src.octets(), dst.octets()].concat()),
        (IpAddr::V6(src), IpAddr::V6(dst)) => input.extend([src.octets(), dst.octets()].concat()),
        _ => return None,
    }
    input.extend(src.port().to_be_bytes());
    input.extend(dst.port().to_be_bytes());
    Some(fold(&input))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    /// A frame from `src` to `dst` with this protocol and these ports.
    fn frame(src: IpAddr, dst: IpAddr, proto: u8, sport: u16, dport: u16) -> Vec<u8> {
        let mut f = vec![2; 12];
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                f.extend([8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, proto, 0, 0]);
                f.extend(src.octets());
                f.extend(dst.octets());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                f.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, proto, 64]);
                f.extend(src.octets());
                f.extend(dst.octets());
            }
            _ => unreachable!("both ends speak the same protocol"),
        }
        f.extend(sport.to_be_bytes());
        f.extend(dport.to_be_bytes());
        f.resize(f.len() + 16, 0);
        f
    }

    fn v4(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16, proto: u8) -> u32 {
        let (src, dst) = (Ipv4Addr::from(src), Ipv4Addr::from(dst));
        hash_frame(&frame(src.into(), dst.into(), proto, sport, dport))
    }

    /// Published: destination, source, hash of addresses alone, hash with ports.
    #[test]
    fn published_ipv4_values_come_out() {
        let table = [
            (
                [161, 142, 100, 80],
                1766,
                [66, 9, 149, 187],
                2794,
                0x323e_8fc2,
                0x51cc_c178,
            ),
            (
                [65, 69, 140, 83],
                4739,
                [199, 92, 111, 2],
                14230,
                0xd718_262a,
                0xc626_b0ea,
            ),
            (
                [12, 22, 207, 184],
                38024,
                [24, 19, 198, 95],
                12898,
                0xd2d0_a5de,
                0x5c2b_394a,
            ),
            (
                [209, 142, 163, 6],
                2217,
                [38, 27, 205, 30],
                48228,
                0x8298_9176,
                0xafc7_327f,
            ),
            (
                [202, 188, 127, 2],
                1303,
                [153, 39, 163, 191],
                44251,
                0x5d18_09c5,
                0x10e8_28a2,
            ),
        ];
        for (dst, dport, src, sport, addrs, ports) in table {
            assert_eq!(v4(src, sport, dst, dport, 6), ports, "TCP");
            assert_eq!(v4(src, sport, dst, dport, 17), ports, "UDP");
            assert_eq!(v4(src, sport, dst, dport, 1), addrs, "ICMP");
            let flow = hash_flow((src, sport).into(), (dst, dport).into());
            assert_eq!(flow, Some(ports));
        }
    }

    #[test]
    fn published_ipv6_values_come_out() {
        let table = [
            (
                "3ffe:2501:200:3::1",
                1766,
                "3ffe:2501:200:1fff::7",
                2794,
                0x2cc1_8cd5,
                0x4020_7d3d,
            ),
            (
                "ff02::1",
                4739,
                "3ffe:501:8::260:97ff:fe40:efab",
                14230,
                0x0f0c_461c,
                0xdde5_1bbf,
            ),
            (
                "fe80::200:f8ff:fe21:67cf",
                38024,
                "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
                44251,
                0x4b61_e985,
                0x02d1_feef,
            ),
        ];
        for (dst, dport, src, sport, addrs, ports) in table {
            let dst: IpAddr = dst.parse::<Ipv6Addr>().unwrap().into();
            let src: IpAddr = src.parse::<Ipv6Addr>().unwrap().into();
            assert_eq!(hash_frame(&frame(src, dst, 6, sport, dport)), ports);
            assert_eq!(hash_frame(&frame(src, dst, 17, sport, dport)), ports);
            assert_eq!(hash_frame(&frame(src, dst, 58, sport, dport)), addrs);
            let flow = hash_flow((src, sport).into(), (dst, dport).into());
            assert_eq!(flow, Some(ports));
        }
    }

    #[test]
    fn ends_of_different_protocols_have_no_flow() {
        let (v4, v6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        assert_eq!(hash_flow((v4, 1).into(), (v6, 1).into()), None);
        assert_eq!(hash_flow((v6, 1).into(), (v4, 1).into()), None);
    }

    #[test]
    fn all_fragments_of_a_datagram_hash_alike() {
        let plain = frame([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17, 7, 8);
        let mut first = plain.clone();
        first[14 + 6] = 0x20; // more fragments, offset 0
        let mut last = plain.clone();
        last[14 + 6..14 + 8].copy_from_slice(&[0, 185]); // offset 1480
        last[34..38].fill(0xab); // data, not ports
        assert_eq!(hash_frame(&first), hash_frame(&last));
        assert_ne!(hash_frame(&first), hash_frame(&plain));
    }

    #[test]
    fn a_vlan_tag_does_not_change_the_hash() {
        let plain = frame([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6, 7, 8);
        let mut tagged = plain.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!(hash_frame(&plain), hash_frame(&tagged));
    }

    #[test]
    fn ports_are_found_behind_options() {
        let plain = frame([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6, 7, 8);
        let mut long = plain.clone();
        long[14] = 0x4f; // 60 bytes: 40 of options
        long.splice(34..34, [1; 40]);
        assert_eq!(hash_frame(&plain), hash_frame(&long));
    }

    #[test]
    fn arp_hashes_to_zero() {
        let mut f = vec![0xff; 12];
        f.extend([8, 6]);
        f.resize(60, 1);
        assert_eq!(hash_frame(&f), 0);
    }

    /// Bit by bit, as the definition has it.
    fn by_definition(input: &[u8]) -> u32 {
        let key_bit = |n: usize| u32::from(RSS_KEY[n / 8] >> (7 - n % 8) & 1);
        let mut hash = 0;
        for n in 0..input.len() * 8 {
            if input[n / 8] >> (7 - n % 8) & 1 == 1 {
                hash ^= (0..32).fold(0, |window, i| window << 1 | key_bit(n + i));
            }
        }
        hash
    }

    proptest! {
        #[test]
        fn tables_agree_with_the_definition(input: [u8; 36]) {
            prop_assert_eq!(toeplitz(&input), by_definition(&input));
        }

        #[test]
        fn no_bytes_make_it_panic(mut f in proptest::collection::vec(any::<u8>(), 0..120), kind in 0..4_usize) {
            // Random ethertypes are nearly never of interest: put one there.
            let ethertype = [[8, 0], [0x86, 0xdd], [0x81, 0], [0x88, 0xa8]][kind];
            if let Some(at) = f.get_mut(12..14) {
                at.copy_from_slice(&ethertype);
            }
            if let Some(first) = f.get_mut(14) {
                *first = *first & 0xf | if kind == 0 { 0x40 } else { 0x60 };
            }
            hash_frame(&f);
        }
    }
}
