//! Packets as they come: when, of which flow, with how much work.
//!
//! Each of the three is drawn from a random stream of its own, so none shifts another, and
//! whatever the host does with the packets changes nothing about the next.

use rand::distr::{Distribution, Uniform};
use rand::{RngExt, SeedableRng};
use rand_distr::{Exp1, LogNormal, Zipf};
use rand_pcg::Pcg64Mcg;

use crate::scenario::{Arrivals, Load, Popularity, Service};

/// A packet that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    /// When, nanoseconds.
    pub(crate) at: u64,
    /// Its flow, below the load's number of flows.
    pub(crate) flow: u32,
    /// The request's own work, nanoseconds.
    pub(crate) service: u32,
    /// Which of the flows that had this place one after the other. Wraps.
    pub(crate) generation: u16,
}

/// The stream of one runtime.
#[derive(Debug)]
pub(crate) struct Stream {
    clock: Clock,
    picker: Picker,
    service: Sampler,
    times: Pcg64Mcg,
    flows: Pcg64Mcg,
    services: Pcg64Mcg,
}

/// Random streams of one seed that have nothing to do with each other.
pub(crate) fn stream(seed: u64, proc: usize, purpose: u64) -> Pcg64Mcg {
    // The generator's own seeding mixes well; only the three numbers must not be confused.
    let mixed = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add((proc as u64) << 8 | purpose);
    Pcg64Mcg::seed_from_u64(mixed)
}

impl Stream {
    /// The packets of the `proc`-th runtime.
    pub(crate) fn new(load: &Load, seed: u64, proc: usize) -> Stream {
        Stream {
            clock: Clock::new(load),
            picker: Picker::new(load),
            service: Sampler::new(load.service),
            times: stream(seed, proc, 1),
            flows: stream(seed, proc, 2),
            services: stream(seed, proc, 3),
        }
    }

    /// The next packet.
    pub(crate) fn next(&mut self) -> Packet {
        let at = self.clock.next(&mut self.times);
        let (flow, generation) = self.picker.next(at, &mut self.flows);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "4 seconds fit; longer services are cut to that"
        )]
        Packet {
            at: at as u64,
            flow,
            service: self.service.next(&mut self.services).round() as u32,
            generation,
        }
    }
}

/// When. In floating point: a double counts nanoseconds exactly for 100 days.
#[derive(Debug)]
struct Clock {
    now: f64,
    kind: Arrivals,
    mean_ns: f64,
    /// Of on-off arrivals: mean distances, the phase, and when it ends.
    gaps: [f64; 2],
    on: bool,
    until: f64,
}

impl Clock {
    fn new(load: &Load) -> Clock {
        let mean_ns = 1e9 / load.rate;
        let gaps = match load.arrivals {
            Arrivals::OnOff {
                factor,
                on_us,
                off_us,
            } => {
                let share = on_us / (on_us + off_us);
                let off = ((1.0 - share * factor) / (1.0 - share)).max(0.0);
                [mean_ns / off, mean_ns / factor]
            }
            _ => [mean_ns; 2],
        };
        Clock {
            now: 0.0,
            kind: load.arrivals,
            mean_ns,
            gaps,
            on: true,
            until: 0.0,
        }
    }

    fn next(&mut self, rng: &mut Pcg64Mcg) -> f64 {
        let exp = |rng: &mut Pcg64Mcg| -> f64 { rng.sample(Exp1) };
        match self.kind {
            Arrivals::Regular => self.now += self.mean_ns,
            Arrivals::Poisson => self.now += self.mean_ns * exp(rng),
            Arrivals::OnOff { on_us, off_us, .. } => loop {
                // Without memory: what did not come in this phase starts anew in the next.
                let next = self.now + self.gaps[usize::from(self.on)] * exp(rng);
                if next <= self.until {
                    self.now = next;
                    break;
                }
                self.now = self.until;
                self.on = !self.on;
                let mean = if self.on { on_us } else { off_us };
                self.until += mean * 1000.0 * exp(rng);
            },
        }
        self.now
    }
}

/// Which flow.
///
/// With churn each place of a flow gets a new one at equal distances, the places one after
/// the other in an order that looks random: its generation is a function of the time.
#[derive(Debug)]
struct Picker {
    flows: u32,
    kind: Kind,
    /// Generations a nanosecond.
    churn: f64,
}

#[derive(Debug)]
enum Kind {
    Uniform(Uniform<u32>),
    Zipf(Zipf<f64>),
    Heavy { heavy: u32, share: f64 },
}

