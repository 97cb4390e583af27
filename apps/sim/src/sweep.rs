//! Many runs: settings by name, and all combinations of their values.

use crate::error::SimError;
use crate::scenario::{Popularity, Scenario, Service};

/// A setting of a scenario that has a name. Those of a load are of every runtime that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Packets a second of all runtimes together.
    Load,
    /// Share of the runtime cores that the requests' own work alone keeps busy.
    Utilisation,
    /// Runtime cores.
    Cores,
    /// Flows.
    Flows,
    /// Bytes of state of a flow.
    State,
    /// Share of it that is written.
    Write,
    /// Other bytes that a request brings into the private caches.
    Other,
    /// Mean service time, nanoseconds.
    Service,
    /// Exponent of a Zipf distribution of the flows; 0: uniform.
    Zipf,
    /// Flows a second that end.
    Churn,
    /// The seed.
    Seed,
}

impl Key {
    /// All, with their names.
    pub const ALL: [(&'static str, Key); 11] = [
        ("load", Key::Load),
        ("utilisation", Key::Utilisation),
        ("cores", Key::Cores),
        ("flows", Key::Flows),
        ("state", Key::State),
        ("write", Key::Write),
        ("other", Key::Other),
        ("service", Key::Service),
        ("zipf", Key::Zipf),
        ("churn", Key::Churn),
        ("seed", Key::Seed),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Key::ALL[self as usize].0
    }

    /// The setting of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> Result<Key, SimError> {
        let found = Key::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, key)| *key).ok_or_else(|| {
            let known = Key::ALL.map(|(name, _)| name).join(", ");
            SimError::Scenario(format!("no setting '{name}': {known}"))
        })
    }

    /// The greatest value of a setting that is a whole number; none of those that are not.
    fn most(self) -> Option<f64> {
        match self {
            Key::Cores => Some(u16::MAX.into()),
            Key::Flows | Key::State | Key::Other => Some(u32::MAX.into()),
            // Beyond, not every number can be told from the next.
            Key::Seed => Some(9_007_199_254_740_992.0),
            Key::Load | Key::Utilisation | Key::Write | Key::Service | Key::Zipf | Key::Churn => {
                None
            }
        }
    }

    /// Gives it a value. Whether that is possible, [`Scenario::check`] says; only where there is
    /// no load, settings of loads are ignored. The rate for a utilisation hangs on other settings:
    /// several are set by [`apply`].
    pub fn set(self, scenario: &mut Scenario, value: f64) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates; what cannot be is refused later"
        )]
        match self {
            Key::Load => return scenario.set_rate(value),
            Key::Cores => return scenario.cores = value as u16,
            Key::Seed => return scenario.seed = value as u64,
            Key::Utilisation => {
                let work: f64 = (scenario.procs.iter())
                    .filter_map(|p| p.load.as_ref())
                    .map(|l| l.rate * l.service.mean_ns() / 1e9)
                    .sum();
                let rate = scenario.rate();
                return scenario.set_rate(rate * value * f64::from(scenario.cores) / work);
            }
            _ => {}
        }
        for load in scenario.procs.iter_mut().filter_map(|p| p.load.as_mut()) {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates; what cannot be is refused later"
            )]
            match self {
                Key::Flows => load.flows = value as u32,
                Key::State => load.state_bytes = value as u32,
                Key::Other => load.other_bytes = value as u32,
                Key::Write => load.write_share = value,
                Key::Churn => load.churn = value,
                Key::Service => match &mut load.service {
                    Service::Constant { ns }
                    | Service::Exponential { ns }
                    | Service::Bimodal1 { ns }
                    | Service::Bimodal2 { ns }
                    | Service::LogNormal { ns, .. } => *ns = value,
                },
                Key::Zipf if value == 0.0 => load.popularity = Popularity::Uniform,
                Key::Zipf => load.popularity = Popularity::Zipf { exponent: value },
                Key::Load | Key::Utilisation | Key::Cores | Key::Seed => {}
            }
        }
    }
}

/// A setting and its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The setting.
    pub key: Key,
    /// Its values, in order.
    pub values: Vec<f64>,
}

impl Axis {
    /// Reads `key=value,value,...`; a value may be a range `first..last..step`.
    ///
    /// # Errors
    /// If it is not of that form, a range holds no value, or one is not a whole number where
    /// that is needed.
    pub fn parse(text: &str) -> Result<Axis, SimError> {
        let bad = || {
            SimError::Scenario(format!(
                "'{text}' is not of the form key=1,2,3 or key=1..10..0.5"
            ))
        };
        let (name, list) = text.split_once('=').ok_or_else(bad)?;
        let key = Key::named(name)?;
        let number = |s: &str| s.trim().parse::<f64>().ok().filter(|n| n.is_finite());
        let mut values = Vec::new();
        for item in list.split(',') {
            let parts: Option<Vec<f64>> = item.split("..").map(number).collect();
            match parts.ok_or_else(bad)?[..] {
                [value] => values.push(value),
                [first, last, _] if first > last => {
                    return Err(SimError::Scenario(format!(
                        "{name}={item}: a range goes upwards, first..last..step"
                    )));
                }
                [first, last, step] if step > 0.0 && (last - first) / step < 1e4 => {
                    // By counting, so that no rounding adds up.
                    let at = |i: u32| first + f64::from(i) * step;
                    values.extend((0..).map(at).take_while(|v| *v <= last + step * 1e-9));
                }
                _ => return Err(bad()),
            }
        }
        if let Some(most) = key.most()
            && let Some(bad) =
                (values.iter()).find(|v| v.fract() != 0.0 || !(0.0..=most).contains(*v))
        {
            return Err(SimError::Scenario(format!(
                "{name} = {bad}: must be a whole number, 0 to {most}"
            )));
        }
        Ok(Axis { key, values })
    }
}

