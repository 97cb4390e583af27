//! What the programs answer when nobody reads it, as in `iokerneld --help | true`.
//!
//! The binary runs with a pipe as its standard output whose reading end is closed
//! before it starts, so every write fails; or with a device that is always full.

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::process::{Command, Output, Stdio};

    /// Questions that are answered on standard output.
    const QUESTIONS: [&[&str]; 5] = [
        &[DAEMON, "--help"],
        &[DAEMON, "--version"],
        &[DAEMON, "--port", "loopback", "--no-huge", "--dry-run"],
        &[CTL, "--help"],
        &[CTL, "--version"],
    ];

    const DAEMON: &str = env!("CARGO_BIN_EXE_iokerneld");
    const CTL: &str = env!("CARGO_BIN_EXE_calistoctl");

    fn ask(question: &[&str], stdout: Stdio) -> Output {
        Command::new(question[0])
            .args(&question[1..])
            .stdout(stdout)
            .stderr(Stdio::piped())
            .output()
            .unwrap()
    }

    #[test]
    fn an_answer_that_nobody_reads_is_no_failure() {
        for question in QUESTIONS {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let output = ask(question, writer.into());
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{question:?}: {text}");
            assert_eq!(text, "", "{question:?}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_written_is_a_failure_of_one_line() {
        for question in QUESTIONS {
            let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
            let output = ask(question, full.into());
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{question:?}: {text}");
            let name = question[0].rsplit('/').next().unwrap();
            let expected = format!("{name}: cannot write to standard output: ");
            assert!(text.starts_with(&expected), "{question:?}: {text}");
            assert_eq!(text.lines().count(), 1, "{question:?}: {text}");
        }
    }
}
