//! The demo and the experiment as their scripts start them, but short.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    use compat_tests::daemon;
    use compat_tests::namespace::Namespaces;

    const EXPERIMENT: &str = env!("CARGO_BIN_EXE_experiment");

    /// A folder for one test's output, gone with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("calisto-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("the folder for temporary files is writable");
            Folder(path)
        }

        fn has(&self, name: &str) -> bool {
            fs::metadata(self.0.join(name)).is_ok_and(|m| m.len() > 0)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Where iokerneld and synthetic lie: they are built first.
    fn bin() -> &'static Path {
        daemon::build("calisto-synthetic", "synthetic");
        daemon::binary().parent().expect("it lies in a folder")
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// One line on standard error, exit code 1.
    fn refused(output: &Output, why: &str) {
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    #[test]
    fn the_demo_sweeps_both_policies_and_plots() {
        let space = match Namespaces::new() {
            Ok(space) => space,
            Err(e) => {
                eprintln!("SKIPPED: no namespaces here: {e}");
                return;
            }
        };
        let folder = Folder::new("demo");
        let mut command = space.command(EXPERIMENT);
        command.args(["demo", "--load", "4000", "--steps", "2", "--rounds", "1"]);
        command.args(["--seconds", "1", "--flows", "50", "--mean", "100"]);
        command.arg("--bin").arg(bin()).arg("--out").arg(&folder.0);
        let output = command.output().expect("it can be run");
        let said = text(&output.stdout);
        assert!(output.status.success(), "{said}{}", text(&output.stderr));
        for policy in ["modulo", "flow-table"] {
            let lines = said.lines().filter(|l| l.starts_with(policy));
            assert_eq!(lines.count(), 2, "{said}");
        }
        for name in ["p99.svg", "p99.png", "changed-core.svg", "changed-core.png"] {
            assert!(folder.has(name), "{name} is missing");
        }
        let samples = fs::read_to_string(folder.0.join("samples.jsonl")).expect("it is there");
        for line in samples.lines() {
            let sample: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let packets = sample["moves"]["packets"].as_u64().expect("a number");
            assert!(packets > 500, "{line}");
            assert!(sample["latency"]["p99"].as_f64().is_some(), "{line}");
        }
        assert_eq!(samples.lines().count(), 4);
    }

    #[test]
    fn a_full_disk_behind_standard_output_loses_no_run() {
        let Ok(space) = Namespaces::new() else {
            eprintln!("SKIPPED: no namespaces here");
            return;
        };
        let folder = Folder::new("full");
        let full = fs::File::options().write(true).open("/dev/full");
        let mut command = space.command(EXPERIMENT);
        command.args(["demo", "--policies", "modulo", "--load", "2000"]);
        command.args([
            "--steps",
            "1",
            "--rounds",
            "1",
            "--seconds",
            "1",
            "--mean",
            "100",
        ]);
        command.arg("--bin").arg(bin()).arg("--out").arg(&folder.0);
        command.stdout(full.expect("Linux has it"));
        let output = command.output().expect("it can be run");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot write to standard output"), "{said}");
        assert!(folder.has("samples.jsonl") && folder.has("p99.svg"));
    }

    #[test]
    fn a_missing_program_is_named() {
        let folder = Folder::new("no-programs");
        let mut command = Command::new(EXPERIMENT);
        command.arg("demo").arg("--bin").arg(&folder.0);
        command.arg("--out").arg(&folder.0);
        refused(
            &command.output().expect("it can be run"),
            "iokerneld is not there: cargo build",
        );
    }

    #[test]
    fn a_policy_that_iokerneld_does_not_know_is_its_own_line() {
        let folder = Folder::new("no-policy");
        let mut command = Command::new(EXPERIMENT);
        command.args(["demo", "--policies", "best"]);
        command.arg("--bin").arg(bin()).arg("--out").arg(&folder.0);
        refused(&command.output().expect("it can be run"), "best");
    }

    #[test]
    fn the_simulated_part_writes_a_report() {
        let folder = Folder::new("report");
        let mut command = Command::new(EXPERIMENT);
        command.args([
            "paper",
            "--only",
            "simulated",
            "--packets",
            "200",
            "--seeds",
            "1",
        ]);
        command.arg("--out").arg(&folder.0);
        let output = command.output().expect("it can be run");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report = fs::read_to_string(folder.0.join("report.md")).expect("it is there");
        for part in [
            "## The paper's claims",
            "## Can a gain at the paper's load come from affinity?",
            "## Does smarter steering not matter",
            "## Where affinity pays",
            "## Past the paper",
            "## Is the simulator right?",
        ] {
            assert!(report.contains(part), "{part} is missing");
        }
        // Every picture that is shown is there.
        let pictures = report.split("](").skip(1);
        let pictures: Vec<&str> = pictures
            .filter_map(|p| p.split_once(".svg)"))
            .map(|p| p.0)
            .collect();
        assert!(pictures.len() >= 6);
        for name in pictures {
            assert!(folder.has(&format!("{name}.svg")) && folder.has(&format!("{name}.png")));
        }
    }
}
