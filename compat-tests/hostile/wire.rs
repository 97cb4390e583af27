//! Frames, as an offender makes them.

/// Everybody's Ethernet address.
pub const ALL: [u8; 6] = [0xff; 6];
/// Where the witness takes [`mail`].
pub const MAIL_PORT: u16 = 7777;
/// UDP payload of mail: its bytes follow from its length.
const HEADERS: usize = 14 + 20 + 8;

/// The address of runtime `n`.
pub fn mac(n: u16) -> [u8; 6] {
    let [h, l] = n.to_be_bytes();
    [2, 0, 0, 0, h, l]
}

/// The IPv4 address of runtime `n`.
pub fn ip(n: u16) -> [u8; 4] {
    crate::runtime::ip(n).octets()
}

/// A frame of 60 bytes that asks who has `target`.
pub fn arp(from: u16, target: [u8; 4]) -> Vec<u8> {
    let mut f = ethernet(ALL, mac(from), 0x0806);
    f.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    f.extend(mac(from));
    f.extend(ip(from));
    f.extend([0; 6]);
    f.extend(target);
    f.resize(60, 0);
    f
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16) -> Vec<u8> {
    let mut f = Vec::new();
    f.extend(to);
    f.extend(from);
    f.extend(kind.to_be_bytes());
    f
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words
        .map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0)))
        .sum()
}

fn fold(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, h, l] = (!sum).to_be_bytes();
    [h, l]
}

/// Whom a frame says it is from, and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// Source Ethernet address.
    pub from_mac: [u8; 6],
    /// Source IPv4 address.
    pub from: [u8; 4],
    /// Destination Ethernet address.
    pub to_mac: [u8; 6],
    /// Destination IPv4 address.
    pub to: [u8; 4],
}

impl Ends {
    fn ipv4(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut f = ethernet(self.to_mac, self.from_mac, 0x0800);
        let total = u16::try_from(20 + payload.len()).expect("a frame's payload");
        f.extend([0x45, 0]);
        f.extend(total.to_be_bytes());
        f.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        f.extend(self.from);
        f.extend(self.to);
        let checksum = fold(sum(&f[14..34]));
        f[24..26].copy_from_slice(&checksum);
        f.extend(payload);
        f
    }

    /// A datagram without checksum.
    pub fn udp(&self, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(8 + payload.len()).expect("a frame's payload");
        let mut udp = Vec::new();
        for word in [ports.0, ports.1, len, 0] {
            udp.extend(word.to_be_bytes());
        }
        udp.extend(payload);
        self.ipv4(17, &udp)
    }

    /// A datagram of `len` bytes in all, that the witness knows.
    pub fn mail(&self, len: usize) -> Vec<u8> {
        self.udp((MAIL_PORT, MAIL_PORT), &letter(len - HEADERS))
    }

    /// The beginning of a connection, which a closed port answers.
    pub fn syn(&self, ports: (u16, u16)) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(ports.0.to_be_bytes());
        tcp.extend(ports.1.to_be_bytes());
        tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        let pseudo = sum(&self.from) + sum(&self.to) + 6 + 20;
        let checksum = fold(pseudo + sum(&tcp));
        tcp[16..18].copy_from_slice(&checksum);
        self.ipv4(6, &tcp)
    }
}

/// What mail of so many bytes says.
pub fn letter(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + len).to_le_bytes()[0]).collect()
}
