//! The table of results, from the lines of single runs.
//!
//! Terms: a *run* is one case with one contender; a *pair* is a run of ours and
//! the run of the other that came right after it, in the same round. Noise on a
//! shared machine comes in spells that are longer than a pair, so the ratio
//! within a pair says more than the quotient of two medians.
//!
//! Contenders are ours and another dispatcher, or our own under several policies
//! ([`policies`]).
//!
//! Pure: text in, text out.

mod policies;

use std::fmt::Write;

use serde::Deserialize;

/// A run with more waiting for CPUs than this is not quiet.
const QUIET_PERCENT: f64 = 5.0;

/// What the NIC emulator prints of one run. C: `print_result`.
#[derive(Debug, Clone, Deserialize)]
pub struct NicResult {
    /// Seconds measured.
    pub secs: f64,
    /// Milliseconds of them in which some task of the machine waited for a CPU.
    pub waited_ms: f64,
    /// Requests made.
    pub sent: u64,
    /// Packets that the sink received meanwhile.
    pub delivered: u64,
    /// Requests answered.
    pub replies: u64,
    /// Millions a second.
    pub delivered_mpps: f64,
    /// Millions a second.
    pub reply_mpps: f64,
    /// Time outside the generator for each packet delivered.
    pub own_ns_per_delivered: f64,
    /// Time outside the generator for each reply.
    pub own_ns_per_reply: f64,
    /// Latency, half of all replies.
    pub p50_us: f64,
    /// Latency, 99 % of all replies.
    pub p99_us: f64,
    /// Latency, 99.9 % of all replies.
    pub p999_us: f64,
}

/// What the sink prints, as far as the table needs it.
#[derive(Debug, Clone, Deserialize)]
pub struct SinkResult {
    /// Messages that break the contract.
    pub bad: u64,
    /// Packets taken.
    #[serde(default)]
    pub received: u64,
    /// Flows watched; 0 unless they were.
    #[serde(default)]
    pub flows: u64,
    /// Packets whose flow was on another core before.
    #[serde(default)]
    pub moved_core: u64,
    /// Packets whose flow was on another kthread before.
    #[serde(default)]
    pub moved_kthread: u64,
    /// Packets that a later one of their flow has passed.
    #[serde(default)]
    pub overtaken: u64,
    /// Parks of idle kthreads.
    #[serde(default)]
    pub parks: u64,
    /// Kthreads active at once, on average.
    #[serde(default)]
    pub mean_active: f64,
}

/// One measured run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Counts from 1.
    pub round: u32,
    /// The case's name.
    pub case: String,
    /// `ours` or `other`; or a policy.
    pub who: String,
    /// From the dispatcher's side.
    pub nic: NicResult,
    /// From the runtime's side.
    pub sink: SinkResult,
}

/// Why a line is no run.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not five fields with tabs between them.
    #[error("{0} fields; wanted: round, case, who, the generator's JSON, the sink's JSON")]
    Fields(usize),
    /// Not a number.
    #[error(transparent)]
    Number(#[from] std::num::ParseIntError),
    /// Not the JSON of our tools.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl Run {
    /// Reads one line.
    ///
    /// # Errors
    /// [`LineError`] says which field is wrong.
    pub fn parse(line: &str) -> Result<Run, LineError> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [round, case, who, nic, sink] = fields[..] else {
            return Err(LineError::Fields(fields.len()));
        };
        Ok(Run {
            round: round.parse()?,
            case: case.to_owned(),
            who: who.to_owned(),
            nic: serde_json::from_str(nic)?,
            sink: serde_json::from_str(sink)?,
        })
    }

    /// Share of the time in which some task waited for a CPU, in percent.
    fn waited_percent(&self) -> f64 {
        self.nic.waited_ms / (10.0 * self.nic.secs)
    }

    fn is_quiet(&self) -> bool {
        self.waited_percent() <= QUIET_PERCENT
    }

    /// A share of the packets that the sink took, in percent.
    #[allow(clippy::cast_precision_loss, reason = "a figure to be read")]
    fn percent(&self, packets: u64) -> f64 {
        100.0 * packets as f64 / self.sink.received.max(1) as f64
    }

    /// Replies where there are any, else deliveries.
    fn is_echo(&self) -> bool {
        self.nic.replies > 0
    }

    /// The dispatcher's own nanoseconds for each packet that went all the way.
    fn own_ns(&self) -> f64 {
        if self.is_echo() {
            self.nic.own_ns_per_reply
        } else {
            self.nic.own_ns_per_delivered
        }
    }

    /// Millions of packets a second that went all the way.
    fn mpps(&self) -> f64 {
        if self.is_echo() {
            self.nic.reply_mpps
        } else {
            self.nic.delivered_mpps
        }
    }

    /// Share of the requests that went nowhere, in percent.
    #[allow(clippy::cast_precision_loss, reason = "a figure to be read")]
    fn lost_percent(&self) -> f64 {
        let arrived = if self.is_echo() {
            self.nic.replies
        } else {
            self.nic.delivered
        };
        if self.nic.sent == 0 {
            return 0.0;
        }
        // What was under way at the start may make more arrive than was sent.
        100.0 * (self.nic.sent.saturating_sub(arrived)) as f64 / self.nic.sent as f64
    }
}