impl Picker {
    fn new(load: &Load) -> Picker {
        let n = load.flows;
        let kind = match load.popularity {
            Popularity::Uniform => {
                Kind::Uniform(Uniform::new(0, n).expect("a load has a flow at least"))
            }
            Popularity::Zipf { exponent } => {
                Kind::Zipf(Zipf::new(f64::from(n), exponent).expect("checked with the scenario"))
            }
            Popularity::HeavyHitters { flows, share } => Kind::Heavy {
                heavy: flows,
                share,
            },
        };
        Picker {
            flows: n,
            kind,
            churn: load.churn / 1e9 / f64::from(n),
        }
    }

    fn next(&self, now: f64, rng: &mut Pcg64Mcg) -> (u32, u16) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank, 1 to the number of flows"
        )]
        let flow = match &self.kind {
            Kind::Uniform(all) => all.sample(rng),
            Kind::Zipf(ranks) => (ranks.sample(rng) as u32).clamp(1, self.flows) - 1,
            Kind::Heavy { heavy, share } => {
                if rng.random_bool(*share) {
                    rng.random_range(0..*heavy)
                } else {
                    rng.random_range(*heavy..self.flows)
                }
            }
        };
        let phase = f64::from(mix(flow)) / 4_294_967_296.0;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it wraps"
        )]
        let generation = (now * self.churn + phase) as u64 as u16;
        (flow, generation)
    }
}

/// The RSS hash of a flow: as different for different flows as that of 5-tuples, but no
/// two alike (of the 2^32 that there are).
pub(crate) fn rss_hash(flow: u32, flows: u32, generation: u16) -> u32 {
    mix(flow.wrapping_add(flows.wrapping_mul(generation.into())))
}

/// A bijection of 32 bits in which every bit of the result depends on all. (MurmurHash3's
/// last step.)
fn mix(n: u32) -> u32 {
    let n = (n ^ n >> 16).wrapping_mul(0x85eb_ca6b);
    let n = (n ^ n >> 13).wrapping_mul(0xc2b2_ae35);
    n ^ n >> 16
}

/// A stream of which some packets are drawn ahead, so that what is known of their flows can be
/// asked for in time: of millions of flows few are in a cache.
#[derive(Debug)]
pub(crate) struct Ahead {
    stream: Stream,
    drawn: [Packet; Ahead::PACKETS],
    at: usize,
}

impl Ahead {
    const PACKETS: usize = 16;

    /// The packets of the `proc`-th runtime.
    pub(crate) fn new(load: &Load, seed: u64, proc: usize) -> Ahead {
        let mut stream = Stream::new(load, seed, proc);
        Ahead {
            drawn: std::array::from_fn(|_| stream.next()),
            stream,
            at: 0,
        }
    }

    /// When the next packet comes.
    pub(crate) fn next_at(&self) -> u64 {
        self.drawn[self.at].at
    }

    /// The next packet, and one that comes later.
    pub(crate) fn next(&mut self) -> (Packet, Packet) {
        let drawn = self.stream.next();
        let packet = std::mem::replace(&mut self.drawn[self.at], drawn);
        self.at = (self.at + 1) % Ahead::PACKETS;
        (packet, drawn)
    }
}

/// How long.
#[derive(Debug)]
enum Sampler {
    Constant(f64),
    Exponential(f64),
    Two { short: f64, long: f64, p_long: f64 },
    LogNormal(LogNormal<f64>),
}

impl Sampler {
    fn new(service: Service) -> Sampler {
        match service {
            Service::Constant { ns } => Sampler::Constant(ns),
            Service::Exponential { ns } => Sampler::Exponential(ns),
            Service::Bimodal1 { ns } => Sampler::Two {
                short: ns * 0.5,
                long: ns * 5.5,
                p_long: 0.1,
            },
            Service::Bimodal2 { ns } => Sampler::Two {
                short: ns * 0.5,
                long: ns * 500.5,
                p_long: 0.001,
            },
            Service::LogNormal { ns, sigma } => {
                let mu = ns.max(f64::MIN_POSITIVE).ln() - sigma * sigma / 2.0;
                Sampler::LogNormal(LogNormal::new(mu, sigma).expect("checked with the scenario"))
            }
        }
    }

