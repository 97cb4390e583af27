//! What operators ask a running daemon with.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use std::io::Write;
use std::process::{Command, Stdio};

use calisto::testing::skip;
use compat_tests::child::Child;
use compat_tests::{Host, Runtime, daemon};

/// Where a host's exporter listens: the host has a network of its own.
const LISTEN: &str = "127.0.0.1:9409";

/// An exporter; killed on drop.
fn exporter(host: &Host) -> Child {
    let up = host
        .command("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(
        up.is_ok_and(|status| status.success()),
        "the host has a loopback"
    );
    let mut command = host.command(daemon::ctl());
    command.args(["exporter", "--listen", LISTEN]);
    let exporter = Child::spawn("exporter", &mut command).expect("calistoctl runs");
    let listens =
        exporter.wait_line(|line| line == format!("listening on http://{LISTEN}/metrics"));
    assert!(listens.is_some(), "{:?}", exporter.lines());
    exporter
}

/// What it answers to a request: status line, content type, body.
fn get(host: &Host, path: &str) -> (String, String, String) {
    let ask = format!(
        "exec 3<>/dev/tcp/127.0.0.1/9409; \
         printf 'GET {path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3"
    );
    let out = host.command("bash").args(["-c", &ask]).output();
    let out = out.expect("bash runs");
    let text = String::from_utf8(out.stdout).expect("text");
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        panic!("{text}\n{}", String::from_utf8_lossy(&out.stderr));
    };
    let kind = head.lines().find_map(|l| l.strip_prefix("Content-Type: "));
    let status = head.lines().next().expect("a status");
    (
        status.to_owned(),
        kind.unwrap_or("").to_owned(),
        body.to_owned(),
    )
}

/// The value of a metric without labels.
fn value(metrics: &str, name: &str) -> Option<u64> {
    let line = metrics
        .lines()
        .find(|l| l.split(' ').next() == Some(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn prometheus_is_answered_with_and_without_a_daemon() {
    let Some(mut host) = Host::loopback("metrics for Prometheus") else {
        return;
    };
    let exporter = exporter(&host);
    let echo = host.start(Runtime::echo(9));
    let (status, kind, metrics) = get(&host, "/metrics");
    assert!(status.contains(" 200 "), "{status}");
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert_eq!(value(&metrics, "calisto_up"), Some(1), "{metrics}");
    assert_eq!(value(&metrics, "calisto_attached_total"), Some(1));
    assert_eq!(value(&metrics, "calisto_runtimes"), Some(1));
    assert!(value(&metrics, "calisto_adjusts_total") > Some(0));
    let own = format!("calisto_steering_packets_total{{pid=\"{}\"", echo.pid());
    assert!(metrics.lines().any(|l| l.starts_with(&own)), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
    approved_by_promtool(&metrics);
    assert!(get(&host, "/other").0.contains(" 404 "));
    drop(echo);
    host.stop_daemon();
    let (status, _, metrics) = get(&host, "/metrics");
    assert!(status.contains(" 200 "), "{status}");
    assert_eq!(value(&metrics, "calisto_up"), Some(0), "{metrics}");
    drop(exporter);
    host.start_daemon();
    host.finish();
}

/// Prometheus' own checker reads the older text format, which has no `# EOF`, and counters
/// under their whole names.
fn approved_by_promtool(metrics: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(e) => return skip("promtool check metrics", &format!("no promtool: {e}")),
    };
    let mut older = String::new();
    let mut counter = "";
    for line in metrics.lines().filter(|l| *l != "# EOF") {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name)) => {
                let typed = format!("# TYPE {name} counter");
                counter = if metrics.contains(&typed) { name } else { "" };
                let whole = if counter.is_empty() {
                    name.to_owned()
                } else {
                    format!("{name}_total")
                };
                older += &line.replacen(name, &whole, 1);
            }
            (Some("#"), Some("TYPE"), Some(name)) if name == counter => {
                older += &line.replacen(name, &format!("{name}_total"), 1);
            }
            _ => older += line,
        }
        older.push('\n');
    }
    let mut stdin = promtool.stdin.take().expect("it was piped");
    stdin.write_all(older.as_bytes()).expect("it reads");
    drop(stdin);
    let out = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr) + String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}");
}

#[test]
fn counters_are_watched_until_nobody_reads() {
    let Some(host) = Host::loopback("stats --watch") else {
        return;
    };
    let ctl = daemon::ctl().display().to_string();
    let watch = format!("{ctl} stats --watch 0.1 | head -n 3");
    let out = host.command("bash").args(["-c", &watch]).output();
    let out = out.expect("bash runs");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.starts_with("COUNTER"), "{said}");
    assert!(said.contains("ADJUSTS"), "{said}");
    host.finish();
}
