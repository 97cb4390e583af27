//! UDP: each thread has a socket for each port, among which Linux spreads flows.

use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::mpsc::Sender;

use anyhow::Context;
use socket2::{Domain, Socket, Type};

use super::ready::ReadySet;
use super::server::{NAP, Service, spawn};
use crate::payload::Payload;
use crate::server::{cannot_listen, listening};

/// The longest datagram.
const LONGEST: usize = 65_536;

/// Opens the sockets, and serves with a thread for each of `services`.
pub(super) fn start(
    first: SocketAddrV4,
    ports: u16,
    services: &[Service],
    failed: &Sender<anyhow::Error>,
) -> anyhow::Result<()> {
    let addrs = || (0..ports).map(move |k| SocketAddrV4::new(*first.ip(), first.port() + k));
    // Sharing a port is for our own threads: without it, another server's port is noticed.
    addrs().try_for_each(|addr| bind(addr, false).map(drop))?;
    let mut all = Vec::new();
    for service in services {
        let shared = services.len() > 1;
        let sockets = addrs().map(|addr| Ok((bind(addr, shared)?, addr)));
        all.push((
            sockets.collect::<anyhow::Result<Vec<_>>>()?,
            service.clone(),
        ));
    }
    for (thread, (sockets, service)) in all.into_iter().enumerate() {
        let work = move || serve(&sockets, &service);
        spawn(format!("server {thread}"), failed, work).context("cannot start a thread")?;
    }
    listening(first, ports)
}

fn bind(addr: SocketAddrV4, shared: bool) -> anyhow::Result<UdpSocket> {
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_reuse_port(shared)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::V4(addr).into())?;
        Ok::<_, std::io::Error>(socket.into())
    };
    open().map_err(|e| cannot_listen("UDP", addr, &e))
}

fn serve(sockets: &[(UdpSocket, SocketAddrV4)], service: &Service) -> anyhow::Result<()> {
    let ready = ReadySet::new()?;
    for (number, (socket, _)) in sockets.iter().enumerate() {
        ready.add(socket, number)?;
    }
    let mut buf = vec![0; LONGEST];
    while !service.is_over() {
        if !ready.wait(NAP)? {
            continue;
        }
        for number in ready.now()? {
            let (socket, addr) = &sockets[number];
            answer(socket, *addr, service, &mut buf)?;
        }
    }
    Ok(())
}

fn answer(
    socket: &UdpSocket,
    to: SocketAddrV4,
    service: &Service,
    buf: &mut [u8],
) -> anyhow::Result<()> {
    let (len, from) = match socket.recv_from(buf) {
        Ok((len, SocketAddr::V4(from))) => (len, from),
        Ok(_) => return Ok(()),
        // A refusal is a client's that went away before its answer.
        Err(e) if is_passing(e.kind()) => return Ok(()),
        Err(e) => return Err(e).context("cannot receive"),
    };
    match Payload::parse(&buf[..len]) {
        Some(payload) => {
            service.serve(payload.work, from, to);
            // Lost, as on the way.
            if socket.send_to(&buf[..len], from).is_err() {
                service.unsent();
            }
        }
        None => service.malformed(),
    }
    Ok(())
}

fn is_passing(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused
    )
}
