//! Ethernet addresses of neighbours, and packets that wait for one.
//!
//! One table for the process. It knows times only as arguments, and sends nothing
//! itself: it says what to ask. Kthreads keep what they looked up for a moment, and
//! look again when the *generation* has changed.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::wire::Mac;

const MILLI: u64 = 1_000_000;
/// Between two questions for one address.
const RETRY: u64 = 200 * MILLI;
/// Questions before the packets that wait are given up.
const TRIES: u32 = 5;
/// An address that was not confirmed for so long is asked for while it is used,
const OLD: u64 = 30_000 * MILLI;
/// and after so long it is not used any more.
const FORGOTTEN: u64 = 60_000 * MILLI;
/// Packets that may wait, for all addresses together.
const WAITING_MAX: usize = 128;
/// Addresses that are remembered; then all that were learned are forgotten.
const KNOWN_MAX: usize = 16_384;

/// A finished packet that lacks its destination's Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// The egress buffer.
    pub(crate) buf: u32,
    /// Bytes of the frame.
    pub(crate) len: usize,
}

#[derive(Debug)]
struct Known {
    mac: Mac,
    /// When it was heard last; `None`: from the configuration, for ever.
    since: Option<u64>,
    asked: u64,
}

#[derive(Debug)]
struct Asked {
    tries: u32,
    next: u64,
    waiting: Vec<Waiting>,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<Ipv4Addr, Known>,
    asked: HashMap<Ipv4Addr, Asked>,
    waiting: usize,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Neighbours {
    table: Mutex<Table>,
    generation: AtomicU32,
    next: AtomicU64,
    waiting_max: usize,
}

/// What to do about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// It, if it is known.
    pub(crate) mac: Option<Mac>,
    /// Ask for it now.
    pub(crate) ask: bool,
}

/// What has become due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Addresses to ask for again.
    pub(crate) ask: Vec<Ipv4Addr>,
    /// Packets that are given up.
    pub(crate) given_up: Vec<Waiting>,
}

