//! What the daemon answers, as metrics in the OpenMetrics text format.
//!
//! Names by Prometheus' conventions: `calisto_` and the counter's label in small letters,
//! `_total` behind what only grows. Of each runtime there are its steering's counters, with
//! the labels `pid`, `uid` and `mac`.

use std::fmt;

use anyhow::{Context, Result};
use calisto::admin::Request;
use calisto::stats::{ControlCounter, Counter, CounterSet, Held, PortCounter, SteerCounter, Total};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use serde_json::Value;

use crate::table;

/// Where an answer's counters have their labels' prefix that a metric's name has otherwise.
const STEERING: &str = "ST_";

/// What the daemon said; nothing if it did not answer.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    stats: Option<Value>,
    runtimes: Vec<Value>,
}

impl Snapshot {
    /// Asks twice: for counters, and for runtimes.
    ///
    /// # Errors
    /// What `ask` says, or that an answer is not of this version.
    pub(crate) fn take(ask: impl Fn(&Request) -> Result<Vec<String>>) -> Result<Snapshot> {
        let objects = |request| -> Result<Vec<Value>> {
            let lines = ask(&request)?;
            lines
                .iter()
                .map(|line| table::object(line).context("the daemon is of another version"))
                .collect()
        };
        Ok(Snapshot {
            stats: objects(Request::Stats)?.into_iter().next(),
            runtimes: objects(Request::Runtimes)?,
        })
    }

