//! The RSS hash and the Internet checksum once more, slowly: bit by bit and word by
//! word, from the documents and not from the code that is compared with them.

use calisto::port::hash::RSS_KEY;

/// Bit `n` of the key, the first byte's highest bit being bit 0.
fn key_bit(n: usize) -> u32 {
    u32::from(RSS_KEY[n / 8] >> (7 - n % 8) & 1)
}

/// Toeplitz: each bit of the input that is set adds the 32 key bits from its place on.
pub fn toeplitz(input: &[u8]) -> u32 {
    let mut hash = 0;
    for n in 0..8 * input.len() {
        if input[n / 8] >> (7 - n % 8) & 1 == 1 {
            let window = (0..32).fold(0, |w, i| w << 1 | key_bit(n + i));
            hash ^= window;
        }
    }
    hash
}

/// The ones' complement sum of big-endian words; an odd last byte is a word's first.
pub fn ones_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    u16::try_from(sum).expect("kept below 2^16")
}

/// An IP packet's parts. `rest` begins behind the header that is named.
enum Ip<'a> {
    V4 {
        at: usize,
        header: usize,
        packet: &'a [u8],
    },
    V6 {
        at: usize,
        packet: &'a [u8],
    },
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// The IP packet behind at most two tags; `None` if there is none, or its fixed part is cut.
fn ip(frame: &[u8]) -> Option<Ip<'_>> {
    let mut at = 12;
    for tag in 0..3 {
        let kind = be16(frame.get(at..at + 2)?);
        at += 2;
        match kind {
            0x8100 | 0x88a8 if tag < 2 => at += 2,
            0x0800 => {
                let packet = frame.get(at..)?;
                let fixed = packet.get(..20)?;
                let header = 4 * usize::from(fixed[0] % 16);
                return (fixed[0] / 16 == 4 && header >= 20).then_some(Ip::V4 {
                    at,
                    header,
                    packet,
                });
            }
            0x86dd => {
                let packet = frame.get(at..)?;
                let fixed = packet.get(..40)?;
                return (fixed[0] / 16 == 6).then_some(Ip::V6 { at, packet });
            }
            _ => return None,
        }
    }
    None
}

/// The RSS hash that a frame is to have.
pub fn rss_hash(frame: &[u8]) -> u32 {
    let (addrs, ports, has_ports) = match ip(frame) {
        None => return 0,
        Some(Ip::V4 { header, packet, .. }) => {
            let whole = be16(&packet[6..8]) & 0x3fff == 0;
            let with_ports = whole && (packet[9] == 6 || packet[9] == 17);
            (&packet[12..20], packet.get(header..header + 4), with_ports)
        }
        Some(Ip::V6 { packet, .. }) => {
            let with_ports = packet[6] == 6 || packet[6] == 17;
            (&packet[8..40], packet.get(40..44), with_ports)
        }
    };
    let mut input = addrs.to_vec();
    if let Some(ports) = ports.filter(|_| has_ports) {
        input.extend_from_slice(ports);
    }
    toeplitz(&input)
}

/// True if there is a whole IPv4 header with a right checksum.
pub fn ipv4_header_good(frame: &[u8]) -> bool {
    match ip(frame) {
        Some(Ip::V4 { header, packet, .. }) => packet
            .get(..header)
            .is_some_and(|header| ones_sum(header) == 0xffff),
        _ => false,
    }
}

/// What a frame must look like after the checksums that were asked for are filled in.
pub fn finished(frame: &[u8], ip_csum: bool, tcp_csum: bool) -> Vec<u8> {
    let mut out = frame.to_vec();
    let (at, start, end, protocol, addrs) = match ip(frame) {
        None => return out,
        Some(Ip::V4 { at, header, packet }) => {
            let total = usize::from(be16(&packet[2..4]));
            let whole = be16(&packet[6..8]) & 0x3fff == 0;
            let protocol = if whole { packet[9] } else { 0 };
            if ip_csum && at + header <= frame.len() {
                let field = at + 10;
                out[field..field + 2].fill(0);
                let sum = !ones_sum(&out[at..at + header]);
                out[field..field + 2].copy_from_slice(&sum.to_be_bytes());
            }
            (at, header, total, protocol, at + 12..at + 20)
        }
        Some(Ip::V6 { at, packet }) => {
            let total = 40 + usize::from(be16(&packet[4..6]));
            (at, 40, total, packet[6], at + 8..at + 40)
        }
    };
    let fits = at + end <= frame.len() && start + 20 <= end;
    if tcp_csum && protocol == 6 && fits {
        let field = at + start + 16;
        out[field..field + 2].fill(0);
        let mut summed = frame[addrs].to_vec();
        summed.extend([0, 6]);
        let len = u16::try_from(end - start).expect("from a 16-bit length");
        summed.extend(len.to_be_bytes());
        summed.extend_from_slice(&out[at + start..at + end]);
        let sum = !ones_sum(&summed);
        out[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    out
}
