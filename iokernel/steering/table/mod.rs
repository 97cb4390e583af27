//! The flow table: 32-bit RSS hash -> home core, and how long the flow was idle.
//!
//! ```text
//!   hash --mix (bijective)--> m      line = m * lines / 2^32      tag = low 19 bits of m
//!
//!   lines:  | 16 entries | 16 entries | ...     64 bytes each; line.rs shows an entry
//! ```
//!
//! A lookup reads one cache line; two for one flow in 400. An entry need not hold
//! the whole key: the values of `m` that lead to one line are consecutive, at most 2^19 of
//! them (there are 8192 lines at least), so their low 19 bits tell them apart. Two hashes
//! are never taken for each other.
//!
//! A table for N flows has 1.75 N entries: seven bytes a flow. Then about one flow in 400
//! finds sixteen others in its line, and is a guest in a second one that its tag chooses;
//! one in 15,000 finds that full as well. If so, the oldest of its own line goes (a clock:
//! the others of the line grow older, and are young again with their next packet; those
//! that do not send are forgotten sooner than they were elsewhere). No insertion fails. A hand goes round all lines, a few at each call of
//! [`sweep`](FlowTable::sweep), and forgets idle flows.
//!
//! Invariants: [`len`](FlowTable::len) entries are in use, `guests` of them away from
//! home; each key has one at most; the last entry of a line that has guests elsewhere is
//! or was in use, so that who does not find a flow knows when not to look further.

#![allow(unsafe_code, reason = "code for the processor's own vectors")]

mod burst;
mod line;
#[cfg(test)]
mod tests;
mod vectors;
#[cfg(test)]
pub(super) use self::tests::crowd;

use std::io;

use self::line::{AGE_MAX, Entry, LINE, Line, TAG_BITS, WAYS, Wanted};
pub use self::vectors::Vectors;
#[cfg(target_arch = "x86_64")]
pub(super) use self::vectors::{Avx2, Avx512};
pub(super) use self::vectors::{Baseline, GROUP, Isa};
use crate::ids::{CoreId, Micros};
use crate::pages::Pages;

/// Fewest lines: with fewer, keys of one line were more than tags.
const LINES_MIN: usize = 1 << (32 - TAG_BITS);
/// Lines for so many flows: sixteen entries for nine flows, mostly.
const LINES: (usize, usize) = (7, 64);
/// A second line is so far behind the first at most: in the same huge page, mostly.
const GUEST_RANGE: u32 = 1 << 12;
/// Lines looked at in one [`sweep`](FlowTable::sweep).
const SWEEP_LINES: usize = 4;

/// Where a flow's entry is, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    line: u32,
    want: Wanted,
}

/// The place of an entry: line and way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    #[inline(always)]
    fn new(line: u32, way: u32) -> Place {
        Place(line * LINE + way)
    }

    /// The place as an array index, below [`FlowTable::slots`].
    #[inline(always)]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    #[inline(always)]
    fn line(self) -> usize {
        self.index() / WAYS
    }

    #[inline(always)]
    fn way(self) -> usize {
        self.index() % WAYS
    }
}

/// What an insertion did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inserted {
    /// Where the new entry is.
    pub place: Place,
    /// The home core of the flow that made room.
    pub evicted: Option<CoreId>,
}

/// The table. See the module's head.
#[derive(Debug)]
pub struct FlowTable {
    lines: Pages<Line>,
    /// The number of lines, as the multiplication needs it.
    count: u32,
    vectors: Vectors,
    len: usize,
    guests: usize,
    /// Where the search for an entry to evict begins; of equally old ones another goes
    /// each time.
    hand: u32,
    /// The line that the next sweep begins with, when that is due, and after how long
    /// the one behind it is.
    swept: usize,
    sweep_at: Micros,
    sweep_every: u64,
}

/// A bijection, so that no two hashes become one key, that spreads what differs in
/// few bits over all lines.
#[inline(always)]
pub(super) fn mix(hash: u32) -> u32 {
    (hash ^ hash >> 15).wrapping_mul(0x9e37_79b1)
}

impl FlowTable {
    /// Lines of a table for `flows` flows.
    pub fn lines_for(flows: u32) -> usize {
        let (lines, flows_in_them) = LINES;
        (flows as usize * lines)
            .div_ceil(flows_in_them)
            .max(LINES_MIN)
    }

