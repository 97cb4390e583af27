//! Which scenarios can be simulated. What is refused is refused with one line, before anything runs.

use crate::error::SimError;
use crate::scenario::{
    Arrivals, MAX_CORES, MAX_FLOWS, MAX_PACKETS, Popularity, Proc, Scenario, Service,
};

impl Scenario {
    /// Refuses what cannot be simulated.
    ///
    /// # Errors
    /// One line that says what, and what is possible.
    pub fn check(&self) -> Result<(), SimError> {
        let refuse = |what: String| Err(SimError::Scenario(what));
        self.machine.check()?;
        self.steering.check()?;
        let room = self.machine.runtime_cores();
        if self.cores == 0 || self.cores > MAX_CORES.min(room) {
            return refuse(format!(
                "cores = {}: machine '{}' has 1 to {} for runtimes",
                self.cores,
                self.machine.name,
                MAX_CORES.min(room)
            ));
        }
        if self.procs.is_empty() || self.procs.len() > 64 {
            return refuse(format!("{} procs: 1 to 64 are possible", self.procs.len()));
        }
        let guaranteed: u32 = self.procs.iter().map(|p| u32::from(p.guaranteed)).sum();
        if guaranteed > u32::from(self.cores) {
            return refuse(format!(
                "{guaranteed} cores are guaranteed, and there are {}",
                self.cores
            ));
        }
        for proc in &self.procs {
            proc.check(self.kthreads(proc))?;
        }
        if self.rate() <= 0.0 && self.seconds <= 0.0 {
            return refuse("without load, seconds must be given".into());
        }
        if self.packets == 0 && self.seconds <= 0.0 {
            return refuse("neither packets nor seconds is given: it would not end".into());
        }
        if self.packets > MAX_PACKETS {
            return refuse(format!("packets = {}: {MAX_PACKETS} at most", self.packets));
        }
        let times = [self.seconds, self.drain_seconds];
        if times.iter().any(|t| !(0.0..=1e6).contains(t)) || !(0.0..=0.95).contains(&self.warmup) {
            return refuse("seconds must be 0 to 1000000, warmup 0 to 0.95".into());
        }
        Ok(())
    }
}

impl Proc {
    fn check(&self, kthreads: u16) -> Result<(), SimError> {
        let refuse =
            |what: String| Err(SimError::Scenario(format!("proc '{}': {what}", self.name)));
        if kthreads > MAX_CORES {
            return refuse(format!("{kthreads} kthreads: {MAX_CORES} at most"));
        }
        if self.load.is_none() && self.batch.is_none() {
            return refuse("it has neither load nor batch".into());
        }
        if self.batch.is_some_and(|b| b.slice_ns < 1000) {
            return refuse("slice_ns must be 1000 at least".into());
        }
        let Some(load) = &self.load else {
            return Ok(());
        };
        if !(load.rate > 0.0 && load.rate <= 1e9) {
            return refuse(format!("rate = {}: above 0, to 1e9", load.rate));
        }
        if load.flows == 0 || load.flows > MAX_FLOWS {
            return refuse(format!("flows = {}: 1 to {MAX_FLOWS}", load.flows));
        }
        let unit = 0.0..=1.0;
        if !unit.contains(&load.write_share) || !(0.0..=1e9).contains(&load.churn) {
            return refuse("write_share must be 0 to 1, churn 0 to 1e9".into());
        }
        match load.popularity {
            Popularity::Zipf { exponent } if !(exponent > 0.0 && exponent < 10.0) => {
                return refuse(format!("zipf exponent {exponent}: above 0, below 10"));
            }
            Popularity::HeavyHitters { flows, share }
                if flows == 0 || flows >= load.flows || !unit.contains(&share) =>
            {
                return refuse("heavy hitters must be fewer than flows, their share 0 to 1".into());
            }
            _ => {}
        }
        if let Arrivals::OnOff {
            factor,
            on_us,
            off_us,
        } = load.arrivals
            && !(factor >= 1.0
                && on_us > 0.0
                && off_us > 0.0
                && factor * on_us / (on_us + off_us) <= 1.0 + 1e-9)
        {
            return refuse("on-off: factor must be 1 to (on + off) / on".into());
        }
        let sigma = match load.service {
            Service::LogNormal { sigma, .. } => sigma,
            _ => 0.0,
        };
        if !(0.0..=4e9).contains(&load.service.mean_ns()) || !(0.0..=5.0).contains(&sigma) {
            return refuse("service: mean 0 to 4e9 ns, sigma 0 to 5".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_one_line() {
        let bad = [
            "cores = 15",
            "cores = 0",
            "packets = 0",
            "packets = 1000000000001",
            "machine = \"vax\"",
            "warmup = 1.5",
            "procs = []",
            "[[procs]]\nguaranteed = 11",
            "[procs]",
            "speed = 1",
            "[steering]\npolicy = \"random\"",
            "[[procs]]\nload.rate = -1.0",
            "[[procs]]\nload.flows = 0",
            "[[procs]]\nload.popularity = { kind = \"zipf\", exponent = 0.0 }",
            "[[procs]]\nload.arrivals = { kind = \"on-off\", factor = 9.0, on_us = 1.0, off_us = 1.0 }",
            "[[procs]]\nload.service = { kind = \"constant\", ns = nan }",
        ];
        for text in bad {
            let error = Scenario::from_toml(text).expect_err(text).to_string();
            assert!(!error.contains('\n'), "{text}: {error}");
        }
    }
}
