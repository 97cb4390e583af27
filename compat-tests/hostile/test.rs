//! Every hostile runtime, against one daemon: the daemon lives, the echo runtime
//! loses nothing, the offender alone is refused or detached, with its reason in the
//! log and in a counter, and everything it held comes back.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use std::path::Path;

use compat_tests::hostile::{self, arena::Arena};

#[test]
fn hostile_runtimes_harm_only_themselves() {
    let program = Path::new(env!("CARGO_BIN_EXE_hostile"));
    let Some(mut arena) = Arena::start("hostile runtimes", program) else {
        return;
    };
    for case in hostile::all() {
        let outcome = arena.run(case).unwrap_or_else(|why| panic!("{why}"));
        if let Some(outcome) = outcome {
            println!("{}: {:?}", case.name, outcome.reasons);
        }
    }
    arena.finish();
}
