//! One axis: which part of the numbers it shows, where its ticks are.
//!
//! A *position* is what the drawing library is given: the value itself, or its
//! decimal logarithm on a logarithmic axis. All ranges and ticks are positions.

/// Ticks that a linear axis aims at.
const TICKS: f64 = 8.0;
/// Decades beyond which a logarithmic axis shows only whole ones.
const DECADES_WITH_STEPS: f64 = 3.0;

/// A range of positions and its ticks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    log: bool,
    /// First position shown.
    pub(crate) low: f64,
    /// Last position shown, always above `low`.
    pub(crate) high: f64,
    /// Positions of ticks, ascending, all within the range.
    pub(crate) ticks: Vec<f64>,
}

/// The position of a value, if the axis can show it.
pub(crate) fn position(log: bool, value: f64) -> Option<f64> {
    if !value.is_finite() || (log && value <= 0.0) {
        None
    } else if log {
        Some(value.log10())
    } else {
        Some(value)
    }
}

impl Axis {
    /// The axis that shows all of `values`. A linear one begins at zero if all
    /// values are positive: then heights compare. None if there is no value to show.
    pub(crate) fn new(log: bool, values: impl Iterator<Item = f64>) -> Option<Axis> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for at in values.filter_map(|v| position(log, v)) {
            low = low.min(at);
            high = high.max(at);
        }
        if low > high {
            return None;
        }
        if !log && low > 0.0 {
            low = 0.0;
        }
        let room = (high - low).max(if log { 0.1 } else { high.abs().max(1e-9) }) * 0.05;
        let (mut low, high) = if log || low < 0.0 {
            (low - room, high + room)
        } else {
            (low, high + room)
        };
        // Numbers so large that 5 % of their distance is lost in rounding.
        if high <= low {
            low = high - high.abs().max(1.0) * 1e-6;
        }
        let ticks = if log {
            log_ticks(low, high)
        } else {
            linear_ticks(low, high)
        };
        Some(Axis {
            log,
            low,
            high,
            ticks,
        })
    }

    /// The position of a value, if the axis can show it.
    pub(crate) fn position(&self, value: f64) -> Option<f64> {
        position(self.log, value)
    }

    /// What stands beside the tick at `position`.
    pub(crate) fn label(&self, position: f64) -> String {
        label(if self.log {
            10f64.powf(position)
        } else {
            position
        })
    }
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|m| m * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    #[allow(clippy::cast_possible_truncation, reason = "about TICKS of them")]
    let count = ((high - low) / step).ceil() as i64;
    let first = (low / step).ceil();
    (0..=count)
        .map(|i| (first + i as f64) * step)
        .filter(|t| (low..=high).contains(t))
        .collect()
}

/// Powers of ten; 2 and 5 times them as well where there are few.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let steps: &[f64] = if high - low <= DECADES_WITH_STEPS {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    #[allow(clippy::cast_possible_truncation, reason = "exponents of f64")]
    let (first, last) = (low.floor() as i32, high.ceil() as i32);
    (first..=last)
        .flat_map(|decade| steps.iter().map(move |s| f64::from(decade) + s.log10()))
        .filter(|t| (low..=high).contains(t))
        .collect()
}

/// A number short enough for a tick: three digits and k, M or G.
fn label(value: f64) -> String {
    let size = value.abs();
    let (scaled, unit) = match size {
        _ if size >= 1e9 => (value / 1e9, "G"),
        _ if size >= 1e6 => (value / 1e6, "M"),
        _ if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        s if s >= 0.01 || s == 0.0 => 3,
        _ => return format!("{scaled:.0e}{unit}"),
    };
    let text = format!("{scaled:.digits$}");
    let text = match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.'),
        None => &text,
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (1.5, "1.5"),
            (100.0, "100"),
            (9000.0, "9000"),
            (12_000.0, "12k"),
            (2.5e6, "2.5M"),
            (3e9, "3G"),
            (0.002, "2e-3"),
        ] {
            assert_eq!(label(value), text);
        }
    }

    #[test]
    fn a_linear_axis_begins_at_zero() {
        let axis = Axis::new(false, [3.0, 8.0].into_iter()).unwrap();
        assert_eq!(axis.low, 0.0);
        assert_eq!(axis.ticks[0], 0.0);
        assert!(axis.high > 8.0);
    }

    #[test]
    fn a_logarithmic_axis_has_no_zero() {
        let axis = Axis::new(true, [0.0, -1.0, 5.0, 900.0].into_iter()).unwrap();
        assert!(axis.position(0.0).is_none());
        let labels: Vec<_> = axis.ticks.iter().map(|t| axis.label(*t)).collect();
        assert_eq!(labels, ["5", "10", "20", "50", "100", "200", "500", "1000"]);
    }

    #[test]
    fn nothing_to_show_is_no_axis() {
        assert_eq!(Axis::new(true, [0.0, f64::NAN].into_iter()), None);
        assert_eq!(Axis::new(false, [f64::INFINITY].into_iter()), None);
    }

    proptest! {
        #[test]
        fn every_value_is_in_range(log: bool, values in prop::collection::vec(-1e12f64..1e12, 1..20)) {
            if let Some(axis) = Axis::new(log, values.iter().copied()) {
                prop_assert!(axis.low < axis.high);
                prop_assert!(axis.ticks.len() <= 20);
                for at in values.iter().filter_map(|v| axis.position(*v)) {
                    prop_assert!((axis.low..=axis.high).contains(&at));
                }
                for tick in &axis.ticks {
                    prop_assert!((axis.low..=axis.high).contains(tick));
                }
            }
        }
    }
}
