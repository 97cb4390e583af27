//! A storm of kills: runtimes attach, take packets, and die in every way, again and again;
//! one that behaves lives among them and loses nothing; and what the daemon holds is in the
//! end exactly what it was.
//!
//! Terms: a *victim* is a runtime that is killed; a *cycle* is the life of one (or of two, in
//! one process group); a *checkpoint* lets the traffic rest and compares
//! [`Resources`] with those before the first cycle.
//!
//! Everything random is drawn from one seed. What it meets is not: a kill from outside comes
//! after so many microseconds, and where the victim is by then is the machine's.

mod deaths;
mod draw;
mod resources;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

pub use deaths::{Death, Deck};
pub use draw::Draw;
pub use resources::{Resources, stats};
pub use traffic::{LinuxTraffic, LocalTraffic, Traffic};

use crate::Host;
use crate::child::{PATIENCE, eventually};
use crate::host::free_huge_pages;
use crate::runtime::{Running, Runtime};
use crate::skip::skip;
use crate::veth::must;

/// The runtime that lives through the storm.
pub const WELL_BEHAVED: u16 = 1;
/// Addresses of victims.
pub const VICTIMS: [u16; 2] = [100, 101];
/// How long a victim may take to come to the point where it dies; then it is killed there
/// where it is.
const POINT_PATIENCE: Duration = Duration::from_secs(1);
/// By then most victims are registered and woken.
const REGISTERED: Duration = Duration::from_millis(20);
/// Growth of the daemon's own memory that is no leak: what allocator and page tables keep.
const MEMORY_SLACK_KIB: u64 = 16 << 10;
/// Free huge pages from which on some victims' regions are made of them.
const HUGE_PAGES: u64 = 32;

/// A storm under way.
#[derive(Debug)]
pub struct Storm<T> {
    host: Host,
    traffic: T,
    well_behaved: Running,
    draw: Draw,
    deck: Deck,
    before: Resources,
    /// Victims that certainly were attached, since the last checkpoint.
    attached: BTreeSet<u32>,
    /// Some victims' regions are of 2 MiB pages.
    huge: bool,
    /// Victims that were to have such a region, when there were too few pages.
    without_huge: u64,
    done: BTreeMap<String, u64>,
    not_reached: BTreeMap<String, u64>,
    cycles: u64,
    /// Segments that victims left which died before they were attached.
    orphans: u64,
    checkpoints: u64,
    began: Instant,
}

impl<T: Traffic> Storm<T> {
    /// Starts a well-behaved runtime, lets a victim come and go, and counts what is held then.
    pub fn begin(mut host: Host, mut traffic: T, seed: u64) -> Storm<T> {
        let well_behaved = host.start(Runtime::echo(WELL_BEHAVED));
        let huge = free_huge_pages() >= HUGE_PAGES;
        if !huge {
            let why = format!("fewer than {HUGE_PAGES} huge pages of 2 MiB are free");
            skip("victims with regions of huge pages", &why);
        }
        traffic.start(&host);
        // It has shouted before it takes a frame: so everybody has seen every kind of flow.
        let first = host.start(victim(VICTIMS[0], seed));
        std::thread::sleep(Duration::from_millis(100));
        first.kill();
        traffic.rest();
        let before = settled(&mut host);
        traffic.start(&host);
        Storm {
            host,
            traffic,
            well_behaved,
            draw: Draw::new(seed),
            deck: Deck::default(),
            before,
            attached: BTreeSet::new(),
            huge,
            without_huge: 0,
            done: BTreeMap::new(),
            not_reached: BTreeMap::new(),
            cycles: 0,
            orphans: 0,
            checkpoints: 0,
            began: Instant::now(),
        }
    }

    /// One victim's life, or two.
    pub fn cycle(&mut self) {
        let death = self.deck.next(&mut self.draw);
        log(&format!("cycle {}: {death}", self.cycles));
        self.cycles += 1;
        self.live_and_die(death);
        self.traffic.look_after(&self.host);
        *self.done.entry(death.kind()).or_default() += 1;
    }

