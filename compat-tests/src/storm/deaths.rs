//! The ways to die, each as often as the others.

use std::fmt;

use super::draw::Draw;

/// Points of a runtime's life at which it can be told to die: `c/point.h`. Those of its
/// registration come first.
const POINTS: &[&str] = &[
    "region",
    "connected",
    "half_key",
    "key",
    "half_length",
    "length",
    "registered",
    "woken",
    "frame",
    "sending",
    "sent",
    "parking",
    "parked",
    "preempted",
];
/// Of those, the ones before it was given a core.
const BEFORE_ATTACHED: usize = 7;
/// How a process is killed. The last: one thread exits, and no other.
const HOWS: &[&str] = &["self", "group", "thread"];
/// Kills from outside, at any moment, for each round of [`POINTS`].
const FROM_OUTSIDE: usize = 8;
/// Longest wait before a kill from outside, microseconds: beyond the time in which a
/// runtime registers and is woken on a calm machine.
const OUTSIDE_US: u64 = 25_000;
/// Times that a point of the data path may be passed before it kills.
const PASSES: u64 = 200;

/// What a victim dies of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// At a point, by its own hand.
    At {
        /// The point.
        point: &'static str,
        /// On passing it so many times.
        after: u64,
        /// The signal's way.
        how: &'static str,
    },
    /// A kthread exits alone at a point; the process is killed a while later.
    ThreadThenAll {
        /// The point.
        point: &'static str,
        /// Microseconds until the kill.
        later: u64,
    },
    /// From outside, so many microseconds after its start.
    Outside {
        /// Microseconds.
        after: u64,
        /// The signal goes to one of its threads.
        thread: bool,
    },
    /// As that, with another runtime in the same process group.
    Pair {
        /// Microseconds.
        after: u64,
    },
}

impl Death {
    /// What it is called in the list of what was done.
    pub fn kind(&self) -> String {
        match self {
            Death::At { point, .. } => format!("at {point}"),
            Death::ThreadThenAll { point, .. } => format!("thread exits at {point}"),
            Death::Outside { thread: false, .. } => "from outside".into(),
            Death::Outside { thread: true, .. } => "from outside, to a thread".into(),
            Death::Pair { .. } => "from outside, two in a process group".into(),
        }
    }

    /// True if a victim that died of it had been woken, whatever it said.
    pub fn proves_attached(&self) -> bool {
        matches!(self, Death::At { point, .. } if !POINTS[..BEFORE_ATTACHED].contains(point))
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())?;
        match self {
            Death::At { after, how, .. } => write!(f, ", passed {after} times, by {how}"),
            Death::ThreadThenAll { later, .. } => write!(f, ", killed {later} us later"),
            Death::Outside { after, .. } | Death::Pair { after } => write!(f, " after {after} us"),
        }
    }
}

/// Deaths in an order drawn from the seed; each kind comes once in each round.
#[derive(Debug, Default)]
pub struct Deck(Vec<Death>);

impl Deck {
    /// The next death.
    ///
    /// # Panics
    /// Never: a round is not empty.
    pub fn next(&mut self, draw: &mut Draw) -> Death {
        if self.0.is_empty() {
            self.0 = round(draw);
            draw.shuffle(&mut self.0);
        }
        self.0.pop().expect("just filled")
    }

    /// Deaths in a round.
    pub fn round_len() -> usize {
        round(&mut Draw::new(0)).len()
    }
}

fn round(draw: &mut Draw) -> Vec<Death> {
    let mut deaths = Vec::new();
    for (i, point) in POINTS.iter().enumerate() {
        // Threads that are woken or park do so a few times in a short life.
        let passes = match *point {
            "frame" | "sending" | "sent" => PASSES,
            _ if i < BEFORE_ATTACHED => 1,
            _ => 4,
        };
        deaths.push(Death::At {
            point,
            after: 1 + draw.below(passes),
            how: draw.one(HOWS),
        });
    }
    deaths.push(Death::ThreadThenAll {
        point: draw.one(&POINTS[BEFORE_ATTACHED..]),
        later: draw.below(OUTSIDE_US),
    });
    deaths.push(Death::Pair {
        after: draw.below(OUTSIDE_US),
    });
    for _ in 0..FROM_OUTSIDE {
        deaths.push(Death::Outside {
            after: draw.below(OUTSIDE_US),
            thread: draw.below(2) == 0,
        });
    }
    deaths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_in_every_round() {
        let mut draw = Draw::new(1);
        let mut deck = Deck::default();
        for _ in 0..3 {
            let kinds: std::collections::BTreeSet<String> = (0..Deck::round_len())
                .map(|_| deck.next(&mut draw).kind())
                .collect();
            for point in POINTS {
                assert!(kinds.contains(&format!("at {point}")), "{point}");
            }
        }
    }

    #[test]
    fn only_who_was_woken_was_attached() {
        let at = |point| Death::At {
            point,
            after: 1,
            how: "self",
        };
        assert!(!at("registered").proves_attached());
        assert!(at("woken").proves_attached());
    }
}
