//! Offsets and lengths that are likely to hurt.

use arbitrary::Arbitrary;

/// A 64-bit value, often one near a border.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Value {
    /// Any.
    Any(u64),
    /// A small one.
    Small(u16),
    /// Near the end of the region.
    Len(i8),
    /// Near the top of the numbers.
    Top(u8),
    /// A power of two.
    Power(u8),
}

impl Value {
    /// The value, for a region of `len` bytes.
    pub fn of(self, len: usize) -> u64 {
        match self {
            Value::Any(n) => n,
            Value::Small(n) => n.into(),
            Value::Len(off) => (len as u64).wrapping_add_signed(off.into()),
            Value::Top(n) => u64::MAX - u64::from(n),
            Value::Power(n) => 1 << (n % 64),
        }
    }
}