    /// The text of a scrape.
    ///
    /// # Errors
    /// None is known: a string takes everything.
    pub(crate) fn into_text(self) -> Result<String> {
        let mut registry = Registry::with_prefix("calisto");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// A counter of one part of the answer. Those that are zero may be missing in it.
    fn count(&self, part: &str, label: &str) -> u64 {
        let stats = self.stats.as_ref();
        stats.and_then(|s| s[part][label].as_u64()).unwrap_or(0)
    }

    fn all<C: CounterSet>(
        &self,
        out: &mut Writer<'_>,
        part: &str,
        kind: MetricType,
    ) -> fmt::Result {
        C::ALL.iter().try_for_each(|c| {
            let value = self.count(part, c.label());
            out.one(&c.label().to_lowercase(), c.help(), kind, value)
        })
    }

    /// A steering counter, of each runtime.
    fn steering(&self, out: &mut Writer<'_>, counter: SteerCounter) -> fmt::Result {
        let label = counter.label();
        let name = label.strip_prefix(STEERING).unwrap_or(label);
        let name = format!("steering_{}", name.to_lowercase());
        let kind = match counter.total() {
            Total::Sum => MetricType::Counter,
            _ => MetricType::Gauge,
        };
        let values = self
            .runtimes
            .iter()
            .map(|runtime| (runtime, runtime["steering"][label].as_u64().unwrap_or(0)));
        out.each(&name, counter.help(), kind, values)
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Writer(encoder);
        let up = u64::from(self.stats.is_some());
        out.one("up", "1 if iokerneld answered.", MetricType::Gauge, up)?;
        if up == 0 {
            return Ok(());
        }
        self.all::<Counter>(&mut out, "counters", MetricType::Counter)?;
        self.all::<ControlCounter>(&mut out, "counters", MetricType::Counter)?;
        self.all::<PortCounter>(&mut out, "port", MetricType::Counter)?;
        self.all::<Held>(&mut out, "held", MetricType::Gauge)?;
        for (label, help, kind) in [
            (
                "CONTROL_ADMITTED",
                "Registrations that were admitted.",
                MetricType::Counter,
            ),
            (
                "CONTROL_REFUSED",
                "Registrations that were refused.",
                MetricType::Counter,
            ),
            (
                "CONTROL_FAULTS",
                "Runtimes that were detached for a fault.",
                MetricType::Counter,
            ),
            (
                "CONTROL_ATTACHED",
                "Runtimes attached, leaving ones included.",
                MetricType::Gauge,
            ),
            (
                "CONTROL_RESERVED_CORES",
                "Cores that are guaranteed.",
                MetricType::Gauge,
            ),
        ] {
            let value = self.count("control", label);
            out.one(&label.to_lowercase(), help, kind, value)?;
        }
        let cores = |runtime: &Value| runtime["guaranteed_cores"].as_u64().unwrap_or(0);
        let cores = self
            .runtimes
            .iter()
            .map(|runtime| (runtime, cores(runtime)));
        let help = "Cores that the runtime is guaranteed.";
        out.each("runtime_guaranteed_cores", help, MetricType::Gauge, cores)?;
        SteerCounter::ALL
            .iter()
            .try_for_each(|counter| self.steering(&mut out, *counter))
    }
}

/// Writes metrics.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn one(&mut self, name: &str, help: &str, kind: MetricType, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        match kind {
            MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
            _ => metric.encode_gauge(&value),
        }
    }

    fn each<'v>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl Iterator<Item = (&'v Value, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (runtime, value) in values {
            let labels = ["pid", "uid", "mac"].map(|key| (key, table::plain(&runtime[key])));
            let mut metric = metric.encode_family(&labels)?;
            match kind {
                MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                _ => metric.encode_gauge(&value)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(request: &Request) -> Result<Vec<String>> {
        Ok(match request {
            Request::Stats => vec![
                r#"{"counters":{"RX_PULLED":11,"REFUSED_USER":2},"port":{"PORT_RX_MISSED":3},"held":{"BUFS_FREE":5},"control":{"CONTROL_ADMITTED":7},"steering":{}}"#.to_owned(),
            ],
            Request::Runtimes => vec![
                r#"{"pid":12,"uid":0,"mac":"02:00:00:00:00:01","kthreads":2,"guaranteed_cores":1,"steering":{"ST_PACKETS":90,"ST_FLOWS":3}}"#.to_owned(),
                r#"{"pid":13,"uid":5,"mac":"02:00:00:00:00:02","kthreads":2,"guaranteed_cores":0,"steering":{"ST_PACKETS":1}}"#.to_owned(),
            ],
            _ => unreachable!("no other question"),
        })
    }

    #[test]
    fn counters_gauges_and_runtimes_have_metrics() {
        let text = Snapshot::take(daemon).unwrap().into_text().unwrap();
        for line in [
            "# TYPE calisto_rx_pulled counter",
            "# HELP calisto_rx_pulled Frames taken from the port.",
            "calisto_up 1",
            "calisto_rx_pulled_total 11",
            "calisto_refused_user_total 2",
            "calisto_refused_silent_total 0",
            "calisto_port_rx_missed_total 3",
            "calisto_bufs_free 5",
            "calisto_control_admitted_total 7",
            r#"calisto_steering_packets_total{pid="12",uid="0",mac="02:00:00:00:00:01"} 90"#,
            r#"calisto_steering_packets_total{pid="13",uid="5",mac="02:00:00:00:00:02"} 1"#,
            r#"calisto_steering_flows{pid="12",uid="0",mac="02:00:00:00:00:01"} 3"#,
            r#"calisto_runtime_guaranteed_cores{pid="12",uid="0",mac="02:00:00:00:00:01"} 1"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
        let mut names: Vec<&str> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "a name stands twice");
    }

    #[test]
    fn without_a_daemon_it_is_down() {
        let text = Snapshot::default().into_text().unwrap();
        assert!(text.contains("\ncalisto_up 0\n"), "{text}");
        assert!(!text.contains("rx_pulled"), "{text}");
    }

    #[test]
    fn an_answer_that_is_no_json_is_an_error() {
        let error = Snapshot::take(|_| Ok(vec!["nonsense".to_owned()])).unwrap_err();
        assert!(error.to_string().contains("another version"), "{error}");
    }
}
