//! Names for the things that are counted: procs, kthreads, cores, buffers.
//!
//! Bare integers stay in `abi`; everywhere else an index says what it indexes,
//! so that a kthread cannot be handed in where a core is wanted.

use std::fmt;
use std::str::FromStr;

/// A place in the dataplane's table of attached runtimes, `0..MAX_PROCS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcSlot(pub u16);

/// One attachment of a runtime: its slot, and the slot's generation.
///
/// The generation makes an id that outlived its runtime harmless: it matches no
/// later tenant of the slot. (C: `proc.uniqid`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcId {
    /// The slot in the table of runtimes.
    pub slot: ProcSlot,
    /// Counts the slot's tenants.
    pub generation: u32,
}

/// A kthread's number within its runtime, in registration order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KthreadIdx(pub u16);

/// A core as runtimes see it, `0..256`. With `--virtual-cores` not a CPU number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreId(pub u16);

/// A buffer of the ingress region, `0..INGRESS_BUFS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufIdx(pub u32);

/// A point in time, or a span: microseconds of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Micros(pub u64);

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl ProcSlot {
    /// The slot as an array index.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl KthreadIdx {
    /// The number as an array index.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl CoreId {
    /// The number as an array index.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl BufIdx {
    /// The number as an array index.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Mac {
    /// The address that reaches every station.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// The address as an integer below 2^48, first byte lowest.
    #[inline]
    pub fn to_bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// True for group addresses, broadcast among them.
    #[inline]
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an Ethernet address is six bytes, like 02:00:00:00:00:01")]
pub struct NoMac;

impl FromStr for Mac {
    type Err = NoMac;

    /// Six bytes in hexadecimal, of one or two digits, between colons.
    fn from_str(text: &str) -> Result<Mac, NoMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() <= 2);
            // Only digits: from_str_radix() takes a sign as well.
            let part = part.filter(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or(NoMac)?;
        }
        match parts.next() {
            None => Ok(Mac(bytes)),
            Some(_) => Err(NoMac),
        }
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_address_is_read_as_it_is_written() {
        let mac = Mac([0x02, 0xca, 0, 1, 0xff, 9]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!("2:CA:0:1:ff:9".parse(), Ok(mac));
        for wrong in [
            "",
            "02",
            "02:ca:00:01:ff",
            "02:ca:00:01:ff:09:00",
            "02:ca:00:01:ff:",
            "002:ca:00:01:ff:09",
            "+2:ca:00:01:ff:09",
            "02-ca-00-01-ff-09",
            "02:ca:00:01:ff:0g",
        ] {
            assert_eq!(wrong.parse::<Mac>(), Err(NoMac), "{wrong:?}");
        }
    }
}
