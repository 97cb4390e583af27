//! Connections, and what becomes of them: a registration, a candidate, a
//! runtime; or a refusal.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use crate::control::checks::{self, Candidate};
use crate::control::error::RegistrationError;
use crate::control::messages::ToDataplane;
use crate::control::rate_limit::Suppressed;
use crate::control::registration::{DEADLINE, Progress, Registration};
use crate::control::socket::{Peer, peer};
use crate::steering::ProcSteering;

use super::token::Token;
use super::{IDLE_PERIOD, MAX_PENDING, Server};

/// When all places are taken, a registration older than this gives way.
const GRACE: Duration = Duration::from_millis(200);
/// Connections accepted in one round; the rest comes after the departures of the next.
const MAX_ACCEPTS: usize = 16;
/// How long a candidate waits for what a leaving runtime still holds.
const SUCCESSION: Duration = Duration::from_secs(2);

/// Registrations under way of users who are not let in. They are not to take the places of
/// those who are.
const MAX_OUTSIDERS: usize = 8;
/// Registrations of one user that may wait for the end of its penalty: they take up places.
const MAX_PENALISED: usize = 4;

impl Server {
    pub(super) fn accept(&mut self) {
        for _ in 0..MAX_ACCEPTS {
            if self.places() == 0 {
                return;
            }
            match self.config.socket.accept() {
                Ok(None) => return,
                Ok(Some(connection)) => {
                    self.begin(connection);
                    self.watch.look();
                }
                Err(e) => {
                    let now = Instant::now();
                    self.accept_after = Some(now + IDLE_PERIOD);
                    if let Some(more) = self.accept_errors.take(now) {
                        log::warn!("control socket: accept failed: {e}{}", Suppressed(more));
                    }
                    return;
                }
            }
        }
    }

    fn places(&self) -> usize {
        MAX_PENDING - self.pending.len() - self.waiting.len()
    }

    fn begin(&mut self, connection: OwnedFd) {
        let who = match peer(connection.as_fd()) {
            Ok(who) => who,
            Err(e) => {
                let nobody = Peer { pid: 0, uid: 0 };
                return self.refuse(nobody, &RegistrationError::Os("SO_PEERCRED", e));
            }
        };
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        if self
            .context
            .admission
            .check(who, connection.as_fd())
            .is_err()
        {
            self.make_room_for_outsider();
            self.outsiders.insert(number);
        }
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        let token = Token::Pending(number).encode();
        if let Err(e) = epoll::add(&self.epoll, &connection, token, flags) {
            return self.refuse(who, &RegistrationError::Os("epoll_ctl", e.into()));
        }
        let registration = Registration::new(connection, who, Instant::now());
        self.pending.insert(number, registration);
        // Most often everything is there already.
        self.advance(number);
    }

    /// Who will not be let in is told so as any other, when its registration is complete: a
    /// runtime that is hung up on while it writes is killed by SIGPIPE. But few such wait.
    fn make_room_for_outsider(&mut self) {
        self.outsiders.retain(|n| self.pending.contains_key(n));
        if self.outsiders.len() < MAX_OUTSIDERS {
            return;
        }
        if let Some(oldest) = self.outsiders.pop_first() {
            self.drop_pending(oldest, RegistrationError::GaveWay);
        }
    }

    pub(super) fn advance(&mut self, number: u32) {
        if let Some((candidate, _)) = self.waiting.remove(&number) {
            // Nothing but a hang-up is to be expected of it.
            return self.refuse(candidate.peer, &RegistrationError::HungUp(13));
        }
        let Some(registration) = self.pending.get_mut(&number) else {
            return;
        };
        match registration.advance() {
            Ok(Progress::Partial) => {}
            Ok(Progress::Complete) => self.complete(number),
            Err(error) => {
                let who = registration.peer();
                self.pending.remove(&number);
                self.refuse(who, &error);
            }
        }
    }

    fn complete(&mut self, number: u32) {
        let registration = self.pending.remove(&number).expect("advance() has it");
        let who = registration.peer();
        let checked = checks::check(registration.finish(), &self.context, || self.watch.look());
        match checked {
            Ok(candidate) => self.consider(number, candidate, Instant::now() + SUCCESSION),
            Err(error) => self.refuse(who, &error),
        }
    }

