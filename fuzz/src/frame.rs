//! Ethernet frames in parts, so that most of them get past the first look.

use arbitrary::Arbitrary;

/// A frame to be built.
#[derive(Debug, Clone, Arbitrary)]
pub struct Frame {
    /// Both addresses.
    pub addresses: [u8; 12],
    tags: Vec<Tag>,
    network: Network,
    /// Ports, and what follows them.
    rest: Vec<u8>,
    /// Fill up with zeros to this many bytes (at most 2048).
    padded: Option<u16>,
    /// Cut off after this many bytes.
    cut: Option<u16>,
}

#[derive(Debug, Clone, Arbitrary)]
struct Tag {
    service: bool,
    control: u16,
}

#[derive(Debug, Clone, Arbitrary)]
enum Network {
    Ipv4 {
        /// Words of the header; 5 to 15 are possible.
        words: u8,
        /// How far the total length is from the truth.
        length_off: i8,
        fragment: Fragment,
        protocol: Protocol,
        addresses: [u8; 8],
        options: [u8; 40],
        good_checksum: bool,
        version: Version,
    },
    Ipv6 {
        length_off: i8,
        protocol: Protocol,
        addresses: [u8; 32],
        version: Version,
    },
    Arp {
        operation: u8,
        body: [u8; 20],
    },
    Other {
        kind: u16,
    },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Version {
    Right,
    Odd(u8),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Fragment {
    Whole,
    DontFragment,
    First,
    Later(u16),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Protocol {
    Tcp,
    Udp,
    Icmp,
    Any(u8),
}

impl Protocol {
    fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Icmp => 1,
            Protocol::Any(n) => n,
        }
    }
}

fn version(right: u8, v: Version) -> u8 {
    match v {
        Version::Right => right,
        Version::Odd(n) => n % 16,
    }
}

/// A length that is `off` from `len`.
fn about(len: usize, off: i8) -> [u8; 2] {
    let len = i64::try_from(len).expect("a frame") + i64::from(off);
    u16::try_from(len.max(0)).unwrap_or(u16::MAX).to_be_bytes()
}

/// Longest frame that a buffer takes.
pub const FRAME_MAX: usize = 2048;

impl Frame {
    /// The frame's bytes, at most [`FRAME_MAX`].
    pub fn bytes(&self) -> Vec<u8> {
        let mut f = self.addresses.to_vec();
        for tag in self.tags.iter().take(4) {
            f.extend(if tag.service { [0x88, 0xa8] } else { [0x81, 0] });
            f.extend(tag.control.to_be_bytes());
        }
        self.put_network(&mut f);
        f.extend_from_slice(&self.rest);
        f.truncate(FRAME_MAX);
        if let Some(len) = self.padded {
            f.resize(f.len().max(usize::from(len) % (FRAME_MAX + 1)), 0);
        }
        if let Some(len) = self.cut {
            f.truncate(usize::from(len));
        }
        f
    }

    fn put_network(&self, f: &mut Vec<u8>) {
        match &self.network {
            Network::Ipv4 {
                words,
                length_off,
                fragment,
                protocol,
                addresses,
                options,
                good_checksum,
                version: v,
            } => {
                f.extend([8, 0]);
                let at = f.len();
                let header = 4 * usize::from(words % 16).max(5);
                let field: u16 = match fragment {
                    Fragment::Whole => 0,
                    Fragment::DontFragment => 0x4000,
                    Fragment::First => 0x2000,
                    Fragment::Later(at) => at & 0x3fff,
                };
                f.extend([version(4, *v) << 4 | words % 16, 0]);
                f.extend(about(header + self.rest.len(), *length_off));
                f.extend([0, 1]);
                f.extend(field.to_be_bytes());
                f.extend([64, protocol.number(), 0, 0]);
                f.extend(addresses);
                f.extend(&options[..header - 20]);
                if *good_checksum {
                    let sum = !crate::reference::ones_sum(&f[at..]);
                    f[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
                }
            }
            Network::Ipv6 {
                length_off,
                protocol,
                addresses,
                version: v,
            } => {
                f.extend([0x86, 0xdd, version(6, *v) << 4, 0, 0, 0]);
                f.extend(about(self.rest.len(), *length_off));
                f.extend([protocol.number(), 64]);
                f.extend(addresses);
            }
            Network::Arp { operation, body } => {
                f.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, *operation]);
                f.extend(body);
            }
            Network::Other { kind } => f.extend(kind.to_be_bytes()),
        }
    }
}
