//! What the examples' command lines have in common, and their end.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;

use calisto::ids::{Mac, NoMac};
use calisto_runtime::{App, Config, Pages};

/// What every runtime can be told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// A file as upstream's runtimes have it, in place of the options below.
    #[arg(long)]
    config: Option<std::path::PathBuf>,
    /// Our address; the network has a prefix of 16 bits.
    #[arg(long, default_value = "10.0.0.2")]
    addr: Ipv4Addr,
    #[arg(long, default_value_t = 4)]
    kthreads: u16,
    #[arg(long, default_value_t = 1)]
    guaranteed: u16,
    /// Never park for want of work.
    #[arg(long)]
    spin: bool,
    /// Ethernet address of whom there is no need to ask for: IP=MAC.
    #[arg(long, value_parser = arp_entry)]
    arp: Vec<(Ipv4Addr, [u8; 6])>,
    /// Our Ethernet address.
    #[arg(long, value_parser = mac)]
    mac: Option<[u8; 6]>,
    /// Huge pages or none; by default as the machine has them.
    #[arg(long)]
    huge: bool,
    /// Seconds to wait for iokerneld.
    #[arg(long, default_value_t = 10.0)]
    patience: f64,
}

fn mac(text: &str) -> Result<[u8; 6], NoMac> {
    text.parse().map(|Mac(bytes)| bytes)
}

fn arp_entry(text: &str) -> Result<(Ipv4Addr, [u8; 6]), String> {
    let (ip, address) = text.split_once('=').ok_or("IP=MAC is wanted")?;
    let ip = ip.parse().map_err(|e| format!("{ip}: {e}"))?;
    let mac = mac(address).map_err(|e| e.to_string())?;
    Ok((ip, mac))
}

impl Options {
    fn config(&self) -> anyhow::Result<Config> {
        if let Some(path) = &self.config {
            return Ok(Config::from_file(path)?);
        }
        Ok(Config {
            addr: self.addr,
            kthreads: self.kthreads,
            guaranteed: self.guaranteed,
            spinning: self.spin,
            arp: self.arp.clone(),
            mac: self.mac,
            pages: if self.huge { Pages::Huge } else { Pages::Auto },
            patience: std::time::Duration::try_from_secs_f64(self.patience)?,
            ..Config::default()
        })
    }
}

/// How an example ends: a failure is one line, whatever RUST_BACKTRACE says.
pub(crate) fn exit_code(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs an application to its end, and prints what the runtime counted.
pub(crate) fn run<A: App>(options: &Options, app: Arc<A>) -> anyhow::Result<()> {
    let running = calisto_runtime::start(options.config()?, app)?;
    println!("started");
    let stats = running.wait()?;
    for (name, count) in stats.iter() {
        println!("{name} {count}");
    }
    Ok(())
}
