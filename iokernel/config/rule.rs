//! A steering rule as text: in the configuration file, in requests to a running
//! daemon, and in its answers.
//!
//! ```text
//!   core=5 hash=0x51ccc178
//!   core=5 flow=udp 10.0.0.1:5000 -> 192.168.1.3:80
//! ```
//!
//! A *selector* is what follows the core: an RSS hash, or a flow, which means its
//! hash. A flow is named as its packets arrive, source first. UDP and TCP flows
//! between the same addresses and ports hash alike, so a rule for one is a rule for
//! both; the word is there to be read.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::ids::CoreId;
use crate::port::hash::hash_flow;
use crate::steering::rules::Rule;

/// Why a rule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleTextError {
    /// Not a number, or too large.
    #[error("core {0}: must be 0 to 255")]
    Core(String),
    /// Not a number, or too large.
    #[error("hash {0}: must be a number of 32 bits, such as 0x51ccc178")]
    Hash(String),
    /// Another shape.
    #[error(
        "flow {0}: must be such as `udp 10.0.0.1:5000 -> 192.168.1.3:80`, or `tcp [fd00::1]:5000 -> [fd00::2]:80`"
    )]
    Flow(String),
    /// IPv4 at one end, IPv6 at the other.
    #[error("flow {0}: one end is IPv4 and the other IPv6; use one of them")]
    Mixed(String),
    /// Neither hash nor flow, or both.
    #[error("a rule needs either a hash or a flow")]
    Selector,
    /// Another word.
    #[error(
        "`{0}` is no rule: write `core=5 hash=0x51ccc178` or `core=5 flow=udp 10.0.0.1:5000 -> 192.168.1.3:80`"
    )]
    Rule(String),
}

/// Which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selector {
    hash: u32,
    /// How the hash was given, if not as a number.
    flow: Option<Flow>,
}

/// Source and destination of a flow, as its packets arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    protocol: Protocol,
    src: SocketAddr,
    dst: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

/// A rule, and how it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleSpec {
    /// Which packets.
    pub selector: Selector,
    /// Their core.
    pub core: CoreId,
}

impl RuleSpec {
    /// What steering makes of it.
    pub fn rule(&self) -> Rule {
        Rule {
            hash: self.selector.hash,
            core: self.core,
        }
    }
}

impl Selector {
    /// Packets with this RSS hash.
    pub fn of_hash(hash: u32) -> Selector {
        Selector { hash, flow: None }
    }

    /// The hash of the packets.
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// The flow, if one was named.
    pub fn flow(&self) -> Option<Flow> {
        self.flow
    }
}

/// A core's number.
///
/// # Errors
/// [`RuleTextError::Core`].
pub fn core(text: &str) -> Result<CoreId, RuleTextError> {
    // Runtimes know cores 0 to 255.
    match text.parse::<u8>() {
        Ok(n) => Ok(CoreId(n.into())),
        Err(_) => Err(RuleTextError::Core(text.to_owned())),
    }
}

/// The selector of a hash in decimal, or in hexadecimal behind `0x`.
///
/// # Errors
/// [`RuleTextError::Hash`].
pub fn hash(text: &str) -> Result<Selector, RuleTextError> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let hash = parsed.ok_or_else(|| RuleTextError::Hash(one_line(text)))?;
    Ok(Selector::of_hash(hash))
}

/// The selector of a flow: `udp 10.0.0.1:5000 -> 192.168.1.3:80`.
///
/// # Errors
/// [`RuleTextError::Flow`], [`RuleTextError::Mixed`].
pub fn flow(text: &str) -> Result<Selector, RuleTextError> {
    let wrong = || RuleTextError::Flow(one_line(text));
    let mut words = text.split_whitespace();
    let mut next = || words.next().ok_or_else(wrong);
    let protocol = match next()? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(wrong()),
    };
    let src = end(next()?).ok_or_else(wrong)?;
    let arrow = next()?;
    let dst = end(next()?).ok_or_else(wrong)?;
    if arrow != "->" || words.next().is_some() {
        return Err(wrong());
    }
    let hash = hash_flow(src, dst).ok_or_else(|| RuleTextError::Mixed(one_line(text)))?;
    Ok(Selector {
        hash,
        flow: Some(Flow { protocol, src, dst }),
    })
}

/// A text that a message can hold.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Address and port. What IPv6 addresses may say beyond that is in no packet.
fn end(text: &str) -> Option<SocketAddr> {
    let end: SocketAddr = text.parse().ok()?;
    (!text.contains('%')).then_some(end)
}

impl FromStr for Selector {
    type Err = RuleTextError;

