//! IPv4 header and TCP checksums in software, for devices that compute none.
//!
//! A runtime sends IPv4 headers with a checksum of zero and TCP segments whose
//! checksum field holds the sum of the pseudo-header, and asks for both to be
//! completed (C: `net_push_iphdr`, `tcp_push_tcphdr` in runtime/net). UDP leaves
//! with checksum 0 ("none"), ICMP with its own.
//!
//! [`finish`] works on a private copy of the frame and goes by the frame, not by
//! what the runtime says of it. The pseudo-header is summed anew, so the result
//! is right whatever the field held. A frame whose headers do not fit together
//! is left as it is: its receiver will refuse it, and nobody else is harmed.

use super::TxOffloads;
use super::headers::{FRAGMENT, IPV6_HEADER, Network, PROTO_TCP, be16};

/// Shortest TCP header, bytes.
const TCP_HEADER: usize = 20;

/// The sum of big-endian 16-bit words, in the machine's own order and unfolded.
/// An odd last byte counts as a word's first.
///
/// The one's complement sum is the same in either byte order, bytes swapped
/// (RFC 1071), so words are added as they lie and four bytes at a time.
#[inline]
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4);
    let mut rest = [0; 4];
    rest[..words.remainder().len()].copy_from_slice(words.remainder());
    words.fold(u64::from(u32::from_ne_bytes(rest)), |sum, word| {
        sum + u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
    })
}

/// Folds a sum to 16 bits, still in the machine's own order.
#[inline]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // Three terms of 16 bits at most were left: one more carry is possible.
    let sum = (sum & 0xffff) + (sum >> 16);
    #[allow(clippy::cast_possible_truncation, reason = "folded below 2^16")]
    let folded = sum as u16;
    folded
}

/// What to add to a sum so that the word at `at` does not count in it: its complement.
///
/// Better than to store a zero there first, which the summing would have to wait for.
#[inline]
fn without(bytes: &[u8], at: usize) -> u64 {
    u64::from(!u16::from_ne_bytes([bytes[at], bytes[at + 1]]))
}

/// The bytes to store as the checksum of what was summed.
#[inline]
fn field(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

/// True if a header's words, its checksum among them, sum up to what they should.
#[inline]
pub fn header_sum_good(sum: u64) -> bool {
    fold(sum) == 0xffff
}

/// True if the frame has a whole IPv4 header and its checksum is right.
#[inline]
pub fn ipv4_header_good(frame: &[u8], network: Network) -> bool {
    match network {
        Network::Ipv4 { at, len } => frame
            .get(at..at + len)
            .is_some_and(|header| header_sum_good(sum(header))),
        _ => false,
    }
}

/// Fills in what the runtime asked for. `frame` is the caller's own copy.
pub fn finish(frame: &mut [u8], offloads: TxOffloads) {
    if !offloads.intersects(TxOffloads::IP_CSUM | TxOffloads::TCP_CSUM) {
        return;
    }
    let network = Network::of(frame);
    if offloads.contains(TxOffloads::TCP_CSUM)
        && let Some((addrs, segment)) = tcp(frame, network)
    {
        fill_tcp(frame, addrs, segment);
    }
    if offloads.contains(TxOffloads::IP_CSUM)
        && let Network::Ipv4 { at, len } = network
        && let Some(header) = frame.get_mut(at..at + len)
    {
        let checksum = field(sum(header) + without(header, 10));
        header[10..12].copy_from_slice(&checksum);
    }
}

/// The addresses and the TCP segment of an unfragmented packet, both inside the frame.
fn tcp(frame: &[u8], network: Network) -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let (addrs, segment) = match network {
        Network::Ipv4 { at, len } => {
            let total = usize::from(be16(frame, at + 2)?);
            if frame[at + 9] != PROTO_TCP || be16(frame, at + 6)? & FRAGMENT != 0 {
                return None;
            }
            (at + 12..at + 20, at + len..at + total)
        }
        Network::Ipv6 { at } => {
            let payload = usize::from(be16(frame, at + 4)?);
            if frame[at + 6] != PROTO_TCP {
                return None;
            }
            let start = at + IPV6_HEADER;
            (at + 8..start, start..start + payload)
        }
        Network::Other => return None,
    };
    let fits = segment.end <= frame.len() && segment.start + TCP_HEADER <= segment.end;
    fits.then_some((addrs, segment))
}

