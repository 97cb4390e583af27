//! A veth pair: the daemon's end in a host, the other in a peer with Linux's
//! own network stack.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::namespace::{self, Namespaces};

/// The interface that the daemon takes.
pub const HOST_END: &str = "veth0";
/// The peer's interface.
pub const PEER_END: &str = "veth1";
/// The peer's address, in the /16 of the runtimes.
pub const PEER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 255, 1);
/// Where the peer's broadcasts go.
pub const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 0, 255, 255);

/// A network namespace with Linux in it.
#[derive(Debug)]
pub struct Peer {
    space: Namespaces,
}

/// Runs a command that must succeed.
///
/// # Panics
/// With what it said.
pub fn must(command: &mut Command) -> String {
    let out = command.output();
    let out = out.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(
        out.status.success(),
        "{command:?}: {}: {}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Whether veth pairs and DPDK can be used here; if not, why.
///
/// # Errors
/// The reason, for a skip.
pub fn possible() -> Result<(), String> {
    if !cfg!(feature = "dpdk") {
        return Err("built without the feature dpdk".into());
    }
    if !namespace::is_root() {
        return Err("needs root (veth, packet sockets)".into());
    }
    for (tool, arg) in [("ip", "-V"), ("ethtool", "--version")] {
        if Command::new(tool).arg(arg).output().is_err() {
            return Err(format!("{tool} is not installed"));
        }
    }
    let scratch = Namespaces::new().map_err(|e| format!("namespaces are not allowed here: {e}"))?;
    let made = scratch
        .command("ip")
        .args([
            "link", "add", HOST_END, "type", "veth", "peer", "name", PEER_END,
        ])
        .output();
    match made {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(format!(
            "no veth: {}",
            String::from_utf8_lossy(&out.stderr).trim()
        )),
        Err(e) => Err(format!("no veth: {e}")),
    }
}

/// Switches off what a packet socket at the other end cannot follow: unfilled
/// checksums, and segments longer than a frame. And IPv6, whose chatter no
/// runtime understands.
fn plain(space: &Namespaces, iface: &str) {
    let features = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
    must(space.command("ethtool").args(["-K", iface]).args(features));
    must(
        space
            .command("sysctl")
            .args(["-qw", &format!("net.ipv6.conf.{iface}.disable_ipv6=1")]),
    );
}

/// Joins two hosts' namespaces by a veth pair, one end each, both for daemons.
pub fn join(a: &Namespaces, b: &Namespaces) {
    let pid = b.pid().to_string();
    must(a.command("ip").args([
        "link", "add", HOST_END, "type", "veth", "peer", "name", PEER_END, "netns", &pid,
    ]));
    for (space, iface) in [(a, HOST_END), (b, PEER_END)] {
        plain(space, iface);
        must(
            space
                .command("ip")
                .args(["link", "set", iface, "arp", "off", "up"]),
        );
    }
}

impl Peer {
    /// A new peer on a veth pair with `host`: 10.0.255.1/16.
    ///
    /// # Panics
    /// When a command fails: [`possible`] must have said yes.
    pub fn connect(host: &Namespaces) -> Peer {
        Peer::connect_as(host, &format!("{PEER_IP}/16"), &BROADCAST.to_string())
    }

    /// The same with another address.
    ///
    /// # Panics
    /// When a command fails.
    pub fn connect_as(host: &Namespaces, address: &str, broadcast: &str) -> Peer {
        let space = Namespaces::new().expect("possible() has made namespaces");
        join(host, &space);
        must(
            space
                .command("ip")
                .args(["link", "set", PEER_END, "arp", "on"]),
        );
        must(space.command("ip").args([
            "addr",
            "add",
            address,
            "broadcast",
            broadcast,
            "dev",
            PEER_END,
        ]));
        Peer { space }
    }

    /// A command inside the peer.
    pub fn command(&self, program: &str) -> Command {
        self.space.command(program)
    }

    /// Runs `f` in a thread whose sockets are the peer's.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.space.run(f)
    }
}
