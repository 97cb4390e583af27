//! CPUs and lists of CPUs, in the kernel's notation.

use std::fmt;
use std::str::FromStr;

/// A CPU as Linux numbers them, below [`MAX_CPUS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CpuId(pub u16);

/// CPU numbers are below this. C: `CPU_SETSIZE`, sched.h.
pub const MAX_CPUS: u16 = 1024;

impl CpuId {
    /// The number as an array index.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of CPUs, lowest first. Read and shown as `0-3,8,10-11`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuList(pub(super) Vec<CpuId>);

/// What is wrong with the text of a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    /// A part is neither a number nor a range.
    #[error("'{0}' is neither a CPU number nor a range such as 2-5")]
    Malformed(String),
    /// A range ends before it begins.
    #[error("the range '{0}' ends before it begins; swap its ends")]
    Backwards(String),
    /// A number is too large.
    #[error("CPU {0} is out of range; CPU numbers are below {MAX_CPUS}")]
    TooLarge(u64),
}

impl CpuList {
    /// The CPUs, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + '_ {
        self.0.iter().copied()
    }

    /// The number of CPUs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without CPUs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest CPU.
    pub fn first(&self) -> Option<CpuId> {
        self.0.first().copied()
    }

    /// True if `cpu` is in the list.
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }
}

impl FromIterator<CpuId> for CpuList {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> CpuList {
        let mut cpus: Vec<CpuId> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        CpuList(cpus)
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    /// Reads the kernel's format. Blank text is the empty list; order and
    /// repetitions do not matter.
    fn from_str(text: &str) -> Result<CpuList, CpuListError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(CpuList::default());
        }
        let mut cpus = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let (low, high) = (number(low, part)?, number(high, part)?);
            if high < low {
                return Err(CpuListError::Backwards(part.to_owned()));
            }
            cpus.extend((low..=high).map(CpuId));
        }
        Ok(cpus.into_iter().collect())
    }
}

fn number(text: &str, part: &str) -> Result<u16, CpuListError> {
    let malformed = || CpuListError::Malformed(part.to_owned());
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    // Longer than 64 bits is no number that anybody means.
    let wide: u64 = text.parse().map_err(|_| malformed())?;
    u16::try_from(wide)
        .ok()
        .filter(|&n| n < MAX_CPUS)
        .ok_or(CpuListError::TooLarge(wide))
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        let mut separator = "";
        while let Some(&low) = rest.first() {
            let run = (1..rest.len())
                .find(|&i| rest[i].index() != low.index() + i)
                .unwrap_or(rest.len());
            let high = rest[run - 1];
            if low == high {
                write!(f, "{separator}{low}")?;
            } else {
                write!(f, "{separator}{low}-{high}")?;
            }
            separator = ",";
            rest = &rest[run..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> Vec<u16> {
        text.parse::<CpuList>()
            .unwrap()
            .iter()
            .map(|c| c.0)
            .collect()
    }

    #[test]
    fn ranges_and_numbers_are_read_in_any_order() {
        assert_eq!(list("0"), [0]);
        assert_eq!(list(" 8, 0-2,1\n"), [0, 1, 2, 8]);
        assert_eq!(list("\n"), [0; 0]);
    }

    #[test]
    fn nonsense_is_refused_with_the_part_that_is_wrong() {
        let refused = |text: &str| text.parse::<CpuList>().unwrap_err();
        for text in ["x", "1,", "1-", "-1", "1-2-3", "+1", "99999999999999999999"] {
            assert!(
                matches!(refused(text), CpuListError::Malformed(_)),
                "{text}"
            );
        }
        assert_eq!(refused("0,5-2"), CpuListError::Backwards("5-2".into()));
        assert_eq!(refused("0-1024"), CpuListError::TooLarge(1024));
        assert_eq!(refused("4294967297"), CpuListError::TooLarge(1 << 32 | 1));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(cpus in prop::collection::btree_set(0..MAX_CPUS, 0..50)) {
            let list: CpuList = cpus.iter().map(|&c| CpuId(c)).collect();
            prop_assert_eq!(list.to_string().parse::<CpuList>(), Ok(list));
        }
    }
}
