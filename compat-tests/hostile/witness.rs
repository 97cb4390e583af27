//! The peer that counts: what it asks of the echo runtime must be answered, all
//! of it, byte for byte.
//!
//! A few questions are under way at any moment, each in a slot of its own; an
//! answered slot asks the next. A question that stays unanswered was lost.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::veth::{BROADCAST, Peer};

use super::wire::{MAIL_PORT, letter};

/// Questions under way.
const WINDOW: usize = 4;
/// Answers that must come after a case.
const FRESH: u64 = 20;
/// Between two looks at what came, and so the pace of the questions.
const PACE: Duration = Duration::from_micros(500);
/// Between two broadcasts.
const SHOUT_PERIOD: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct Shared {
    /// Questions under way: their numbers.
    open: Mutex<[Option<u64>; WINDOW]>,
    /// The number of the next question.
    next: AtomicU64,
    /// Answers that were not what was asked.
    wrong: AtomicU64,
    /// Mail that came intact.
    mail: AtomicU64,
    /// Mail that did not.
    bad_mail: AtomicU64,
    /// Ask nothing new.
    quiet: AtomicBool,
    /// Broadcast.
    shouts: AtomicBool,
    stop: AtomicBool,
}

/// Asks and counts until it is dropped.
#[derive(Debug)]
pub struct Witness {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

fn question(number: u64) -> Vec<u8> {
    let len = 16 + usize::try_from(number % 1400).expect("small");
    let mut bytes = Vec::from(number.to_le_bytes());
    bytes.extend(letter(len - 8));
    bytes
}

fn is_nothing(e: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(e.kind(), Interrupted | TimedOut | WouldBlock)
}

impl Shared {
    fn open(&self) -> [Option<u64>; WINDOW] {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, socket: &UdpSocket, echo: SocketAddr) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in open.iter_mut().filter(|slot| slot.is_none()) {
            let number = self.next.load(Ordering::Relaxed);
            if socket.send_to(&question(number), echo).is_ok() {
                *slot = Some(number);
                self.next.store(number + 1, Ordering::Relaxed);
            }
        }
    }

    fn take(&self, answer: &[u8]) {
        let number = answer.first_chunk().map(|b| u64::from_le_bytes(*b));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = open
            .iter_mut()
            .find(|slot| slot.is_some() && **slot == number);
        match slot {
            Some(slot) if answer == question(number.expect("it was asked")) => *slot = None,
            _ => {
                self.wrong.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn question_and_answer(&self, socket: &UdpSocket, echo: SocketAddr) {
        let mut buf = [0; 2048];
        let mut shouted = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            if !self.quiet.load(Ordering::Relaxed) {
                self.ask(socket, echo);
            }
            if self.shouts.load(Ordering::Relaxed) && shouted.elapsed() > SHOUT_PERIOD {
                shouted = Instant::now();
                let _ = socket.send_to(b"everybody", (BROADCAST, 9));
            }
            std::thread::sleep(PACE);
            loop {
                match socket.recv_from(&mut buf) {
                    Ok((n, from)) if from == echo => self.take(&buf[..n]),
                    Ok(_) => {}
                    Err(e) if is_nothing(&e) => break,
                    // What an ICMP error leaves behind is gone with this call.
                    Err(_) => break,
                }
            }
        }
    }

    fn read_mail(&self, socket: &UdpSocket) {
        let mut buf = [0; 2048];
        while !self.stop.load(Ordering::Relaxed) {
            if let Ok(n) = socket.recv(&mut buf) {
                let count = if buf[..n] == letter(n) {
                    &self.mail
                } else {
                    &self.bad_mail
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Witness {
    /// Begins to ask the runtime with that address.
    ///
    /// # Panics
    /// When the peer has no sockets left.
    pub fn start(peer: &Peer, echo: Ipv4Addr) -> Witness {
        let (asking, mail) = peer.run(|| {
            let bind = |port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a UDP socket");
            (bind(0), bind(MAIL_PORT))
        });
        asking.set_broadcast(true).expect("a UDP socket may");
        asking.set_nonblocking(true).expect("nonblocking");
        let period = Some(Duration::from_millis(20));
        mail.set_read_timeout(period).expect("a timeout");
        let shared = Arc::new(Shared::default());
        let echo = SocketAddr::from((echo, 7));
        let (a, b) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || a.question_and_answer(&asking, echo)),
            std::thread::spawn(move || b.read_mail(&mail)),
        ];
        Witness { shared, threads }
    }

    /// Goes on, or waits until nothing is under way and stays silent.
    ///
    /// # Errors
    /// When what is under way is not answered.
    pub fn set_quiet(&self, quiet: bool, patience: Duration) -> Result<(), String> {
        self.shared.quiet.store(quiet, Ordering::Relaxed);
        let silent = || !quiet || self.shared.open().iter().all(Option::is_none);
        within(patience, silent).ok_or_else(|| "the echo runtime does not answer".to_owned())
    }

    /// Broadcasts, or no longer.
    pub fn set_shouting(&self, shouts: bool) {
        self.shared.shouts.store(shouts, Ordering::Relaxed);
    }

    /// Waits until all that was asked so far is answered, and some more.
    ///
    /// # Errors
    /// What was lost, or came back changed.
    pub fn check(&self, patience: Duration) -> Result<(), String> {
        let asked = self.shared.next.load(Ordering::Relaxed);
        let all_new = || {
            let open = self.shared.open();
            let oldest = open.into_iter().flatten().min();
            let next = self.shared.next.load(Ordering::Relaxed);
            oldest.unwrap_or(next) >= asked + FRESH
        };
        if within(patience, all_new).is_none() {
            let open = self.shared.open();
            return Err(format!(
                "of {} questions these stay unanswered: {open:?}",
                self.shared.next.load(Ordering::Relaxed)
            ));
        }
        match self.shared.wrong.load(Ordering::Relaxed) {
            0 => Ok(()),
            n => Err(format!("{n} answers are not what was asked")),
        }
    }

    /// Mail that came intact so far.
    pub fn mail(&self) -> u64 {
        self.shared.mail.load(Ordering::Relaxed)
    }

    /// Mail that did not.
    pub fn bad_mail(&self) -> u64 {
        self.shared.bad_mail.load(Ordering::Relaxed)
    }

    /// Questions answered so far.
    pub fn answered(&self) -> u64 {
        let open = self.shared.open().into_iter().flatten().count() as u64;
        self.shared.next.load(Ordering::Relaxed) - open
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking());
        }
    }
}

/// Waits until `done`; `None` when it takes longer than `patience`.
pub fn within(patience: Duration, mut done: impl FnMut() -> bool) -> Option<()> {
    let end = Instant::now() + patience;
    while !done() {
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Some(())
}
