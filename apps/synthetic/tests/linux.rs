//! `linux-server` and `linux-client`, over the loopback device of a namespace.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

mod common;

use std::time::Duration;

use common::{assert_samples, complaint, end, rows, serve, start, stop, world};

const ADDR: &str = "127.0.0.1:5000";
/// A client that takes two seconds.
const QUICK: &str =
    "-m linux-client --rampup 0 --pause 0 --runtime 1 --samples 2 --mpps 0.004 --grace 60";

#[test]
fn udp_and_tcp_answer_all() {
    for transport in ["udp", "tcp"] {
        let Some(space) = world("linux sockets") else {
            return;
        };
        let server = serve(
            &space,
            &format!("{ADDR} -m linux-server --transport {transport}"),
        );
        let client = start(&space, &format!("{ADDR} {QUICK} --transport {transport}"));
        let rows = assert_samples(client, 2);
        for row in &rows {
            assert_eq!(row.dropped, 0, "{row:?}");
        }
        let said = stop(server).join("\n");
        assert!(said.contains("served"), "{said}");
    }
}

#[test]
fn many_flows_to_many_ports_by_all_threads() {
    for transport in ["udp", "tcp"] {
        let Some(space) = world("many flows") else {
            return;
        };
        let json = tempfile::NamedTempFile::new().expect("a temporary file");
        let path = json.path().display();
        let server = serve(
            &space,
            &format!(
                "{ADDR} -m linux-server --transport {transport} --ports 5 -t 2 \
                 --fakework flowmem:256:100 --json {path}"
            ),
        );
        let client = start(
            &space,
            &format!(
                "{ADDR} {QUICK} --transport {transport} --ports 5 -t 2 --flows 300 --zipf 0.5"
            ),
        );
        assert_samples(client, 2);
        stop(server);
        let text = std::fs::read_to_string(json.path()).expect("the report");
        let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let by_thread = report["by_thread"].as_array().expect("counts");
        assert_eq!(by_thread.len(), 2);
        assert!(by_thread.iter().all(|n| n.as_u64() > Some(0)), "{report}");
        assert_eq!(report["malformed"], 0);
    }
}

#[test]
fn json_has_an_object_for_each_sample() {
    let Some(space) = world("JSON") else { return };
    let server = serve(&space, &format!("{ADDR} -m linux-server --fakework sqrt"));
    let client = start(
        &space,
        &format!("{ADDR} {QUICK} -d exponential --seed 5 --json -"),
    );
    let (code, lines) = end(client);
    assert_eq!(code, Some(0), "{lines:?}");
    let objects: Vec<serde_json::Value> = lines
        .iter()
        .map(|l| serde_json::from_str(l).expect("nothing but JSON"))
        .collect();
    assert_eq!(objects.len(), 2);
    for (object, seed) in objects.iter().zip(5..) {
        assert_eq!(object["seed"], seed);
        assert_eq!(object["distribution"], "exponential");
        let number = |name: &str| object[name].as_u64().expect(name);
        assert_eq!(number("scheduled"), number("sent") + number("never_sent"));
        assert_eq!(number("sent"), number("answered") + number("dropped"));
        assert!(object["min"].as_f64() <= object["p50"].as_f64());
    }
    stop(server);
}

#[test]
fn traces_and_buckets_name_each_request() {
    let Some(space) = world("traces") else { return };
    let server = serve(&space, &format!("{ADDR} -m linux-server"));
    let (_, lines) = end(start(&space, &format!("{ADDR} {QUICK} -o trace")));
    let traces: Vec<&String> = lines.iter().filter(|l| l.starts_with("Trace: ")).collect();
    assert_eq!(traces.len(), 2, "{lines:?}");
    assert!(
        traces[1]
            .split(' ')
            .all(|w| w.is_empty() || w == "Trace:" || w.split(':').count() == 3)
    );
    let shift = format!("{ADDR} -m linux-client --pause 0 --loadshift 2000:300000,4000:300000");
    let (code, lines) = end(start(&space, &shift));
    assert_eq!(code, Some(0));
    assert_eq!(rows(&lines, "zero").len(), 2, "a row for each load");
    stop(server);
}

