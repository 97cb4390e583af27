//! The command: what it writes, and how it says no.

#![allow(clippy::tests_outside_test_module, reason = "an integration test")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs, process};

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
    let output = run(["--set", "seed=1e30", "--seeds", "2"]);
    assert!(output.status.success(), "{output:?}");
}
