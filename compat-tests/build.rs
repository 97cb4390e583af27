//! Compiles the C side of the tests: the layout tables into this crate, and
//! each C runtime into a program of its own, whose place the crate learns by
//! `CALISTO_C_RUNTIMES`.

use std::env;
use std::path::{Path, PathBuf};

/// Where the contract's headers lie, from this crate's directory.
const HEADERS: &str = "../c-headers";
/// What every C runtime is made of besides its own file.
const SHARED: &[&str] = &[
    "main", "region", "kthread", "packets", "frame", "tcp", "flows", "point",
];
/// The C runtimes.
const RUNTIMES: &[&str] = &["echo", "parker", "burner", "listener", "sender", "victim"];

fn main() {
    println!("cargo::rerun-if-changed={HEADERS}");
    println!("cargo::rerun-if-changed=c");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    build().file("c/layouts.c").compile("layouts");
    for runtime in RUNTIMES {
        link(runtime, &out);
    }
    println!("cargo::rustc-env=CALISTO_C_RUNTIMES={}", out.display());
}

/// C11, every warning an error, and fast enough to keep up in a debug build too.
fn build() -> cc::Build {
    let mut build = cc::Build::new();
    build
        .include(HEADERS)
        .std("c11")
        .opt_level(2)
        .define("_GNU_SOURCE", None)
        .warnings_into_errors(true)
        .extra_warnings(true);
    build
}

/// Compiles and links one runtime to `out/<name>`.
fn link(name: &str, out: &Path) {
    let mut cc = build().get_compiler().to_command();
    cc.args(SHARED.iter().chain([&name]).map(|f| format!("c/{f}.c")))
        .args(["-Werror", "-pthread", "-o"])
        .arg(out.join(name));
    let status = cc.status().expect("a C compiler (cc) must be installed");
    assert!(status.success(), "compiling the C runtime {name} failed");
}