#[test]
fn a_load_that_cannot_be_made_is_never_sent() {
    let Some(space) = world("too high a load") else {
        return;
    };
    let server = serve(&space, &format!("{ADDR} -m linux-server"));
    // Eight million a second by one thread: no machine makes them. A server that has
    // the same CPU may not answer for a while.
    let ask = "-m linux-client --rampup 0 --pause 0 --runtime 0.5 --samples 1 --mpps 8";
    let (code, lines) = end(start(&space, &format!("{ADDR} {ask}")));
    assert_eq!(code, Some(0), "{lines:?}");
    let rows = rows(&lines, "zero");
    assert_eq!(rows.len(), 1, "{lines:?}");
    assert!(rows[0].never_sent > 0, "{lines:?}");
    assert!(rows[0].actual > 0, "{lines:?}");
    assert!(rows[0].target < 8_000_000, "{lines:?}");
    stop(server);
}

/// A sample in whose middle the client stands still for 0.7 s.
fn stalled(timed_from: &str) -> Option<common::Row> {
    let space = world("a client that stalls")?;
    let server = serve(&space, &format!("{ADDR} -m linux-server"));
    let ask =
        "-m linux-client --rampup 0 --pause 0 --samples 1 --runtime 2 --mpps 0.004 --progress";
    let mut client = start(&space, &format!("{ADDR} {ask} --timed-from {timed_from}"));
    client.wait_line(|l| l.contains("sent,"));
    client.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(700));
    client.signal(libc::SIGCONT);
    let row = assert_samples(client, 1).remove(0);
    stop(server);
    Some(row)
}

#[test]
fn a_stall_is_in_the_latencies() {
    let Some(row) = stalled("due") else { return };
    // A third of the requests were due meanwhile; half of these waited more than 0.35 s.
    assert!(row.never_sent < 500, "{row:?}");
    assert!(row.percentiles[1] > 200_000.0, "{row:?}");
}

#[test]
fn a_stall_is_hidden_in_upstreams_way() {
    let Some(row) = stalled("sent") else { return };
    assert!(row.never_sent > 1500, "{row:?}");
}

#[test]
fn nobody_there_is_one_line_and_1() {
    for (transport, what) in [("udp", "no answer from"), ("tcp", "cannot connect to")] {
        let Some(space) = world("no server") else {
            return;
        };
        let ask = format!("{ADDR} {QUICK} --transport {transport} --patience 1");
        let (code, said) = complaint(start(&space, &ask));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(what) && said.contains(ADDR), "{said}");
    }
}

#[test]
fn a_server_that_dies_ends_the_client() {
    for (transport, what) in [("udp", "stopped answering"), ("tcp", "ended a connection")] {
        let Some(space) = world("a dying server") else {
            return;
        };
        let mut server = serve(
            &space,
            &format!("{ADDR} -m linux-server --transport {transport}"),
        );
        let ask = "-m linux-client --rampup 0 --pause 0 --samples 2 --mpps 0.004 --runtime 2 --patience 1";
        let client = start(&space, &format!("{ADDR} {ask} --transport {transport}"));
        // In the middle of the second sample.
        client.wait_line(|l| l.starts_with("zero, "));
        std::thread::sleep(Duration::from_millis(500));
        server.kill();
        let (code, lines) = end(client);
        let said = lines.join("\n");
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(
            rows(&lines, "zero").len(),
            1,
            "the first sample stands: {said}"
        );
        let closed = transport == "tcp" && said.contains("closed a connection");
        assert!(said.contains(what) || closed, "{said}");
        assert!(said.contains("in sample 2 of 2"), "{said}");
    }
}

#[test]
fn an_address_in_use_is_one_line_and_1() {
    for transport in ["udp", "tcp"] {
        let Some(space) = world("an address in use") else {
            return;
        };
        let serve_there = format!("{ADDR} -m linux-server -t 2 --transport {transport}");
        let server = serve(&space, &serve_there);
        let (code, said) = complaint(start(&space, &serve_there));
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("already in use") || said.contains("Address already"),
            "{said}"
        );
        let (code, said) = complaint(start(&space, "192.0.2.1:5000 -m linux-server"));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("address of this machine"), "{said}");
        stop(server);
    }
}

#[test]
fn a_request_of_centuries_does_not_hold_up_the_end() {
    let Some(space) = world("endless work") else {
        return;
    };
    let server = serve(&space, &format!("{ADDR} -m linux-server --fakework sqrt"));
    let ask =
        "-m linux-client --rampup 0 --pause 0 --samples 1 --mpps 0.001 --runtime 5 --patience 1";
    let client = start(&space, &format!("{ADDR} {ask} -d constant --mean 1e18"));
    let (code, said) = complaint(client);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("stopped answering"), "{said}");
    stop(server);
}