    /// Admits a candidate, lets it wait for a departure, or refuses it.
    fn consider(&mut self, number: u32, candidate: Candidate, until: Instant) {
        let (uid, now) = (candidate.peer.uid, Instant::now());
        if let Some(end) = self.penalties.until(uid, now) {
            let of_same = |(c, _): &&(Candidate, Instant)| c.peer.uid == uid;
            if self.waiting.values().filter(of_same).count() >= MAX_PENALISED {
                return self.refuse(candidate.peer, &RegistrationError::Penalty(uid));
            }
            self.waiting
                .insert(number, (candidate, until.max(end + SUCCESSION)));
            return;
        }
        let mut conflict = self.table.conflict(&candidate);
        // Who stands in its way may have hung up since this round began: a connection that
        // is accepted may be younger than the round's events.
        if conflict.as_ref().is_some_and(|c| !c.passing) && self.depart_hung_up() {
            conflict = self.table.conflict(&candidate);
        }
        match conflict {
            None => self.admit(candidate),
            Some(conflict) if conflict.passing && Instant::now() < until => {
                self.waiting.insert(number, (candidate, until));
            }
            Some(conflict) => self.refuse(candidate.peer, &conflict.error),
        }
    }

    pub(super) fn retry_waiting(&mut self) {
        for (number, (candidate, until)) in std::mem::take(&mut self.waiting) {
            self.consider(number, candidate, until);
        }
    }

