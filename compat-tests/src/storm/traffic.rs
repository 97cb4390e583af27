//! What flows while runtimes die: to a well-behaved runtime, which must lose nothing, and
//! to the victims.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::child::PATIENCE;
use crate::runtime::{Running, Runtime, ip, mac};
use crate::veth::{Peer, must};
use crate::{Host, veth};

use super::{VICTIMS, WELL_BEHAVED};

/// Traffic in the background.
pub trait Traffic {
    /// Starts it.
    fn start(&mut self, host: &Host);
    /// To be called now and then.
    fn look_after(&mut self, host: &Host);
    /// Ends it, when all that was asked was answered.
    ///
    /// # Panics
    /// When an answer was lost, or wrong.
    fn rest(&mut self);
    /// Packets that the well-behaved runtime has answered, of finished legs.
    fn answered(&self) -> u64;
}

/// Runtimes on the same host: for the loopback port.
#[derive(Debug, Default)]
pub struct LocalTraffic {
    sender: Option<Running>,
    feeders: Vec<Running>,
    answered: u64,
}

/// Packets of one leg of the sender.
const LEG: u32 = 3000;
/// The sender's number and the feeders'.
const SENDER: u16 = 2;
const FEEDERS: [u16; 2] = [3, 4];

impl LocalTraffic {
    fn start_leg(&mut self, host: &Host) {
        let sender = Runtime::sender(SENDER).to(WELL_BEHAVED).count(LEG);
        let paced = [
            ("window", 16),
            ("flows", 16),
            ("burst", 16),
            ("pause-us", 300),
        ];
        let sender = paced.iter().fold(sender, |s, (k, v)| s.set(k, v));
        self.sender = Some(host.spawn(sender));
    }

    /// The leg has ended, or will: every packet of it was answered as it should be.
    fn finish_leg(&mut self) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        let report = sender.wait();
        report.assert_good();
        report.assert_zero(&["lost", "bad_replies", "corrupt", "hung_up"]);
        let shouts = report.get("rx_broadcast");
        assert_eq!(
            report.get("unexpected"),
            shouts,
            "nothing but shouts came besides"
        );
        assert_eq!(
            report.get("replies"),
            u64::from(LEG),
            "every packet is answered"
        );
        self.answered += u64::from(LEG);
    }
}

impl Traffic for LocalTraffic {
    fn start(&mut self, host: &Host) {
        self.start_leg(host);
        for (n, victim) in FEEDERS.into_iter().zip(VICTIMS) {
            // Floods to an address that is mostly there, in bursts of up to 64.
            let feeder = Runtime::sender(n).to(victim).set("flood", 1);
            let paced = [
                ("flows", 500),
                ("burst", 64),
                ("pause-us", 1000),
                ("guaranteed", 0),
            ];
            let feeder = paced.iter().fold(feeder, |s, (k, v)| s.set(k, v));
            self.feeders.push(host.start(feeder));
        }
    }

    fn look_after(&mut self, host: &Host) {
        if self
            .sender
            .as_mut()
            .is_some_and(|s| s.try_status().is_some())
        {
            self.finish_leg();
            self.start_leg(host);
        }
    }

    fn rest(&mut self) {
        self.finish_leg();
        for feeder in self.feeders.drain(..) {
            feeder.stop().assert_good();
        }
    }

    fn answered(&self) -> u64 {
        self.answered
    }
}

/// Linux at the other end of a veth pair: for a DPDK port.
#[derive(Debug)]
pub struct LinuxTraffic {
    peer: Peer,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

/// Between two packets to a victim.
const FEED_EVERY: Duration = Duration::from_micros(200);

impl LinuxTraffic {
    /// Victims' addresses are told to Linux, or it would send nothing to dead ones.
    ///
    /// # Panics
    /// When Linux does not take them.
    pub fn new(peer: Peer) -> LinuxTraffic {
        for n in VICTIMS.into_iter().chain([WELL_BEHAVED]) {
            let neighbour = [&ip(n).to_string(), "lladdr", &mac(n), "dev", veth::PEER_END];
            must(
                peer.command("ip")
                    .args(["neigh", "replace"])
                    .args(neighbour)
                    .args(["nud", "permanent"]),
            );
        }
        LinuxTraffic {
            peer,
            stop: Arc::default(),
            answered: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// The network at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// A socket there, on a port of its own, so that flows are the same in every leg.
    fn socket(&self, port: u16) -> UdpSocket {
        let at = (veth::PEER_IP, port);
        self.peer
            .run(|| UdpSocket::bind(at).expect("the address is the peer's"))
    }
}

impl Traffic for LinuxTraffic {
    fn start(&mut self, _: &Host) {
        self.stop.store(false, Ordering::Relaxed);
        let (asks, feeds) = (self.socket(7000), self.socket(7001));
        let (stop, answered) = (self.stop.clone(), self.answered.clone());
        self.threads
            .push(std::thread::spawn(move || ask(&asks, &stop, &answered)));
        let stop = self.stop.clone();
        self.threads
            .push(std::thread::spawn(move || feed(&feeds, &stop)));
    }

    fn look_after(&mut self, _: &Host) {}

    fn rest(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join().expect("no thread of the traffic panics");
            ended.unwrap_or_else(|why| panic!("the well-behaved runtime: {why}"));
        }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for LinuxTraffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Asks the well-behaved runtime, one question after the other.
fn ask(socket: &UdpSocket, stop: &AtomicBool, answered: &AtomicU64) -> Result<(), String> {
    let wait = Some(PATIENCE);
    socket.set_read_timeout(wait).map_err(|e| e.to_string())?;
    let to: (Ipv4Addr, u16) = (ip(WELL_BEHAVED), 7);
    let mut n: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let sent = socket.send_to(&n.to_le_bytes(), to);
        sent.map_err(|e| format!("question {n} could not be sent: {e}"))?;
        let mut bytes = [0; 64];
        let got = socket.recv(&mut bytes);
        let got = got.map_err(|e| format!("question {n} was not answered: {e}"))?;
        if bytes[..got] != n.to_le_bytes() {
            return Err(format!("question {n} was answered {:?}", &bytes[..got]));
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Sends to the victims, whether they live or not.
fn feed(socket: &UdpSocket, stop: &AtomicBool) -> Result<(), String> {
    socket.set_nonblocking(true).map_err(|e| e.to_string())?;
    let mut bytes = [0; 1400];
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let to = (ip(VICTIMS[n % VICTIMS.len()]), 9);
        match socket.send_to(&bytes[..n % 1400], to) {
            Ok(_) => {}
            // Its own queue is full.
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(e) => return Err(format!("a victim could not be sent to: {e}")),
        }
        while socket.recv(&mut bytes).is_ok() {}
        std::thread::sleep(FEED_EVERY);
    }
    Ok(())
}
