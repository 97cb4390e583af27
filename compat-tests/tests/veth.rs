//! Runtimes on DPDK's port over a veth pair, with Linux's own network stack at
//! the other end.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use compat_tests::veth::{BROADCAST, PEER_END, must};
use compat_tests::{Host, Peer, Runtime, runtime, skip};

/// Longest wait for one answer; a watchdog.
const PATIENCE: Duration = Duration::from_secs(30);
/// UDP payload of the longest frame: 1514 - 14 - 20 - 8.
const MAX_UDP: usize = 1472;

fn at(n: u16, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(runtime::ip(n)), port)
}

/// Bytes that differ from one length to the next.
fn pattern(len: usize) -> Vec<u8> {
    // The low byte of a sum.
    (0..len).map(|i| (i * 31 + len).to_le_bytes()[0]).collect()
}

/// The next datagram. With a timeout a wait is interrupted where a machine is
/// suspended and resumed, as virtual ones are.
fn answer(socket: &UdpSocket, buf: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buf) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A UDP payload of each size goes out and must come back.
fn udp_echoes(peer: &Peer, n: u16, sizes: impl IntoIterator<Item = usize> + Send) {
    peer.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a UDP socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut buf = [0; 2048];
        for size in sizes {
            let sent = pattern(size);
            socket.send_to(&sent, at(n, 7)).expect("a datagram is sent");
            let (len, from) = answer(&socket, &mut buf)
                .unwrap_or_else(|e| panic!("no answer to {size} bytes: {e}"));
            assert_eq!(from, at(n, 7));
            assert!(buf[..len] == sent[..], "{size} bytes came back changed");
        }
    });
}

/// `len` bytes through one TCP connection and back, then the end from our side.
fn tcp_echoes(peer: &Peer, n: u16, len: usize) {
    let (sent, got) = peer.run(|| {
        let mut stream = TcpStream::connect_timeout(&at(n, 80), PATIENCE).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let sent = pattern(len);
        let mut writer = stream.try_clone().expect("a second handle");
        let got = std::thread::scope(|scope| {
            // Written beside the reading: what comes back fills our own buffers.
            scope.spawn(|| {
                writer.write_all(&sent).expect("bytes are taken");
                writer.shutdown(Shutdown::Write).expect("our end is closed");
            });
            let mut got = Vec::new();
            stream.read_to_end(&mut got).map(|_| got)
        });
        (
            sent,
            got.unwrap_or_else(|e| panic!("{len} bytes over TCP: {e}")),
        )
    });
    assert!(
        sent == got,
        "{len} bytes came back as {} or changed",
        got.len()
    );
}

/// Pings runtime `n` with `bytes` of payload, `count` times, each answered.
///
/// One at a time: a ping of several waits for the last answer no longer than for
/// twice the longest so far, which on a busy machine is not long.
fn pings(peer: &Peer, n: u16, bytes: u32, count: u32) {
    for _ in 0..count {
        let said = must(peer.command("ping").args([
            "-q",
            "-n",
            "-W",
            "20",
            "-c",
            "1",
            "-s",
            &bytes.to_string(),
            &runtime::ip(n).to_string(),
        ]));
        assert!(said.contains("1 received"), "{said}");
    }
}

#[test]
fn linux_pings_a_runtime() {
    let case = "ping over a veth";
    let Some((host, peer)) = Host::veth(case) else {
        return;
    };
    if peer.command("ping").arg("-V").output().is_err() {
        skip::skip(case, "ping is not installed");
        return;
    }
    let echo = host.start(Runtime::echo(1));
    // 8 bytes to the largest that fits a frame: 1514 - 14 - 20 - 8.
    for bytes in [8, 56, 1000, 1472] {
        pings(&peer, 1, bytes, 5);
    }
    let report = echo.stop();
    report.assert_good();
    // The first ping had to ask for the address.
    report.assert_seen(&["arp_replies"]);
    assert_eq!(report.get("ping_replies"), 20);
    host.finish();
}

#[test]
fn udp_of_every_size_comes_back_from_a_runtime() {
    let Some((host, peer)) = Host::veth("UDP over a veth") else {
        return;
    };
    let echo = host.start(Runtime::echo(1).kthreads(2, 1));
    udp_echoes(&peer, 1, 0..=MAX_UDP);
    let report = echo.stop();
    report.assert_good();
    assert_eq!(report.get("udp_echoes"), MAX_UDP as u64 + 1);
    assert_eq!(report.get("rx_hash_checked"), MAX_UDP as u64 + 1);
    host.finish();
}

