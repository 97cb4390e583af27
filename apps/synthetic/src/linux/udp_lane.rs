//! A lane's UDP sockets: one for each source port.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::Context;

use super::lane::Sockets;
use super::ready::{ReadySet, wait_readable};
use crate::flows::Flows;
use crate::payload::Payload;

/// Answers taken from a socket before the next one's turn, or a look at the schedule.
const ANSWERS_AT_ONCE: usize = 16;

/// UDP sockets of one lane.
#[derive(Debug)]
pub(super) struct UdpLane {
    sockets: Vec<UdpSocket>,
    /// `None` for a single socket, which is asked directly.
    ready: Option<ReadySet>,
    server: SocketAddrV4,
    /// Sockets are connected, when there is one port to send to.
    connected: bool,
    flows: Flows,
    lanes: usize,
}

impl UdpLane {
    /// The sockets of lane `lane` of `lanes`.
    pub(super) fn open(
        server: SocketAddrV4,
        connected: bool,
        flows: &Flows,
        lane: usize,
        lanes: usize,
    ) -> anyhow::Result<UdpLane> {
        let sources = flows.sources() as usize;
        let open = |_| -> anyhow::Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
                .with_context(|| format!("cannot open {sources} sockets (see --flows)"))?;
            if connected {
                let reached = socket.connect(server);
                reached.with_context(|| format!("there is no way to {server}"))?;
            }
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let sockets = (lane..sources)
            .step_by(lanes)
            .map(open)
            .collect::<anyhow::Result<Vec<UdpSocket>>>()?;
        let ready = match sockets.len() {
            1 => None,
            _ => {
                let ready = ReadySet::new()?;
                for (number, socket) in sockets.iter().enumerate() {
                    ready.add(socket, number)?;
                }
                Some(ready)
            }
        };
        Ok(UdpLane {
            sockets,
            ready,
            server,
            connected,
            flows: flows.clone(),
            lanes,
        })
    }
}

fn receive_from(socket: &UdpSocket, f: &mut dyn FnMut(Payload)) -> io::Result<usize> {
    let mut buf = [0; 2048];
    for taken in 0..ANSWERS_AT_ONCE {
        match socket.recv(&mut buf) {
            Ok(len) => {
                if let Some(payload) = Payload::parse(&buf[..len]) {
                    f(payload);
                }
            }
            Err(e) if is_passing(&e) => return Ok(taken),
            Err(e) => return Err(e),
        }
    }
    Ok(ANSWERS_AT_ONCE)
}

/// What a socket may say now and then. A refusal is news of an earlier datagram; whether
/// the server is dead is for those to say who count answers.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused
    ) || error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

impl Sockets for UdpLane {
    fn send(&mut self, flow: u32, payload: Payload) -> anyhow::Result<bool> {
        let socket = &self.sockets[self.flows.source(flow) as usize / self.lanes];
        let bytes = payload.to_bytes();
        let send = || match self.connected {
            true => socket.send(&bytes),
            false => {
                let port = self.server.port() + self.flows.port_offset(flow);
                socket.send_to(&bytes, (*self.server.ip(), port))
            }
        };
        match send() {
            Ok(_) => Ok(true),
            // It was an earlier one's; this one is yet to be sent.
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(send().is_ok()),
            Err(e) if is_passing(&e) => Ok(false),
            Err(e) => Err(e).with_context(|| format!("cannot send to {}", self.server)),
        }
    }

    fn receive(&mut self, f: &mut dyn FnMut(Payload)) -> anyhow::Result<usize> {
        let mut taken = 0;
        match &self.ready {
            None => taken = receive_from(&self.sockets[0], f)?,
            Some(ready) => {
                for number in ready.now()? {
                    taken += receive_from(&self.sockets[number], f)?;
                }
            }
        }
        Ok(taken)
    }

    fn wait(&mut self, timeout: Duration) -> anyhow::Result<()> {
        match &self.ready {
            None => wait_readable(&self.sockets[0], timeout)?,
            Some(ready) => ready.wait(timeout)?,
        };
        Ok(())
    }
}
