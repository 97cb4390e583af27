//! Wakes by eventfd, changes of affinity, signals: as the daemon makes them.
//!
//! One thread is the dispatcher, on its CPU; the other the kthread, on the other: it blocks in
//! `read` of an eventfd, or computes until a signal's handler has run. Both read the same
//! clock. How far the rounds are apart matters: the longer a CPU was idle, the longer its wake.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Signal, getpid, kill_process};
use rustix::thread::{CpuSet, gettid};

use super::{Found, median, pin};

const ROUNDS: u64 = 1000;

#[allow(clippy::cast_precision_loss, reason = "nanoseconds of a round")]
fn ns(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_nanos() as f64
}

/// A moment that two threads know.
struct Moment {
    base: Instant,
    at: AtomicU64,
}

impl Moment {
    fn new() -> Moment {
        Moment {
            base: Instant::now(),
            at: AtomicU64::new(0),
        }
    }

    // Release, pairs with the Acquire of `take`.
    fn set_now(&self) {
        let ns = self.base.elapsed().as_nanos();
        self.at
            .store(u64::try_from(ns).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn take(&self) -> Instant {
        loop {
            // Acquire, pairs with the Release of `set_now`.
            let ns = self.at.swap(0, Ordering::Acquire);
            if ns != 0 {
                return self.base + Duration::from_nanos(ns);
            }
            std::thread::yield_now();
        }
    }
}

/// Measures, with the dispatcher on the first CPU and the kthread on the second.
pub(super) fn measure(found: &mut Found, cpus: [usize; 2], apart: Duration) -> anyhow::Result<()> {
    wakes(found, cpus, apart)?;
    signals(found, cpus, apart)
}

/// Waits as the dispatcher does: it polls, so that its own CPU never becomes idle.
fn poll_for(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

fn wakes(found: &mut Found, cpus: [usize; 2], apart: Duration) -> anyhow::Result<()> {
    let efd = eventfd(0, EventfdFlags::CLOEXEC).context("cannot make an eventfd")?;
    let woken = Moment::new();
    let tid = std::sync::OnceLock::new();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let kthread = scope.spawn(|| -> anyhow::Result<()> {
            tid.get_or_init(gettid);
            let mut number = [0; 8];
            // The first number says that the kthread may begin.
            for _ in 0..=ROUNDS {
                rustix::io::read(&efd, &mut number).context("cannot read an eventfd")?;
                woken.set_now();
            }
            Ok(())
        });
        pin(None, cpus[0])?;
        let kthread_id = loop {
            if let Some(tid) = tid.get() {
                break *tid;
            }
            std::thread::yield_now();
        };
        pin(Some(kthread_id), cpus[1])?;
        let mut both = CpuSet::new();
        cpus.iter().for_each(|cpu| both.set(*cpu));
        let write = || rustix::io::write(&efd, &1_u64.to_ne_bytes()).context("cannot wake");
        write()?;
        woken.take();
        let (mut pins, mut writes, mut latencies) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            poll_for(apart);
            let begin = Instant::now();
            rustix::thread::sched_setaffinity(Some(kthread_id), &both)?;
            let pinned = Instant::now();
            pin(Some(kthread_id), cpus[1])?;
            poll_for(apart);
            let before = Instant::now();
            write()?;
            let after = Instant::now();
            let runs = woken.take();
            pins.push(ns(begin, pinned));
            writes.push(ns(before, after));
            latencies.push(ns(after, runs));
        }
        kthread.join().expect("the kthread does not panic")?;
        found.insert(
            ("dispatcher", "pin_ns"),
            (median(pins), "sched_setaffinity of a sleeper"),
        );
        found.insert(
            ("dispatcher", "wake_ns"),
            (median(writes), "write to an eventfd"),
        );
        let how = "from the end of the write until read has returned";
        found.insert(("kernel", "wake_latency_ns"), (median(latencies), how));
        Ok(())
    })
}

/// The process' signal goes to its main thread, which is this one, unless that blocks it.
fn signals(found: &mut Found, cpus: [usize; 2], apart: Duration) -> anyhow::Result<()> {
    let arrived = Arc::new(AtomicBool::new(false));
    let id = signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&arrived))
        .context("cannot handle SIGUSR1")?;
    let sent = Moment::new();
    let ready = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        let sender = scope.spawn(|| -> anyhow::Result<Vec<f64>> {
            pin(None, cpus[0])?;
            let mut calls = Vec::new();
            for _ in 0..ROUNDS {
                // Acquire, pairs with the Release below: the round has begun.
                while !ready.swap(false, Ordering::Acquire) {
                    std::thread::yield_now();
                }
                std::thread::sleep(apart);
                let begin = Instant::now();
                kill_process(getpid(), Signal::USR1).context("cannot send a signal")?;
                sent.set_now();
                calls.push(ns(begin, Instant::now()));
            }
            Ok(calls)
        });
        pin(None, cpus[1])?;
        let mut latencies = Vec::new();
        for _ in 0..ROUNDS {
            ready.store(true, Ordering::Release);
            // Relaxed: the handler runs in this thread.
            while !arrived.swap(false, Ordering::Relaxed) {
                if sender.is_finished() {
                    break;
                }
                std::hint::spin_loop();
            }
            let runs = Instant::now();
            if sender.is_finished() && latencies.len() + 1 < usize::try_from(ROUNDS)? {
                break;
            }
            latencies.push(ns(sent.take(), runs));
        }
        let calls = sender.join().expect("the sender does not panic")?;
        anyhow::Ok((median(calls), median(latencies)))
    });
    signal_hook::low_level::unregister(id);
    let (call, latency) = result?;
    found.insert(("dispatcher", "signal_ns"), (call, "kill of this process"));
    let how = "from the end of the call until the handler has run";
    found.insert(("kernel", "signal_latency_ns"), (latency, how));
    Ok(())
}
