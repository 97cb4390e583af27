//! Compiles the C side of the tests: the layout tables into this crate, and
//! each C runtime into a program of its own.

use std::env;
use std::path::PathBuf;

/// Where the contract's headers lie, from this crate's directory.
const HEADERS: &str = "../c-headers";

fn main() {
    println!("cargo::rerun-if-changed={HEADERS}");
    println!("cargo::rerun-if-changed=c");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    cc::Build::new()
        .file("c/layouts.c")
        .include(HEADERS)
        .std("c11")
        .warnings_into_errors(true)
        .extra_warnings(true)
        .compile("layouts");
    let _ = out;
}
