//! Bad usage is said in one line.

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    fn ask(args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_experiment"))
            .args(args)
            .output()
            .expect("the program starts")
    }

    #[test]
    fn bad_usage_is_one_line_and_2() {
        let all_wrong: [(&[&str], &str); 3] = [
            (&[], "a command is missing"),
            (&["walk"], "walk"),
            (&["paper", "--speed"], "--speed"),
        ];
        for (args, part) in all_wrong {
            let output = ask(args);
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
            assert!(error.starts_with("experiment: "), "{error}");
            assert!(error.contains(part), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn questions_are_answered() {
        let questions: [&[&str]; 3] = [&["--help"], &["--version"], &["paper", "--help"]];
        for args in questions {
            let output = ask(args);
            assert!(output.status.success(), "{output:?}");
            let answer = String::from_utf8_lossy(&output.stdout);
            assert!(answer.contains("experiment"), "{answer}");
            assert!(output.stderr.is_empty(), "{output:?}");
        }
    }
}
