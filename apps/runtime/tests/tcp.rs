//! TCP over the loopback port, between our runtimes and C ones.
#![allow(clippy::tests_outside_test_module, reason = "a test of its own")]

mod support;

use compat_tests::{Host, Runtime, runtime};
use support::{Counts, Example};

fn share(c: &Counts) -> f64 {
    let (foreign, own) = (c.get("foreign_segments"), c.get("own_segments"));
    #[allow(clippy::cast_precision_loss, reason = "small counts")]
    let share = 100.0 * foreign as f64 / (foreign + own) as f64;
    share
}

/// Many connections between runtimes of four kthreads, under a policy.
fn many_connections(policy: &str) {
    let case = format!("TCP echo under {policy}");
    let options = ["--virtual-cores", "4", "--policy", policy];
    let Some(host) = Host::loopback_with(&case, &options) else {
        return;
    };
    let echo = Example::start(&host, "echo", 2, "--kthreads 4 --guaranteed 2");
    let client = "--kthreads 4 --guaranteed 2 --connections 400 --at-once 100 --bytes 30000";
    let client = Example::start(&host, "client", 3, client).wait();
    assert_eq!(client.get("connections_over"), 400, "{client:?}");
    client.assert_zero(&["connections_failed", "wrong", "bad_messages"]);
    assert_eq!(client.get("tcp_opened"), 400);
    let echo = echo.stop();
    assert_eq!(echo.get("tcp_opened"), 400);
    echo.assert_zero(&["bad_messages", "dropped_malformed"]);
    // To be seen with --nocapture: what a policy costs.
    println!(
        "{policy}: segments on another kthread than their connection's: \
         server {:.1} %, client {:.1} %",
        share(&echo),
        share(&client)
    );
    host.finish();
}

#[test]
fn connections_survive_flow_table() {
    many_connections("flow-table");
}

#[test]
fn connections_survive_modulo() {
    many_connections("modulo");
}

#[test]
fn connections_survive_the_loss_of_cores() {
    let Some(host) = Host::loopback("TCP beside a burner") else {
        return;
    };
    let echo = Example::start(&host, "echo", 2, "--kthreads 4 --guaranteed 1");
    let burner = "--kthreads 4 --guaranteed 2 burn --pieces 100000000 --rest-after 3";
    let burner = Example::start(&host, "exercise", 4, burner);
    let client = "--kthreads 4 --guaranteed 1 --connections 200 --at-once 50 --bytes 20000";
    let client = Example::start(&host, "client", 3, client).wait();
    assert_eq!(client.get("connections_over"), 200, "{client:?}");
    client.assert_zero(&["connections_failed", "wrong", "bad_messages"]);
    drop(burner);
    echo.stop().assert_zero(&["bad_messages"]);
    host.finish();
}

#[test]
fn a_c_runtime_echoes_our_connections() {
    let Some(host) = Host::loopback("TCP with a C runtime") else {
        return;
    };
    let echo = host.start(Runtime::echo(9));
    let to = runtime::ip(9);
    // One kthread: with several a segment can overtake another, and what then falls
    // outside smoltcp's few gaps must be sent again, which the C runtime's TCP never does.
    let options = format!("--kthreads 1 --connections 20 --at-once 4 --bytes 9000 --to {to}:7");
    let client = Example::start(&host, "client", 3, &options).wait();
    assert_eq!(client.get("connections_over"), 20, "{client:?}");
    client.assert_zero(&["connections_failed", "wrong"]);
    let report = echo.stop();
    report.assert_good();
    assert_eq!(report.get("tcp_accepted"), 20);
    host.finish();
}

#[test]
fn a_port_that_nobody_listens_on_refuses() {
    let Some(host) = Host::loopback("TCP to a closed port") else {
        return;
    };
    let echo = Example::start(&host, "echo", 2, "");
    let client = "--connections 10 --at-once 5 --to 10.0.0.2:8";
    let client = Example::start(&host, "client", 3, client).wait();
    assert_eq!(client.get("connections_failed"), 10, "{client:?}");
    assert_eq!(client.get("tcp_opened"), 0);
    echo.stop();
    host.finish();
}
