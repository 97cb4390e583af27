//! What goes on, on standard error: one line that changes on a terminal, else lines now and then.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a line is written where that is no terminal.
const SELDOM: Duration = Duration::from_secs(5);

/// How far a number of steps is.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Instant,
    said: Option<Instant>,
    done: usize,
    all: usize,
    terminal: bool,
}

impl Progress {
    /// Of `all` steps none is done.
    pub(crate) fn new(all: usize) -> Progress {
        Progress {
            began: Instant::now(),
            said: None,
            done: 0,
            all,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// One more is done, or begins; `what` says which.
    pub(crate) fn next(&mut self, what: &str) {
        self.done += 1;
        let seldom = self.said.is_none_or(|at| at.elapsed() >= SELDOM);
        if !self.terminal && !seldom && self.done < self.all {
            return;
        }
        self.said = Some(Instant::now());
        let Progress { done, all, .. } = self;
        let seconds = self.began.elapsed().as_secs();
        let (start, end) = if self.terminal {
            ("\r\x1b[K", "")
        } else {
            ("", "\n")
        };
        // Nobody may be looking: that is no reason to stop.
        let _ = write!(
            std::io::stderr(),
            "{start}[{done}/{all}, {seconds} s] {what}{end}"
        );
    }

    /// Leaves the last line.
    pub(crate) fn end(&self) {
        if self.terminal {
            let _ = writeln!(std::io::stderr());
        }
    }
}
