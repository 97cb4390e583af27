//! Starting `synthetic` inside a network namespace, and reading its table.

#![allow(dead_code, reason = "each test crate uses its own part")]

use std::process::Command;

use compat_tests::child::Child;
use compat_tests::namespace::Namespaces;
use compat_tests::skip;

/// How the table begins.
pub(crate) const HEADER: &str = "Distribution, Target, Actual, Dropped, Never Sent, Median";

/// A world of its own with a loopback device that is up; `None`, said loudly, where
/// that is not allowed.
pub(crate) fn world(case: &str) -> Option<Namespaces> {
    let space = match Namespaces::new() {
        Ok(space) => space,
        Err(e) => {
            skip(case, &format!("namespaces are not allowed here: {e}"));
            return None;
        }
    };
    let up = space
        .command("ip")
        .args(["link", "set", "lo", "up"])
        .output();
    match up {
        Ok(out) if out.status.success() => Some(space),
        other => {
            skip(
                case,
                &format!("no loopback device in a namespace: {other:?}"),
            );
            None
        }
    }
}

/// `synthetic` with arguments by words, inside `space`.
pub(crate) fn start(space: &Namespaces, args: &str) -> Child {
    let mut command = space.command(env!("CARGO_BIN_EXE_synthetic"));
    spawn(command.args(args.split_whitespace()))
}

/// Starts a command that runs `synthetic`.
pub(crate) fn spawn(command: &mut Command) -> Child {
    Child::spawn("synthetic", command).expect("synthetic can be run")
}

/// Starts a server, and waits until it listens.
pub(crate) fn serve(space: &Namespaces, args: &str) -> Child {
    listening(start(space, args))
}

/// Waits until a server listens.
pub(crate) fn listening(server: Child) -> Child {
    let line = server.wait_line(|l| l.starts_with("Bound to address"));
    assert!(line.is_some(), "no server: {:?}", server.lines());
    server
}

/// Waits for its end; returns its exit code and what it said.
pub(crate) fn end(mut child: Child) -> (Option<i32>, Vec<String>) {
    let status = child.wait();
    (status.code(), child.lines())
}

/// Ends a server as an operator does; returns what it said.
pub(crate) fn stop(mut server: Child) -> Vec<String> {
    server.signal(libc::SIGINT);
    let (code, lines) = end(server);
    assert_eq!(code, Some(0), "{lines:?}");
    lines
}

/// The columns of a row, without the distribution's name and the start.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) target: u64,
    pub(crate) actual: u64,
    pub(crate) dropped: u64,
    pub(crate) never_sent: u64,
    pub(crate) percentiles: Vec<f64>,
}

/// The rows of a table, whose distribution is `name`.
pub(crate) fn rows(lines: &[String], name: &str) -> Vec<Row> {
    assert!(
        lines.iter().any(|l| l.starts_with(HEADER)),
        "no table: {lines:?}"
    );
    let row = |line: &String| {
        let words: Vec<&str> = line.split(", ").collect();
        let number = |i: usize| words[i].parse::<u64>().expect("a count");
        let last = words.len() - 1;
        Row {
            target: number(1),
            actual: number(2),
            dropped: number(3),
            never_sent: number(4),
            percentiles: words[5..last]
                .iter()
                .map(|w| w.parse().expect("a time"))
                .collect(),
        }
    };
    let begin = format!("{name}, ");
    lines
        .iter()
        .filter(|l| l.starts_with(&begin))
        .map(row)
        .collect()
}

/// Asserts that a client succeeded with `samples` rows, each with answers to all that was
/// sent, but for those that a busy machine may lose.
pub(crate) fn assert_samples(client: Child, samples: usize) -> Vec<Row> {
    let (code, lines) = end(client);
    assert_eq!(code, Some(0), "{lines:?}");
    let rows = rows(&lines, "zero");
    assert_eq!(rows.len(), samples, "{lines:?}");
    for row in &rows {
        assert!(row.actual > 0, "{lines:?}");
        assert_eq!(row.percentiles.len(), 5, "{lines:?}");
        assert!(row.percentiles.is_sorted(), "{lines:?}");
    }
    rows
}

/// The one line of a failure, and the exit code.
pub(crate) fn complaint(child: Child) -> (Option<i32>, String) {
    let (code, lines) = end(child);
    let mut said: Vec<&String> = lines
        .iter()
        .filter(|l| l.starts_with("synthetic: "))
        .collect();
    assert_eq!(said.len(), 1, "one line: {lines:?}");
    (code, said.remove(0).clone())
}
