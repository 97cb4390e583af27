//! The command line: upstream's flags with their defaults, and some more.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use calisto::ids::{Mac, NoMac};
use clap::{Parser, ValueEnum};

use crate::distribution::{Distribution, Shape};
use crate::error::Failure;
use crate::fakework::FakeWork;
use crate::flows::Flows;
use crate::output::Output;
use crate::sample::TimedFrom;
use crate::schedule::{self, MAX_REQUESTS, Phase};

/// The most steps of the ramp-ups of all samples: all are kept in memory.
const MAX_STEPS: u64 = 1_000_000;

/// Asks a server to spend time, and measures how long that takes; or is that server.
///
/// Upstream's `synthetic`, but for the protocols memcached and dns, `local-client` and
/// `--barrier-*`, which are not here. Latencies count from when a request was due.
#[derive(Debug, Clone, Parser)]
#[command(name = "synthetic", version)]
pub struct Cli {
    /// Server: where to listen. Client: whom to ask. Address and port, as 10.0.0.1:5000
    #[arg(value_name = "ADDR", required_unless_present_any = ["calibrate"])]
    pub addr: Option<SocketAddrV4>,
    /// Which mode to run in
    #[arg(long, short, value_enum, required_unless_present = "calibrate")]
    pub mode: Option<Mode>,
    /// Say how long an iteration of --fakework takes here, and end (as -m work-bench)
    #[arg(long)]
    pub calibrate: bool,
    /// Threads that send, or serve (linux-server; a runtime has --kthreads)
    #[arg(long, short, value_name = "T", default_value_t = 1)]
    pub threads: u16,
    /// udp or tcp
    #[arg(long, value_enum, ignore_case = true, default_value = "udp")]
    pub transport: Transport,
    /// What the payload is
    #[arg(
        long,
        short,
        value_enum,
        ignore_case = true,
        default_value = "synthetic"
    )]
    pub protocol: Protocol,
    /// The server's work: sqrt, stridedmem:SIZE:STRIDE, randmem:SIZE, memstream:SIZE, or
    /// flowmem:SIZE:FLOWS (SIZE bytes of state for each flow)
    #[arg(long, value_name = "SPEC", default_value = "stridedmem:1024:7", value_parser = FakeWork::parse)]
    pub fakework: FakeWork,
    /// The server's ports: so many from ADDR's on
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub ports: u16,
    /// Write an object a sample (server: one at its end) to this file, - for standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<String>,
    /// What the client does.
    #[command(flatten)]
    pub client: ClientArgs,
    /// What a runtime is.
    #[command(flatten)]
    pub runtime_args: RuntimeArgs,
}

