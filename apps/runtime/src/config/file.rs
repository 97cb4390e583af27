//! Upstream's configuration files: `key value` lines.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::SplitWhitespace;

use calisto::ids::{Mac, NoMac};

use super::Config;
use crate::error::ConfigError;

/// Reads and checks a file.
pub(super) fn read(path: &Path) -> Result<Config, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| ConfigError::Read {
        path: path.to_owned(),
        error,
    })?;
    parse(&text, path)
}

/// Parses the text of a file; `path` is for messages.
pub(super) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    let mut seen = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(key) = words.next() else { continue };
        let refused = |what| ConfigError::Line {
            path: path.to_owned(),
            line: index + 1,
            what,
        };
        set(&mut config, key, &mut words).map_err(refused)?;
        if let Some(more) = words.next() {
            return Err(refused(format!("{more:?} is one word too many for {key}")));
        }
        if key != "static_arp" && seen.contains(&key) {
            return Err(refused(format!("{key} is given twice")));
        }
        seen.push(key);
    }
    for key in ["host_addr", "host_netmask", "runtime_kthreads"] {
        if !seen.contains(&key) {
            let path = path.display();
            return Err(ConfigError::Value(format!("{path}: {key} is missing")));
        }
    }
    // Upstream guarantees nothing that is not asked for.
    if !seen.contains(&"runtime_guaranteed_kthreads") {
        config.guaranteed = 0;
    }
    config.check().map(|()| config)
}

fn set(config: &mut Config, key: &str, words: &mut SplitWhitespace<'_>) -> Result<(), String> {
    match key {
        "host_addr" => config.addr = address(key, words)?,
        "host_netmask" => config.prefix_len = prefix_len(address(key, words)?)?,
        "host_gateway" => {
            let gateway = address(key, words)?;
            config.gateway = (!gateway.is_unspecified()).then_some(gateway);
        }
        "host_mac" => config.mac = Some(mac(key, words)?),
        "runtime_kthreads" => config.kthreads = number(key, words)?,
        "runtime_guaranteed_kthreads" => config.guaranteed = number(key, words)?,
        "runtime_spinning_kthreads" => config.spinning = number(key, words)? > 0,
        "static_arp" => config.arp.push((address(key, words)?, mac(key, words)?)),
        "log_level" => drop(number(key, words)?),
        // With a value or without.
        "disable_watchdog" => drop(words.next()),
        _ => return Err(format!("unknown key {key:?}")),
    }
    Ok(())
}

fn value<'a>(key: &str, words: &mut SplitWhitespace<'a>) -> Result<&'a str, String> {
    words.next().ok_or_else(|| format!("{key} has no value"))
}

fn number(key: &str, words: &mut SplitWhitespace<'_>) -> Result<u16, String> {
    let text = value(key, words)?;
    text.parse()
        .map_err(|_| format!("{key} {text:?}: give a number"))
}

fn address(key: &str, words: &mut SplitWhitespace<'_>) -> Result<Ipv4Addr, String> {
    let text = value(key, words)?;
    text.parse()
        .map_err(|_| format!("{key} {text:?}: give an IPv4 address, like 192.168.1.2"))
}

fn mac(key: &str, words: &mut SplitWhitespace<'_>) -> Result<[u8; 6], String> {
    let text = value(key, words)?;
    let Mac(bytes) = text
        .parse()
        .map_err(|e: NoMac| format!("{key} {text:?}: {e}"))?;
    Ok(bytes)
}

fn prefix_len(mask: Ipv4Addr) -> Result<u8, String> {
    let bits = mask.to_bits();
    if bits.leading_ones() + bits.trailing_zeros() < 32 {
        return Err(format!("host_netmask {mask} has holes"));
    }
    #[allow(clippy::cast_possible_truncation, reason = "at most 32")]
    Ok(bits.leading_ones() as u8)
}
