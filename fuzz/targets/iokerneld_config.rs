//! Command lines of iokerneld, and the files that `--config` names.
#![no_main]

use std::ffi::OsString;

use arbitrary::Arbitrary;
use calisto::config::{Config, Stop};
use calisto_fuzz::text::{NamelessFile, assert_one_line};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    args: Vec<Arg<'a>>,
    file: Option<&'a str>,
}

#[derive(Debug, Arbitrary)]
enum Arg<'a> {
    /// A known option and any value.
    Option(u8, &'a str),
    /// A known option with a value that is good for some option.
    Good(u8, u8),
    /// Any word.
    Word(&'a str),
}

const OPTIONS: [&str; 20] = [
    "--port",
    "--policy",
    "--affinity",
    "--flow-entries",
    "--flow-idle",
    "--order-guard",
    "--watch-flows",
    "--cores",
    "--dataplane-core",
    "--control-core",
    "--no-smt",
    "--virtual-cores",
    "--idle",
    "--no-huge",
    "--shm-mode",
    "--allow-uid",
    "--dry-run",
    "-v",
    "--",
    "--help",
];
const VALUES: [&str; 14] = [
    "loopback", "dpdk:0", "hybrid", "modulo", "strict", "2-7,10", "0", "1", "4", "spin", "yield",
    "0777", "1000,0", "700000",
];

fuzz_target!(|input: Input| {
    let file = input.file.map(|text| NamelessFile::new(text.as_bytes()));
    let mut args: Vec<OsString> = vec!["iokerneld".into()];
    if let Some(file) = &file {
        args.push("--config".into());
        args.push(file.path().into());
    }
    for arg in input.args.iter().take(12) {
        match arg {
            Arg::Option(n, value) => {
                args.push(OPTIONS[usize::from(*n) % OPTIONS.len()].into());
                args.push(value.into());
            }
            Arg::Good(n, value) => {
                args.push(OPTIONS[usize::from(*n) % OPTIONS.len()].into());
                args.push(VALUES[usize::from(*value) % VALUES.len()].into());
            }
            Arg::Word(word) => args.push(word.into()),
        }
    }
    match Config::from_args(args) {
        Ok(config) => {
            assert_one_line(&config.steering_line());
            assert!(config.shm_mode <= 0o777);
            let cores = config.cores.unwrap_or_default();
            assert!(cores.is_sorted() && cores.iter().all(|cpu| *cpu < 256));
            let mut hashes: Vec<u32> = config.rules.iter().map(|r| r.selector.hash()).collect();
            hashes.sort_unstable();
            assert!(
                hashes.windows(2).all(|pair| pair[0] != pair[1]),
                "a rule twice"
            );
        }
        Err(Stop::Usage(line)) => assert_one_line(&line),
        Err(Stop::Answer(text)) => assert!(!text.is_empty()),
    }
});
