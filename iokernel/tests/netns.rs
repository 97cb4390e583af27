//! A network of the test's own: a namespace, a veth pair, raw sockets, packets.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

/// Address of Linux at the far end, and of the port.
pub(crate) const LINUX_IP: [u8; 4] = [10, 9, 0, 1];
pub(crate) const PORT_IP: [u8; 4] = [10, 9, 0, 2];
/// The port's Ethernet address, as Linux is told.
pub(crate) const PORT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Moves this process into a new network namespace.
pub(crate) fn enter() -> Result<(), String> {
    // SAFETY: no memory is involved.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(format!(
            "no network namespace: {}",
            io::Error::last_os_error()
        ));
    }
    ip("link set lo up")
}

/// Runs `ip` with these words.
pub(crate) fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .map_err(|e| format!("ip (iproute2) does not run: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {words}: {}", why.trim()))
}

/// Gives an interface Linux's address, and makes the port known behind it.
pub(crate) fn address(interface: &str) -> Result<(), String> {
    // Without IPv6 nobody but the test sends.
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    let _ = std::fs::write(path, "1");
    ip(&format!("addr add 10.9.0.1/24 dev {interface}"))?;
    ip(&format!("link set {interface} up"))?;
    ip(&format!(
        "neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev {interface}"
    ))
}

/// The Ethernet address of an interface.
pub(crate) fn mac(interface: &str) -> [u8; 6] {
    // Not from sysfs: it shows the namespace that it was mounted in.
    let text = Command::new("ip")
        .args(["-o", "link", "show", interface])
        .output()
        .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default();
    let text = text
        .split_whitespace()
        .skip_while(|word| *word != "link/ether")
        .nth(1)
        .unwrap_or_else(|| panic!("no address of {interface}"))
        .to_owned();
    let mut mac = [0; 6];
    for (byte, hex) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(hex, 16).expect("two hexadecimal digits");
    }
    mac
}

/// A packet socket: whole frames of one interface.
#[derive(Debug)]
pub(crate) struct RawSocket(OwnedFd);

impl RawSocket {
    pub(crate) fn open(interface: &str) -> io::Result<RawSocket> {
        let check = |ret: i32| {
            (ret >= 0)
                .then_some(ret)
                .ok_or_else(io::Error::last_os_error)
        };
        let name = std::ffi::CString::new(interface).expect("an interface's name");
        let protocol = u16::to_be(0x0003); // ETH_P_ALL
        // SAFETY: each call gets live values of the sizes that it is told.
        unsafe {
            let fd = check(libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                i32::from(protocol),
            ))?;
            let socket = OwnedFd::from_raw_fd(fd);
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = libc::if_nametoindex(name.as_ptr()).cast_signed();
            check(libc::bind(
                fd,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            ))?;
            let wait = libc::timeval {
                tv_sec: 0,
                tv_usec: 300_000,
            };
            check(libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const wait).cast(),
                size_of::<libc::timeval>() as u32,
            ))?;
            let ignore_outgoing = 23;
            let one = 1_i32;
            check(libc::setsockopt(
                fd,
                libc::SOL_PACKET,
                ignore_outgoing,
                (&raw const one).cast(),
                4,
            ))?;
            Ok(RawSocket(socket))
        }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        // SAFETY: a live buffer of that length.
        let n = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(n, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The next frame, or none within 300 ms.
    pub(crate) fn recv(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 4096];
        // SAFETY: a live buffer of that length.
        let n = unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                frame.as_mut_ptr().cast(),
                frame.len(),
                0,
            )
        };
        frame.truncate(usize::try_from(n).ok()?);
        Some(frame)
    }
}

/// An Ethernet and IPv4 frame whose header checksum is zero.
fn ipv4(dst: [u8; 6], src: [u8; 6], from: [u8; 4], to: [u8; 4], proto: u8, data: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + data.len()).expect("a short packet");
    let mut frame = Vec::new();
    frame.extend(dst);
    frame.extend(src);
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(total.to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, proto, 0, 0]);
    frame.extend(from);
    frame.extend(to);
    frame.extend(data);
    frame
}

/// A UDP datagram without checksum.
pub(crate) fn udp(
    dst: [u8; 6],
    from: [u8; 4],
    to: [u8; 4],
    ports: (u16, u16),
    data: &[u8],
) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(ports.0.to_be_bytes());
    datagram.extend(ports.1.to_be_bytes());
    datagram.extend((8 + data.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    ipv4(dst, PORT_MAC, from, to, 17, &datagram)
}

/// A TCP SYN from the port to Linux as a runtime sends it: the checksum field holds
/// the pseudo-header's sum.
pub(crate) fn syn(dst: [u8; 6], sport: u16, dport: u16) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(sport.to_be_bytes());
    segment.extend(dport.to_be_bytes());
    segment.extend([0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 1, 0]);
    // 0a09 + 0002 + 0a09 + 0001 + 0006 + 0014 = 142f.
    segment.extend([0x14, 0x2f, 0, 0]);
    ipv4(dst, PORT_MAC, PORT_IP, LINUX_IP, 6, &segment)
}