/// What the client does.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Client")]
pub struct ClientArgs {
    /// Seconds a sample lasts, without its ramp-up
    #[arg(long, short, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub runtime: Duration,
    /// Millions of requests a second, in the last sample
    #[arg(long, default_value_t = 0.02)]
    pub mpps: f64,
    /// Millions of requests a second that the first sample begins above
    #[arg(long = "start_mpps", alias = "start-mpps", default_value_t = 0.0)]
    pub start_mpps: f64,
    /// Samples, at loads evenly between --start_mpps and --mpps
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub samples: u32,
    /// How the work of requests is distributed
    #[arg(long, short, value_enum, default_value = "zero")]
    pub distribution: Shape,
    /// Mean iterations of work of a request (see --calibrate)
    #[arg(long, default_value_t = 167.0)]
    pub mean: f64,
    /// What to print of a sample
    #[arg(long, short, value_enum, ignore_case = true, default_value = "normal")]
    pub output: Output,
    /// Seconds in which the load rises to that of a sample
    #[arg(long, value_name = "SECONDS", default_value = "4", value_parser = seconds)]
    pub rampup: Duration,
    /// Before the samples, the full load three times, for 20 or so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "20", value_parser = seconds)]
    pub warmup: Option<Duration>,
    /// One run instead of samples: RATE:MICROSECONDS,... with RATE in requests a second
    #[arg(
        long,
        value_name = "SPEC",
        default_value = "",
        hide_default_value = true
    )]
    pub loadshift: String,
    /// Percent of a sample's time, from its beginning, that is left out of results: what was sent
    /// then, and what was due then and never sent
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..100))]
    pub discard: u32,
    /// Seconds between samples
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub pause: Duration,
    /// When a latency begins; `sent` also leaves out requests that are 5 us late, both as upstream
    #[arg(long, value_enum, default_value = "due")]
    pub timed_from: TimedFrom,
    /// Spread requests over so many flows (UDP: source ports times --ports; TCP:
    /// connections); by default one for each thread and port
    #[arg(long, value_name = "N")]
    pub flows: Option<u32>,
    /// Ask for flow k as often as 1/(k+1)^S, instead of for all alike
    #[arg(long, value_name = "S")]
    pub zipf: Option<f64>,
    /// Make the schedules from this number, to repeat them; by default another each time
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Seconds without any answer after which the server is taken for dead
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub patience: Duration,
    /// Seconds after a sample in which answers still count
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    pub grace: Duration,
    /// Microseconds that a thread stays awake: linux-client, before a request is due (50 by
    /// default); runtime-client, before a kthread without work parks (0 by default)
    #[arg(long, value_name = "US")]
    pub spin_us: Option<u32>,
    /// Say how it goes on standard error, also where that is no terminal
    #[arg(long)]
    pub progress: bool,
}

/// What a runtime is, in the modes that are one.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Runtime (spawner-server, runtime-client)")]
pub struct RuntimeArgs {
    /// A configuration in upstream's format, instead of the flags below
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["ip", "prefix_len", "gateway", "kthreads", "guaranteed", "spinning", "mac"])]
    pub config: Option<std::path::PathBuf>,
    /// The runtime's address; a server's is ADDR's by default
    #[arg(long)]
    pub ip: Option<Ipv4Addr>,
    /// Bits of its network's prefix
    #[arg(long, value_name = "BITS", default_value_t = 24, value_parser = clap::value_parser!(u8).range(0..=32))]
    pub prefix_len: u8,
    /// Where packets to other networks go
    #[arg(long, value_name = "IP")]
    pub gateway: Option<Ipv4Addr>,
    /// Kthreads
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub kthreads: u16,
    /// Cores that it gets whenever it wants them; by default 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub guaranteed: u16,
    /// Never park for want of work
    #[arg(long)]
    pub spinning: bool,
    /// Its Ethernet address; random by default
    #[arg(long, value_parser = mac)]
    pub mac: Option<[u8; 6]>,
    /// An Ethernet address that is known beforehand; may be repeated
    #[arg(long, value_name = "IP=MAC", value_parser = neighbour)]
    pub arp: Vec<(Ipv4Addr, [u8; 6])>,
    /// ADDR's Ethernet address (client)
    #[arg(long, value_name = "MAC", value_parser = mac)]
    pub peer_mac: Option<[u8; 6]>,
}

/// What the program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// A server on Linux sockets
    LinuxServer,
    /// A client on Linux sockets
    LinuxClient,
    /// A server on a runtime of iokerneld
    SpawnerServer,
    /// A client on a runtime of iokerneld
    RuntimeClient,
    /// As --calibrate
    WorkBench,
}

/// What requests travel by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// A datagram each
    Udp,
    /// A connection for each flow
    Tcp,
}

impl Transport {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }
}

/// What the payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// 16 bytes: work, and a number to send back
    Synthetic,
}

/// The client's work, checked.
#[derive(Debug, Clone)]
pub struct Job {
    /// What is run, in order: each with its number of the row, 0 for none.
    pub runs: Vec<PlannedRun>,
    /// Work of requests.
    pub service: Distribution,
    /// Flows of requests.
    pub flows: Flows,
    /// Lanes: threads that send.
    pub lanes: usize,
    /// The first run's seed; the next one's is one more.
    pub seed: u64,
}

