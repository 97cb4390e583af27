//! What the programs say on a terminal: answers on standard output, and refusals of
//! one line.

use std::io::{self, Write};

/// Writes to standard output. A reader that went away (`--help | head -1`) has what
/// it wanted.
///
/// # Errors
/// Any other failure of writing.
pub fn answer(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e),
        _ => Ok(()),
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
}