    /// An empty table for `flows` flows that forgets flows idle for `idle`. All its
    /// memory is there; `pause` is called now and then while it is made.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(flows: u32, idle: Micros, pause: impl FnMut()) -> io::Result<FlowTable> {
        let lines = Pages::<Line>::zeroed(FlowTable::lines_for(flows), pause)?;
        // A touched entry has age 0; AGE_MAX rounds make it oldest, the next forgets it.
        let round = idle.0 / u64::from(AGE_MAX);
        Ok(FlowTable {
            count: u32::try_from(lines.len()).map_err(io::Error::other)?,
            // Rounded up: a flow may be remembered for longer, not forgotten earlier.
            sweep_every: (round * SWEEP_LINES as u64).div_ceil(lines.len() as u64),
            lines,
            vectors: Vectors::widest(),
            len: 0,
            guests: 0,
            hand: 0,
            swept: 0,
            sweep_at: Micros(0),
        })
    }

    /// Uses these vectors, which are [available](Vectors::available).
    ///
    /// # Panics
    /// When this processor has them not.
    pub fn use_vectors(&mut self, vectors: Vectors) {
        assert!(Vectors::available().contains(&vectors));
        self.vectors = vectors;
    }

    /// The vectors that it uses.
    #[inline]
    pub fn vectors(&self) -> Vectors {
        self.vectors
    }

    /// Entries that are not empty.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without any entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries in all lines, empty ones too.
    pub fn slots(&self) -> usize {
        self.lines.len() * WAYS
    }

    /// Bytes of its lines.
    pub fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    /// Where its lines are: what kind of pages they got can be seen there.
    pub fn address(&self) -> usize {
        self.lines.as_ptr().addr()
    }

    /// The number of lines.
    pub(super) fn lines(&self) -> u32 {
        self.count
    }

    /// The line of a mixed hash, among so many.
    #[inline(always)]
    pub(super) fn line_of(mixed: u32, count: u32) -> u32 {
        #[allow(clippy::cast_possible_truncation, reason = "below the number of lines")]
        let line = ((u64::from(mixed) * u64::from(count)) >> 32) as u32;
        line
    }

    /// The key of an RSS hash.
    #[inline(always)]
    pub fn key(&self, hash: u32) -> Key {
        let m = mix(hash);
        Key {
            line: FlowTable::line_of(m, self.count),
            want: Wanted::new(m & ((1 << TAG_BITS) - 1)),
        }
    }

    /// The entry of a key.
    ///
    /// # Safety
    /// The processor has the instruction set `I`: [`Self::vectors`] says so.
    #[inline(always)]
    pub(super) unsafe fn find<I: Isa>(&self, key: Key) -> Option<Place> {
        // SAFETY: the caller's promise.
        let found = unsafe { I::find(&self.lines[key.line as usize], key.want) };
        if found != 0 {
            return Some(Place::new(key.line, I::first(found)));
        }
        self.find_guest(key)
    }

    /// The entry of a key in its second line.
    #[inline(always)]
    fn find_guest(&self, key: Key) -> Option<Place> {
        if self.guests == 0 || !self.lines[key.line as usize].was_full() {
            return None;
        }
        self.find_in_second_line(key)
    }

    #[cold]
    fn find_in_second_line(&self, key: Key) -> Option<Place> {
        let number = self.second_line(key);
        let line = &self.lines[number as usize];
        // SAFETY: every processor has the baseline.
        let found = unsafe { Baseline::find(line, key.want.as_guest()) };
        (found != 0).then(|| Place::new(number, Baseline::first(found)))
    }

    /// The line in which a key is a guest when its own is full. Its tag gives the
    /// distance, so that the two of them tell guests of one line apart.
    fn second_line(&self, key: Key) -> u32 {
        let line = key.line + 1 + key.want.tag() % GUEST_RANGE;
        if line < self.count {
            line
        } else {
            line - self.count
        }
    }

    /// Adds an entry for a key that has none. If its line is full the oldest entry goes
    /// that is not `busy`, or the oldest of all if all are.
    ///
    /// # Safety
    /// The processor has the instruction set `I`: [`Self::vectors`] says so.
    #[inline(always)]
    pub(super) unsafe fn insert<I: Isa>(
        &mut self,
        key: Key,
        core: CoreId,
        busy: impl Fn(Place) -> bool,
    ) -> Inserted {
        let line = &mut self.lines[key.line as usize];
        // SAFETY: the caller's promise.
        let empty = unsafe { I::empty(line) };
        let entry = key.want.entry(number(core));
        if empty != 0 {
            let way = I::first(empty);
            line.set(way as usize, entry);
            self.len += 1;
            return Inserted {
                place: Place::new(key.line, way),
                evicted: None,
            };
        }
        self.insert_into_full(key, entry, busy)
    }

    /// For a full line. Apart from [`insert`](Self::insert), whose code is in every loop.
    #[cold]
    fn insert_into_full(
        &mut self,
        key: Key,
        entry: Entry,
        busy: impl Fn(Place) -> bool,
    ) -> Inserted {
        let second = self.second_line(key);
        let line = &mut self.lines[second as usize];
        // SAFETY: every processor has the baseline.
        let empty = unsafe { Baseline::empty(line) };
        if empty != 0 {
            let way = Baseline::first(empty);
            line.set(way as usize, key.want.as_guest().entry(entry.core()));
            self.len += 1;
            self.guests += 1;
            return Inserted {
                place: Place::new(second, way),
                evicted: None,
            };
        }
        self.replace_oldest(key.line, entry, busy)
    }

    fn replace_oldest(
        &mut self,
        number: u32,
        entry: Entry,
        busy: impl Fn(Place) -> bool,
    ) -> Inserted {
        self.hand = self.hand.wrapping_add(1);
        let line = &mut self.lines[number as usize];
        let ways = (0..LINE).map(|i| self.hand.wrapping_add(i) % LINE);
        let oldest = ways.max_by_key(|&way| {
            (
                !busy(Place::new(number, way)),
                line.entry(way as usize).age(),
            )
        });
        let way = oldest.expect("a line has entries");
        let old = line.entry(way as usize);
        for way in 0..WAYS {
            // The greatest age is left to the sweep: only it knows time.
            line.set(way, line.entry(way).older(AGE_MAX - 1));
        }
        line.set(way as usize, entry);
        self.guests -= usize::from(old.is_guest());
        Inserted {
            place: Place::new(number, way),
            evicted: Some(CoreId(old.core().into())),
        }
    }

    #[inline(always)]
    fn entry(&self, place: Place) -> Entry {
        self.lines[place.line()].entry(place.way())
    }

    /// The home core in an entry.
    #[inline(always)]
    pub fn core(&self, place: Place) -> CoreId {
        CoreId(self.entry(place).core().into())
    }

    /// Changes the home core in an entry, which is young again.
    #[inline(always)]
    pub fn set_core(&mut self, place: Place, core: CoreId) {
        let entry = self.entry(place).fresh().with_core(number(core));
        self.lines[place.line()].set(place.way(), entry);
    }

    /// Gives the flow of a hash another home core. False if it has no entry.
    pub fn set_home(&mut self, hash: u32, core: CoreId) -> bool {
        // SAFETY: every processor has the baseline.
        let place = unsafe { self.find::<Baseline>(self.key(hash)) };
        if let Some(place) = place {
            self.set_core(place, core);
        }
        place.is_some()
    }

    /// A packet of the flow came: its entry is young again. Writes only if it was not.
    #[inline(always)]
    pub fn touch(&mut self, place: Place) {
        let entry = self.entry(place);
        if entry.age() != 0 {
            self.lines[place.line()].set(place.way(), entry.fresh());
        }
    }

    /// Lets the flows of a few lines grow older, if that is due; `forgotten` hears the
    /// home core of each that was idle for too long.
    #[inline]
    pub fn sweep(&mut self, now: Micros, forgotten: impl FnMut(CoreId)) {
        if now >= self.sweep_at {
            self.sweep_at = Micros(now.0 + self.sweep_every);
            self.sweep_lines(forgotten);
        }
    }

    fn sweep_lines(&mut self, mut forgotten: impl FnMut(CoreId)) {
        for _ in 0..SWEEP_LINES {
            let line = &mut self.lines[self.swept];
            for way in 0..WAYS {
                let entry = line.entry(way);
                if entry.is_empty() {
                    if self.guests == 0 {
                        line.set(way, Entry::NEW);
                    }
                } else if entry.age() == AGE_MAX {
                    line.set(way, Entry::FREED);
                    self.len -= 1;
                    self.guests -= usize::from(entry.is_guest());
                    forgotten(CoreId(entry.core().into()));
                } else {
                    line.set(way, entry.older(AGE_MAX));
                }
            }
            self.swept = (self.swept + 1) % self.lines.len();
        }
        // For the next call.
        crate::hint::prefetch_read(&raw const self.lines[self.swept]);
    }
}

/// A core's number as entries hold it. Cores are below 256 (`NCPU`).
#[inline(always)]
fn number(core: CoreId) -> u8 {
    debug_assert!(core.0 < 256);
    #[allow(clippy::cast_possible_truncation, reason = "below 256")]
    let number = core.0 as u8;
    number
}
