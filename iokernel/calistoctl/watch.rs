//! What is counted from one look to the next.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use calisto::admin::{Request, client};
use calisto::terminal::tell;
use serde_json::Value;

use crate::table;

/// By part and label, in the order of the answer's parts.
type Counts = BTreeMap<(usize, String), i64>;

/// Parts of an answer, and whether their values are counted, or are what is so now.
const PARTS: [(&str, bool); 5] = [
    ("counters", true),
    ("port", true),
    ("held", false),
    ("control", false),
    ("steering", true),
];

/// Reads `--watch`: seconds, more than none.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number of seconds")?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|interval| (0.01..=86_400.0).contains(&interval.as_secs_f64()))
        .ok_or_else(|| "seconds are from 0.01 to 86400".to_owned())
}

/// Prints what changed, after each interval, until nobody reads any more.
///
/// # Errors
/// The daemon does not answer, or standard output cannot be written to.
pub(crate) fn stats(interval: Duration) -> Result<()> {
    let mut before = look()?;
    loop {
        thread::sleep(interval);
        let now = look()?;
        let text = lines(&before, &now, interval);
        if !tell(&text).context("cannot write to standard output")? {
            return Ok(());
        }
        before = now;
    }
}

fn look() -> Result<Counts> {
    let lines = client::ask(&Request::Stats)?;
    let line = lines.first().context("iokerneld answered nothing")?;
    counts(line)
}

fn counts(line: &str) -> Result<Counts> {
    let stats: Value = table::object(line)?;
    let mut counts = Counts::new();
    for (at, (part, _)) in PARTS.iter().enumerate() {
        for (label, count) in stats[part].as_object().into_iter().flatten() {
            counts.insert((at, label.clone()), count.as_i64().unwrap_or(i64::MAX));
        }
    }
    Ok(counts)
}

/// Counts by how much they grew in a second, the rest as it is; nothing that stands at zero.
fn lines(before: &Counts, now: &Counts, interval: Duration) -> String {
    let mut rows = vec![[
        "COUNTER".to_owned(),
        "NOW".to_owned(),
        "A SECOND".to_owned(),
    ]];
    for (key, &count) in now {
        let grows = PARTS[key.0].1;
        let more = count - before.get(key).copied().unwrap_or(0);
        if (grows && more == 0) || (!grows && count == 0) {
            continue;
        }
        #[allow(clippy::cast_precision_loss, reason = "to be read by people")]
        let rate = more as f64 / interval.as_secs_f64();
        let rate = if grows {
            format!("{rate:.1}")
        } else {
            String::new()
        };
        rows.push([key.1.clone(), count.to_string(), rate]);
    }
    table::columns(&rows) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_by_the_second_and_gauges_as_they_are() {
        let before = counts(r#"{"counters":{"PARKS":5,"PINS":1},"held":{"BUFS_FREE":9}}"#).unwrap();
        let now = counts(
            r#"{"counters":{"PARKS":15,"PINS":1,"WAKES":2},"held":{"BUFS_FREE":8,"LEAVING":0}}"#,
        );
        let text = lines(&before, &now.unwrap(), Duration::from_secs(2));
        let expected = "\
COUNTER    NOW  A SECOND
PARKS      15   5.0
WAKES      2    1.0
BUFS_FREE  8

";
        assert_eq!(text, expected);
    }

    #[test]
    fn intervals_are_seconds() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "x", "inf", "NaN", "1e9"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
