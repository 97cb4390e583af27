//! Hostile runtimes: what a runtime can do to an I/O kernel, case by case, while
//! an echo runtime must go on answering a peer that counts.
//!
//! Terms: the *offender* is a process that does one case; the *witness* is the
//! peer that counts what the echo runtime answers; the *newcomer* is a polite
//! runtime that wants to attach while the offender is at it.
//!
//! The cases are data. One list is run against our daemon ([`arena`]), and
//! against upstream's C iokernel ([`upstream`]) for comparison. An offender acts,
//! says so, and stays until it is killed: what it did must be contained while it
//! lives, and everything that it held must come back once it is dead.

pub mod arena;
pub mod cases;
pub mod fields;
pub mod memory;
pub mod offender;
pub mod plan;
pub mod random;
pub mod socket;
pub mod upstream;
pub mod wire;
pub mod witness;

/// Set for an offender whose region is to be of 2 MiB pages.
pub const HUGE_VAR: &str = "CALISTO_HOSTILE_HUGE";
/// What an offender says when it has done its case.
pub const ACTED: &str = "acted";
/// What a newcomer says when it was given a core.
pub const WOKEN: &str = "woken";
/// The newcomer's number.
const NEWCOMER: u16 = 77;

/// What becomes of an offender.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// It is not let in: a log line that names its pid and says so, and a counter.
    Refused(&'static str, &'static str),
    /// The same, at the latest when it dies.
    RefusedInTheEnd(&'static str, &'static str),
    /// It is detached: a log line and a counter, likewise.
    Detached(&'static str, &'static str),
    /// It stays attached until it dies, and harms nobody. These counters rise.
    Borne(&'static [&'static str]),
    /// It races, so any of these reasons may be counted, or none.
    Races(&'static [&'static str]),
}

/// One thing that a runtime can do.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name, for people and the command line.
    pub name: &'static str,
    /// The row of section 8 of the contract that it belongs to; 0: of none.
    pub row: u8,
    /// What it does.
    pub does: &'static str,
    /// What becomes of it.
    pub expect: Expect,
    /// Other reasons that may be counted on the way.
    pub also: &'static [&'static str],
    /// Frames of its own that the witness must get intact.
    pub mail: u64,
    /// The witness is silent meanwhile: the contract cannot protect what it would send.
    pub quiet: bool,
    /// The witness broadcasts meanwhile.
    pub shouts: bool,
    /// Its region must be of 2 MiB pages.
    pub huge: bool,
    /// Does it. Returns when it is done; the process then stays.
    pub act: fn(),
}

impl Case {
    const fn new(
        row: u8,
        name: &'static str,
        does: &'static str,
        expect: Expect,
        act: fn(),
    ) -> Case {
        Case {
            name,
            row,
            does,
            expect,
            also: &[],
            mail: 0,
            quiet: false,
            shouts: false,
            huge: false,
            act,
        }
    }

    const fn mail(self, mail: u64) -> Case {
        Case { mail, ..self }
    }

    const fn also(self, also: &'static [&'static str]) -> Case {
        Case { also, ..self }
    }

    const fn shouts(self) -> Case {
        Case {
            shouts: true,
            ..self
        }
    }

    const fn huge(self) -> Case {
        Case { huge: true, ..self }
    }

    const fn quiet(self) -> Case {
        Case {
            quiet: true,
            ..self
        }
    }
}

/// Every case, in the order in which they run.
pub fn all() -> impl Iterator<Item = &'static Case> {
    cases::ALL.iter().copied().flatten()
}

/// The case of that name.
pub fn named(name: &str) -> Option<&'static Case> {
    all().find(|case| case.name == name)
}

/// Does one case, in this process, which is to be killed afterwards.
pub fn offend(case: &Case) -> ! {
    (case.act)();
    stay();
}

/// Says that the case is done, and waits to be killed.
fn stay() -> ! {
    say(ACTED);
    loop {
        std::thread::park();
    }
}

/// Attaches politely, in this process, which is to be killed afterwards.
pub fn come() -> ! {
    let plan = offender::Plan::new().number(NEWCOMER).kthreads(1, 0);
    let mut newcomer = offender::Offender::attached(plan);
    newcomer.park(0, 0);
    say(WOKEN);
    loop {
        std::thread::park();
    }
}

fn say(word: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word}")
        .and_then(|()| out.flush())
        .expect("the harness reads what an offender says");
}