    fn live_and_die(&mut self, death: Death) {
        let [number, other] = VICTIMS;
        let mut runtime = self.victim(number);
        match death {
            Death::At { point, after, how } => {
                let dying = [("die-at", point), ("die-how", how)];
                runtime = dying.iter().fold(runtime, |r, (k, v)| r.set(k, v));
                if point == "preempted" {
                    // Only what is above the guarantee is taken away.
                    runtime = runtime.kthreads(3, 1);
                }
                let victim = self.host.spawn(runtime.set("die-after", after));
                self.until_it_dies(victim, death);
            }
            Death::ThreadThenAll { point, later } => {
                let runtime = runtime.set("die-at", point).set("die-how", "exit");
                let victim = self.host.spawn(runtime);
                std::thread::sleep(REGISTERED + Duration::from_micros(later));
                self.note_if_attached(&victim);
                victim.kill();
            }
            Death::Outside { after, thread } => {
                let victim = self.host.spawn(runtime);
                std::thread::sleep(Duration::from_micros(after));
                self.note_if_attached(&victim);
                if thread {
                    victim.kill_by_thread();
                } else {
                    victim.kill();
                }
            }
            Death::Pair { after } => {
                let victim = self.host.spawn(runtime);
                let second = self.victim(other).group(victim.pid());
                let second = self.host.spawn(second.set("guaranteed", 0));
                std::thread::sleep(Duration::from_micros(after));
                self.note_if_attached(&victim);
                self.note_if_attached(&second);
                victim.kill_group();
                // Nothing to be done, unless the first had ended before.
                second.kill();
            }
        }
    }

    /// A victim as the draw makes it.
    fn victim(&mut self, number: u16) -> Runtime {
        let wanted = self.draw.below(4) == 0 && self.huge;
        // Others on the machine may have taken them meanwhile.
        let huge = wanted && free_huge_pages() >= HUGE_PAGES;
        self.without_huge += u64::from(wanted && !huge);
        let (ring, seed) = (self.draw.one(&[64, 256, 4096]), self.draw.below(1 << 62));
        let kthreads = 1 + u32::try_from(self.draw.below(3)).expect("a few");
        victim(number, seed)
            .huge_pages(huge)
            .set("ring", ring)
            .kthreads(kthreads, 1)
    }

