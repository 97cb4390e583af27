//! `spawner-server` and `runtime-client`, on an iokerneld with the loopback port.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

mod common;

use common::{Row, assert_samples, complaint, end, listening, rows, spawn, stop};
use compat_tests::Host;
use compat_tests::child::Child;

const ADDR: &str = "10.0.0.2:5000";
/// A client that takes two seconds.
const QUICK: &str = "-m runtime-client --ip 10.0.0.3 --rampup 0 --pause 0 --runtime 1 --mpps 0.002 --samples 2 --patience 20 --grace 60";

fn start(host: &Host, args: &str) -> Child {
    let mut command = host.command(env!("CARGO_BIN_EXE_synthetic"));
    spawn(command.args(args.split_whitespace()))
}

fn serve(host: &Host, args: &str) -> Child {
    listening(start(host, &format!("{ADDR} -m spawner-server {args}")))
}

/// A client against a server; the client's rows, and the server's report.
fn measure(case: &str, server: &str, client: &str) -> Option<(Vec<Row>, serde_json::Value)> {
    let host = Host::loopback(case)?;
    let server = serve(&host, &format!("{server} --json -"));
    let rows = assert_samples(start(&host, &format!("{ADDR} {QUICK} {client}")), 2);
    let said = stop(server);
    let report = said.last().expect("a report");
    let report = serde_json::from_str(report).expect("JSON");
    host.finish();
    Some((rows, report))
}

fn assert_all_answered(rows: &[Row]) {
    for row in rows {
        // Not what was never sent: that depends on how busy the machine is.
        assert_eq!(row.dropped, 0, "{rows:?}");
    }
}

#[test]
fn udp_answers_all() {
    let Some((rows, report)) = measure("synthetic over UDP", "--fakework sqrt", "-d zero") else {
        return;
    };
    assert_all_answered(&rows);
    assert!(report["requests"].as_u64() > Some(2000), "{report}");
    assert_eq!(
        report["requests"], report["runtime"]["datagrams"],
        "{report}"
    );
}

#[test]
fn tcp_answers_all() {
    let case = "synthetic over TCP";
    let Some((rows, report)) = measure(case, "--transport tcp", "--transport tcp --flows 20")
    else {
        return;
    };
    assert_all_answered(&rows);
    assert!(report["requests"].as_u64() > Some(2000), "{report}");
    assert_eq!(report["runtime"]["tcp_opened"], 20, "{report}");
}

#[test]
fn a_hundred_thousand_flows_on_four_kthreads() {
    let Some((rows, report)) = measure(
        "synthetic with many flows",
        "--kthreads 4 --guaranteed 2 --fakework flowmem:64:100000 --ports 10 --mac 02:00:00:00:00:02",
        "--kthreads 2 --threads 2 --flows 100000 --ports 10 --peer-mac 02:00:00:00:00:02",
    ) else {
        return;
    };
    assert_all_answered(&rows);
    assert_eq!(report["by_thread"].as_array().map(Vec::len), Some(4));
    assert_eq!(report["unsent"], 0, "{report}");
}

#[test]
fn tcp_between_several_kthreads() {
    let Some((rows, _)) = measure(
        "synthetic over TCP with several kthreads",
        "--transport tcp --kthreads 3 --guaranteed 1",
        "--transport tcp --kthreads 2 --flows 50",
    ) else {
        return;
    };
    assert_all_answered(&rows);
}

#[test]
fn a_configuration_of_upstream_is_understood() {
    let Some(host) = Host::loopback("synthetic with --config") else {
        return;
    };
    let path = host.dir().join("server.config");
    let text = "host_addr 10.0.0.2\nhost_netmask 255.255.255.0\nhost_gateway 10.0.0.1\n\
                runtime_kthreads 2\nruntime_guaranteed_kthreads 1\nruntime_spinning_kthreads 0\n";
    std::fs::write(&path, text).expect("a host has a directory");
    let server = serve(&host, &format!("--config {}", path.display()));
    assert_samples(start(&host, &format!("{ADDR} {QUICK}")), 2);
    stop(server);
    std::fs::write(&path, format!("{text}what_is_this 1\n")).expect("a host has a directory");
    let args = format!("{ADDR} -m spawner-server --config {}", path.display());
    let (code, said) = complaint(start(&host, &args));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("server.config:7"), "{said}");
    host.finish();
}

