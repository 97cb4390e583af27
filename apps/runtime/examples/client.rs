//! Asks an echo server, over UDP or TCP, and checks every answer.
//!
//! UDP: each flow has at most one request under way; its answer brings the next. TCP: each
//! connection sends its bytes, and closes when all came back.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use calisto_runtime::{
    App, CloseReason, ConnectError, Datagram, Net, Next, SendError, StreamEvent, StreamId,
};
use clap::Parser;

mod common;

/// The first flow's port.
const FIRST_PORT: u16 = 10_000;
/// Without any progress for so long, what is missing is lost.
const STALLED: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Parser)]
struct Args {
    #[command(flatten)]
    options: common::Options,
    /// The server.
    #[arg(long, default_value = "10.0.0.2:7")]
    to: SocketAddrV4,
    /// UDP flows; their local ports begin at 10000.
    #[arg(long, default_value_t = 0)]
    flows: u16,
    /// Flows that have a request under way at once.
    #[arg(long, default_value_t = 256)]
    window: u16,
    /// Requests of all flows together.
    #[arg(long, default_value_t = 10_000)]
    requests: u64,
    /// TCP connections.
    #[arg(long, default_value_t = 0)]
    connections: usize,
    /// Connections at once.
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// Bytes that each sends.
    #[arg(long, default_value_t = 10_000)]
    bytes: usize,
}

struct Client {
    args: Args,
    started: Instant,
    /// Requests begun, and answered.
    begun: AtomicU64,
    answered: AtomicU64,
    wrong: AtomicU64,
    /// Connections begun, that are over, and of those the ones that failed.
    connected: AtomicUsize,
    over: AtomicUsize,
    failed: AtomicUsize,
    /// Answers that came to another kthread than their flow's last one.
    moved: AtomicU64,
    last_kthread: Vec<AtomicUsize>,
    /// Milliseconds since the start, at the last progress.
    progress: AtomicU64,
}

/// One kthread's part.
#[derive(Default)]
struct Local {
    began: bool,
    /// Flows whose request could not be sent.
    unsent: Vec<u16>,
    streams: HashMap<StreamId, Stream>,
}

#[derive(Default)]
struct Stream {
    sent: usize,
    received: usize,
}

/// Byte `at` of what a connection sends.
fn byte(at: usize) -> u8 {
    (at * 31 + at / 256).to_le_bytes()[0]
}

impl Client {
    fn progress(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress.store(now, Ordering::Relaxed);
    }

    /// The flow's next request, if there is one.
    fn request(&self, local: &mut Local, net: &mut Net<'_>, flow: u16) {
        if self.begun.fetch_add(1, Ordering::Relaxed) >= self.args.requests {
            return;
        }
        self.send(local, net, flow);
    }

    fn send(&self, local: &mut Local, net: &mut Net<'_>, flow: u16) {
        let text = format!("request of flow {flow}");
        let sent = net.udp_send(FIRST_PORT + flow, self.args.to, text.as_bytes());
        match sent {
            Ok(()) => {}
            // Again, from poll(): also NoRoute, while the address is being asked for.
            Err(SendError::NoBuffer | SendError::QueueFull | SendError::NoRoute) => {
                local.unsent.push(flow);
            }
            Err(SendError::TooLong) => unreachable!("requests are short"),
        }
    }

    fn connect(&self, net: &mut Net<'_>) {
        if self.connected.fetch_add(1, Ordering::Relaxed) >= self.args.connections {
            return;
        }
        match net.tcp_connect(self.args.to) {
            Ok(_) => {}
            Err(ConnectError::NoRoute | ConnectError::NoPort | ConnectError::TooMany) => {
                self.finish(net, false);
            }
        }
    }

    fn finish(&self, net: &mut Net<'_>, good: bool) {
        self.failed.fetch_add(usize::from(!good), Ordering::Relaxed);
        self.over.fetch_add(1, Ordering::Relaxed);
        self.progress();
        self.connect(net);
    }