/// Refuses settings of which some would be without effect: `all` that are given, and those of
/// them that are `swept`.
///
/// # Errors
/// If one is swept twice, or both load and utilisation are to say how many packets come.
pub fn check(
    all: impl Iterator<Item = Key>,
    swept: impl Iterator<Item = Key>,
) -> Result<(), SimError> {
    let all: Vec<Key> = all.collect();
    if all.contains(&Key::Load) && all.contains(&Key::Utilisation) {
        let both = "load and utilisation both say how many packets come: give one";
        return Err(SimError::Scenario(both.into()));
    }
    let mut seen = Vec::new();
    for key in swept {
        if seen.contains(&key) {
            let name = key.name();
            return Err(SimError::Scenario(format!("{name} is swept twice")));
        }
        seen.push(key);
    }
    Ok(())
}

/// Gives settings their values, whatever their order: utilisation, whose rate hangs on the
/// others, comes after them. Of two values of one setting the later counts.
pub fn apply(settings: impl Iterator<Item = (Key, f64)>, scenario: &mut Scenario) {
    let mut utilisation = None;
    for (key, value) in settings {
        if key == Key::Utilisation {
            utilisation = Some(value);
        } else {
            key.set(scenario, value);
        }
    }
    if let Some(value) = utilisation {
        Key::Utilisation.set(scenario, value);
    }
}

/// All combinations of the axes' values, the last axis the fastest.
pub fn combinations(axes: &[Axis]) -> Vec<Vec<(Key, f64)>> {
    let mut all = vec![Vec::new()];
    for axis in axes {
        let longer = all.iter().flat_map(|point: &Vec<(Key, f64)>| {
            axis.values.iter().map(|&value| {
                let mut point = point.clone();
                point.push((axis.key, value));
                point
            })
        });
        all = longer.collect();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_back_to_themselves() {
        for (name, key) in Key::ALL {
            assert_eq!(key.name(), name);
            assert_eq!(Key::named(name).unwrap(), key);
        }
        let error = Key::named("speed").unwrap_err().to_string();
        assert!(error.contains("utilisation"), "{error}");
    }

    #[test]
    fn axes_are_lists_and_ranges() {
        let axis = Axis::parse("load=5000..14000..3000,20000").unwrap();
        assert_eq!(axis.values, [5000.0, 8000.0, 11000.0, 14000.0, 20000.0]);
        for bad in [
            "load",
            "load=",
            "load=1..2",
            "load=1..2..0",
            "load=x",
            "load=inf",
            "load=10..1..1",
            "cores=4.7",
            "cores=1..4..0.5",
            "flows=1e10",
            "seed=-1",
            "seed=1e30",
        ] {
            let error = Axis::parse(bad).expect_err(bad).to_string();
            assert!(!error.contains('\n'), "{error}");
        }
        assert_eq!(Axis::parse("load=7..7..1").unwrap().values, [7.0]);
        assert_eq!(Axis::parse("flows=1e4").unwrap().values, [1e4]);
        let cores = Axis::parse("cores=2,4").unwrap();
        let all = combinations(&[axis, cores]);
        assert_eq!(all.len(), 10);
        assert_eq!(all[1], [(Key::Load, 5000.0), (Key::Cores, 4.0)]);
    }

    /// The packets a second that the settings make.
    fn rate(settings: &[(Key, f64)]) -> f64 {
        let mut scenario = Scenario::default();
        apply(settings.iter().copied(), &mut scenario);
        scenario.rate()
    }

    #[test]
    fn utilisation_is_of_the_cores_and_the_service_time_in_any_order() {
        let half = (Key::Utilisation, 0.5);
        // Half of ten cores, 100,000 requests a second each.
        assert!((rate(&[half]) - 500_000.0).abs() < 1.0);
        let (cores, service) = ((Key::Cores, 2.0), (Key::Service, 20_000.0));
        for order in [
            [half, cores, service],
            [cores, half, service],
            [service, cores, half],
        ] {
            // Half of two, 50,000 each.
            assert!((rate(&order) - 50_000.0).abs() < 1.0, "{order:?}");
        }
        assert!((rate(&[half, (Key::Utilisation, 0.1)]) - 100_000.0).abs() < 1.0);
    }

    #[test]
    fn settings_that_would_be_without_effect_are_refused() {
        let both = |a, b| check([a, b].into_iter(), [b].into_iter());
        assert!(both(Key::Load, Key::Utilisation).is_err());
        assert!(both(Key::Utilisation, Key::Load).is_err());
        assert!(both(Key::Cores, Key::Cores).is_ok(), "a base, and a sweep");
        let twice = [Key::Cores, Key::Load, Key::Cores];
        assert!(check(twice.into_iter(), twice.into_iter()).is_err());
    }
}
