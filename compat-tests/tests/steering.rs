//! Flows and cores: what each policy does while kthreads come and go.
//!
//! An echo runtime of eight kthreads on ten virtual cores, and a sender with two
//! hundred flows in bursts. In the lulls between bursts some of the kthreads park, never
//! more than half of them; in the bursts queues stand still, and they are granted again.
//! The daemon watches all flows (`--watch-flows`), and so does the runtime
//! (`c/flows.h`): neither asks the other, and they must agree to the packet.
//!
//! With `--nocapture` the test prints a table.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use std::fmt::Write;

use compat_tests::runtime::mac;
use compat_tests::{Counters, Host, Report, Runtime};

/// Packets of each run, all of which the runtime remembers.
const PACKETS: u32 = 100_000;
const FLOWS: u64 = 200;
/// Grants and parks without which a run shows nothing. Some five hundred are usual.
const SET_CHANGES_MIN: u64 = 100;

/// What one run showed.
struct Seen {
    /// Policy, and what else was chosen.
    name: String,
    /// Of the echo runtime, by the daemon.
    steering: Counters,
    /// Of the whole daemon. The sender never parks, so all but its one wake is of the
    /// echo runtime.
    daemon: Counters,
    /// By the echo runtime itself.
    runtime: Report,
}

impl Seen {
    fn of(options: &[&str]) -> Option<Seen> {
        let mut all = vec!["--virtual-cores", "10", "--watch-flows", "--policy"];
        all.extend(options);
        let mut host = Host::loopback_with("steering", &all)?;
        let echo = Runtime::echo(1).kthreads(8, 3).set("watch", PACKETS);
        // Each packet is looked at where it was queued: nobody takes another's.
        let echo = echo.set("steal", 0).set("work-us", 10);
        let echo = host.start(echo.set("spin", 1).set("park-every", 50));
        let sender = Runtime::sender(2).to(1).count(PACKETS).set("spin", 1);
        let sender = sender.set("flows", FLOWS).set("window", 800);
        let sender = sender.set("burst", 800).set("pause-us", 600);
        let sent = host.start(sender).wait();
        sent.assert_good();
        sent.assert_zero(&["lost", "bad_replies", "corrupt", "unexpected"]);
        assert_eq!(sent.get("replies"), u64::from(PACKETS));
        let runtime = echo.stop();
        let left = format!("{}) steering: ", mac(1));
        let steering = Counters::of_runtime(&host.daemon().wait_log(&left));
        let daemon = Counters::of_daemon(&host.stop_daemon());
        host.finish();
        Some(Seen {
            name: options.join(" "),
            steering,
            daemon,
            runtime,
        })
    }

    fn changed_core(&self) -> u64 {
        self.steering.get("ST_CHANGED_CORE")
    }

    /// Kthreads that became active. A park that is refused is answered with a wake, too.
    fn grants(&self) -> u64 {
        self.daemon.get("WAKES") - self.daemon.get("PARKS_REFUSED")
    }

    fn parks(&self) -> u64 {
        self.daemon.get("PARKS")
    }

    /// What must hold whatever the policy is.
    fn check(&self) {
        let Seen { name, runtime, .. } = self;
        runtime.assert_good();
        runtime.assert_zero(&["watched_twice", "unwatched"]);
        assert_eq!(runtime.get("watched_packets"), u64::from(PACKETS), "{name}");
        assert_eq!(runtime.get("watched_flows"), FLOWS, "{name}");
        assert_eq!(self.daemon.get("PREEMPTS"), 0, "{name}: cores were left");
        let changes = self.grants() + self.parks();
        assert!(changes >= SET_CHANGES_MIN, "{name}: only {changes} changes");

        assert_eq!(
            self.steering.get("ST_PACKETS"),
            u64::from(PACKETS),
            "{name}"
        );
        assert_eq!(runtime.get("changed_core"), self.changed_core(), "{name}");
        // A packet that can overtake need not do it.
        let could = self.steering.get("ST_COULD_OVERTAKE");
        let did = runtime.get("overtook");
        assert!(did <= could, "{name}: {did} of {could} overtook");
        // Nobody is preempted here, so no kthread goes away with packets in its rxq.
        if name.contains("--order-guard") {
            assert_eq!(could, 0, "{name}");
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "figures to be read")]
    fn row(&self) -> String {
        let get = |counter| self.steering.get(counter);
        let packets = get("ST_PACKETS");
        let share = 100.0 * self.changed_core() as f64 / packets as f64;
        format!(
            "| {} | {packets} | {} | {} | {} | {share:.1} % | {} | {} | {} | {} | {} | {} | {:.2} |",
            self.name,
            self.grants(),
            self.parks(),
            self.changed_core(),
            self.runtime.get("changed_core"),
            get("ST_COULD_OVERTAKE"),
            self.runtime.get("overtook"),
            get("ST_MOVED_CORE_LOST") + get("ST_MOVED_STRICT"),
            get("ST_MOVED_RELIEF"),
            get("ST_STRICT_WAKES"),
            get("ST_IMBALANCE_MAX_MILLI") as f64 / 1000.0,
        )
    }
}

const HEAD: &str = "\
| policy | packets | grants | parks | changed core | share | the runtime saw | could overtake | did | moved: core lost | relief | woken for flows | imbalance |
|---|---|---|---|---|---|---|---|---|---|---|---|---|";

#[test]
fn flows_at_home_change_core_less_often_and_the_runtime_sees_the_same() {
    // How many times less often than under modulo, at least.
    let runs: &[(&[&str], u64)] = &[
        (&["modulo"], 1),
        (&["kthread-table"], 1),
        (&["flow-table"], 2),
        (&["flow-table", "--affinity", "strict"], 5),
        (&["flow-table", "--order-guard"], 2),
        (&["buckets"], 2),
        (&["hybrid"], 2),
    ];
    let mut table = String::from(HEAD);
    let mut all = Vec::new();
    for (options, times_less) in runs {
        let Some(seen) = Seen::of(options) else {
            return;
        };
        let _ = write!(table, "\n{}", seen.row());
        seen.check();
        all.push((seen, times_less));
    }
    println!("{table}");
    let modulo = all[0].0.changed_core();
    for (seen, times_less) in &all[1..] {
        let changed = seen.changed_core();
        assert!(
            changed * **times_less < modulo,
            "{}: {changed} packets changed core, under modulo {modulo}",
            seen.name
        );
    }
}