#[test]
fn tcp_comes_back_from_a_runtime() {
    let Some((host, peer)) = Host::veth("TCP over a veth") else {
        return;
    };
    let echo = host.start(Runtime::echo(1));
    let sizes = [1, 2, 100, 1459, 1460, 1461, 4096, 20_000, 100_000];
    for len in sizes {
        tcp_echoes(&peer, 1, len);
    }
    let report = echo.stop();
    report.assert_good();
    assert_eq!(report.get("tcp_accepted"), sizes.len() as u64);
    assert_eq!(report.get("tcp_bytes"), sizes.iter().sum::<usize>() as u64);
    host.finish();
}

#[test]
fn many_tcp_connections_at_once_reach_several_runtimes() {
    let Some((host, peer)) = Host::veth("many TCP connections") else {
        return;
    };
    let echoes: Vec<_> = (1..=3)
        .map(|n| host.start(Runtime::echo(n).kthreads(2, 1)))
        .collect();
    std::thread::scope(|scope| {
        for n in 1..=3 {
            for len in [300, 3000, 30_000] {
                let peer = &peer;
                scope.spawn(move || tcp_echoes(peer, n, len));
            }
        }
    });
    for echo in echoes {
        let report = echo.stop();
        report.assert_good();
        assert_eq!(report.get("tcp_bytes"), 33_300);
    }
    host.finish();
}

/// The listener's probe number `seq`. See `c/probe.h`.
fn probe(seq: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(0x6c70_6f43_u32.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(seq.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(24_u32.to_ne_bytes());
    bytes
}

#[test]
fn a_broadcast_of_linux_reaches_every_runtime_once() {
    const PROBES: u64 = 500;
    let Some((host, peer)) = Host::veth("broadcast over a veth") else {
        return;
    };
    let listeners: Vec<_> = (1..=3)
        .map(|n| host.start(Runtime::listener(n).set("guaranteed", 0)))
        .collect();
    peer.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a UDP socket");
        socket.set_broadcast(true).expect("broadcasts are allowed");
        for seq in 1..=PROBES {
            let sent = socket.send_to(&probe(seq), (BROADCAST, 9));
            sent.expect("a broadcast is sent");
            // Slower than the 512 frames of the packet socket's ring fill up.
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    // What was sent last is received last: an echo means that all is through.
    let echo = host.start(Runtime::echo(4).set("guaranteed", 0));
    udp_echoes(&peer, 4, [24]);
    echo.stop().assert_good();
    for listener in listeners {
        let report = listener.stop();
        report.assert_good().assert_zero(&["probes_repeated"]);
        assert_eq!(report.get("probes"), PROBES);
    }
    host.finish();
}

#[test]
fn a_killed_runtime_answers_again_with_its_mac() {
    let Some((host, peer)) = Host::veth("kill -9 over a veth") else {
        return;
    };
    for _ in 0..3 {
        let echo = host.start(Runtime::echo(1));
        udp_echoes(&peer, 1, [1, 500, MAX_UDP]);
        echo.kill();
    }
    let echo = host.start(Runtime::echo(1));
    udp_echoes(&peer, 1, [1, 500, MAX_UDP]);
    echo.stop().assert_good();
    host.finish();
}

#[test]
fn a_daemon_gives_the_port_back_and_takes_it_again() {
    let Some((mut host, peer)) = Host::veth("exit and restart over a veth") else {
        return;
    };
    for _ in 0..2 {
        let echo = host.start(Runtime::echo(1));
        udp_echoes(&peer, 1, [100]);
        host.stop_daemon();
        assert_eq!(echo.wait().get("hung_up"), 1);
        let segments = host.space().segments();
        assert!(segments.is_empty(), "segments are left: {segments:?}");
        host.start_daemon();
    }
    let echo = host.start(Runtime::echo(1));
    udp_echoes(&peer, 1, [100]);
    echo.stop().assert_good();
    host.finish();
}

#[test]
fn frames_longer_than_the_standard_are_not_passed_on() {
    let Some((host, peer)) = Host::veth("long frames") else {
        return;
    };
    for (command, iface) in [
        (host.command("ip"), compat_tests::veth::HOST_END),
        (peer.command("ip"), PEER_END),
    ] {
        let mut command = command;
        must(command.args(["link", "set", iface, "mtu", "9000"]));
    }
    let echo = host.start(Runtime::echo(1));
    // The address is known before frames come of which none is answered.
    udp_echoes(&peer, 1, [24]);
    peer.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a UDP socket");
        for len in [MAX_UDP + 1, MAX_UDP + 5, 2000, 2048, 4000, 8000] {
            let sent = socket.send_to(&pattern(len), at(1, 7));
            sent.expect("a long datagram is sent");
        }
    });
    udp_echoes(&peer, 1, [24, MAX_UDP]);
    let report = echo.stop();
    // rx_bad_len among the faults is what this is about.
    report.assert_good();
    assert_eq!(report.get("udp_echoes"), 3);
    host.finish();
}
