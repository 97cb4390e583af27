//! Sends everything back, over UDP and TCP.
//!
//! ```text
//! iokerneld --port loopback --no-huge &
//! cargo run -p calisto-runtime --example echo -- --addr 10.0.0.2
//! ```

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use calisto_runtime::{App, Datagram, Net, Next, StreamEvent, StreamId};
use clap::Parser;

mod common;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    options: common::Options,
    /// The port, of both protocols.
    #[arg(long, default_value_t = 7)]
    port: u16,
    /// Microseconds of work for each datagram.
    #[arg(long, default_value_t = 0)]
    work_us: u64,
}

struct Echo {
    port: u16,
    work: Duration,
    stop: Arc<AtomicBool>,
    failed: AtomicU64,
}

/// What was read from each connection and not yet sent back, and whether the peer has ended.
type Streams = HashMap<StreamId, (Vec<u8>, bool)>;

impl App for Echo {
    type Local = Streams;

    fn local(&self, _kthread: usize) -> Streams {
        Streams::new()
    }

    fn datagram(&self, _: &mut Streams, net: &mut Net<'_>, d: &Datagram<'_>) {
        if !self.work.is_zero() {
            let end = Instant::now() + self.work;
            while Instant::now() < end {
                std::hint::spin_loop();
            }
        }
        if net.reply(d, d.payload()).is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn stream(&self, streams: &mut Streams, net: &mut Net<'_>, s: StreamId, event: StreamEvent) {
        let (waiting, ended) = streams.entry(s).or_default();
        match event {
            StreamEvent::Closed(_) => {
                streams.remove(&s);
                return;
            }
            StreamEvent::PeerClosed => *ended = true,
            StreamEvent::Opened | StreamEvent::Readable | StreamEvent::Writable => {}
        }
        loop {
            let written = net.write(s, waiting);
            waiting.drain(..written);
            // What cannot be sent is not read either: the peer's window closes.
            if !waiting.is_empty() {
                return;
            }
            waiting.resize(16 << 10, 0);
            let read = net.read(s, waiting);
            waiting.truncate(read);
            if read == 0 {
                break;
            }
        }
        if *ended {
            net.close(s);
        }
    }

    fn poll(&self, _: &mut Streams, net: &mut Net<'_>) -> Next {
        if self.stop.load(Ordering::Relaxed) {
            return Next::Stop;
        }
        net.udp_bind(self.port);
        net.tcp_listen(self.port);
        // Now and then, to see the signal.
        Next::Until(net.now() + Duration::from_millis(50))
    }
}

fn main() -> ExitCode {
    common::exit_code(run(Args::parse()))
}

fn run(args: Args) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot catch signals")?;
    }
    let app = Arc::new(Echo {
        port: args.port,
        work: Duration::from_micros(args.work_us),
        stop,
        failed: AtomicU64::new(0),
    });
    common::run(&args.options, Arc::clone(&app))?;
    println!("replies_failed {}", app.failed.load(Ordering::Relaxed));
    Ok(())
}