    /// Pins its kthreads off the runtime cores, and hands it to the dataplane.
    ///
    /// *Source:* C: iokernel/cores.c, `cores_init_proc`.
    fn admit(&mut self, candidate: Candidate) {
        if let Some(park) = self.park {
            // Checked a while ago, if it waited for a departure.
            match candidate.pin(&park) {
                Ok(None) => {}
                Ok(Some(tid)) => self.warn_of_park_cpu(candidate.peer, tid),
                Err(error) => return self.refuse(candidate.peer, &error),
            }
        }
        // Its tables may be large: the watch goes on meanwhile.
        let spec = self.config.steering;
        let kthreads = candidate.kthread_count();
        let steering = match ProcSteering::new(&spec, kthreads, || self.watch.look()) {
            Ok(steering) => steering,
            Err(error) => {
                let flows = spec.flow_entries;
                let error = RegistrationError::NoFlowTable { flows, error };
                return self.refuse(candidate.peer, &error);
            }
        };
        let proc = self.table.admit(candidate, steering);
        let id = proc.id;
        let tenant = self.table.get_mut(id).expect("admitted above");
        // It is silent from now on; whatever happens on it is its departure.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        epoll::modify(
            &self.epoll,
            &tenant.connection,
            Token::Attached(id).encode(),
            flags,
        )
        .expect("begin() added it");
        self.config.stats.admitted.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = self.arrivals.take(Instant::now()) {
            log::info!(
                "pid {} (uid {}, {}) attached: {} kthreads, {} guaranteed cores{}",
                proc.pid,
                proc.uid,
                proc.mac,
                proc.kthreads.len(),
                proc.guaranteed_cores,
                Suppressed(more)
            );
        }
        self.config.directory.enter(&proc);
        self.send(ToDataplane::Attach(proc));
    }

    fn warn_of_park_cpu(&mut self, who: Peer, tid: i32) {
        if let Some(more) = self.unparked.take(Instant::now()) {
            log::warn!(
                "pid {} (uid {}): kthread {tid} may not run on the CPUs {:?} of parked kthreads, \
                 and waits where it is: are they online, and in its cpuset?{}",
                who.pid,
                who.uid,
                self.config.park_cpus,
                Suppressed(more)
            );
        }
    }

    /// When all places are taken, the oldest registration gives way.
    pub(super) fn make_room(&mut self) {
        if self.places() > 0 {
            return;
        }
        if let Some((&number, oldest)) = self.pending.first_key_value()
            && oldest.started().elapsed() > GRACE
        {
            self.drop_pending(number, RegistrationError::GaveWay);
        }
    }

    pub(super) fn refuse_silent(&mut self) {
        while let Some((&number, oldest)) = self.pending.first_key_value()
            && oldest.started().elapsed() > DEADLINE
        {
            self.drop_pending(number, RegistrationError::Silent);
        }
    }

    fn drop_pending(&mut self, number: u32, error: fn(usize) -> RegistrationError) {
        if let Some(registration) = self.pending.remove(&number) {
            self.refuse(registration.peer(), &error(registration.bytes()));
        }
    }

    /// The one line that a refusal gets. Its connection is closed by its drop.
    fn refuse(&mut self, who: Peer, error: &RegistrationError) {
        if let Some(more) = self.refusals.take(Instant::now()) {
            log::warn!(
                "pid {} (uid {}) is refused: {error}{}",
                who.pid,
                who.uid,
                Suppressed(more)
            );
        }
        // Last: who sees the count finds the line.
        self.config.stats.reasons.add(error.counter(), 1);
        self.config.stats.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Listens only while a connection could be accepted, or every round would begin at once.
    pub(super) fn update_listening(&mut self) {
        if self.accept_after.is_some_and(|at| Instant::now() >= at) {
            self.accept_after = None;
        }
        let wanted = self.places() > 0 && self.accept_after.is_none();
        if wanted != self.listening {
            let flags = if wanted {
                epoll::EventFlags::IN
            } else {
                epoll::EventFlags::empty()
            };
            epoll::modify(
                &self.epoll,
                &self.config.socket,
                Token::Listener.encode(),
                flags,
            )
            .expect("spawn() added it");
            self.listening = wanted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_runtime::{TestRuntime, connect, private_namespaces};
    use crate::control::tests::harness::config;

    #[test]
    fn a_successor_that_is_accepted_with_its_predecessors_hang_up_unheard_is_not_refused() {
        if !private_namespaces() {
            return;
        }
        let (config, mut dataplane) = config(4);
        config.socket.listen().unwrap();
        let stats = config.stats.clone();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let everywhere = rustix::thread::sched_getaffinity(None).unwrap();
        let mut server = Server::new(config, epoll, everywhere);
        let runtime = TestRuntime::new(1);
        let first = runtime.register();
        server.accept();
        assert_eq!(stats.admitted.load(Ordering::Relaxed), 1);
        // While it lives, nobody gets its address.
        let rival = runtime.register();
        server.accept();
        assert_eq!(stats.refused.load(Ordering::Relaxed), 1);
        drop((first, rival));
        let _second = runtime.register();
        server.accept();
        assert_eq!(stats.refused.load(Ordering::Relaxed), 1);
        assert_eq!(server.waiting.len(), 1, "it waits for the departure");
        let mut sent = || dataplane.from_control.pop().unwrap();
        let ToDataplane::Attach(proc) = sent() else {
            panic!("nobody was admitted");
        };
        assert!(matches!(sent(), ToDataplane::Detach(id) if id == proc.id));
    }

    #[test]
    fn a_storm_of_connections_is_taken_a_few_at_a_time_and_the_watch_goes_on() {
        if !private_namespaces() {
            return;
        }
        let (mut config, _dataplane) = config(4);
        let (send, watched) = std::sync::mpsc::channel();
        config.watch = Some(Box::new(move || {
            send.send(()).unwrap();
            // Until the next call is due.
            std::thread::sleep(super::super::WATCH_PERIOD);
        }));
        config.socket.listen().unwrap();
        let stats = config.stats.clone();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let everywhere = rustix::thread::sched_getaffinity(None).unwrap();
        let mut server = Server::new(config, epoll, everywhere);
        // The backlog holds them all. Each has hung up already, so it takes no place for long.
        for _ in 0..3 * MAX_ACCEPTS {
            drop(connect());
        }
        for round in 1..=3 {
            server.accept();
            let refused = stats.refused.load(Ordering::Relaxed);
            assert_eq!(refused, (round * MAX_ACCEPTS) as u64);
            assert_eq!(watched.try_iter().count(), MAX_ACCEPTS);
        }
    }
}
