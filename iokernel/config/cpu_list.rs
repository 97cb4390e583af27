//! CPU lists as the kernel writes them: `0-3,8`.

/// Largest CPU number: runtimes index an array of 256 with it.
const MAX_CPU: u16 = 255;

/// Why a list was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    /// A part that is neither a number nor a range.
    #[error("`{0}` is no CPU number and no range: write 2-7,10")]
    Syntax(String),
    /// A range that ends before it begins.
    #[error("the range {0}-{1} runs backwards")]
    Backwards(u16, u16),
    /// A number beyond what runtimes can hold.
    #[error("CPU {0} is beyond {MAX_CPU}, the last that a runtime can use")]
    TooLarge(u16),
    /// Named twice.
    #[error("CPU {0} is in it twice")]
    Twice(u16),
}

/// The CPUs of a list, ascending.
pub(super) fn parse(text: &str) -> Result<Vec<u16>, CpuListError> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let number = |s: &str| {
            let n = s.trim().parse::<u16>();
            n.map_err(|_| CpuListError::Syntax(part.to_owned()))
        };
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(CpuListError::Backwards(first, last));
        }
        if last > MAX_CPU {
            return Err(CpuListError::TooLarge(last));
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    if let Some(pair) = cpus.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(CpuListError::Twice(pair[0]));
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_numbers_come_out_ascending() {
        assert_eq!(parse("8, 0-2,5"), Ok(vec![0, 1, 2, 5, 8]));
    }

    #[test]
    fn each_mistake_is_named() {
        assert_eq!(parse(""), Err(CpuListError::Syntax(String::new())));
        assert_eq!(parse("1,x"), Err(CpuListError::Syntax("x".into())));
        assert_eq!(parse("1-"), Err(CpuListError::Syntax("1-".into())));
        assert_eq!(parse("3-1"), Err(CpuListError::Backwards(3, 1)));
        assert_eq!(parse("0-256"), Err(CpuListError::TooLarge(256)));
        assert_eq!(parse("0-3,2"), Err(CpuListError::Twice(2)));
    }
}
