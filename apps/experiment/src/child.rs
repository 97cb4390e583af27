//! A program that we start, listen to, and never leave behind.
//!
//! Its standard output is read line by line, its standard error is kept to say
//! why it ended. Dropping a [`Child`] ends it: SIGTERM, then SIGKILL.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::stop;

/// How long a program has to start, and to end after SIGTERM.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often a wait looks whether we were interrupted.
const TICK: Duration = Duration::from_millis(50);

/// A running program.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    process: std::process::Child,
    lines: Receiver<String>,
    /// The latest lines of its standard error.
    said: Arc<Mutex<Vec<String>>>,
}

/// Lines of standard error that are kept.
const KEPT: usize = 50;

impl Child {
    /// Starts `command`, called `name` in messages.
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Child> {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stdout = process.stdout.take().context("no standard output")?;
        let stderr = process.stderr.take().context("no standard error")?;
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            each_line(stdout, |line| {
                // Nobody listens any more: the rest is of no interest.
                let _ = send.send(line);
            });
        });
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&said);
        thread::spawn(move || {
            each_line(stderr, |line| {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == KEPT {
                    kept.remove(0);
                }
                kept.push(line);
            });
        });
        Ok(Child {
            name: name.to_owned(),
            process,
            lines,
            said,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its next line; `None` when it closed its output.
    ///
    /// # Errors
    /// No line within `patience`, or we were interrupted.
    pub(crate) fn line(&mut self, patience: Duration) -> Result<Option<String>> {
        let end = Instant::now() + patience;
        loop {
            stop::check()?;
            match self.lines.recv_timeout(TICK) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
                Err(RecvTimeoutError::Timeout) => bail!(
                    "{} said nothing for {} s{}",
                    self.name,
                    patience.as_secs(),
                    self.last_words()
                ),
            }
        }
    }

    /// Waits for a line with `word` in it, on either stream.
    ///
    /// # Errors
    /// It ended, kept silent, or we were interrupted.
    pub(crate) fn wait_for(&mut self, word: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut closed = false;
        loop {
            stop::check()?;
            if self.errors().iter().any(|line| line.contains(word)) {
                return Ok(());
            }
            match self.lines.recv_timeout(TICK) {
                Ok(line) if line.contains(word) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) if closed => {
                    bail!("{} ended{}", self.name, self.last_words())
                }
                // Its last words may still be under way on the other stream.
                Err(RecvTimeoutError::Disconnected) => {
                    closed = true;
                    thread::sleep(TICK);
                }
                _ if Instant::now() > end => {
                    bail!("{} did not start{}", self.name, self.last_words())
                }
                _ => {}
            }
        }
    }

    /// Waits until it ends by itself, and asks that it did so with success.
    pub(crate) fn success(&mut self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            stop::check()?;
            if let Some(status) = self.process.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                thread::sleep(TICK);
                bail!("{} failed ({status}){}", self.name, self.last_words());
            }
            if Instant::now() > end {
                bail!("{} does not end{}", self.name, self.last_words());
            }
            thread::sleep(TICK);
        }
    }

    /// Ends it by SIGTERM; the lines of its standard output that were not read yet.
    ///
    /// # Errors
    /// It does not end, or not with success.
    pub(crate) fn stop(mut self) -> Result<Vec<String>> {
        self.signal(Signal::TERM);
        self.success(PATIENCE)?;
        Ok(self.lines.iter().collect())
    }

    fn signal(&mut self, signal: Signal) {
        // Until it is waited for its id is its own.
        if let (Ok(None), Ok(pid)) = (self.process.try_wait(), i32::try_from(self.pid()))
            && let Some(pid) = Pid::from_raw(pid)
        {
            // It may end this moment: then there is nothing to signal.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    fn errors(&self) -> Vec<String> {
        self.said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn last_words(&self) -> String {
        match self.errors().last() {
            Some(line) => format!(": {line}"),
            None => " without a word".to_owned(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let end = Instant::now() + Duration::from_secs(3);
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.process.kill();
                let _ = self.process.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn each_line(stream: impl Read, mut f: impl FnMut(String)) {
    for line in BufReader::new(stream).split(b'\n') {
        let Ok(line) = line else { return };
        f(String::from_utf8_lossy(&line).trim_end().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        Child::start("sh", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn it_reads_lines_and_the_end() {
        let mut child = shell("echo one; echo two");
        let mut line = || child.line(PATIENCE).unwrap();
        assert_eq!(line().as_deref(), Some("one"));
        assert_eq!(line().as_deref(), Some("two"));
        assert_eq!(line(), None);
    }

    #[test]
    fn it_says_why_a_program_ended() {
        let error = shell("echo no core is left >&2; exit 1")
            .wait_for("ready")
            .unwrap_err();
        assert_eq!(error.to_string(), "sh ended: no core is left");
        let error = shell("echo oh >&2; exit 3").success(PATIENCE).unwrap_err();
        assert_eq!(error.to_string(), "sh failed (exit status: 3): oh");
    }

    #[test]
    fn a_word_on_either_stream_will_do() {
        shell("echo ready; sleep 100").wait_for("ready").unwrap();
        shell("echo ready >&2; sleep 100")
            .wait_for("ready")
            .unwrap();
    }

    #[test]
    fn silence_is_an_error() {
        let error = shell("sleep 100").line(Duration::from_millis(100));
        assert!(
            error
                .unwrap_err()
                .to_string()
                .starts_with("sh said nothing")
        );
    }

    #[test]
    fn dropping_ends_it() {
        let child = shell("sleep 100 & echo $!; wait");
        let path = format!("/proc/{}", child.pid());
        assert!(std::path::Path::new(&path).exists());
        drop(child);
        assert!(!std::path::Path::new(&path).exists());
    }
}