    fn next(&self, rng: &mut Pcg64Mcg) -> f64 {
        match self {
            Sampler::Constant(ns) => *ns,
            Sampler::Exponential(ns) => ns * rng.sample::<f64, _>(Exp1),
            Sampler::Two {
                short,
                long,
                p_long,
            } => {
                if rng.random_bool(*p_long) {
                    *long
                } else {
                    *short
                }
            }
            Sampler::LogNormal(log_normal) => log_normal.sample(rng),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(load: &Load, n: usize) -> Vec<Packet> {
        let mut stream = Stream::new(load, 7, 0);
        (0..n).map(|_| stream.next()).collect()
    }

    /// Mean rate, and variance of the counts in windows of 1 ms over their mean.
    fn rate_and_dispersion(load: &Load) -> (f64, f64) {
        let all = packets(load, 400_000);
        let end = all.last().unwrap().at;
        let mut counts = vec![0.0; usize::try_from(end / 1_000_000).unwrap()];
        for packet in &all {
            if let Some(n) = counts.get_mut(usize::try_from(packet.at / 1_000_000).unwrap()) {
                *n += 1.0;
            }
        }
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let squares: f64 = counts.iter().map(|n| (n - mean) * (n - mean)).sum();
        (mean * 1000.0, squares / counts.len() as f64 / mean)
    }

    #[test]
    fn packets_come_at_the_rate_and_as_bursty_as_asked_for() {
        let mut load = Load {
            rate: 100_000.0,
            ..Load::default()
        };
        // 400,000 packets: the rate's standard deviation is 0.16 %.
        let (rate, dispersion) = rate_and_dispersion(&load);
        assert!((rate / 1e5 - 1.0).abs() < 0.008, "{rate}");
        assert!((dispersion - 1.0).abs() < 0.15, "Poisson: {dispersion}");
        load.arrivals = Arrivals::Regular;
        let (rate, dispersion) = rate_and_dispersion(&load);
        assert!((rate / 1e5 - 1.0).abs() < 0.001 && dispersion < 0.01);
        load.arrivals = Arrivals::OnOff {
            factor: 4.0,
            on_us: 500.0,
            off_us: 1500.0,
        };
        let (rate, dispersion) = rate_and_dispersion(&load);
        assert!((rate / 1e5 - 1.0).abs() < 0.1, "{rate}");
        assert!(dispersion > 10.0, "bursts: {dispersion}");
    }

    #[test]
    fn services_have_their_mean() {
        let ns = 10_000.0;
        for service in [
            Service::Constant { ns },
            Service::Exponential { ns },
            Service::Bimodal1 { ns },
            Service::Bimodal2 { ns },
            Service::LogNormal { ns, sigma: 1.0 },
        ] {
            let load = Load {
                service,
                ..Load::default()
            };
            let all = packets(&load, 400_000);
            let mean = all.iter().map(|p| f64::from(p.service)).sum::<f64>() / all.len() as f64;
            // bimodal2's standard deviation is 15.8 times its mean: 2.5 % of it here.
            assert!((mean / ns - 1.0).abs() < 0.1, "{service:?}: {mean}");
        }
    }

    #[test]
    fn flows_are_as_popular_as_asked_for() {
        let mut load = Load {
            flows: 1000,
            popularity: Popularity::HeavyHitters {
                flows: 10,
                share: 0.6,
            },
            ..Load::default()
        };
        let share = |load: &Load, first: u32| {
            let all = packets(load, 100_000);
            all.iter().filter(|p| p.flow < first).count() as f64 / 1e5
        };
        assert!((share(&load, 10) - 0.6).abs() < 0.01);
        load.popularity = Popularity::Zipf { exponent: 1.0 };
        // H(10) / H(1000) = 2.929 / 7.485.
        assert!((share(&load, 10) - 0.391).abs() < 0.01);
        load.popularity = Popularity::Uniform;
        assert!((share(&load, 10) - 0.01).abs() < 0.002);
    }

    #[test]
    fn churn_ends_as_many_flows_as_it_says() {
        let load = Load {
            rate: 1e6,
            flows: 100,
            churn: 1000.0,
            ..Load::default()
        };
        let mut last = [None; 100];
        let mut births = 0;
        for packet in packets(&load, 1_000_000) {
            let place = &mut last[packet.flow as usize];
            births += u32::from(place.is_some_and(|was| was != packet.generation));
            *place = Some(packet.generation);
        }
        // A second, in which each place sends 10,000 times.
        assert!((980..=1001).contains(&births), "{births}");
    }

    #[test]
    fn hashes_are_distinct_and_streams_are_independent_of_each_other() {
        let hashes: std::collections::BTreeSet<u32> = (0..10)
            .flat_map(|g| (0..1000).map(move |f| rss_hash(f, 1000, g)))
            .collect();
        assert_eq!(hashes.len(), 10_000);
        let load = Load::default();
        let other = Load {
            service: Service::Bimodal1 { ns: 1.0 },
            ..Load::default()
        };
        let same = packets(&load, 100)
            .iter()
            .zip(packets(&other, 100))
            .all(|(a, b)| (a.at, a.flow) == (b.at, b.flow));
        assert!(same, "another service changes no arrival and no flow");
    }
}