#[test]
fn nobody_there_is_one_line_and_1() {
    let Some(host) = Host::loopback("synthetic without a server") else {
        return;
    };
    for (transport, what) in [("udp", "no answer from"), ("tcp", "0 of 1 connections")] {
        let ask =
            format!("{ADDR} -m runtime-client --ip 10.0.0.3 --patience 1 --transport {transport}");
        let (code, said) = complaint(start(&host, &ask));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(what), "{said}");
    }
    // There is a host, but nobody listens.
    let server = serve(&host, "");
    let ask = "-m runtime-client --ip 10.0.0.3 --patience 5 --transport tcp";
    let (code, said) = complaint(start(&host, &format!("{ADDR} {ask}")));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot connect to 10.0.0.2:5000"), "{said}");
    stop(server);
    host.finish();
}

#[test]
fn a_server_that_dies_ends_the_client() {
    let Some(host) = Host::loopback("synthetic with a dying server") else {
        return;
    };
    let mut server = serve(&host, "");
    let ask = "-m runtime-client --ip 10.0.0.3 --rampup 0 --pause 0 --runtime 3 --mpps 0.002 --samples 2 --patience 1";
    let client = start(&host, &format!("{ADDR} {ask}"));
    client.wait_line(|l| l.starts_with("zero, "));
    server.kill();
    let (code, lines) = end(client);
    let said = lines.join("\n");
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(
        rows(&lines, "zero").len(),
        1,
        "the first sample stands: {said}"
    );
    // By whether it dies within a sample, or before the next one.
    assert!(said.contains("answer"), "{said}");
    host.finish();
}

#[test]
fn without_iokerneld_it_is_one_line_and_1() {
    let Some(host) = Host::loopback("synthetic without iokerneld") else {
        return;
    };
    let mut host = host;
    let server = serve(&host, "");
    host.daemon().kill();
    let (code, said) = complaint(server);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("iokerneld"), "{said}");
    for args in ["-m spawner-server", "-m runtime-client --ip 10.0.0.3"] {
        let (code, said) = complaint(start(&host, &format!("{ADDR} {args} --patience 0.5")));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("iokerneld"), "{said}");
    }
}

#[test]
fn an_address_that_a_server_has_is_refused_and_it_goes_on() {
    let Some(host) = Host::loopback("synthetic with an address in use") else {
        return;
    };
    let server = serve(&host, "");
    let (code, said) = complaint(start(&host, &format!("{ADDR} -m spawner-server")));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("10.0.0.2 is in use by "), "{said}");
    assert_samples(start(&host, &format!("{ADDR} {QUICK}")), 2);
    stop(server);
    host.finish();
}

#[test]
fn addresses_that_do_not_fit_are_usage() {
    let Some(host) = Host::loopback("synthetic with wrong addresses") else {
        return;
    };
    for (args, what) in [
        ("-m spawner-server --ip 10.0.0.9", "10.0.0.9"),
        ("-m runtime-client", "--ip"),
        ("-m runtime-client --ip 10.0.0.2", "own address"),
        (
            "-m runtime-client --ip 10.0.0.3 --flows 70000",
            "source ports",
        ),
        ("-m runtime-client --ip 10.0.0.3 --kthreads 0", "kthreads"),
        (
            "-m runtime-client --ip 10.0.0.3 --guaranteed 2",
            "guaranteed",
        ),
        ("-m runtime-client --ip 10.0.0.3 --mac 1:2", "--mac"),
        ("-m runtime-client --ip 10.0.0.3 --arp 10.0.0.2", "--arp"),
        ("-m runtime-client --config /nonexistent", "/nonexistent"),
    ] {
        let (code, said) = complaint(start(&host, &format!("{ADDR} {args}")));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(what), "{said}");
    }
    host.finish();
}