/// A run of the client.
#[derive(Debug, Clone)]
pub struct PlannedRun {
    /// The number of its row; 0: it has none.
    pub sample: u32,
    /// Its loads.
    pub phases: Vec<Phase>,
}

impl Cli {
    /// The address.
    ///
    /// # Errors
    /// A usage error when there is none.
    pub fn addr(&self) -> Result<SocketAddrV4, Failure> {
        let addr = self
            .addr
            .ok_or(Failure::Usage("ADDR is missing: see --help".into()))?;
        if self.ports == 0 {
            return usage("--ports 0: there is at least 1");
        }
        if addr.port() == 0 || u32::from(addr.port()) + u32::from(self.ports) > 65_536 {
            let ports = self.ports;
            return usage(&format!(
                "{addr}: there are no {ports} ports from there on, between 1 and 65535"
            ));
        }
        Ok(addr)
    }

    /// Checks what the client is to do.
    ///
    /// # Errors
    /// A usage error, naming the flag.
    pub fn job(&self) -> Result<Job, Failure> {
        let client = &self.client;
        if self.threads == 0 {
            return usage("--threads 0: there is at least 1");
        }
        let steps = schedule::ramp_steps(client.rampup) * u64::from(client.samples);
        if steps > MAX_STEPS {
            return usage(&format!(
                "--samples and --rampup make {steps} steps of load: at most {MAX_STEPS}; lower one of them"
            ));
        }
        let (rate, start) = (client.mpps * 1e6, client.start_mpps * 1e6);
        if !(rate.is_finite() && rate > 0.0) {
            return usage(&format!("--mpps {}: it is more than 0", client.mpps));
        }
        if !(0.0..=rate).contains(&start) {
            let (start, most) = (client.start_mpps, client.mpps);
            return usage(&format!(
                "--start_mpps {start}: it is from 0 to --mpps, {most}"
            ));
        }
        if !(client.mean.is_finite() && client.mean >= 0.0) {
            return usage(&format!("--mean {}: it is 0 or more", client.mean));
        }
        if client.runtime.is_zero() || client.patience.is_zero() {
            return usage("--runtime and --patience are more than 0");
        }
        let count = client
            .flows
            .unwrap_or(u32::from(self.threads) * u32::from(self.ports));
        let shared = self.transport == Transport::Udp;
        let flows = Flows::new(count, self.ports, shared, client.zipf)
            .map_err(|why| Failure::Usage(format!("--flows, --zipf: {why}")))?;
        let job = Job {
            runs: self.runs(rate, start)?,
            service: Distribution::new(client.distribution, client.mean),
            lanes: self.lanes(&flows),
            flows,
            seed: client.seed.unwrap_or_else(clock_seed),
        };
        for run in &job.runs {
            let expected = schedule::expected(&run.phases);
            if expected > MAX_REQUESTS {
                return usage(&format!(
                    "a sample of {expected} requests: at most {MAX_REQUESTS} are kept in memory; \
                     lower --mpps, --runtime or --rampup"
                ));
            }
        }
        Ok(job)
    }

    fn lanes(&self, flows: &Flows) -> usize {
        let sources = flows.sources() as usize;
        match (self.mode, self.transport) {
            // Each connection is some kthread's, which one is not known beforehand.
            (Some(Mode::RuntimeClient), Transport::Tcp) => sources,
            _ => usize::from(self.threads).min(sources),
        }
    }

