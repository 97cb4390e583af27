//! Which flow a request belongs to.
//!
//! Flow `f` goes from source `f / ports` to the server's port `first + f % ports` over
//! UDP; over TCP each flow is a connection, so a source of its own. All flows of a source
//! belong to one lane, which has the source to itself.

use rand::{Rng, RngExt};
use rand_distr::{Distribution as _, Zipf};

use crate::num::whole;

/// The most flows.
pub const MAX_FLOWS: u32 = 1_000_000;

/// The flows of a client.
#[derive(Debug, Clone)]
pub struct Flows {
    count: u32,
    ports: u16,
    /// Flows that one source carries.
    per_source: u32,
    zipf: Option<Zipf<f64>>,
}

impl Flows {
    /// `count` flows to `ports` ports. `shared` sources carry a flow to each port (UDP).
    /// With `zipf`, flow k is asked for as often as `1 / (k + 1)^zipf` says, else all alike.
    ///
    /// # Errors
    /// When there are none, too many, or the exponent is none.
    pub fn new(count: u32, ports: u16, shared: bool, zipf: Option<f64>) -> Result<Flows, String> {
        if count == 0 || count > MAX_FLOWS {
            return Err(format!("{count} flows: there can be 1 to {MAX_FLOWS}"));
        }
        if ports == 0 {
            return Err("0 ports: there is at least 1".to_owned());
        }
        let zipf = zipf
            .map(|s| {
                Zipf::new(f64::from(count), s)
                    .ok()
                    .filter(|_| s.is_finite())
                    .ok_or(format!("a Zipf exponent is 0 or more, not {s}"))
            })
            .transpose()?;
        Ok(Flows {
            count,
            ports,
            per_source: if shared { u32::from(ports) } else { 1 },
            zipf,
        })
    }

    /// How many flows there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many sources they need.
    pub fn sources(&self) -> u32 {
        self.count.div_ceil(self.per_source)
    }

    /// The source of a flow.
    pub fn source(&self, flow: u32) -> u32 {
        flow / self.per_source
    }

    /// How far behind the server's first port the flow's is.
    pub fn port_offset(&self, flow: u32) -> u16 {
        u16::try_from(flow % u32::from(self.ports)).unwrap_or_default()
    }

    /// The flow of the next request.
    pub fn pick(&self, rng: &mut impl Rng) -> u32 {
        match &self.zipf {
            None => rng.random_range(0..self.count),
            Some(zipf) => {
                let rank = whole(zipf.sample(rng)).clamp(1, u64::from(self.count));
                u32::try_from(rank - 1).unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;
    use std::collections::HashSet;

    fn picks(flows: &Flows, n: usize) -> Vec<u32> {
        let mut rng = Pcg64Mcg::seed_from_u64(11);
        let mut counts = vec![0; flows.count() as usize];
        for _ in 0..n {
            counts[flows.pick(&mut rng) as usize] += 1;
        }
        counts
    }

    #[test]
    fn each_flow_is_another_5_tuple() {
        for (shared, sources) in [(true, 34), (false, 100)] {
            let flows = Flows::new(100, 3, shared, None).expect("good");
            assert_eq!(flows.sources(), sources);
            let tuples: HashSet<(u32, u16)> = (0..100)
                .map(|f| (flows.source(f), flows.port_offset(f)))
                .collect();
            assert_eq!(tuples.len(), 100);
            assert!(tuples.iter().all(|&(s, p)| s < sources && p < 3));
        }
    }

    #[test]
    fn without_zipf_all_are_alike() {
        let counts = picks(&Flows::new(10, 1, true, None).expect("good"), 100_000);
        assert!(
            counts.iter().all(|c| (9_500..10_500).contains(c)),
            "{counts:?}"
        );
    }

    #[test]
    fn zipf_ranks_flows() {
        let counts = picks(
            &Flows::new(1000, 1, true, Some(1.0)).expect("good"),
            200_000,
        );
        // 1 / H(1000) = 13.36 % for the first, half of it for the second.
        assert!((26_000..27_500).contains(&counts[0]), "{}", counts[0]);
        assert!((12_900..13_900).contains(&counts[1]), "{}", counts[1]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Flows::new(0, 1, true, None).is_err());
        assert!(Flows::new(MAX_FLOWS + 1, 1, true, None).is_err());
        assert!(Flows::new(1, 0, true, None).is_err());
        assert!(Flows::new(1, 1, true, Some(-1.0)).is_err());
        assert!(Flows::new(1, 1, true, Some(f64::NAN)).is_err());
        assert!(Flows::new(1, 1, true, Some(f64::INFINITY)).is_err());
    }
}
