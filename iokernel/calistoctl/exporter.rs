//! Serves the daemon's counters to Prometheus.
//!
//! One scrape is answered at a time, by asking the daemon anew; nothing is kept. A daemon
//! that is absent or does not answer is a scrape with `calisto_up 0`.

use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow};
use calisto::admin::client;
use tiny_http::{Header, Method, Response, Server};

use crate::metrics::Snapshot;
use crate::print;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers scrapes until it is killed.
///
/// # Errors
/// The address cannot be had.
pub(crate) fn serve(listen: SocketAddr) -> Result<()> {
    let server = Server::http(listen).map_err(|e| anyhow!("cannot listen on {listen}: {e}"))?;
    print(&format!(
        "listening on http://{}/metrics\n",
        server.server_addr()
    ))?;
    for request in server.incoming_requests() {
        let (code, kind, body) = match (request.method(), request.url()) {
            (Method::Get | Method::Head, "/metrics") => (200, OPEN_METRICS, scrape()?),
            (Method::Get | Method::Head, "/") => (200, "text/plain", "see /metrics\n".to_owned()),
            (Method::Get | Method::Head, _) => (404, "text/plain", "see /metrics\n".to_owned()),
            _ => (405, "text/plain", "GET only\n".to_owned()),
        };
        let kind = Header::from_bytes("Content-Type", kind).expect("a good header");
        let answer = Response::from_string(body)
            .with_status_code(code)
            .with_header(kind);
        // Whoever asked has gone: the next one may not have.
        let _ = request.respond(answer);
    }
    Ok(())
}

fn scrape() -> Result<String> {
    let snapshot = Snapshot::take(|request| client::ask(request).context("no answer"));
    snapshot
        .unwrap_or_else(|error| {
            eprintln!("calistoctl: {error:#}");
            Snapshot::default()
        })
        .into_text()
}
