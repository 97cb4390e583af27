//! Cases that this machine cannot run: said loudly, or failed on demand.

use std::io::Write;

/// Set to `1` on machines where every case must run: a skip is then a failure.
pub const REQUIRE_VAR: &str = "CALISTO_REQUIRE";

/// Says that `case` does not run here, and why.
///
/// # Panics
/// When `CALISTO_REQUIRE=1` says that every case must run on this machine.
pub fn skip(case: &str, why: &str) {
    assert!(
        std::env::var(REQUIRE_VAR).as_deref() != Ok("1"),
        "{case} must run here ({REQUIRE_VAR}=1), but {why}"
    );
    // Straight to the stream, past the test harness's capture of eprintln: a
    // skip that nobody sees is a lie.
    let line = format!("SKIPPED: {case}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
