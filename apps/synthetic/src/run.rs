//! A run under way: its schedule, and a stamp for each request that was sent or answered.
//!
//! Shared by all threads that send and receive. A request is taken by whoever advances its
//! lane's cursor, so several threads may serve a lane and none waits for another; its
//! answer is recorded by whoever receives it, in the request's own slot.
//!
//! The number that travels is the run's in the upper 32 bits and the request's below, so
//! answers that come after their run has ended are known for what they are.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_utils::CachePadded;

use crate::flows::Flows;
use crate::num::nanos;
use crate::payload::Payload;
use crate::schedule::Request;

/// How long after the schedule's end a request may still be sent: the last ones are
/// always a little late, and on a busy machine more.
const SEND_GRACE: Duration = Duration::from_millis(200);
/// A run under way, or just ended.
#[derive(Debug)]
pub struct Run {
    number: u32,
    start: Instant,
    start_unix: SystemTime,
    flows: Flows,
    /// By lane, and by time within a lane.
    requests: Vec<Request>,
    slots: Box<[Slot]>,
    lanes: Vec<CachePadded<Lane>>,
    end_ns: u64,
    limits: Limits,
    stopped: AtomicBool,
}

/// What is too late.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests that are further behind time are not sent; `None`: all are.
    pub late: Option<Duration>,
    /// How long after the schedule's end answers count.
    pub grace: Duration,
}

/// When a request was sent and answered, in nanoseconds from the start; 0: it was not.
#[derive(Debug, Default)]
struct Slot {
    sent: AtomicU64,
    answered: AtomicU64,
}

#[derive(Debug)]
struct Lane {
    range: Range<u32>,
    /// The request to be taken next.
    next: AtomicU32,
    sent: AtomicU64,
    answered: AtomicU64,
}

/// What a lane has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Send this request; it is stamped as sent.
    Send(u32),
    /// Nothing before this time, in nanoseconds from the start.
    Wait(u64),
    /// Nothing any more.
    Over,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// When it was due, in nanoseconds from the start of the run.
    pub due_ns: u64,
    /// When it was sent.
    pub sent_ns: Option<u64>,
    /// When it was answered.
    pub answered_ns: Option<u64>,
}

impl Run {
    /// Starts the clock of a run. `number` is unlike that of earlier runs, `end_ns` the end
    /// of the schedule.
    ///
    /// # Panics
    /// When there are 2^32 requests, which [`MAX_REQUESTS`](crate::schedule::MAX_REQUESTS) excludes.
    pub fn start(
        number: u32,
        mut requests: Vec<Request>,
        flows: Flows,
        lanes: usize,
        end_ns: u64,
        limits: Limits,
    ) -> Run {
        let lane_of = |r: &Request| lane_of(&flows, lanes, r.flow);
        if lanes > 1 {
            // Stable, so that each lane stays sorted by time.
            requests.sort_by_key(lane_of);
        }
        let mut from = 0;
        let lane = |lane| {
            let to = from + requests[from..].partition_point(|r| lane_of(r) <= lane);
            let range = slot_number(from)..slot_number(to);
            from = to;
            CachePadded::new(Lane {
                next: AtomicU32::new(range.start),
                range,
                sent: AtomicU64::new(0),
                answered: AtomicU64::new(0),
            })
        };
        let lanes = (0..lanes).map(lane).collect();
        let slots = requests.iter().map(|_| Slot::default()).collect();
        Run {
            number,
            start: Instant::now(),
            start_unix: SystemTime::now(),
            flows,
            requests,
            slots,
            lanes,
            end_ns,
            limits,
            stopped: AtomicBool::new(false),
        }
    }

    /// Nanoseconds since the start, at least 1.
    pub fn now(&self) -> u64 {
        nanos(self.start.elapsed()).max(1)
    }

    /// The instant so many nanoseconds after the start.
    pub fn instant(&self, ns: u64) -> Instant {
        self.start + Duration::from_nanos(ns)
    }

