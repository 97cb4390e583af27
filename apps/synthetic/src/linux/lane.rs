//! One thread of the client: sends its lane's requests when they are due, and takes
//! answers in between.
//!
//! It sleeps while nothing is due for long, so that a server on the same CPU runs, and
//! stays awake, offering its CPU, in the last moments before a request.

use std::time::Duration;

use crate::payload::Payload;
use crate::run::{Run, Turn};

/// Requests that are sent in a row before answers are looked for, when it is behind time.
const SENDS_PER_LOOK: u32 = 4;
/// Longest sleep: it notices in between that the run was stopped.
const NAP: Duration = Duration::from_millis(20);
/// Time between two tries to send what a socket had no room for.
const RETRY: Duration = Duration::from_micros(100);

/// The sockets of one lane.
pub(super) trait Sockets: Send {
    /// Sends a request. False if it cannot be sent now.
    ///
    /// # Errors
    /// When nothing can be sent any more.
    fn send(&mut self, flow: u32, payload: Payload) -> anyhow::Result<bool>;

    /// Takes some answers that have come. Returns how many.
    ///
    /// # Errors
    /// When none will come any more.
    fn receive(&mut self, f: &mut dyn FnMut(Payload)) -> anyhow::Result<usize>;

    /// Waits at most `timeout` for answers.
    ///
    /// # Errors
    /// When that is impossible.
    fn wait(&mut self, timeout: Duration) -> anyhow::Result<()>;

    /// True if bytes wait for room in a socket.
    fn is_behind(&self) -> bool {
        false
    }
}

/// Sends and receives what is `run`'s lane `lane`, until it is over.
///
/// # Errors
/// Those of the sockets.
pub(super) fn drive(
    run: &Run,
    lane: usize,
    sockets: &mut dyn Sockets,
    spin: Duration,
) -> anyhow::Result<()> {
    precise_sleeps();
    let mut in_a_row = 0;
    let mut pending = None;
    while !run.is_over() {
        let turn = match pending.take() {
            Some(request) if run.retake(request, run.now()) => Turn::Send(request),
            _ => run.take(lane, run.now()),
        };
        if let Turn::Send(request) = turn {
            let (flow, payload) = run.request(request);
            if !sockets.send(flow, payload)? {
                run.give_back(request);
                pending = Some(request);
                std::thread::yield_now();
            }
            in_a_row += 1;
            if pending.is_none() && in_a_row < SENDS_PER_LOOK {
                continue;
            }
        }
        in_a_row = 0;
        // Each answer gets the time at which it is taken from its socket.
        let mut record = |payload: Payload| {
            run.answered(payload.index, run.now());
        };
        let taken = sockets.receive(&mut record)?;
        if taken == 0 && !matches!(turn, Turn::Send(_)) {
            rest(run, turn, sockets, spin)?;
        }
    }
    Ok(())
}

/// Nothing is due and nothing has come: sleeps, or stays awake.
fn rest(run: &Run, turn: Turn, sockets: &mut dyn Sockets, spin: Duration) -> anyhow::Result<()> {
    let until = match turn {
        Turn::Wait(due) => due,
        _ => run.over_ns(),
    };
    let left = Duration::from_nanos(until.saturating_sub(run.now()));
    let longest = if sockets.is_behind() { RETRY } else { NAP };
    match left.checked_sub(spin).filter(|time| !time.is_zero()) {
        Some(time) => sockets.wait(time.min(longest)),
        None => {
            std::thread::yield_now();
            Ok(())
        }
    }
}

/// Asks for sleeps that end when they should, rather than up to 50 us later.
fn precise_sleeps() {
    if let Some(slack) = std::num::NonZeroU64::new(1) {
        // Without it sleeps are longer, which the lateness of requests shows.
        let _ = rustix::thread::set_current_timer_slack(Some(slack));
    }
}