fn fill_tcp(frame: &mut [u8], addrs: std::ops::Range<usize>, segment: std::ops::Range<usize>) {
    // Both lengths come from 16-bit fields, so the segment's does fit.
    let len = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    let pseudo = [0, PROTO_TCP, len.to_be_bytes()[0], len.to_be_bytes()[1]];
    let at = segment.start + 16;
    let old = without(frame, at);
    let checksum = field(sum(&frame[addrs]) + sum(&pseudo) + sum(&frame[segment]) + old);
    frame[at..at + 2].copy_from_slice(&checksum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: TxOffloads = TxOffloads::IP_CSUM
        .union(TxOffloads::TCP_CSUM)
        .union(TxOffloads::IPV4);

    /// RFC 1071 word by word, in network order.
    fn naive(parts: &[&[u8]]) -> u16 {
        let mut sum = 0_u32;
        for part in parts {
            for pair in part.chunks(2) {
                let low = pair.get(1).copied().unwrap_or(0);
                sum += u32::from(u16::from_be_bytes([pair[0], low]));
                sum = (sum & 0xffff) + (sum >> 16);
            }
        }
        u16::try_from(sum).unwrap()
    }

    /// A TCP segment as a runtime sends it: IPv4 checksum zero, TCP checksum the
    /// pseudo-header's sum.
    fn from_runtime(payload: &[u8]) -> Vec<u8> {
        let total = u16::try_from(40 + payload.len()).unwrap();
        let mut f = vec![2; 12];
        f.extend([8, 0, 0x45, 0]);
        f.extend(total.to_be_bytes());
        f.extend([0x12, 0x34, 0, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2]);
        f.extend([0, 80, 0xc0, 1, 0, 0, 0, 9, 0, 0, 0, 8, 0x50, 0x10, 1, 0]);
        let pseudo = [
            0,
            6,
            (total - 20).to_be_bytes()[0],
            (total - 20).to_be_bytes()[1],
        ];
        f.extend(naive(&[&f[26..34], &pseudo]).to_be_bytes());
        f.extend([0, 0]);
        f.extend(payload);
        f
    }

    /// The IPv4 header of the worked example that many textbooks share: 0xb861.
    #[test]
    fn known_header_gets_its_known_checksum() {
        let mut f = vec![2; 12];
        f.extend([8, 0]);
        f.extend([0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0]);
        f.extend([0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7]);
        assert!(!ipv4_header_good(&f, Network::of(&f)));
        finish(&mut f, TxOffloads::IP_CSUM | TxOffloads::IPV4);
        assert_eq!(f[24..26], [0xb8, 0x61]);
        assert!(ipv4_header_good(&f, Network::of(&f)));
    }

    /// An empty segment from 10.1.0.1:80 to 10.1.0.2:49153, worked out by hand below.
    #[test]
    fn known_segment_gets_its_known_checksum() {
        let mut f = from_runtime(b"");
        finish(&mut f, BOTH);
        // IPv4: 4500+0028+1234+0000+4006+0a01+0001+0a01+0002 = ab67; ~ = 5498.
        assert_eq!(f[24..26], [0x54, 0x98]);
        // Pseudo: 0a01+0001+0a01+0002+0006+0014 = 141f. Segment: 0050+c001+0009+0008
        // +5010+0100 = 11172. Together 12591, folded 2592; ~ = da6d.
        assert_eq!(f[50..52], [0xda, 0x6d]);
    }

    #[test]
    fn what_was_not_asked_for_is_left_alone() {
        let f = from_runtime(b"abc");
        let mut g = f.clone();
        finish(&mut g, TxOffloads::IPV4);
        assert_eq!(f, g);
        finish(&mut g, TxOffloads::TCP_CSUM);
        assert_eq!(g[24..26], [0, 0]);
        assert_ne!(f[50..52], g[50..52]);
    }

    #[test]
    fn malformed_frames_go_as_they_are() {
        let good = from_runtime(b"abc");
        // Length beyond the frame; too short for TCP; not TCP; a fragment.
        for (at, value) in [(17, 44), (17, 39), (23, 17), (20, 0x20)] {
            let mut f = good.clone();
            f[at] = value;
            let before = f.clone();
            finish(&mut f, TxOffloads::TCP_CSUM);
            assert_eq!(f, before, "byte {at} = {value}");
        }
        // A header longer than the frame.
        let mut f = good[..40].to_vec();
        f[14] = 0x4f;
        let before = f.clone();
        finish(&mut f, BOTH);
        assert_eq!(f, before);
    }

    #[test]
    fn padding_behind_the_packet_is_not_summed() {
        let mut short = from_runtime(b"");
        let mut padded = short.clone();
        padded.extend([0xff; 6]);
        finish(&mut short, BOTH);
        finish(&mut padded, BOTH);
        assert_eq!(short[..], padded[..54]);
    }

    proptest! {
        #[test]
        fn sums_agree_with_word_by_word(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            // Ones' complement has two zeros; for a sum they differ only when all bytes are zero.
            prop_assert_eq!(fold(sum(&bytes)).to_be(), naive(&[&bytes]));
        }

        #[test]
        fn a_finished_segment_verifies(payload in proptest::collection::vec(any::<u8>(), 0..1461)) {
            let mut f = from_runtime(&payload);
            finish(&mut f, BOTH);
            prop_assert!(ipv4_header_good(&f, Network::of(&f)));
            let len = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
            prop_assert_eq!(naive(&[&f[26..34], &[0, 6, len[0], len[1]], &f[34..]]), 0xffff);
        }

        #[test]
        fn what_the_field_held_does_not_matter(payload in proptest::collection::vec(any::<u8>(), 0..200), junk: [u8; 2]) {
            let mut f = from_runtime(&payload);
            let mut g = f.clone();
            g[50..52].copy_from_slice(&junk);
            finish(&mut f, BOTH);
            finish(&mut g, BOTH);
            prop_assert_eq!(f, g);
        }

        #[test]
        fn no_bytes_make_it_panic(mut f in proptest::collection::vec(any::<u8>(), 0..200), v6: bool) {
            if let Some(at) = f.get_mut(12..14) {
                at.copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
            }
            if let Some(first) = f.get_mut(14) {
                *first = *first & 0xf | if v6 { 0x60 } else { 0x40 };
            }
            let len = f.len();
            finish(&mut f, TxOffloads::all());
            prop_assert_eq!(f.len(), len);
        }
    }
}
