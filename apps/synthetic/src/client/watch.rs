//! Looks at a run until it is over, and notices a server that is not there any more.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::Generator;
use super::progress::Progress;
use crate::run::Run;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Requests without answer that it takes, with the patience, to call a server dead:
/// one or two may be lost on the way.
const SIGNS: u64 = 5;

/// Waits until `run` is over.
///
/// # Errors
/// When the generator is in trouble, or requests go unanswered for `patience`.
pub(super) fn watch(
    run: &Run,
    generator: &dyn Generator,
    patience: Duration,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let mut silence = Silence::new(Instant::now());
    while !run.is_over() && !run.is_complete() {
        std::thread::sleep(LOOK);
        if let Some(why) = generator.trouble() {
            bail!("{why}");
        }
        let (sent, answered) = run.counts();
        progress.update(sent, answered, run.now(), run.over_ns());
        let now = Instant::now();
        if silence.lasts(sent, answered, now) > patience {
            bail!(
                "the server stopped answering: {} requests without an answer in the last {:.1} s; \
                 samples before this one stand",
                sent - silence.sent,
                (now - silence.since).as_secs_f64()
            );
        }
    }
    Ok(())
}

/// How long requests have gone unanswered.
struct Silence {
    answered: u64,
    /// Requests sent when the last answer was seen.
    sent: u64,
    /// When requests after the last answer were first seen.
    since: Instant,
}

impl Silence {
    fn new(now: Instant) -> Silence {
        Silence {
            answered: 0,
            sent: 0,
            since: now,
        }
    }

    fn lasts(&mut self, sent: u64, answered: u64, now: Instant) -> Duration {
        if answered != self.answered || sent == self.sent {
            *self = Silence {
                answered,
                sent,
                since: now,
            };
        }
        if sent.saturating_sub(self.sent) < SIGNS {
            return Duration::ZERO;
        }
        now - self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(silence: &mut Silence, start: Instant, seconds: u64, sent: u64, answered: u64) -> u64 {
        let now = start + Duration::from_secs(seconds);
        silence.lasts(sent, answered, now).as_secs()
    }

    #[test]
    fn only_unanswered_requests_count() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        assert_eq!(after(&mut silence, start, 10, 0, 0), 0, "nothing sent");
        assert_eq!(after(&mut silence, start, 11, 100, 90), 0);
        assert_eq!(after(&mut silence, start, 20, 100, 90), 0, "ten are lost");
        assert_eq!(
            after(&mut silence, start, 21, 103, 90),
            0,
            "three more prove nothing"
        );
        assert_eq!(after(&mut silence, start, 22, 200, 90), 2);
        assert_eq!(after(&mut silence, start, 23, 300, 91), 0, "one came");
        assert_eq!(after(&mut silence, start, 27, 400, 91), 4);
    }
}
