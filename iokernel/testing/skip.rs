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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Output};

    const CHILD: &str = "CALISTO_SKIP_CHILD";

    /// This test again, in a process whose harness captures as usual.
    fn child(require: &str) -> Output {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "testing::skip::tests::a_skip_is_seen_or_fails",
                "--exact",
                "--test-threads=1",
            ])
            .env(CHILD, "1")
            .env(REQUIRE_VAR, require)
            .output()
            .unwrap()
    }

    #[test]
    fn a_skip_is_seen_or_fails() {
        if std::env::var_os(CHILD).is_some() {
            return skip("this case", "of no reason");
        }
        let seen = child("0");
        assert!(seen.status.success());
        let text = String::from_utf8_lossy(&seen.stderr);
        assert_eq!(text, "SKIPPED: this case: of no reason\n");
        assert!(!child("1").status.success());
    }
}
