//! Running the examples as runtimes of a host.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod linux;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

use compat_tests::Host;
use compat_tests::child::Child;

/// Where the examples are. Built here, for cargo does not build them for every way of testing.
fn examples() -> &'static PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let exe = std::env::current_exe().expect("a running test has a path");
        // target/<profile>/deps/<test>
        let profile = exe.ancestors().nth(2).expect("tests lie in <profile>/deps");
        let target = profile
            .parent()
            .expect("a profile lies in the target directory");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "-p", "calisto-runtime", "--examples"]);
        cargo.arg("--target-dir").arg(target);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        if !cfg!(feature = "dpdk") {
            cargo.arg("--no-default-features");
        }
        let out = cargo.output().expect("cargo can be run");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "the examples do not build:\n{said}");
        profile.join("examples")
    })
}

/// A running example; killed on drop.
pub(crate) struct Example(Child);

/// What it printed at its end.
#[derive(Debug)]
pub(crate) struct Counts(BTreeMap<String, u64>);

impl Example {
    /// Starts `name` with the address 10.0.0.`number` and `options`, separated by spaces.
    pub(crate) fn spawn(host: &Host, name: &str, number: u16, options: &str) -> Example {
        let addr = format!("10.0.0.{number}");
        Example::spawn_as(host, name, &addr, &mac(number), options)
    }

    /// The same with these addresses.
    pub(crate) fn spawn_as(
        host: &Host,
        name: &str,
        addr: &str,
        mac: &str,
        options: &str,
    ) -> Example {
        let mut command = host.command(examples().join(name));
        command.args(["--addr", addr, "--mac", mac]);
        command.args(options.split_whitespace());
        // Also then a failure is one line.
        command.env("RUST_BACKTRACE", "1");
        let child = Child::spawn(format!("{name} {addr}"), &mut command);
        Example(child.expect("an example can be run"))
    }

    /// The same, and waits until it has registered.
    pub(crate) fn start(host: &Host, name: &str, number: u16, options: &str) -> Example {
        let example = Example::spawn(host, name, number, options);
        let started = example.0.wait_line(|l| l == "started");
        assert!(started.is_some(), "{name}:\n{}", example.said());
        example
    }

    /// Everything it wrote so far.
    pub(crate) fn said(&self) -> String {
        self.0.lines().join("\n")
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Waits for its end, however that is.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = self.0.wait();
        (status, self.said())
    }

    /// Waits for its good end, for its counts.
    pub(crate) fn wait(mut self) -> Counts {
        let status = self.0.wait();
        assert!(
            status.success(),
            "{}: {status}:\n{}",
            self.0.name(),
            self.said()
        );
        let pair = |line: &String| {
            let (name, count) = line.split_once(' ')?;
            Some((name.to_owned(), count.parse().ok()?))
        };
        Counts(self.0.lines().iter().filter_map(pair).collect())
    }

    /// Asks it to end, for its counts.
    pub(crate) fn stop(mut self) -> Counts {
        self.0.signal(libc::SIGTERM);
        self.wait()
    }
}

impl Counts {
    /// One count.
    pub(crate) fn get(&self, name: &str) -> u64 {
        *self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("no count {name}: {self:?}"))
    }

    /// Asserts that all of these are 0.
    pub(crate) fn assert_zero(&self, names: &[&str]) {
        for name in names {
            assert_eq!(self.get(name), 0, "{name}: {self:?}");
        }
    }

    /// Asserts that none of these is 0.
    pub(crate) fn assert_seen(&self, names: &[&str]) {
        for name in names {
            assert_ne!(self.get(name), 0, "{name}: {self:?}");
        }
    }
}

/// The Ethernet address of example `number`.
pub(crate) fn mac(number: u16) -> String {
    format!("02:ca:11:57:00:{number:02x}")
}