    fn until_it_dies(&mut self, mut victim: Running, death: Death) {
        let end = Instant::now() + POINT_PATIENCE;
        while victim.try_status().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(500));
        }
        if victim.try_status().is_some() {
            if death.proves_attached() {
                self.attached.insert(victim.pid());
            }
            victim.wait_killed();
            return;
        }
        *self.not_reached.entry(death.kind()).or_default() += 1;
        self.note_if_attached(&victim);
        victim.kill();
    }

    fn note_if_attached(&mut self, victim: &Running) {
        if victim.said_attached() {
            self.attached.insert(victim.pid());
        }
    }

    /// Lets everything rest; what is held must be what was held before the storm.
    ///
    /// # Panics
    /// When it is not, with both side by side; or when the well-behaved runtime lost
    /// something.
    pub fn checkpoint(&mut self) -> Resources {
        self.traffic.rest();
        self.remove_orphans();
        let end = Instant::now() + PATIENCE;
        let after = loop {
            let after = Resources::of(&mut self.host);
            if after.same_as(&self.before) {
                break after;
            }
            assert!(
                Instant::now() < end,
                "after {} cycles something is not what it was:\n{}{}",
                self.cycles,
                self.before.beside(&after),
                self.host.daemon().log_tail(40)
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        let memory = |r: &Resources| r.get("anonymous memory, KiB");
        assert!(
            memory(&after) <= memory(&self.before) + MEMORY_SLACK_KIB,
            "iokerneld's own memory grows:\n{}",
            self.before.beside(&after)
        );
        self.checkpoints += 1;
        after
    }

    /// Removes segments of victims that died before the daemon knew them: nobody but an
    /// operator (or `kernel.shm_rmid_forced`) can. One of a victim that was attached must be
    /// gone, and none may be mapped by anybody.
    fn remove_orphans(&mut self) {
        let space = self.host.space();
        let known = [self.host.daemon_pid(), self.well_behaved.pid()];
        let orphans = || {
            let all = space
                .segments()
                .into_iter()
                .map(|line| Segment::parse(&line));
            all.filter(|s| !known.contains(&s.creator))
                .collect::<Vec<_>>()
        };
        eventually("no segment of a victim is mapped", || {
            let kept = |s: &Segment| s.mappings > 0 || self.attached.contains(&s.creator);
            !orphans().iter().any(kept)
        });
        for segment in orphans() {
            let id = segment.id.to_string();
            must(self.host.command("ipcrm").args(["-m", &id]));
            self.orphans += 1;
        }
        self.attached.clear();
    }

    /// Takes up the traffic again after a checkpoint.
    pub fn resume(&mut self) {
        self.traffic.start(&self.host);
    }

    /// Cycles so far, and seconds.
    pub fn progress(&self) -> String {
        format!(
            "{} cycles in {} s, {} packets answered, {} checkpoints, {} segments of victims \
             that had not registered removed",
            self.cycles,
            self.began.elapsed().as_secs(),
            self.traffic.answered(),
            self.checkpoints,
            self.orphans
        )
    }

    /// The last checkpoint, the well-behaved runtime's report, and the end of the daemon; what
    /// was done, as text.
    ///
    /// # Panics
    /// When anything is not as it should be.
    pub fn end(mut self) -> String {
        let after = self.checkpoint();
        let mut text = format!("{}\n", self.progress());
        for (kind, times) in &self.done {
            let missed = self.not_reached.get(kind).copied().unwrap_or(0);
            let late = match missed {
                0 => String::new(),
                n => format!(" ({n} of them killed before they came there)"),
            };
            text += &format!("  {times:>6} {kind}{late}\n");
        }
        if self.without_huge > 0 {
            text += &format!("  {} victims found no huge pages\n", self.without_huge);
        }
        text += &self.before.beside(&after).to_string();
        for kind in self.done.keys() {
            let missed = self.not_reached.get(kind).copied().unwrap_or(0);
            assert!(missed < self.done[kind], "nobody died {kind}:\n{text}");
        }
        let report = self.well_behaved.stop();
        report.assert_good();
        assert_eq!(report.get("hung_up"), 0);
        drop(self.traffic);
        self.host.finish();
        text
    }
}

/// A small victim with an address of its own.
fn victim(number: u16, seed: u64) -> Runtime {
    Runtime::victim(number)
        .small()
        .group(0)
        .set("seed", seed)
        .kthreads(3, 1)
}

/// What is held once nothing changes any more.
fn settled(host: &mut Host) -> Resources {
    let end = Instant::now() + PATIENCE;
    loop {
        let first = Resources::of(host);
        std::thread::sleep(Duration::from_millis(100));
        let second = Resources::of(host);
        let still = ["cores held", "runtimes leaving", "packets in the port"];
        if first == second && still.iter().all(|what| second.get(what) == 0) {
            return second;
        }
        assert!(
            Instant::now() < end,
            "never at rest:\n{}",
            first.beside(&second)
        );
    }
}

/// Every cycle's line, if `CALISTO_STORM_VERBOSE` is set.
fn log(line: &str) {
    if std::env::var_os("CALISTO_STORM_VERBOSE").is_some() {
        eprintln!("{line}");
    }
}

/// A line of `/proc/sysvipc/shm`.
#[derive(Debug)]
struct Segment {
    id: u64,
    creator: u32,
    mappings: u64,
}

impl Segment {
    /// key, shmid, perms, size, cpid, lpid, nattch, ...
    fn parse(line: &str) -> Segment {
        let word = |n: usize| {
            line.split_whitespace()
                .nth(n)
                .and_then(|w| w.parse::<u64>().ok())
                .unwrap_or_else(|| panic!("not a segment: {line}"))
        };
        Segment {
            id: word(1),
            creator: u32::try_from(word(4)).expect("a pid"),
            mappings: word(6),
        }
    }
}
