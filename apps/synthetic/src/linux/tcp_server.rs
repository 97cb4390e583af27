//! TCP: a thread for each connection, as upstream. `--threads` only share out the counts.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::mpsc::Sender;

use anyhow::Context;
use socket2::{Domain, Socket, Type};

use super::ready::wait_readable;
use super::server::{NAP, Service, spawn};
use crate::payload::{Payload, Stream};
use crate::server::{cannot_listen, listening};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens on all ports, and serves what connects.
pub(super) fn start(
    first: SocketAddrV4,
    ports: u16,
    services: &[Service],
    failed: &Sender<anyhow::Error>,
) -> anyhow::Result<()> {
    let addrs = (0..ports).map(|k| SocketAddrV4::new(*first.ip(), first.port() + k));
    let listeners: Vec<TcpListener> = addrs.map(listen).collect::<anyhow::Result<_>>()?;
    for listener in listeners {
        let services = services.to_vec();
        let work = move || accept(&listener, &services);
        spawn("listener".to_owned(), failed, work).context("cannot start a thread")?;
    }
    listening(first, ports)
}

fn listen(addr: SocketAddrV4) -> anyhow::Result<TcpListener> {
    let open = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Connections of an earlier server may still be fading away.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::V4(addr).into())?;
        socket.listen(BACKLOG)?;
        Ok::<_, std::io::Error>(socket.into())
    };
    open().map_err(|e| cannot_listen("TCP", addr, &e))
}

fn accept(listener: &TcpListener, services: &[Service]) -> anyhow::Result<()> {
    let mut turns = services.iter().cycle();
    while let Some(service) = turns.next().filter(|s| !s.is_over()) {
        if !wait_readable(listener, NAP)? {
            continue;
        }
        // A connection that fails here has gone already, or there are too many.
        let Ok((stream, SocketAddr::V4(from))) = listener.accept() else {
            std::thread::yield_now();
            continue;
        };
        let service = service.clone();
        let connection = std::thread::Builder::new().name("connection".to_owned());
        // Without a thread the stream is dropped, and the client told so.
        let _ = connection.spawn(move || serve(stream, from, &service));
    }
    Ok(())
}

/// Serves a connection to its end, whatever that is.
fn serve(mut stream: TcpStream, from: SocketAddrV4, service: &Service) {
    let Ok(SocketAddr::V4(to)) = stream.local_addr() else {
        return;
    };
    if stream.set_nonblocking(false).is_err() || stream.set_nodelay(true).is_err() {
        return;
    }
    let mut received = Stream::default();
    let mut buf = [0; 4096];
    loop {
        let len = match stream.read(&mut buf) {
            Ok(0) => return,
            Ok(len) => len,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut written = Ok(());
        received.push(&buf[..len], |payload: Payload| {
            if written.is_ok() && !service.is_over() {
                service.serve(payload.work, from, to);
                written = stream.write_all(&payload.to_bytes());
            }
        });
        if written.is_err() {
            service.unsent();
        }
        if written.is_err() || service.is_over() {
            return;
        }
    }
}
