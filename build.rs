//! Makes the Rust ABI types from `c-headers/` (bindgen); nothing else.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=c-headers/calisto");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("abi.rs");
    bindgen::Builder::default()
        .header("c-headers/calisto/abi.h")
        .clang_arg("-std=c11")
        .allowlist_file(".*c-headers/calisto/.*")
        .blocklist_item("lrpc_(producer|consumer|produce|consume|in_flight)")
        .use_core()
        .derive_default(true)
        .layout_tests(false)
        .prepend_enum_name(false)
        .generate()
        .expect("bindgen could not read c-headers/calisto/abi.h")
        .write_to_file(&out)
        .unwrap_or_else(|e| panic!("cannot write {}: {e}", out.display()));
}
