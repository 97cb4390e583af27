//! What servers have in common: their beginning, and what they say at their end.

use std::io::ErrorKind;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};

/// What a server did.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Requests served, by thread or kthread.
    pub by_thread: Vec<u64>,
    /// Datagrams that were too short for a request.
    pub malformed: u64,
    /// Requests served whose answers could not be sent.
    pub unsent: u64,
    /// The runtime's own counts, by name, if it was one.
    pub runtime: Option<std::collections::BTreeMap<String, u64>>,
}

/// A [`Report`] as it is written.
#[derive(Serialize)]
struct Object<'a> {
    /// Requests served.
    requests: u64,
    #[serde(flatten)]
    report: &'a Report,
}

impl Report {
    /// All requests served.
    pub fn requests(&self) -> u64 {
        self.by_thread.iter().sum()
    }

    /// For people: a line, and one more of the runtime's counts that are not 0.
    pub fn text(&self) -> String {
        let by_thread: Vec<String> = self.by_thread.iter().map(u64::to_string).collect();
        let kind = match self.runtime {
            Some(_) => "kthread",
            None => "thread",
        };
        let mut text = format!(
            "served {} requests, by {kind}: {}; {} malformed, {} answers not sent\n",
            self.requests(),
            by_thread.join(" "),
            self.malformed,
            self.unsent
        );
        if let Some(runtime) = &self.runtime {
            let counts = runtime.iter().filter(|(_, count)| **count > 0);
            let counts: Vec<String> = counts.map(|(name, n)| format!("{name} {n}")).collect();
            text += &format!("runtime: {}\n", counts.join(", "));
        }
        text
    }

    /// For programs: an object with `requests` and the fields of this.
    pub fn object(&self) -> impl Serialize + '_ {
        Object {
            requests: self.requests(),
            report: self,
        }
    }
}

/// A flag that SIGINT or SIGTERM sets; a second one kills at once.
///
/// # Errors
/// When signals cannot be handled.
pub fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .context("cannot handle signals")?;
    }
    Ok(flag)
}

/// The failure to listen on `addr`, with what to do.
pub fn cannot_listen(transport: &str, addr: SocketAddrV4, error: &std::io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => "end what listens there, or give another port",
        ErrorKind::AddrNotAvailable => "give an address of this machine, or 0.0.0.0",
        ErrorKind::PermissionDenied => "ports below 1024 are root's",
        _ => "see the system's message",
    };
    anyhow::anyhow!("cannot listen on {transport} {addr}: {error}: {advice}")
}

/// Says where the server listens, as upstream.
///
/// # Errors
/// When it cannot be said.
pub fn listening(first: SocketAddrV4, ports: u16) -> anyhow::Result<()> {
    let more = match ports {
        1 => String::new(),
        _ => format!(" and {} ports more", ports - 1),
    };
    calisto::terminal::answer(&format!("Bound to address {first}{more}\n"))
        .context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_what_was_served() {
        let mut report = Report {
            by_thread: vec![3, 4],
            malformed: 1,
            unsent: 2,
            runtime: None,
        };
        assert_eq!(
            report.text(),
            "served 7 requests, by thread: 3 4; 1 malformed, 2 answers not sent\n"
        );
        report.runtime = Some([("parks".to_owned(), 5), ("joins".to_owned(), 0)].into());
        let json = serde_json::to_value(report.object()).expect("JSON");
        assert_eq!(json["requests"], 7);
        assert_eq!(json["runtime"]["parks"], 5);
        assert!(
            report
                .text()
                .ends_with("kthread: 3 4; 1 malformed, 2 answers not sent\nruntime: parks 5\n")
        );
    }
}
