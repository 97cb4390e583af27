//! The command: what it writes, and how it says no.

#![allow(clippy::tests_outside_test_module, reason = "an integration test")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs, process};

use calisto_sim::Report;

/// A directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = env::temp_dir().join(format!("calisto-sim-{name}-{}", process::id()));
        fs::create_dir(&path).unwrap();
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `calisto-sim run` with small scenarios.
fn run(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_calisto-sim"))
        .args(["run", "--packets", "500", "--set", "flows=100"])
        .args(args)
        .output()
        .unwrap()
}

fn refused(output: &Output, code: i32, part: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(part), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_sweep_is_drawn() {
    let dir = Dir::new("drawn");
    let plots = dir.0.join("new").join("plots");
    let output = run([
        "--policy".as_ref(),
        "modulo,flow-table-strict".as_ref(),
        "--sweep".as_ref(),
        "load=5000,14000".as_ref(),
        "--seeds".as_ref(),
        "2".as_ref(),
        "--plot".as_ref(),
        plots.as_os_str(),
    ]);
    assert!(output.status.success(), "{output:?}");
    let expected = ["changed", "cores", "p50", "p99"]
        .iter()
        .flat_map(|name| ["png", "svg"].map(|kind| format!("{name}.{kind}")));
    assert_eq!(files(&plots), expected.collect::<Vec<_>>());
    let svg = fs::read_to_string(plots.join("p99.svg")).unwrap();
    for label in ["modulo", "flow-table-strict", "packets a second"] {
        assert!(svg.contains(label), "{label}");
    }
}

#[test]
fn what_cannot_be_drawn_is_said_before_anything_runs() {
    let dir = Dir::new("refused");
    let plots = dir.0.join("plots");
    let plot = ["--plot".as_ref(), plots.as_os_str()];
    refused(&run(plot), 2, "--plot needs a --sweep");
    let batch = dir.0.join("batch.toml");
    fs::write(&batch, "seconds = 0.01\n[[procs]]\nbatch = {}\n").unwrap();
    let sweep = [batch.as_os_str(), "--sweep".as_ref(), "cores=2,4".as_ref()];
    refused(&run(sweep.into_iter().chain(plot)), 2, "nothing to draw");
    assert!(!plots.exists());
    fs::write(&plots, "").unwrap();
    let sweep = ["--sweep".as_ref(), "cores=2,4".as_ref()];
    refused(
        &run(sweep.into_iter().chain(plot)),
        1,
        "cannot make the directory",
    );
}

#[test]
fn threads_change_nothing() {
    let dir = Dir::new("threads");
    let outputs = ["1", "2", "7"].map(|threads| {
        let path = |kind: &str| dir.0.join(format!("{threads}.{kind}"));
        let (csv, json) = (path("csv"), path("json"));
        let output = run([
            "--threads".as_ref(),
            threads.as_ref(),
            "--policy".as_ref(),
            "modulo,hybrid".as_ref(),
            "--sweep".as_ref(),
            "cores=2,4,8".as_ref(),
            "--seeds".as_ref(),
            "3".as_ref(),
            "--csv".as_ref(),
            csv.as_os_str(),
            "--json".as_ref(),
            json.as_os_str(),
        ]);
        assert!(output.status.success(), "{output:?}");
        let files = [csv, json].map(|path| fs::read(path).unwrap());
        (output.stdout, files)
    });
    let [first, others @ ..] = &outputs;
    let lines = String::from_utf8_lossy(&first.1[0]).lines().count();
    assert_eq!(lines, 1 + 3 * 2 * 3);
    assert!(others.iter().all(|other| other == first));
}

#[test]
fn a_sweep_with_a_value_that_cannot_be_is_refused() {
    let output = run(["--sweep", "cores=4,0"]);
    refused(&output, 2, "cores");
    assert!(output.stdout.is_empty());
    // No seed is beyond the last.
    let output = run(["--set", "seed=9007199254740992", "--seeds", "2"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn utilisation_is_of_the_cores_that_there_are_whatever_the_order() {
    let dir = Dir::new("order");
    let orders = [
        "--sweep utilisation=0.5 --sweep cores=2,10 --set service=20000",
        "--sweep cores=2,10 --set service=20000 --sweep utilisation=0.5",
        "--set utilisation=0.5 --set service=20000 --sweep cores=2,10",
        "--set service=20000 --set utilisation=0.5 --sweep cores=2,10",
        "--set utilisation=0.5 --sweep cores=2,10 --sweep service=20000",
    ];
    let reports = orders.map(|order| {
        let path = dir.0.join("out.json");
        let json = ["--json".as_ref(), path.as_os_str()];
        let output = run(order.split(' ').map(OsStr::new).chain(json));
        assert!(output.status.success(), "{output:?}");
        fs::read_to_string(path).unwrap()
    });
    let first: Vec<Report> = serde_json::from_str(&reports[0]).unwrap();
    let [two, ten] = &first[..] else {
        panic!("{} reports", first.len());
    };
    // The same packets come in a fifth of the time.
    let faster = two.seconds / ten.seconds;
    assert!((4.9..5.1).contains(&faster), "{faster}");
    for (order, report) in orders.iter().zip(&reports) {
        assert_eq!(report, &reports[0], "{order}");
    }
}

#[test]
fn settings_that_cannot_be_are_refused_in_one_line() {
    for (args, part) in [
        ("--sweep load=10..1..1", "upwards"),
        ("--set cores=4.7", "whole number"),
        ("--set load=1 --sweep utilisation=0.1,0.2", "give one"),
        ("--sweep cores=2 --sweep cores=4", "twice"),
        ("--threads 0", "--threads"),
        ("no.toml", "no.toml"),
        ("--machine ./no.toml", "no.toml"),
    ] {
        let output = run(args.split(' '));
        refused(&output, 2, part);
        assert!(output.stdout.is_empty());
        let error = String::from_utf8_lossy(&output.stderr);
        let reasons = error.matches("os error 2").count();
        assert_eq!(reasons, usize::from(args.contains("no.toml")), "{error}");
    }
}

/// What the program says to these arguments alone.
fn ask(program: &str, args: &[&str]) -> Output {
    let asked = Command::new(program).args(args).output();
    asked.expect("the program starts")
}

#[test]
fn bad_usage_is_one_line_and_questions_are_answered() {
    let sim = env!("CARGO_BIN_EXE_calisto-sim");
    let check = env!("CARGO_BIN_EXE_sim-check");
    let wrong: [(&str, &[&str], &str); 6] = [
        (sim, &[], "calisto-sim: a command is missing"),
        (sim, &["walk"], "walk"),
        (sim, &["run", "--packets", "x"], "--packets"),
        (
            sim,
            &["run", "--packets", "18446744073709551615"],
            "1000000000000 at most",
        ),
        (check, &[], "sim-check: "),
        (check, &["no.toml", "--speed"], "--speed"),
    ];
    for (program, args, part) in wrong {
        refused(&ask(program, args), 2, part);
    }
    for (program, name) in [(sim, "calisto-sim "), (check, "sim-check ")] {
        for question in ["--help", "--version"] {
            let output = ask(program, &[question]);
            assert!(output.status.success(), "{output:?}");
            let answer = String::from_utf8_lossy(&output.stdout);
            assert!(answer.contains(name), "{answer}");
            assert!(output.stderr.is_empty(), "{output:?}");
        }
    }
}