/// Who is measured when it is not policies.
const DISPATCHERS: [&str; 2] = ["ours", "other"];

/// What is read off a run.
type Figure<'a> = &'a dyn Fn(&Run) -> f64;

/// Least, middle and greatest of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    /// `None` of no values.
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let mid = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[mid]
        } else {
            f64::midpoint(values[mid - 1], values[mid])
        };
        Some(Spread { min, median, max })
    }

    fn show(self, digits: usize) -> String {
        let Spread { min, median, max } = self;
        format!("{median:.digits$} ({min:.digits$}-{max:.digits$})")
    }
}

/// The table: medians with least and greatest, then the ratios of the pairs.
pub fn table(runs: &[Run]) -> String {
    let (mut cases, mut policies): (Vec<&str>, Vec<&str>) = Default::default();
    for r in runs {
        if !cases.contains(&r.case.as_str()) {
            cases.push(&r.case);
        }
        let who = r.who.as_str();
        if !DISPATCHERS.contains(&who) && !policies.contains(&who) {
            policies.push(who);
        }
    }
    let mut out = String::from(
        "| case | who | own ns/packet | Mpps | p50 us | p99 us | p99.9 us | lost % | waited % | runs |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for case in &cases {
        for who in DISPATCHERS.iter().chain(&policies) {
            let of: Vec<&Run> = runs
                .iter()
                .filter(|r| r.case == *case && r.who == *who)
                .collect();
            row(&mut out, case, who, &of);
        }
    }
    pairs(&mut out, &cases, runs);
    policies::append(&mut out, &cases, &policies, runs);
    let bad: u64 = runs.iter().map(|r| r.sink.bad).sum();
    if bad > 0 {
        let _ = writeln!(
            out,
            "\n{bad} messages broke the contract: these figures are void."
        );
    }
    out
}

fn row(out: &mut String, case: &str, who: &str, runs: &[&Run]) {
    let column = |digits: usize, f: Figure<'_>| {
        Spread::of(runs.iter().map(|r| f(r)).collect()).map(|s| s.show(digits))
    };
    let (Some(own), Some(mpps)) = (column(1, &Run::own_ns), column(2, &Run::mpps)) else {
        return;
    };
    let latency = |f: Figure<'_>| {
        let echo = runs.iter().all(|r| r.is_echo());
        column(1, f).filter(|_| echo).unwrap_or_else(|| "-".into())
    };
    let _ = writeln!(
        out,
        "| {case} | {who} | {own} | {mpps} | {} | {} | {} | {} | {} | {} |",
        latency(&|r| r.nic.p50_us),
        latency(&|r| r.nic.p99_us),
        latency(&|r| r.nic.p999_us),
        column(1, &Run::lost_percent).unwrap_or_default(),
        column(1, &Run::waited_percent).unwrap_or_default(),
        runs.len(),
    );
}