    /// Its number, unlike that of earlier runs.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The wall clock's time of the start.
    pub fn start_unix(&self) -> SystemTime {
        self.start_unix
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Takes the next request of a lane, if it is due at `now_ns`.
    pub fn take(&self, lane: usize, now_ns: u64) -> Turn {
        let lane = &self.lanes[lane];
        loop {
            let at = lane.next.load(Relaxed);
            if at >= lane.range.end || !self.may_send(now_ns) {
                return Turn::Over;
            }
            let due = self.requests[at as usize].due_ns;
            if due > now_ns {
                return Turn::Wait(due);
            }
            // Relaxed: the schedule does not change; only the claim itself matters.
            let claim = lane
                .next
                .compare_exchange_weak(at, at + 1, Relaxed, Relaxed);
            if claim.is_ok() && self.in_time(due, now_ns) {
                self.stamp(at, now_ns);
                return Turn::Send(at);
            }
        }
    }

    /// Takes a request again that was [given back](Self::give_back), unless it is too late.
    pub fn retake(&self, request: u32, now_ns: u64) -> bool {
        let due = self.requests[request as usize].due_ns;
        let is_taken = self.may_send(now_ns) && self.in_time(due, now_ns);
        if is_taken {
            self.stamp(request, now_ns);
        }
        is_taken
    }

    /// Takes back that a request was sent: there was no room for it.
    pub fn give_back(&self, request: u32) {
        self.slots[request as usize].sent.store(0, Relaxed);
        self.lane(request).sent.fetch_sub(1, Relaxed);
    }

    fn may_send(&self, now_ns: u64) -> bool {
        now_ns <= self.end_ns + nanos(SEND_GRACE) && !self.stopped.load(Relaxed)
    }

    fn in_time(&self, due_ns: u64, now_ns: u64) -> bool {
        let late = now_ns.saturating_sub(due_ns);
        self.limits.late.is_none_or(|limit| late <= nanos(limit))
    }

    fn stamp(&self, request: u32, now_ns: u64) {
        self.slots[request as usize].sent.store(now_ns, Relaxed);
        self.lane(request).sent.fetch_add(1, Relaxed);
    }

    fn lane(&self, request: u32) -> &Lane {
        let flow = self.requests[request as usize].flow;
        &self.lanes[lane_of(&self.flows, self.lanes.len(), flow)]
    }

    /// The flow of a request, and what to send.
    pub fn request(&self, request: u32) -> (u32, Payload) {
        let Request { flow, work, .. } = self.requests[request as usize];
        let index = u64::from(self.number) << 32 | u64::from(request);
        (flow, Payload { work, index })
    }

    /// Records an answer. True if it is the first to a request of this run.
    pub fn answered(&self, index: u64, now_ns: u64) -> bool {
        if index >> 32 != u64::from(self.number) {
            return false;
        }
        let Ok(request) = u32::try_from(index & u64::from(u32::MAX)) else {
            return false;
        };
        let Some(slot) = self.slots.get(request as usize) else {
            return false;
        };
        // Relaxed: results are read after the threads were joined, or as numbers only.
        let first = slot.sent.load(Relaxed) != 0
            && slot
                .answered
                .compare_exchange(0, now_ns, Relaxed, Relaxed)
                .is_ok();
        if first {
            self.lane(request).answered.fetch_add(1, Relaxed);
        }
        first
    }

    /// Ends the sending early.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// True when nothing counts any more: stopped, or long enough after the schedule's end.
    pub fn is_over(&self) -> bool {
        self.stopped.load(Relaxed) || self.now() > self.over_ns()
    }

    /// When answers cease to count, in nanoseconds from the start.
    pub fn over_ns(&self) -> u64 {
        self.end_ns.saturating_add(nanos(self.limits.grace))
    }

    /// True when the schedule has ended and every request sent was answered.
    pub fn is_complete(&self) -> bool {
        let (sent, answered) = self.counts();
        self.now() > self.end_ns + nanos(SEND_GRACE) && sent == answered
    }

    /// Requests sent and answered so far.
    pub fn counts(&self) -> (u64, u64) {
        let sum = |f: fn(&Lane) -> &AtomicU64| self.lanes.iter().map(|l| f(l).load(Relaxed)).sum();
        // Answers first: they cannot be more than what was sent then.
        let answered: u64 = sum(|l| &l.answered);
        (sum(|l| &l.sent), answered)
    }

    /// What became of each request that was due within `range`, by time.
    pub fn outcomes(&self, range: &Range<u64>) -> Vec<Outcome> {
        let stamp = |stamp: &AtomicU64| Some(stamp.load(Relaxed)).filter(|&ns| ns != 0);
        let mut outcomes: Vec<Outcome> = self
            .requests
            .iter()
            .zip(&self.slots)
            .filter(|(request, _)| range.contains(&request.due_ns))
            .map(|(request, slot)| Outcome {
                due_ns: request.due_ns,
                sent_ns: stamp(&slot.sent),
                answered_ns: stamp(&slot.answered),
            })
            .collect();
        outcomes.sort_by_key(|o| o.due_ns);
        outcomes
    }
}

/// The lane that has the source of `flow`.
fn lane_of(flows: &Flows, lanes: usize, flow: u32) -> usize {
    flows.source(flow) as usize % lanes
}

fn slot_number(at: usize) -> u32 {
    u32::try_from(at).expect("there are at most MAX_REQUESTS")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(lanes: usize, late: Option<Duration>) -> Run {
        let grace = Duration::from_millis(500);
        let flows = Flows::new(4, 1, true, None).expect("good");
        let requests = (0u32..100)
            .map(|i| Request {
                due_ns: u64::from(i) * 10,
                work: u64::from(i),
                flow: i % 4,
            })
            .collect();
        Run::start(3, requests, flows, lanes, 1000, Limits { late, grace })
    }

    #[test]
    fn each_lane_sends_its_flows_in_time() {
        let run = run(2, None);
        let mut seen = Vec::new();
        for lane in 0..2 {
            let mut now = 0;
            loop {
                match run.take(lane, now) {
                    Turn::Send(request) => {
                        let (flow, payload) = run.request(request);
                        assert_eq!(flow as usize % 2, lane);
                        assert_eq!(payload.index, 3 << 32 | u64::from(request));
                        assert!(payload.work * 10 <= now);
                        seen.push(payload.work);
                    }
                    Turn::Wait(until) => {
                        assert!(until > now);
                        now = until;
                    }
                    Turn::Over => break,
                }
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<u64>>());
        assert_eq!(run.counts(), (100, 0));
    }

    #[test]
    fn answers_are_recorded_once() {
        let run = run(1, None);
        assert_eq!(run.take(0, 5), Turn::Send(0));
        assert!(!run.answered(2 << 32, 6), "another run's");
        assert!(!run.answered(3 << 32 | 1, 6), "not sent yet");
        assert!(!run.answered(3 << 32 | 100, 6), "no such request");
        assert!(run.answered(3 << 32, 7));
        assert!(!run.answered(3 << 32, 8), "again");
        assert_eq!(run.counts(), (1, 1));
        let first = run.outcomes(&(0..1))[0];
        assert_eq!((first.sent_ns, first.answered_ns), (Some(5), Some(7)));
    }

    #[test]
    fn what_is_too_late_is_not_sent() {
        let run = run(1, Some(Duration::from_nanos(15)));
        assert_eq!(
            run.take(0, 100),
            Turn::Send(9),
            "0 to 8 are 20 ns late or more"
        );
        assert_eq!(run.take(0, 100), Turn::Send(10));
        assert_eq!(run.take(0, 100), Turn::Wait(110));
        let sent = run
            .outcomes(&(0..1000))
            .iter()
            .filter(|o| o.sent_ns.is_some())
            .count();
        assert_eq!(sent, 2);
    }

    #[test]
    fn what_finds_no_room_is_sent_later_or_never() {
        let run = run(1, None);
        assert_eq!(run.take(0, 5), Turn::Send(0));
        run.give_back(0);
        assert_eq!(run.counts(), (0, 0));
        assert!(!run.answered(3 << 32, 6), "not sent");
        assert!(run.retake(0, 7));
        assert!(run.answered(3 << 32, 9));
        let first = run.outcomes(&(0..1))[0];
        assert_eq!((first.sent_ns, first.answered_ns), (Some(7), Some(9)));
        assert_eq!(run.take(0, 10), Turn::Send(1));
        run.give_back(1);
        run.stop();
        assert!(!run.retake(1, 11));
        assert_eq!(run.counts(), (1, 1));
    }

    #[test]
    fn the_rest_is_never_sent_when_time_is_over() {
        let run = run(1, None);
        assert_eq!(
            run.take(0, 1000),
            Turn::Send(0),
            "late, but in the sample's time"
        );
        assert_eq!(run.take(0, 1001 + nanos(SEND_GRACE)), Turn::Over);
        assert_eq!(run.counts(), (1, 0));
    }

    #[test]
    fn two_threads_share_a_lane_without_repeating() {
        let run = run(1, None);
        let take = || {
            let mut mine = Vec::new();
            while let Turn::Send(request) = run.take(0, 1000) {
                mine.push(request);
            }
            mine
        };
        let mut all = std::thread::scope(|scope| {
            let threads = [scope.spawn(take), scope.spawn(take)];
            threads.map(|t| t.join().expect("no panic")).concat()
        });
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<u32>>());
    }
}
