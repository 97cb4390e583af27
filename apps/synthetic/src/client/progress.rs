//! One line on a terminal that says how it goes, and is wiped before a result.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two updates.
const PERIOD: Duration = Duration::from_millis(500);

/// How it goes.
#[derive(Debug)]
pub(super) struct Progress {
    /// How a line ends, and the next one wipes it; `None`: nothing is said.
    terminal: Option<bool>,
    title: String,
    next: Instant,
    shown: bool,
}

impl Progress {
    /// Says something if standard error is a terminal, or if it is `wanted`.
    pub(super) fn new(wanted: bool) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress {
            terminal: (terminal || wanted).then_some(terminal),
            title: String::new(),
            next: Instant::now(),
            shown: false,
        }
    }

    /// A run begins: for the sample `sample` of `samples`, or 0 for the warm-up.
    pub(super) fn begin(&mut self, sample: u32, samples: u32) {
        self.title = match sample {
            0 => "warm-up".to_owned(),
            _ => format!("sample {sample} of {samples}"),
        };
    }

    /// So it is now, at `now_ns` of `over_ns`.
    pub(super) fn update(&mut self, sent: u64, answered: u64, now_ns: u64, over_ns: u64) {
        let Some(terminal) = self.terminal else {
            return;
        };
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + PERIOD;
        let left = over_ns.saturating_sub(now_ns) as f64 / 1e9;
        let line = format!(
            "{}: {sent} sent, {answered} answered, {left:.1} s left",
            self.title
        );
        let mut stderr = std::io::stderr();
        // Progress is a courtesy: where it cannot be written it is not missed.
        let _ = match terminal {
            true => write!(stderr, "\r\x1b[K{line}"),
            false => writeln!(stderr, "{line}"),
        };
        let _ = stderr.flush();
        self.shown = true;
    }

    /// Makes way for a result.
    pub(super) fn clear(&mut self) {
        if self.terminal == Some(true) && std::mem::take(&mut self.shown) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
