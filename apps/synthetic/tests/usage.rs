//! Wrong command lines: one line that names what is wrong, and exit code 2.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use std::process::{Command, Output};

fn run(args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_synthetic"))
        .args(args.split_whitespace())
        .output()
        .expect("synthetic can be run")
}

#[track_caller]
fn refused(args: &str, what: &str) {
    let out = run(args);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{args}: {said}");
    assert!(said.contains(what), "{args}: {said}");
    assert_eq!(said.lines().count(), 1, "{args}: {said}");
    assert!(said.starts_with("synthetic: "), "{args}: {said}");
    assert!(out.stdout.is_empty(), "{args}");
}

#[test]
fn each_wrong_word_is_named() {
    for (args, what) in [
        ("", "<ADDR>"),
        ("127.0.0.1:5000", "--mode"),
        ("127.0.0.1 -m linux-client", "ADDR"),
        ("localhost:x -m linux-client", "ADDR"),
        ("127.0.0.1:0 -m linux-client", "127.0.0.1:0"),
        ("127.0.0.1:65535 -m linux-server --ports 2", "no 2 ports"),
        ("127.0.0.1:5000 -m local-client", "--mode"),
        ("127.0.0.1:5000 -m linux-client -p memcached", "--protocol"),
        (
            "127.0.0.1:5000 -m linux-client --transport sctp",
            "--transport",
        ),
        ("127.0.0.1:5000 -m linux-client -d gauss", "--distribution"),
        ("127.0.0.1:5000 -m linux-client -o loud", "--output"),
        ("127.0.0.1:5000 -m linux-client --mpps 0", "--mpps"),
        ("127.0.0.1:5000 -m linux-client --mpps inf", "--mpps"),
        ("127.0.0.1:5000 -m linux-client --mpps x", "--mpps"),
        (
            "127.0.0.1:5000 -m linux-client --start_mpps 1",
            "--start_mpps",
        ),
        ("127.0.0.1:5000 -m linux-client --mean=-1", "--mean"),
        ("127.0.0.1:5000 -m linux-client --samples 0", "--samples"),
        ("127.0.0.1:5000 -m linux-client --samples 10001", "10000"),
        (
            "127.0.0.1:5000 -m linux-client --samples 10000 --rampup 999999",
            "--rampup",
        ),
        ("127.0.0.1:5000 -m linux-client --runtime 0", "--runtime"),
        ("127.0.0.1:5000 -m linux-client --runtime soon", "--runtime"),
        ("127.0.0.1:5000 -m linux-client --pause=-1", "--pause"),
        ("127.0.0.1:5000 -m linux-client --discard 100", "--discard"),
        ("127.0.0.1:5000 -m linux-client --threads 0", "--threads"),
        ("127.0.0.1:5000 -m linux-client --flows 0", "--flows"),
        (
            "127.0.0.1:5000 -m linux-client --flows 1000001",
            "1 to 1000000",
        ),
        ("127.0.0.1:5000 -m linux-client --zipf=-2", "Zipf"),
        (
            "127.0.0.1:5000 -m linux-client --loadshift 5",
            "--loadshift",
        ),
        (
            "127.0.0.1:5000 -m linux-client --mpps 100 --runtime 60",
            "at most 50000000",
        ),
        (
            "127.0.0.1:5000 -m linux-client --fakework sqr",
            "--fakework",
        ),
        (
            "127.0.0.1:5000 -m linux-server --fakework randmem:x",
            "no number",
        ),
        ("127.0.0.1:5000 -m linux-server --threads 0", "--threads"),
        ("127.0.0.1:5000 -m linux-server --ports 0", "--ports"),
        (
            "127.0.0.1:5000 -m linux-client --no-such-flag",
            "--no-such-flag",
        ),
    ] {
        refused(args, what);
    }
}

#[test]
fn more_flows_than_files_is_said_before_anything_is_sent() {
    let out = Command::new("sh")
        .args(["-c", "ulimit -n 200 && exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_synthetic"))
        .args(["127.0.0.1:5000", "-m", "linux-client", "--flows", "1000"])
        .output()
        .expect("sh can be run");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("1065 open files"), "{said}");
}

#[test]
fn help_says_what_is_left_out() {
    let out = run("--help");
    assert!(out.status.success());
    let help = String::from_utf8_lossy(&out.stdout);
    for word in [
        "memcached",
        "spawner-server",
        "--start_mpps",
        "flowmem:SIZE:FLOWS",
    ] {
        assert!(help.contains(word), "{word}");
    }
}

#[test]
fn calibration_says_how_long_iterations_take() {
    for args in ["--calibrate --fakework sqrt", "127.0.0.1:1 -m work-bench"] {
        let out = run(args);
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{args}");
        let rate = said
            .strip_prefix("Rate = ")
            .and_then(|rest| rest.split_once(" ns/iteration"))
            .and_then(|(rate, _)| rate.parse::<f64>().ok());
        assert!(rate.is_some_and(|rate| rate > 0.0), "{args}: {said}");
    }
}