/// For each case and figure the ratio ours / other of every pair, its median,
/// and the median of the quiet pairs.
fn pairs(out: &mut String, cases: &[&str], runs: &[Run]) {
    if !runs.iter().any(|r| r.who == "other") {
        return;
    }
    let _ = write!(
        out,
        "\nours / other, round by round; a pair is quiet when tasks waited for a CPU in at most \
         {QUIET_PERCENT} % of both runs:\n\n\
         | case | figure | pairs | median | quiet pairs | median of quiet |\n\
         |---|---|---|---|---|---|\n",
    );
    let figures: [(&str, Figure<'_>); 3] = [
        ("own ns/packet", &Run::own_ns),
        ("Mpps", &Run::mpps),
        ("p99 us", &|r| r.nic.p99_us),
    ];
    for case in cases {
        let pairs = pairs_of(runs, case);
        for (name, f) in figures {
            ratio_row(out, case, name, &pairs, f);
        }
    }
}

fn ratio_row(out: &mut String, case: &str, name: &str, pairs: &[(&Run, &Run)], f: Figure<'_>) {
    let ratios = |quiet_only: bool| -> Vec<f64> {
        pairs
            .iter()
            .filter(|(a, b)| !quiet_only || (a.is_quiet() && b.is_quiet()))
            .filter(|(_, b)| f(b) > 0.0)
            .map(|(a, b)| f(a) / f(b))
            .collect()
    };
    let median = |r: Vec<f64>| Spread::of(r).map_or("-".into(), |s| format!("{:.3}", s.median));
    let (all, quiet) = (ratios(false), ratios(true));
    if all.is_empty() {
        return;
    }
    let each: Vec<String> = all.iter().map(|r| format!("{r:.2}")).collect();
    let _ = writeln!(
        out,
        "| {case} | {name} | {} | {} | {} | {} |",
        each.join(" "),
        median(all),
        quiet.len(),
        median(quiet)
    );
}

/// Our run and the other's, for each round in which both have one.
fn pairs_of<'a>(runs: &'a [Run], case: &str) -> Vec<(&'a Run, &'a Run)> {
    let of = |who: &str| -> Vec<&'a Run> {
        runs.iter()
            .filter(|r| r.case == case && r.who == who)
            .collect()
    };
    let others = of("other");
    of("ours")
        .into_iter()
        .filter_map(|a| Some((a, *others.iter().find(|b| b.round == a.round)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run in which 900 of 1000 requests were delivered and 800 answered.
    /// For 30 ms of its 3 s some task waited for a CPU: 1 %.
    pub(super) fn line(round: u32, who: &str, own: f64) -> String {
        let nic = format!(
            "{{\"mode\":\"window\",\"secs\":3.0,\"waited_ms\":30.0,\"sent\":1000,\"delivered\":900,\"replies\":800,\
             \"delivered_mpps\":9.0,\"reply_mpps\":8.0,\"own_ns_per_delivered\":1.0,\
             \"own_ns_per_reply\":{own},\"p50_us\":10.0,\"p99_us\":20.0,\"p999_us\":30.0}}"
        );
        format!("{round}\techo\t{who}\t{nic}\t{{\"bad\":0}}\n")
    }

    pub(super) fn runs(lines: &[String]) -> Vec<Run> {
        lines
            .iter()
            .map(|l| Run::parse(l).expect("a line of a run"))
            .collect()
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let s = Spread::of(vec![4.0, 1.0, 3.0, 2.0]).expect("four values");
        assert_eq!((s.min, s.median, s.max), (1.0, 2.5, 4.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn a_row_has_median_and_extremes_and_what_was_lost() {
        let t = table(&runs(&[
            line(1, "ours", 30.0),
            line(2, "ours", 50.0),
            line(3, "ours", 40.0),
        ]));
        // Of 1000 sent 800 were answered: 20 % lost.
        assert!(
            t.contains("| echo | ours | 40.0 (30.0-50.0) | 8.00 (8.00-8.00) |"),
            "{t}"
        );
        assert!(
            t.contains("| 20.0 (20.0-20.0) | 1.0 (1.0-1.0) | 3 |"),
            "{t}"
        );
        assert!(!t.contains("ours / other"), "{t}");
    }

    #[test]
    fn ratios_are_taken_within_rounds_not_between_medians() {
        let t = table(&runs(&[
            line(1, "ours", 30.0),
            line(1, "other", 60.0),
            line(2, "ours", 90.0),
            line(2, "other", 100.0),
            // A round that only one of them finished makes no pair.
            line(3, "ours", 40.0),
        ]));
        // 30/60 and 90/100: the median is 0.7; that of the medians would be 40/80 = 0.5.
        assert!(
            t.contains("| echo | own ns/packet | 0.50 0.90 | 0.700 | 2 | 0.700 |"),
            "{t}"
        );
    }

    #[test]
    fn a_pair_with_one_disturbed_run_is_not_quiet() {
        // 300 ms of 3 s are 10 %, more than 5.
        let disturbed = line(2, "other", 90.0).replace("30.0,\"sent", "300.0,\"sent");
        let t = table(&runs(&[
            line(1, "ours", 30.0),
            line(1, "other", 60.0),
            line(2, "ours", 90.0),
            disturbed,
        ]));
        assert!(
            t.contains("| echo | own ns/packet | 0.50 1.00 | 0.750 | 1 | 0.500 |"),
            "{t}"
        );
    }

    #[test]
    fn broken_contracts_void_the_table() {
        let l = line(1, "ours", 30.0).replace("\"bad\":0", "\"bad\":3");
        assert!(table(&runs(&[l])).contains("3 messages broke the contract"));
    }

    #[test]
    fn a_line_with_a_field_missing_is_refused() {
        assert!(matches!(
            Run::parse("1\techo\tours"),
            Err(LineError::Fields(3))
        ));
    }
}
