//! One connection: a line in, lines out, each in bounded time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest request, its newline included, bytes.
pub(super) const REQUEST_MAX: usize = 1024;
/// Time to send the request in, and again to take the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest wait without a look at the daemon's end.
const TICK: Duration = Duration::from_millis(100);
/// Bytes written at once: the kernel's own time limit is for each write.
const CHUNK: usize = 4096;

/// The end of a connection to somebody who asks.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    stream: UnixStream,
    stop: &'a AtomicBool,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(stream: UnixStream, stop: &'a AtomicBool) -> Conversation<'a> {
        Conversation { stream, stop }
    }

    /// Reads the request.
    ///
    /// # Errors
    /// One line for the peer.
    pub(super) fn read_line(&mut self) -> Result<String, String> {
        let end = Instant::now() + PATIENCE;
        let mut line = Vec::new();
        let mut bytes = [0; REQUEST_MAX];
        loop {
            if let Some(at) = line.iter().position(|byte| *byte == b'\n') {
                line.truncate(at);
                return String::from_utf8(line).map_err(|_| "the request is not UTF-8".into());
            }
            if line.len() >= REQUEST_MAX {
                return Err(format!("the request is longer than {REQUEST_MAX} bytes"));
            }
            let room = REQUEST_MAX - line.len();
            let read = self.wait_until(end).and_then(|wait| {
                self.stream.set_read_timeout(Some(wait))?;
                self.stream.read(&mut bytes[..room])
            });
            match read {
                Ok(0) => return Err("the request ended without a newline".into()),
                Ok(n) => line.extend_from_slice(&bytes[..n]),
                Err(e) if again(&e) => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    return Err(format!("no request came in {} s", PATIENCE.as_secs()));
                }
                Err(e) => return Err(format!("the request cannot be read: {e}")),
            }
        }
    }

    /// Writes the answer. A peer that does not take it loses it.
    pub(super) fn answer(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let chunk = &rest[..rest.len().min(CHUNK)];
            let written = self.wait_until(end).and_then(|wait| {
                self.stream.set_write_timeout(Some(wait))?;
                self.stream.write(chunk)
            });
            match written {
                Ok(n) => rest = &rest[n..],
                Err(e) if again(&e) => {}
                Err(e) => return log::debug!("admin: an answer was not taken: {e}"),
            }
        }
    }

    /// How long to wait for the next bytes.
    fn wait_until(&self, end: Instant) -> io::Result<Duration> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("iokerneld is stopping"));
        }
        Ok(left.min(TICK))
    }
}

fn again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