impl Neighbours {
    /// A table that knows `fixed`, for ever. Each packet that waits holds an egress buffer:
    /// no more than a quarter of those `bufs` may.
    pub(crate) fn new(fixed: &[(Ipv4Addr, Mac)], bufs: u32) -> Neighbours {
        let mut table = Table::default();
        for &(ip, mac) in fixed {
            let known = Known {
                mac,
                since: None,
                asked: 0,
            };
            table.known.insert(ip, known);
        }
        Neighbours {
            table: Mutex::new(table),
            generation: AtomicU32::new(0),
            next: AtomicU64::new(u64::MAX),
            waiting_max: WAITING_MAX.min(bufs as usize / 4),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever something that was looked up may be wrong.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// When [`due`](Self::due) will have something to say.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Looks an address up.
    pub(crate) fn lookup(&self, ip: Ipv4Addr, now: u64) -> Answer {
        let mut table = self.table();
        let mut answer = Answer {
            mac: None,
            ask: false,
        };
        if let Some(known) = table.known.get_mut(&ip) {
            let age = known.since.map_or(0, |since| now.saturating_sub(since));
            if age < FORGOTTEN {
                answer.mac = Some(known.mac);
                answer.ask = age > OLD && now.saturating_sub(known.asked) > RETRY;
                if answer.ask {
                    known.asked = now;
                }
            }
        }
        answer
    }

    /// Lets a packet wait for an address. True: ask for it now.
    ///
    /// # Errors
    /// When too many wait.
    pub(crate) fn wait(&self, ip: Ipv4Addr, packet: Waiting, now: u64) -> Result<bool, Waiting> {
        let mut table = self.table();
        if table.waiting == self.waiting_max {
            return Err(packet);
        }
        table.waiting += 1;
        if let Some(asked) = table.asked.get_mut(&ip) {
            asked.waiting.push(packet);
            return Ok(false);
        }
        let asked = Asked {
            tries: 1,
            next: now + RETRY,
            waiting: vec![packet],
        };
        table.asked.insert(ip, asked);
        // Release: pairs with the acquire load in next(); it only says "look".
        self.next.fetch_min(now + RETRY, Ordering::AcqRel);
        Ok(true)
    }

    /// Notes an address that a neighbour told; returns the packets that waited for it.
    pub(crate) fn learn(&self, ip: Ipv4Addr, mac: Mac, now: u64) -> Vec<Waiting> {
        let mut table = self.table();
        if table.known.len() >= KNOWN_MAX {
            table.known.retain(|_, known| known.since.is_none());
        }
        let fresh = Known {
            mac,
            since: Some(now),
            asked: 0,
        };
        let changed = match table.known.get_mut(&ip) {
            Some(known) if known.since.is_none() => false,
            Some(known) => std::mem::replace(known, fresh).mac != mac,
            None => {
                table.known.insert(ip, fresh);
                false
            }
        };
        if changed {
            // Release: pairs with the acquire load in generation().
            self.generation.fetch_add(1, Ordering::Release);
        }
        let waiting = table.asked.remove(&ip).map(|asked| asked.waiting);
        let waiting = waiting.unwrap_or_default();
        table.waiting -= waiting.len();
        waiting
    }

    /// Questions to repeat, and packets to give up.
    pub(crate) fn due(&self, now: u64) -> Due {
        let mut table = self.table();
        let mut due = Due::default();
        table.asked.retain(|&ip, asked| {
            if asked.next > now {
                return true;
            }
            if asked.tries == TRIES {
                due.given_up.append(&mut asked.waiting);
                return false;
            }
            asked.tries += 1;
            asked.next = now + RETRY;
            due.ask.push(ip);
            true
        });
        table.waiting -= due.given_up.len();
        let next = table.asked.values().map(|asked| asked.next).min();
        self.next.store(next.unwrap_or(u64::MAX), Ordering::Release);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    fn packet(buf: u32) -> Waiting {
        Waiting { buf, len: 60 }
    }

    #[test]
    fn packets_wait_until_the_address_is_heard() {
        let n = Neighbours::new(&[], 1024);
        assert_eq!(n.lookup(IP, 0).mac, None);
        assert_eq!(n.wait(IP, packet(1), 0), Ok(true));
        assert_eq!(n.wait(IP, packet(2), 5), Ok(false));
        assert_eq!(n.next(), RETRY);
        assert_eq!(n.learn(IP, MAC, 6), [packet(1), packet(2)]);
        assert_eq!(n.lookup(IP, 7).mac, Some(MAC));
        assert_eq!(n.due(RETRY), Due::default());
        assert_eq!(n.next(), u64::MAX);
    }

    #[test]
    fn a_silent_address_is_asked_for_five_times_and_given_up() {
        let n = Neighbours::new(&[], 1024);
        n.wait(IP, packet(1), 0).unwrap();
        for i in 1..u64::from(TRIES) {
            assert_eq!(n.due(i * RETRY - 1), Due::default());
            assert_eq!(n.due(i * RETRY).ask, [IP]);
        }
        assert_eq!(n.due(u64::from(TRIES) * RETRY).given_up, [packet(1)]);
        assert_eq!(n.wait(IP, packet(2), 0), Ok(true));
    }

    #[test]
    fn only_so_many_packets_wait() {
        let n = Neighbours::new(&[], 1024);
        for i in 0..128 {
            assert!(n.wait(IP, packet(i), 0).is_ok());
        }
        assert_eq!(n.wait(IP, packet(128), 0), Err(packet(128)));
        n.learn(IP, MAC, 0);
        assert!(n.wait(Ipv4Addr::LOCALHOST, packet(1), 0).is_ok());
    }

    #[test]
    fn an_old_address_is_asked_for_and_then_forgotten() {
        let n = Neighbours::new(&[], 1024);
        n.learn(IP, MAC, 0);
        assert!(!n.lookup(IP, OLD).ask);
        assert!(n.lookup(IP, OLD + 1).ask);
        assert!(!n.lookup(IP, OLD + 2).ask);
        assert_eq!(n.lookup(IP, FORGOTTEN).mac, None);
    }

    #[test]
    fn a_changed_address_is_a_new_generation_and_a_fixed_one_stays() {
        let n = Neighbours::new(&[(Ipv4Addr::LOCALHOST, MAC)], 1024);
        n.learn(IP, MAC, 0);
        assert_eq!(n.generation(), 0);
        n.learn(IP, [4; 6], 1);
        assert_eq!(n.generation(), 1);
        assert_eq!(n.lookup(IP, 1).mac, Some([4; 6]));
        n.learn(Ipv4Addr::LOCALHOST, [4; 6], 1);
        let answer = n.lookup(Ipv4Addr::LOCALHOST, 10 * FORGOTTEN);
        assert_eq!((answer.mac, answer.ask), (Some(MAC), false));
        assert_eq!(n.generation(), 1);
    }
}
