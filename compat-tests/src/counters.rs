//! The daemon's counters, as it logs them.

use std::collections::BTreeMap;

/// Counts by name. What was not logged is 0: the daemon leaves zeros out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Those of the whole daemon: lines `... stats: NAME COUNT`, logged at its end.
    pub fn of_daemon(log: &str) -> Counters {
        let lines = log.lines().filter_map(|l| l.split_once("stats: "));
        Counters(lines.filter_map(|(_, count)| pair(count)).collect())
    }

    /// Those of one runtime's steering: a line `... steering: NAME COUNT, ...`.
    pub fn of_runtime(line: &str) -> Counters {
        let counts = line.split_once("steering: ").map_or("", |(_, rest)| rest);
        Counters(counts.split(", ").filter_map(pair).collect())
    }

    /// One count.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

fn pair(text: &str) -> Option<(String, u64)> {
    let (name, count) = text.trim().split_once(' ')?;
    Some((name.to_owned(), count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_kinds_are_understood() {
        let log = "[x INFO ] stats: WAKES 12\n[x INFO ] stats: PARKS 3\n[x INFO ] stopped";
        let daemon = Counters::of_daemon(log);
        assert_eq!((daemon.get("WAKES"), daemon.get("PARKS")), (12, 3));
        assert_eq!(daemon.get("FAULTS"), 0);
        let line = "[x INFO ] pid 7 (uid 0, 02:00) steering: ST_PACKETS 50, ST_FLOWS 2";
        let runtime = Counters::of_runtime(line);
        assert_eq!(
            (runtime.get("ST_PACKETS"), runtime.get("ST_FLOWS")),
            (50, 2)
        );
    }
}
