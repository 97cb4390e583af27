//! Which flows are heavy: a sample of packets, counted.
//!
//! One packet of each burst is counted, in one of 64 places by the flow's hash. A place
//! belongs to one flow at a time: another one's packet takes one off its count, and the
//! place over at zero (the majority vote of Boyer and Moore). So a flow with more than
//! half of what comes to its place is found there. After 1024 samples all counts are
//! halved, so that what was counts less and less.

use super::table::mix;
use crate::ids::CoreId;

const PLACES: usize = 64;
const CORES: usize = 256;
/// Samples between two halvings.
const WINDOW: u32 = 1024;
/// Fewest samples of a flow that is called heavy.
const HEAVY_MIN: u32 = 16;
/// A heavy flow has at least this part of its core's packets: an eighth.
const HEAVY_PART: u32 = 8;

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    hash: u32,
    count: u32,
}

/// The sample.
#[derive(Debug)]
pub(super) struct Sample {
    places: [Place; PLACES],
    /// Samples of each core.
    at: [u32; CORES],
    seen: u32,
}

impl Default for Sample {
    fn default() -> Sample {
        Sample {
            places: [Place::default(); PLACES],
            at: [0; CORES],
            seen: 0,
        }
    }
}

impl Sample {
    /// Counts a packet that was steered to `core`.
    #[inline]
    pub(super) fn note(&mut self, hash: u32, core: CoreId) {
        self.at[core.index() % CORES] += 1;
        let place = &mut self.places[mix(hash) as usize % PLACES];
        if place.hash == hash {
            place.count += 1;
        } else if place.count == 0 {
            *place = Place { hash, count: 1 };
        } else {
            place.count -= 1;
        }
        self.seen += 1;
        if self.seen == WINDOW {
            self.halve();
        }
    }

    #[cold]
    fn halve(&mut self) {
        self.seen = 0;
        for place in &mut self.places {
            place.count /= 2;
        }
        for count in &mut self.at {
            *count /= 2;
        }
    }

    /// The heaviest flow at home on `from` of which the move to `to` makes the two more
    /// even.
    pub(super) fn to_move(
        &self,
        from: CoreId,
        to: CoreId,
        home: impl Fn(u32) -> Option<CoreId>,
    ) -> Option<u32> {
        let (here, there) = (self.at[from.index() % CORES], self.at[to.index() % CORES]);
        self.places
            .iter()
            .filter(|p| p.count >= HEAVY_MIN && p.count >= here / HEAVY_PART)
            .filter(|p| there + p.count < here && home(p.hash) == Some(from))
            .max_by_key(|p| p.count)
            .map(|p| p.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: CoreId = CoreId(1);
    const THERE: CoreId = CoreId(2);

    /// Of every `of` packets one is the elephant's.
    fn sample(of: u32) -> Sample {
        let mut sample = Sample::default();
        for i in 0..20_000 {
            let hash = if i % of == 0 {
                7
            } else {
                i.wrapping_mul(0x0100_0193)
            };
            sample.note(hash, HERE);
        }
        sample
    }

    #[test]
    fn an_elephant_among_mice_is_found() {
        for of in [2, 3, 5] {
            assert_eq!(
                sample(of).to_move(HERE, THERE, |_| Some(HERE)),
                Some(7),
                "1 in {of}"
            );
        }
    }

    #[test]
    fn mice_are_not_heavy() {
        assert_eq!(sample(u32::MAX).to_move(HERE, THERE, |_| Some(HERE)), None);
    }

    #[test]
    fn an_elephant_alone_on_its_core_stays_there() {
        // Wherever it goes, its core is as full.
        assert_eq!(sample(1).to_move(HERE, THERE, |_| Some(HERE)), None);
    }

    #[test]
    fn an_elephant_of_another_core_stays_there() {
        assert_eq!(sample(3).to_move(HERE, THERE, |_| Some(THERE)), None);
        let mut sample = sample(3);
        for i in 0..2000 {
            sample.note(i, THERE);
        }
        // Nor does it go where as much is to do.
        assert_eq!(sample.to_move(HERE, THERE, |_| Some(HERE)), None);
    }
}