    fn runs(&self, rate: f64, start: f64) -> Result<Vec<PlannedRun>, Failure> {
        let client = &self.client;
        if !client.loadshift.is_empty() {
            let phases = schedule::load_shift(&client.loadshift)
                .map_err(|why| Failure::Usage(format!("--loadshift: {why}")))?;
            return Ok(vec![PlannedRun { sample: 1, phases }]);
        }
        let warmup = client.warmup.filter(|length| !length.is_zero());
        let warmups = warmup.into_iter().flat_map(|length| {
            let run = PlannedRun {
                sample: 0,
                phases: schedule::classic(rate, length, client.rampup),
            };
            std::iter::repeat_n(run, 3)
        });
        let step = (rate - start) / f64::from(client.samples);
        let samples = (1..=client.samples).map(|sample| PlannedRun {
            sample,
            phases: schedule::classic(
                start + step * f64::from(sample),
                client.runtime,
                client.rampup,
            ),
        });
        Ok(warmups.chain(samples).collect())
    }
}

fn usage<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::Usage(what.to_owned()))
}

/// A seed that is another one each time.
fn clock_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, crate::num::nanos)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number of seconds")?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        // Times are kept in nanoseconds of 64 bits.
        .filter(|length| length.as_secs() < 1_000_000)
        .ok_or_else(|| "seconds are from 0 to 999999".to_owned())
}

fn mac(text: &str) -> Result<[u8; 6], NoMac> {
    text.parse().map(|Mac(bytes)| bytes)
}

fn neighbour(text: &str) -> Result<(Ipv4Addr, [u8; 6]), String> {
    let (ip, address) = text.split_once('=').ok_or("it is not IP=MAC")?;
    let ip = ip
        .parse()
        .map_err(|_| format!("{ip:?} is no IPv4 address"))?;
    let mac = mac(address).map_err(|e| e.to_string())?;
    Ok((ip, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(args: &str) -> Job {
        let line = format!("synthetic 10.0.0.1:80 {args}");
        let cli = Cli::try_parse_from(line.split_whitespace()).expect("good arguments");
        cli.job().expect("a job")
    }

    fn measured(run: &PlannedRun) -> Phase {
        *run.phases.last().expect("a phase")
    }

    #[test]
    fn defaults_are_upstreams() {
        let job = job("-m linux-client");
        assert_eq!(job.runs.len(), 20);
        for (n, run) in (1u32..).zip(&job.runs) {
            let phase = measured(run);
            assert!(
                (phase.rate - 1000.0 * f64::from(n)).abs() < 1e-6,
                "{phase:?}"
            );
            assert_eq!(phase.length, Duration::from_secs(10));
            assert_eq!(run.phases.len(), 40, "a ramp of 4 s");
        }
        assert_eq!((job.lanes, job.flows.count()), (1, 1));
        assert_eq!(job.service.name(), "zero");
    }

    #[test]
    fn loads_are_between_the_first_and_the_last() {
        let job = job("-m linux-client --start_mpps 0.1 --mpps 0.3 --samples 2 --warmup=7");
        let rates: Vec<f64> = job
            .runs
            .iter()
            .map(|run| measured(run).rate.round())
            .collect();
        assert_eq!(rates, [3e5, 3e5, 3e5, 2e5, 3e5], "three of warming up");
        let samples: Vec<u32> = job.runs.iter().map(|run| run.sample).collect();
        assert_eq!(samples, [0, 0, 0, 1, 2]);
        assert_eq!(measured(&job.runs[0]).length, Duration::from_secs(7));
    }

    #[test]
    fn lanes_are_threads_or_connections_of_a_runtime() {
        for (args, flows, lanes) in [
            ("-m linux-client -t 3 --ports 2", 6, 3),
            ("-m linux-client -t 3 --flows 2", 2, 2),
            ("-m linux-client -t 3 --flows 10 --ports 10", 10, 1),
            ("-m linux-client -t 3 --flows 10 --transport tcp", 10, 3),
            ("-m runtime-client -t 3 --flows 10", 10, 3),
            ("-m runtime-client -t 3 --flows 10 --transport TCP", 10, 10),
        ] {
            let job = job(args);
            assert_eq!((job.flows.count(), job.lanes), (flows, lanes), "{args}");
        }
    }
}
