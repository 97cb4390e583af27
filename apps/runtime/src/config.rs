//! What a runtime is: its addresses, kthreads and limits.

mod file;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use crate::error::ConfigError;

/// Most kthreads: what one `SCM_RIGHTS` message carries (Linux: `SCM_MAX_FD`).
pub const MAX_KTHREADS: u16 = 253;

/// Pages of the runtime's region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// Huge if there are enough free ones, else of 4 KiB.
    #[default]
    Auto,
    /// Of 2 MiB, or none.
    Huge,
    /// Of 4 KiB.
    Small,
}

/// How to start a runtime. Take [`Config::default`] and set what differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Kthreads, 1 to [`MAX_KTHREADS`].
    pub kthreads: u16,
    /// Cores that the I/O kernel gives whenever they are wanted; the rest, when idle.
    pub guaranteed: u16,
    /// Never park for want of work.
    pub spinning: bool,
    /// How long a kthread looks for work before it parks.
    pub park_after: Duration,
    /// The runtime's address.
    pub addr: Ipv4Addr,
    /// Bits of its network's prefix.
    pub prefix_len: u8,
    /// Where packets to other networks go.
    pub gateway: Option<Ipv4Addr>,
    /// Ethernet address; by default a random local one.
    pub mac: Option<[u8; 6]>,
    /// Ethernet addresses that are known beforehand.
    pub arp: Vec<(Ipv4Addr, [u8; 6])>,
    /// Pages of the region.
    pub pages: Pages,
    /// Egress buffers of 2 KiB for each kthread; all share them.
    pub egress_bufs: u32,
    /// Bytes of the receive and of the send buffer of a TCP connection.
    pub tcp_buffer: usize,
    /// TCP connections that a kthread may have, those that wait to be forgotten too.
    pub tcp_connections: usize,
    /// How long to wait for the I/O kernel.
    pub patience: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            kthreads: 1,
            guaranteed: 1,
            spinning: false,
            park_after: Duration::from_micros(20),
            addr: Ipv4Addr::new(10, 0, 0, 2),
            prefix_len: 16,
            gateway: None,
            mac: None,
            arp: Vec::new(),
            pages: Pages::Auto,
            egress_bufs: 1024,
            tcp_buffer: 32 << 10,
            tcp_connections: 16_384,
            patience: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// Reads a file in the format of upstream's runtimes: a key and its value on
    /// each line, `#` begins a comment.
    ///
    /// | key | |
    /// |---|---|
    /// | `host_addr`, `host_netmask`, `host_gateway` | IPv4 addresses; the first two must be there |
    /// | `host_mac` | Ethernet address |
    /// | `runtime_kthreads`, `runtime_guaranteed_kthreads` | numbers; the first must be there |
    /// | `runtime_spinning_kthreads` | a number; more than 0: all spin |
    /// | `static_arp IP MAC` | any number of them |
    /// | `log_level`, `disable_watchdog` | accepted, without effect |
    ///
    /// # Errors
    /// [`ConfigError`], naming the file and the line.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Config, ConfigError> {
        file::read(path.as_ref())
    }

    /// Checks that the values are possible, and go together.
    ///
    /// # Errors
    /// [`ConfigError::Value`] says which do not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let problem = if !(1..=MAX_KTHREADS).contains(&self.kthreads) {
            format!("{} kthreads: give 1 to {MAX_KTHREADS}", self.kthreads)
        } else if self.guaranteed > self.kthreads {
            format!(
                "{} guaranteed cores for {} kthreads: guarantee no more than there are kthreads",
                self.guaranteed, self.kthreads
            )
        } else if self.prefix_len > 32 {
            format!("a prefix of {} bits: give 0 to 32", self.prefix_len)
        } else if self.addr.is_unspecified() || self.addr.is_multicast() || self.addr.is_broadcast()
        {
            format!("address {}: give a host's", self.addr)
        } else if self.mac.is_some_and(|mac| mac[0] & 1 != 0 || mac == [0; 6]) {
            "the Ethernet address is a multicast one or zero: give a host's".to_owned()
        } else if !(16..=65_536).contains(&self.egress_bufs) {
            format!("{} egress buffers: give 16 to 65536", self.egress_bufs)
        } else if !(2048..=1 << 20).contains(&self.tcp_buffer) {
            format!(
                "TCP buffers of {} bytes: give 2048 to 1 MiB",
                self.tcp_buffer
            )
        } else {
            return Ok(());
        };
        Err(ConfigError::Value(problem))
    }
}
