//! A lane's TCP connections: one for each flow.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::lane::Sockets;
use super::ready::ReadySet;
use crate::flows::Flows;
use crate::payload::{Payload, Stream};

/// TCP connections of one lane.
#[derive(Debug)]
pub(super) struct TcpLane {
    connections: Vec<Connection>,
    ready: ReadySet,
    /// Connections with bytes that wait for room.
    behind: Vec<usize>,
    flows: Flows,
    lanes: usize,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    received: Stream,
    /// Requests, or parts, for which the socket had no room. An open loop does not
    /// wait for a server that does not read.
    unsent: Vec<u8>,
}

impl TcpLane {
    /// Connects lane `lane` of `lanes` to the server, with `patience` for each connection.
    pub(super) fn open(
        server: SocketAddrV4,
        flows: &Flows,
        lane: usize,
        lanes: usize,
        patience: Duration,
    ) -> anyhow::Result<TcpLane> {
        let ready = ReadySet::new()?;
        let mut connections = Vec::new();
        for flow in (0..flows.count()).skip(lane).step_by(lanes) {
            let port = server.port() + flows.port_offset(flow);
            let addr = SocketAddrV4::new(*server.ip(), port);
            let socket =
                TcpStream::connect_timeout(&SocketAddr::V4(addr), patience).map_err(|e| {
                    anyhow!(
                        "cannot connect to {addr}: {e}: is a server with --transport tcp there?"
                    )
                })?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            ready.add(&socket, connections.len())?;
            connections.push(Connection {
                socket,
                received: Stream::default(),
                unsent: Vec::new(),
            });
        }
        Ok(TcpLane {
            connections,
            ready,
            behind: Vec::new(),
            flows: flows.clone(),
            lanes,
        })
    }

    fn catch_up(&mut self) -> anyhow::Result<()> {
        for number in std::mem::take(&mut self.behind) {
            if !self.connections[number].write()? {
                self.behind.push(number);
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Writes what waits. True if nothing is left.
    fn write(&mut self) -> anyhow::Result<bool> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e).context("the server ended a connection"),
            }
        }
        Ok(true)
    }

    fn read(&mut self, f: &mut dyn FnMut(Payload)) -> anyhow::Result<usize> {
        let mut buf = [0; 4096];
        match self.socket.read(&mut buf) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(len) => {
                let mut taken = 0;
                self.received.push(&buf[..len], |payload| {
                    taken += 1;
                    f(payload);
                });
                Ok(taken)
            }
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&e.kind()) => Ok(0),
            Err(e) => Err(e).context("the server ended a connection"),
        }
    }
}

impl Sockets for TcpLane {
    fn send(&mut self, flow: u32, payload: Payload) -> anyhow::Result<bool> {
        let number = self.flows.source(flow) as usize / self.lanes;
        let connection = &mut self.connections[number];
        let was_behind = !connection.unsent.is_empty();
        connection.unsent.extend(payload.to_bytes());
        if !was_behind && !connection.write()? {
            self.behind.push(number);
        }
        Ok(true)
    }

    fn receive(&mut self, f: &mut dyn FnMut(Payload)) -> anyhow::Result<usize> {
        self.catch_up()?;
        let mut taken = 0;
        for number in self.ready.now()? {
            taken += self.connections[number].read(f)?;
        }
        Ok(taken)
    }

    fn wait(&mut self, timeout: Duration) -> anyhow::Result<()> {
        self.ready.wait(timeout)?;
        Ok(())
    }

    fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }
}