    fn from_str(text: &str) -> Result<Selector, RuleTextError> {
        match text.trim().split_once('=') {
            Some(("hash", text)) => hash(text.trim()),
            Some(("flow", text)) => flow(text.trim()),
            _ => Err(RuleTextError::Selector),
        }
    }
}

impl FromStr for RuleSpec {
    type Err = RuleTextError;

    fn from_str(text: &str) -> Result<RuleSpec, RuleTextError> {
        let parts = text.trim().split_once(char::is_whitespace);
        let parts = parts.and_then(|(first, rest)| Some((first.strip_prefix("core=")?, rest)));
        let Some((number, selector)) = parts else {
            return Err(RuleTextError::Rule(one_line(text)));
        };
        Ok(RuleSpec {
            core: core(number)?,
            selector: selector.parse()?,
        })
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol} {} -> {}", self.src, self.dst)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.flow {
            Some(flow) => write!(f, "flow={flow}"),
            None => write!(f, "hash={:#010x}", self.hash),
        }
    }
}

impl fmt::Display for RuleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "core={} {}", self.core, self.selector)
    }
}

/// Refuses a rule for a core on which no runtime ever runs. `cores` are those that do.
///
/// # Errors
/// One line.
pub fn check_core(spec: &RuleSpec, cores: &[CoreId]) -> Result<(), String> {
    if cores.contains(&spec.core) {
        return Ok(());
    }
    let names: Vec<String> = cores.iter().map(|core| core.0.to_string()).collect();
    Err(format!(
        "the rule `{spec}` names no runtime core: those are {}",
        names.join(",")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first published value of port/hash.rs.
    const PUBLISHED: &str = "66.9.149.187:2794 -> 161.142.100.80:1766";

    #[test]
    fn a_flow_means_its_hash() {
        for protocol in ["tcp", "udp"] {
            let spec: RuleSpec = format!("core=5 flow={protocol} {PUBLISHED}")
                .parse()
                .unwrap();
            let expected = Rule {
                hash: 0x51cc_c178,
                core: CoreId(5),
            };
            assert_eq!(spec.rule(), expected);
        }
        let v6 = "udp [3ffe:2501:200:1fff::7]:2794 -> [3ffe:2501:200:3::1]:1766";
        assert_eq!(flow(v6).unwrap().hash(), 0x4020_7d3d);
    }

    #[test]
    fn hashes_in_both_bases() {
        for text in ["hash=0x51ccc178", "hash=1372373368", " hash= 0x51CCC178 "] {
            assert_eq!(
                text.parse::<Selector>().unwrap().hash(),
                0x51cc_c178,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        for text in [
            "core=0 hash=0x00000007",
            "core=255 hash=0xffffffff",
            "core=5 flow=udp 10.0.0.1:5000 -> 192.168.1.3:80",
            "core=5 flow=tcp [fd00::1]:1 -> [fd00::2]:65535",
        ] {
            let spec: RuleSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
        }
    }

    #[test]
    fn each_mistake_is_named_in_one_line() {
        for (text, part) in [
            ("core=256 hash=1", "core 256: must be 0 to 255"),
            ("core=x hash=1", "core x: "),
            (
                "core=5 hash=0x1ccccc178",
                "hash 0x1ccccc178: must be a number of 32 bits",
            ),
            ("core=5 hash=0x1\n2", "hash 0x1 2: "),
            ("core=5 hash=-1", "hash -1: "),
            ("core=5 hash=", "hash : "),
            (
                "core=5 hash=1 flow=udp 1.1.1.1:1 -> 1.1.1.1:2",
                "hash 1 flow",
            ),
            ("core=5", "`core=5` is no rule"),
            ("hash=1 core=5", "`hash=1 core=5` is no rule"),
            ("core=5 port=80", "either a hash or a flow"),
            ("core=5 flow=icmp 1.1.1.1:1 -> 1.1.1.2:1", "flow icmp "),
            ("core=5 flow=udp 1.1.1.1 -> 1.1.1.2:1", "must be such as"),
            ("core=5 flow=udp 1.1.1.1:1 <- 1.1.1.2:1", "must be such as"),
            (
                "core=5 flow=udp 1.1.1.1:1 -> 1.1.1.2:1 x",
                "must be such as",
            ),
            ("core=5 flow=udp 1.1.1.1:1 ->", "must be such as"),
            (
                "core=5 flow=udp 1.1.1.1:1 -> 1.1.1.2:70000",
                "must be such as",
            ),
            (
                "core=5 flow=udp [fe80::1%2]:1 -> [fe80::2]:1",
                "must be such as",
            ),
            ("core=5 flow=udp 1.1.1.1:1 -> [::1]:1", "one end is IPv4"),
        ] {
            let error = text.parse::<RuleSpec>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains('\n'));
        }
    }
}
