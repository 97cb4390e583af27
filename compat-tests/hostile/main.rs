//! `hostile`: the hostile runtimes, one by one or all of them.
//!
//! ```text
//!   hostile list            every case: name, row, what it does
//!   hostile run [CASE...]   runs these, or all, against our daemon
//!   hostile table [CASE...] the same, as a table of what became of each
//! ```
//!
//! `table` adds a column for upstream's C iokernel when `SHENANGO_IOKERNELD` names
//! a program that runs it. Needs root, veth pairs and DPDK, as the tests do.

use std::path::PathBuf;
use std::process::ExitCode;

use compat_tests::hostile::arena::{Arena, Outcome};
use compat_tests::hostile::upstream::Upstream;
use compat_tests::hostile::{self, Case};

const USAGE: &str = "usage: hostile list | run [CASE...] | table [CASE...]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["list"] => {
            for case in hostile::all() {
                println!("{:40} row {:2}  {}", case.name, case.row, case.does);
            }
            ExitCode::SUCCESS
        }
        ["run"] => run(&hostile::all().collect::<Vec<_>>()),
        ["run", ref names @ ..] => match named(names) {
            Ok(cases) => run(&cases),
            Err(name) => usage(&format!("there is no case {name}: see `hostile list`")),
        },
        ["table", ref names @ ..] => match named(names) {
            Ok(cases) if cases.is_empty() => table(&hostile::all().collect::<Vec<_>>()),
            Ok(cases) => table(&cases),
            Err(name) => usage(&format!("there is no case {name}: see `hostile list`")),
        },
        // What the harness starts.
        ["offend", name] => match hostile::named(name) {
            Some(case) => hostile::offend(case),
            None => usage(&format!("there is no case {name}: see `hostile list`")),
        },
        ["come"] => hostile::come(),
        _ => usage(USAGE),
    }
}

fn usage(line: &str) -> ExitCode {
    eprintln!("hostile: {line}");
    ExitCode::from(2)
}

fn named<'a>(names: &[&'a str]) -> Result<Vec<&'static Case>, &'a str> {
    let case = |name: &&'a str| hostile::named(name).ok_or(*name);
    names.iter().map(case).collect()
}

fn program() -> PathBuf {
    std::env::current_exe().expect("a running program has a path")
}

/// Runs cases against our daemon; after one that fails the rest gets a new one. What
/// became of each goes to `tell`. Says how many failed; `None` if none can run here.
fn run_ours(
    cases: &[&'static Case],
    mut tell: impl FnMut(&Case, Result<Option<Outcome>, String>),
) -> Option<usize> {
    let mut failed = 0;
    let mut arena = None;
    for case in cases {
        let mut used = match arena.take() {
            Some(arena) => arena,
            None => Arena::start("hostile runtimes", &program())?,
        };
        match used.run(case) {
            Ok(outcome) => {
                tell(case, Ok(outcome));
                arena = Some(used);
            }
            Err(why) => {
                tell(case, Err(why));
                failed += 1;
            }
        }
    }
    if let Some(arena) = arena {
        arena.finish();
    }
    Some(failed)
}

fn run(cases: &[&'static Case]) -> ExitCode {
    let failed = run_ours(cases, |case, outcome| match outcome {
        Ok(Some(outcome)) => println!("{:40} {outcome}", case.name),
        Ok(None) => println!("{:40} not run", case.name),
        Err(why) => println!("FAILED {why}"),
    });
    let Some(failed) = failed else {
        return ExitCode::FAILURE;
    };
    println!("{} cases, {failed} failed", cases.len());
    ExitCode::from(u8::from(failed > 0))
}

/// Ours first, then upstream's: each has the machine for itself.
fn table(cases: &[&'static Case]) -> ExitCode {
    let mut ours = Vec::new();
    let failed = run_ours(cases, |_, outcome| {
        ours.push(match outcome {
            Ok(Some(outcome)) => format!("survived: {outcome}"),
            Ok(None) => "not run".to_owned(),
            Err(_) => "FAILED: see `hostile run`".to_owned(),
        });
    });
    let Some(failed) = failed else {
        return ExitCode::FAILURE;
    };
    let mut upstream = Upstream::find(&program());
    println!("| case | row | ours | upstream |\n|---|---|---|---|");
    for (case, ours) in cases.iter().zip(ours) {
        let theirs = match &mut upstream {
            None => "not run".to_owned(),
            Some(upstream) => match upstream.run(case) {
                Ok(verdict) => verdict.to_string(),
                Err(why) => format!("cannot be run: {why}"),
            },
        };
        let row = match case.row {
            0 => "-".to_owned(),
            n => n.to_string(),
        };
        println!("| {} | {row} | {ours} | {theirs} |", case.name);
    }
    ExitCode::from(u8::from(failed > 0))
}
