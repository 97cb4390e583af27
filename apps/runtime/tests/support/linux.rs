//! Traffic with Linux's own network stack, at the other end of a veth pair.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use compat_tests::veth::must;
use compat_tests::{Host, Peer};

use super::{Counts, Example};

/// Longest wait for one answer; a watchdog.
const PATIENCE: Duration = Duration::from_secs(60);
/// Our echo runtime.
const ECHO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 7);

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + len).to_le_bytes()[0]).collect()
}

/// The next datagram, however often the wait is interrupted.
fn receive(socket: &UdpSocket, buf: &mut [u8]) -> std::io::Result<(usize, std::net::SocketAddr)> {
    loop {
        match socket.recv_from(buf) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Datagrams of many sizes, from many ports, one after another.
pub(crate) fn udp_from_linux(peer: &Peer) -> u64 {
    peer.run(|| {
        let mut sent = 0;
        let mut buf = [0; 2048];
        for size in [0, 1, 17, 18, 100, 1000, 1471, 1472] {
            for _ in 0..10 {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a UDP socket");
                socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                let data = pattern(size);
                socket.send_to(&data, ECHO).expect("a datagram is sent");
                let (len, from) = receive(&socket, &mut buf)
                    .unwrap_or_else(|e| panic!("no answer to {size} bytes: {e}"));
                assert_eq!(from, ECHO.into());
                assert!(buf[..len] == data[..], "{size} bytes came back changed");
                sent += 1;
            }
        }
        sent
    })
}

/// Connections from Linux at the same time, of several lengths; each byte comes back.
pub(crate) fn tcp_from_linux(peer: &Peer) -> u64 {
    let sizes = [1, 100, 1460, 1461, 20_000, 300_000];
    std::thread::scope(|scope| {
        for len in sizes {
            scope.spawn(move || {
                let got = peer.run(|| {
                    let mut stream =
                        TcpStream::connect_timeout(&ECHO.into(), PATIENCE).expect("connects");
                    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                    let mut writer = stream.try_clone().expect("a second handle");
                    std::thread::scope(|scope| {
                        scope.spawn(|| {
                            writer.write_all(&pattern(len)).expect("bytes are taken");
                            writer.shutdown(Shutdown::Write).expect("our end is closed");
                        });
                        let mut got = Vec::new();
                        stream.read_to_end(&mut got).map(|_| got)
                    })
                });
                let got = got.unwrap_or_else(|e| panic!("{len} bytes over TCP: {e}"));
                assert!(
                    got == pattern(len),
                    "{len} bytes came back as {}",
                    got.len()
                );
            });
        }
    });
    sizes.len() as u64
}

/// Pings, of which each is answered.
pub(crate) fn pings_from_linux(peer: &Peer) -> u64 {
    for size in ["8", "56", "1472"] {
        let said = must(
            peer.command("ping")
                .args(["-q", "-n", "-W", "30", "-c", "1", "-s", size, "10.0.0.2"]),
        );
        assert!(said.contains("1 received"), "{said}");
    }
    3
}

/// Our client against servers of Linux: 500 requests over UDP, and 30 connections that we begin.
pub(crate) fn to_linux(host: &Host, peer: &Peer, more: &str) -> Counts {
    let (udp, tcp) = peer.run(|| {
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7)).expect("port 7 is free");
        let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 7)).expect("port 7 is free");
        (udp, tcp)
    });
    // The threads end with their sockets' process; the sockets stay in the peer's namespace.
    std::thread::spawn(move || {
        let mut buf = [0; 2048];
        while let Ok((len, from)) = receive(&udp, &mut buf) {
            let _ = udp.send_to(&buf[..len], from);
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut reader, mut writer) = (&stream, &stream);
                let _ = std::io::copy(&mut reader, &mut writer);
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
    let options = format!(
        "--to 10.0.255.1:7 --flows 50 --window 8 --requests 500 \
         --connections 30 --at-once 5 --bytes 20000 {more}"
    );
    Example::start(host, "client", 3, &options).wait()
}
