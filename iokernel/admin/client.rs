//! The asking side.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{ERROR, NAME, OK, Request};

/// Longest wait for a connection, and for each part of the answer. The daemon may have
/// others to answer first, and may wait for its polling loop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no iokerneld runs in this network namespace: start one, or enter its namespace with nsenter"
    )]
    Absent,
    /// The daemon said so.
    #[error("{0}")]
    Refused(String),
    /// The connection ended before the answer did.
    #[error("iokerneld ended before it had answered: look at its log")]
    CutOff,
    /// It keeps us waiting.
    #[error("iokerneld does not answer within {} s: is it stopped?", PATIENCE.as_secs())]
    Silent,
    /// A system call failed.
    #[error("{0} failed: {1}")]
    Os(&'static str, io::Error),
}

/// Asks the daemon of this network namespace; the lines of its answer.
///
/// # Errors
/// [`AskError`].
pub fn ask(request: &Request) -> Result<Vec<String>, AskError> {
    let mut stream = connect()?;
    match stream.write_all(format!("{request}\n").as_bytes()) {
        // Whoever hangs up so early has said why.
        Err(e) if hung_up(&e) => {}
        Err(e) => return Err(failed("send", e)),
        Ok(()) => {}
    }
    let mut lines = Vec::new();
    for line in BufReader::new(stream).lines() {
        match line {
            Ok(line) if line == OK => return Ok(lines),
            Ok(line) => match line.strip_prefix(ERROR) {
                Some(why) => return Err(AskError::Refused(why.to_owned())),
                None => lines.push(line),
            },
            Err(e) if hung_up(&e) => break,
            Err(e) => return Err(failed("receive", e)),
        }
    }
    Err(AskError::CutOff)
}

fn connect() -> Result<UnixStream, AskError> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|e| failed("socket", e.into()))?;
    // Before the connection: a daemon that stands still may have a full backlog.
    for which in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&socket, which, Some(PATIENCE))
            .map_err(|e| failed("setsockopt", e.into()))?;
    }
    let address = SocketAddrUnix::new_abstract_name(NAME).expect("the name is short");
    match rustix::net::connect(&socket, &address) {
        Ok(()) => Ok(socket.into()),
        Err(rustix::io::Errno::CONNREFUSED) => Err(AskError::Absent),
        Err(e) => Err(failed("connect", e.into())),
    }
}

fn failed(what: &'static str, error: io::Error) -> AskError {
    match error.kind() {
        io::ErrorKind::WouldBlock => AskError::Silent,
        _ => AskError::Os(what, error),
    }
}

fn hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}
