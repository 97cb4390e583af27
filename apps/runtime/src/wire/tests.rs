use super::*;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// An IPv4 packet with a right header checksum.
fn packet(protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0; IPV4_LEN + payload.len()];
    put_ipv4(&mut p, A, B, protocol, payload.len());
    let sum = checksum(0, &p[..IPV4_LEN]);
    p[10..12].copy_from_slice(&sum.to_be_bytes());
    p[IPV4_LEN..].copy_from_slice(payload);
    p
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    let mut d = vec![0; UDP_LEN + payload.len()];
    put_udp(&mut d, 7, 9, payload.len());
    d[UDP_LEN..].copy_from_slice(payload);
    d
}

#[test]
fn a_known_header_has_its_checksum() {
    // The example of RFC 1071's Wikipedia article: checksum b861.
    let header = [
        0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7,
    ];
    assert_eq!(checksum(0, &header), 0xb861);
}

#[test]
fn an_odd_byte_counts_as_the_high_half_of_a_word() {
    assert_eq!(checksum(0, &[0x12]), !0x1200);
    assert_eq!(checksum(0, &[0x12, 0x34, 0x56]), !(0x1234 + 0x5600));
}

#[test]
fn what_is_put_is_parsed() {
    let bytes = packet(IpProtocol::Udp, &datagram(b"abc"));
    let ip = parse_ipv4(&bytes, false).unwrap();
    assert_eq!((ip.src, ip.dst, ip.fragment), (A, B, false));
    assert_eq!(parse_udp(&ip), Some((7, 9, &b"abc"[..])));
}

#[test]
fn padding_is_no_payload() {
    let mut bytes = packet(IpProtocol::Udp, &datagram(b"abc"));
    bytes.extend([0; 20]);
    let ip = parse_ipv4(&bytes, false).unwrap();
    assert_eq!(parse_udp(&ip).unwrap().2, b"abc");
}

#[test]
fn a_wrong_header_checksum_counts_unless_it_was_verified() {
    let mut bytes = packet(IpProtocol::Udp, &datagram(b"abc"));
    bytes[10] ^= 1;
    assert_eq!(parse_ipv4(&bytes, false), None);
    assert!(parse_ipv4(&bytes, true).is_some());
}

#[test]
fn a_wrong_udp_checksum_is_noticed_and_a_right_one_passes() {
    let mut d = datagram(b"abcde");
    let pseudo = pseudo_sum(A, B, IpProtocol::Udp, d.len());
    let sum = checksum(pseudo, &d);
    d[6..8].copy_from_slice(&sum.to_be_bytes());
    let bytes = packet(IpProtocol::Udp, &d);
    assert!(parse_udp(&parse_ipv4(&bytes, false).unwrap()).is_some());
    let mut spoilt = bytes.clone();
    *spoilt.last_mut().unwrap() ^= 1;
    assert_eq!(parse_udp(&parse_ipv4(&spoilt, false).unwrap()), None);
}

#[test]
fn no_cut_or_flipped_packet_is_read_beyond_its_end() {
    let bytes = packet(IpProtocol::Udp, &datagram(b"some payload"));
    for len in 0..bytes.len() {
        assert_eq!(parse_ipv4(&bytes[..len], true), None, "{len}");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut b = bytes.clone();
            b[at] ^= 1 << bit;
            if let Some(ip) = parse_ipv4(&b, true) {
                let _ = (parse_udp(&ip), peek_tcp(ip.payload), is_ping(ip.payload));
            }
        }
    }
}

#[test]
fn pieces_of_packets_are_known() {
    for (flags, fragment) in [
        (0x4000u16, false),
        (0x2000, true),
        (0x0001, true),
        (0x3fff, true),
    ] {
        let mut bytes = packet(IpProtocol::Udp, &[]);
        bytes[6..8].copy_from_slice(&flags.to_be_bytes());
        assert_eq!(parse_ipv4(&bytes, true).unwrap().fragment, fragment);
    }
}

#[test]
fn arp_goes_there_and_back() {
    let arp = Arp {
        request: true,
        from_mac: [2, 0, 0, 0, 0, 1],
        from: A,
        to_mac: [0; 6],
        to: B,
    };
    let mut frame = [0; ARP_FRAME_LEN];
    put_arp(&mut frame, BROADCAST, &arp);
    assert_eq!(parse_ether(&frame), Some(Ether::Arp(arp)));
    assert_eq!(parse_ether(&frame[..ARP_FRAME_LEN - 1]), None);
}

#[test]
fn a_pong_is_no_ping_and_has_a_right_checksum() {
    let mut p = vec![8, 0, 0, 0, 1, 2, 3, 4, 5];
    let sum = checksum(0, &p);
    p[2..4].copy_from_slice(&sum.to_be_bytes());
    assert!(is_ping(&p));
    ping_to_pong(&mut p);
    assert_eq!((p[0], checksum(0, &p)), (0, 0));
    assert!(!is_ping(&p));
}
