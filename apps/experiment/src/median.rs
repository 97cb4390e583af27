//! Many runs made one number: the median, with the least and the greatest.

use calisto_plot::Point;
use serde::Serialize;

/// A median of several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Median {
    /// The middle one; of an even number, the lower middle.
    pub(crate) middle: f64,
    /// The least.
    pub(crate) least: f64,
    /// The greatest.
    pub(crate) greatest: f64,
}

impl Median {
    /// A chart's point at `x`, with the whole spread.
    pub(crate) fn at(self, x: f64) -> Point {
        Point {
            x,
            y: self.middle,
            spread: Some((self.least, self.greatest)),
        }
    }

    /// Of all values, infinite ones too: a run that went wrong counts. `None` of no values, or
    /// if one of them is not a number.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Median> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.iter().any(|v| v.is_nan()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        Some(Median {
            middle: *values.get(values.len().saturating_sub(1) / 2)?,
            least: *values.first()?,
            greatest: *values.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_of_the_values() {
        let median = Median::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(
            (median.least, median.middle, median.greatest),
            (1.0, 2.0, 4.0)
        );
    }

    #[test]
    fn a_run_that_went_wrong_counts() {
        let median = Median::of([5.0, f64::INFINITY, f64::INFINITY]).unwrap();
        assert_eq!((median.least, median.middle), (5.0, f64::INFINITY));
        assert_eq!(Median::of([f64::NAN, 5.0]), None);
        assert_eq!(Median::of([]), None);
    }
}