    fn exchange(&self, stream: &mut Stream, net: &mut Net<'_>, s: StreamId) {
        let mut buf = [0; 4096];
        loop {
            let n = net.read(s, &mut buf);
            if n == 0 {
                break;
            }
            let right = buf[..n].iter().enumerate();
            let right = right
                .filter(|(i, b)| **b == byte(stream.received + i))
                .count();
            self.wrong.fetch_add((n - right) as u64, Ordering::Relaxed);
            stream.received += n;
            self.progress();
        }
        while stream.sent < self.args.bytes {
            let n = buf.len().min(self.args.bytes - stream.sent);
            for (i, b) in buf[..n].iter_mut().enumerate() {
                *b = byte(stream.sent + i);
            }
            let written = net.write(s, &buf[..n]);
            stream.sent += written;
            if written < n {
                break;
            }
        }
        if stream.received == self.args.bytes {
            net.close(s);
        }
    }
}

impl App for Client {
    type Local = Local;

    fn local(&self, _kthread: usize) -> Local {
        Local::default()
    }

    fn datagram(&self, local: &mut Local, net: &mut Net<'_>, d: &Datagram<'_>) {
        let flow = d.to().port() - FIRST_PORT;
        if d.payload() != format!("request of flow {flow}").as_bytes() {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        let last = self.last_kthread[usize::from(flow)].swap(net.kthread() + 1, Ordering::Relaxed);
        if last != 0 && last != net.kthread() + 1 {
            self.moved.fetch_add(1, Ordering::Relaxed);
        }
        self.progress();
        // Another flow's turn: all of them are used.
        let window = self.args.window;
        let next = flow.checked_add(window).unwrap_or(window);
        self.request(local, net, next % self.args.flows);
    }

    fn stream(&self, local: &mut Local, net: &mut Net<'_>, s: StreamId, event: StreamEvent) {
        if let StreamEvent::Closed(reason) = event {
            let stream = local.streams.remove(&s).unwrap_or_default();
            let all = stream.received == self.args.bytes;
            return self.finish(net, all && reason == CloseReason::Done);
        }
        let stream = local.streams.entry(s).or_default();
        self.exchange(stream, net, s);
    }

    fn poll(&self, local: &mut Local, net: &mut Net<'_>) -> Next {
        if net.kthread() == 0 && !local.began {
            local.began = true;
            if self.args.flows > 0 {
                net.udp_bind_range(FIRST_PORT..=FIRST_PORT + self.args.flows - 1);
                for flow in 0..self.args.window.min(self.args.flows) {
                    self.request(local, net, flow);
                }
            }
            for _ in 0..self.args.at_once.min(self.args.connections) {
                self.connect(net);
            }
        }
        for flow in std::mem::take(&mut local.unsent) {
            self.send(local, net, flow);
        }
        let requests = if self.args.flows > 0 {
            self.args.requests
        } else {
            0
        };
        let all = self.answered.load(Ordering::Relaxed) >= requests
            && self.over.load(Ordering::Relaxed) >= self.args.connections;
        let last = Duration::from_millis(self.progress.load(Ordering::Relaxed));
        if all || self.started.elapsed().saturating_sub(last) > STALLED {
            return Next::Stop;
        }
        if local.unsent.is_empty() {
            Next::Until(net.now() + Duration::from_millis(20))
        } else {
            Next::Until(net.now() + Duration::from_millis(1))
        }
    }
}

fn main() -> ExitCode {
    common::exit_code(run(Args::parse()))
}

fn run(args: Args) -> anyhow::Result<()> {
    let app = Arc::new(Client {
        started: Instant::now(),
        begun: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        wrong: AtomicU64::new(0),
        connected: AtomicUsize::new(0),
        over: AtomicUsize::new(0),
        failed: AtomicUsize::new(0),
        moved: AtomicU64::new(0),
        last_kthread: (0..args.flows).map(|_| AtomicUsize::new(0)).collect(),
        progress: AtomicU64::new(0),
        args,
    });
    common::run(&app.args.options, Arc::clone(&app))?;
    println!("answered {}", app.answered.load(Ordering::Relaxed));
    println!("moved {}", app.moved.load(Ordering::Relaxed));
    println!("wrong {}", app.wrong.load(Ordering::Relaxed));
    println!("connections_over {}", app.over.load(Ordering::Relaxed));
    println!("connections_failed {}", app.failed.load(Ordering::Relaxed));
    println!("milliseconds {}", app.started.elapsed().as_millis());
    Ok(())
}
