//! How evenly packets fall on a proc's kthreads.

use super::core_set::CoreSet;
use crate::ids::{KthreadIdx, Micros};

/// Time between two looks.
pub const IMBALANCE_INTERVAL: Micros = Micros(100_000);

/// Packets of each kthread at the last look.
#[derive(Debug)]
pub(super) struct Imbalance {
    last: Box<[u64]>,
    next: Micros,
}

impl Imbalance {
    pub(super) fn new(kthreads: u16) -> Imbalance {
        Imbalance {
            last: vec![0; kthreads.into()].into(),
            next: Micros(0),
        }
    }

    /// At the end of an interval with packets: the most packets of a kthread over the
    /// mean, in thousandths. The mean is over those that are active or had packets.
    #[inline]
    pub(super) fn look(
        &mut self,
        now: Micros,
        cores: &CoreSet,
        received: impl Fn(KthreadIdx) -> u64,
    ) -> Option<u64> {
        if now < self.next {
            return None;
        }
        self.next = Micros(now.0 + IMBALANCE_INTERVAL.0);
        self.measure(cores, received)
    }

    fn measure(&mut self, cores: &CoreSet, received: impl Fn(KthreadIdx) -> u64) -> Option<u64> {
        let (mut most, mut sum, mut kthreads) = (0, 0, 0);
        for (kthread, last) in (0..).map(KthreadIdx).zip(&mut self.last) {
            let count = received(kthread);
            let packets = count - *last;
            *last = count;
            most = most.max(packets);
            sum += packets;
            let is_active = cores.has(cores.core_of(kthread)) && cores.active().contains(&kthread);
            kthreads += u64::from(packets > 0 || is_active);
        }
        (sum > 0).then(|| most * kthreads * 1000 / sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CoreId;

    #[test]
    fn it_is_the_most_over_the_mean_of_those_that_could_have_had_packets() {
        let mut cores = CoreSet::new(4);
        for n in 0..3 {
            cores.activated(KthreadIdx(n), CoreId(n));
        }
        let mut imbalance = Imbalance::new(4);
        let look = |imbalance: &mut Imbalance, us, counts: [u64; 4]| {
            imbalance.look(Micros(us), &cores, |k| counts[k.index()])
        };
        assert_eq!(look(&mut imbalance, 0, [0; 4]), None, "no packets");
        assert_eq!(look(&mut imbalance, 5, [9; 4]), None, "too soon");
        // 30 of 60 on one of three active kthreads.
        assert_eq!(look(&mut imbalance, 100_000, [30, 20, 10, 0]), Some(1500));
        // All four had 10; the fourth parked meanwhile.
        let all = [40, 30, 20, 10];
        assert_eq!(look(&mut imbalance, 200_000, all), Some(1000));
        assert_eq!(look(&mut imbalance, 300_000, [50, 30, 20, 10]), Some(3000));
    }
}
