//! What goes on, on standard error: one line that changes on a terminal, else a line a sample.

use std::io::IsTerminal;
use std::time::Instant;

use crate::sweep::Sample;

/// How far a sweep is.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Instant,
    done: u32,
    all: u32,
    terminal: bool,
}

impl Progress {
    /// Of `all` samples none is there yet.
    pub(crate) fn new(all: u32) -> Progress {
        Progress {
            began: Instant::now(),
            done: 0,
            all,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// One more is there.
    pub(crate) fn show(&mut self, sample: &Sample) {
        self.done += 1;
        let line = format!(
            "[{}/{}, {} s] round {}, {}: {:.0} requests/s, p99 {}",
            self.done,
            self.all,
            self.began.elapsed().as_secs(),
            sample.round,
            sample.case,
            sample.latency.offered,
            sample
                .latency
                .p99
                .map_or("unknown".to_owned(), |us| format!("{us:.0} us")),
        );
        if self.terminal {
            eprint!("\r\x1b[K{line}");
        } else {
            eprintln!("{line}");
        }
    }

    /// Leaves the last line.
    pub(crate) fn end(&self) {
        if self.terminal {
            eprintln!();
        }
    }
}
