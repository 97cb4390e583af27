//! What the programs say on a terminal: answers on standard output, and refusals of
//! one line.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

/// Writes to standard output. A reader that went away (`--help | head -1`) has what
/// it wanted.
///
/// # Errors
/// Any other failure of writing.
pub fn answer(text: &str) -> io::Result<()> {
    tell(text).map(drop)
}

/// The same, for who has more to say: false if nobody reads any more.
///
/// # Errors
/// As [`answer`].
pub fn tell(text: &str) -> io::Result<bool> {
    let mut stdout = io::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(e),
    }
}

/// Reads the command line of the program whose name `C` has.
///
/// # Errors
/// The exit code, when there is nothing to run: success if the command line asked for
/// `--help` or `--version`, which were answered; 2 if it is wrong, and one line said why.
pub fn arguments<C: Parser>() -> Result<C, ExitCode> {
    C::try_parse().map_err(|error| {
        let command = C::command();
        let name = command.get_name();
        let Some(line) = refusal(&error) else {
            return match answer(&error.to_string()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    eprintln!("{name}: cannot write to standard output: {e}");
                    ExitCode::FAILURE
                }
            };
        };
        eprintln!("{name}: {line}");
        ExitCode::from(2)
    })
}

/// What is wrong with a command line; nothing if it asked for an answer.
fn refusal(error: &clap::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Some("a command is missing: see --help".to_owned())
        }
        _ => Some(one_line(&error.to_string(), "see --help")),
    }
}

/// The complaint in clap's message, with what it takes to be meant, or else `hint`.
pub fn one_line(message: &str, hint: &str) -> String {
    let mut lines = message.lines().map(str::trim);
    // The complaint ends at an empty line.
    let complaint: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let complaint = complaint.join(" ");
    let complaint = complaint.strip_prefix("error: ").unwrap_or(&complaint);
    match lines.find_map(|line| line.strip_prefix("tip: ")) {
        Some(tip) if tip.contains("similar") => format!("{complaint}: {tip}"),
        _ => format!("{complaint}: {hint}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaint_becomes_one_line() {
        let missing = "error: these are missing:\n  --core <N>\n  --hash <H>\n\nUsage: x\n";
        assert_eq!(
            one_line(missing, "see --help"),
            "these are missing: --core <N> --hash <H>: see --help"
        );
        let misspelt = "error: unexpected `--cor`\n\n  tip: a similar argument exists: '--core'\n";
        assert_eq!(
            one_line(misspelt, "see --help"),
            "unexpected `--cor`: a similar argument exists: '--core'"
        );
    }

    #[derive(Debug, Parser)]
    #[command(version)]
    struct Args {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Command {
        Run {
            #[arg(long)]
            packets: u64,
        },
    }

    #[test]
    fn questions_are_answered_and_all_else_is_refused_in_one_line() {
        let refused = |args: &[&str]| {
            let args = ["program"].iter().chain(args);
            refusal(&Args::try_parse_from(args).expect_err("nothing to run"))
        };
        let questions: [&[&str]; 3] = [&["--help"], &["--version"], &["run", "--help"]];
        for question in questions {
            assert_eq!(refused(question), None, "{question:?}");
        }
        let all_wrong: [(&[&str], &str); 5] = [
            (&[], "a command is missing"),
            (&["walk"], "walk"),
            (&["run"], "--packets"),
            (&["run", "--packets", "x"], "invalid digit"),
            (&["run", "--packet", "1"], "--packets"),
        ];
        for (wrong, part) in all_wrong {
            let line = refused(wrong).expect("no question");
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        }
    }
}
