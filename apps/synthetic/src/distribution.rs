//! How much work requests ask for: upstream's five service time distributions.

use clap::ValueEnum;
use rand::{Rng, RngExt};
use rand_distr::{Distribution as _, Exp1};

use crate::num::whole;

/// The shape of a distribution, by the name that users give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// No work at all
    Zero,
    /// Always the mean
    Constant,
    /// Exponential
    Exponential,
    /// One in 10 asks for 5.5 means, the others for half a mean
    Bimodal1,
    /// One in 1000 asks for 500.5 means, the others for half a mean
    Bimodal2,
}

/// A distribution of work iterations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distribution {
    shape: Shape,
    mean: f64,
}

impl Distribution {
    /// `shape` with a mean of `mean` iterations ([`Shape::Zero`] has none).
    pub fn new(shape: Shape, mean: f64) -> Distribution {
        Distribution { shape, mean }
    }

    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self.shape {
            Shape::Zero => "zero",
            Shape::Constant => "constant",
            Shape::Exponential => "exponential",
            Shape::Bimodal1 => "bimodal1",
            Shape::Bimodal2 => "bimodal2",
        }
    }

    /// The work of one request, in whole iterations (rounded down).
    pub fn sample(&self, rng: &mut impl Rng) -> u64 {
        let means = match self.shape {
            Shape::Zero => 0.0,
            Shape::Constant => 1.0,
            Shape::Exponential => Exp1.sample(rng),
            Shape::Bimodal1 if rng.random_ratio(1, 10) => 5.5,
            Shape::Bimodal2 if rng.random_ratio(1, 1000) => 500.5,
            Shape::Bimodal1 | Shape::Bimodal2 => 0.5,
        };
        whole(means * self.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    fn samples(shape: Shape, mean: f64, seed: u64, n: usize) -> Vec<u64> {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let distribution = Distribution::new(shape, mean);
        (0..n).map(|_| distribution.sample(&mut rng)).collect()
    }

    fn mean(values: &[u64]) -> f64 {
        values.iter().map(|&v| v as f64).sum::<f64>() / values.len() as f64
    }

    fn share(values: &[u64], f: impl Fn(u64) -> bool) -> f64 {
        values.iter().filter(|&&v| f(v)).count() as f64 / values.len() as f64
    }

    #[test]
    fn zero_and_constant_do_not_vary() {
        assert!(samples(Shape::Zero, 500.0, 1, 100).iter().all(|&v| v == 0));
        assert!(
            samples(Shape::Constant, 500.7, 1, 100)
                .iter()
                .all(|&v| v == 500)
        );
    }

    #[test]
    fn exponential_has_its_mean_and_its_tail() {
        let values = samples(Shape::Exponential, 1000.0, 7, 200_000);
        assert!((mean(&values) - 1000.0).abs() < 10.0, "{}", mean(&values));
        // P(X > k means) = e^-k.
        for k in 1..4 {
            let over = share(&values, |v| v > k * 1000);
            let wanted = (-(k as f64)).exp();
            assert!((over - wanted).abs() < 0.005, "{k}: {over} for {wanted}");
        }
    }

    #[test]
    fn bimodal1_is_nine_short_to_one_long() {
        let values = samples(Shape::Bimodal1, 100.0, 3, 100_000);
        assert!(values.iter().all(|v| [50, 550].contains(v)));
        assert!((share(&values, |v| v == 550) - 0.1).abs() < 0.005);
        assert!((mean(&values) - 100.0).abs() < 2.0);
    }

    #[test]
    fn bimodal2_is_one_giant_in_a_thousand() {
        let values = samples(Shape::Bimodal2, 100.0, 3, 1_000_000);
        assert!(values.iter().all(|v| [50, 50_050].contains(v)));
        assert!((share(&values, |v| v == 50_050) - 0.001).abs() < 0.0002);
    }

    proptest! {
        #[test]
        fn a_seed_repeats_itself(seed: u64, mean in 0.0..1e6) {
            for shape in Shape::value_variants() {
                let once = samples(*shape, mean, seed, 50);
                prop_assert_eq!(once, samples(*shape, mean, seed, 50));
            }
        }

        #[test]
        fn the_mean_scales(seed: u64, mean in 10.0..1e6) {
            for shape in Shape::value_variants() {
                let (one, two) = (samples(*shape, mean, seed, 20), samples(*shape, 2.0 * mean, seed, 20));
                for (a, b) in one.into_iter().zip(two) {
                    prop_assert!(b == 2 * a || b == 2 * a + 1, "{a} {b}");
                }
            }
        }
    }
}
