//! Names for the things that are counted: procs, kthreads, cores, buffers.
//!
//! Bare integers stay in `abi`; everywhere else an index says what it indexes,
//! so that a kthread cannot be handed in where a core is wanted.

use std::fmt;

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

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
