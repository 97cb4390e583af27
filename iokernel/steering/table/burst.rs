//! Lookups of whole bursts: all keys first, then the lines, eight at a time.
//!
//! Apart, these are faster: keys are made by vector instructions, a line is asked for
//! when those of three groups before it are read, and of a group's lines the entries
//! are found together. That settles flows that are there and young; the burst's others
//! follow one by one, in their order.
//!
//! A hash that comes alone takes a shorter way through the same table.

use super::line::{Line, Wanted};
use super::vectors::{Apart, Baseline, GROUP, Isa};
#[cfg(target_arch = "x86_64")]
use super::vectors::{Avx2, Avx512};
use super::{FlowTable, Key, Vectors};
use crate::ids::CoreId;

/// Keys that are made before the first is looked up.
const BURST: usize = 64;
/// How far ahead lines are asked for: more than a core can wait for at once is too far.
const AHEAD: usize = 3 * GROUP;

/// Keys of one burst. Behind the last are keys of lines that there are, whatever else
/// they are: reading those does not hurt.
struct Keys {
    lines: [u32; BURST + AHEAD],
    wants: [Wanted; BURST],
    /// What was found.
    apart: [Apart; BURST],
}

/// What a burst is looked up for. Not closures: one that is not inlined is compiled
/// without the vectors of the function that it stands in, at ten times the cost.
trait Purpose: Copy {
    type Out;

    /// Of a flow that is there, and young.
    fn plain(core: CoreId) -> Self::Out;

    /// Of any other, in the order of the hashes.
    ///
    /// # Safety
    /// The processor has `I`, and the key is of this table.
    unsafe fn other<I: Isa>(self, table: &mut FlowTable, key: Key) -> Self::Out;
}

#[derive(Clone, Copy)]
struct Lookup;

impl Purpose for Lookup {
    type Out = Option<CoreId>;

    #[inline(always)]
    fn plain(core: CoreId) -> Option<CoreId> {
        Some(core)
    }

    #[inline(always)]
    unsafe fn other<I: Isa>(self, table: &mut FlowTable, key: Key) -> Option<CoreId> {
        // SAFETY: the caller's promise.
        unsafe { table.hit::<I>(key) }
    }
}

/// With the home core of flows that have none.
#[derive(Clone, Copy)]
struct LookupOrInsert(CoreId);

impl Purpose for LookupOrInsert {
    type Out = CoreId;

    #[inline(always)]
    fn plain(core: CoreId) -> CoreId {
        core
    }

    #[inline(always)]
    unsafe fn other<I: Isa>(self, table: &mut FlowTable, key: Key) -> CoreId {
        // SAFETY: the caller's promise.
        unsafe { table.hit_or_insert::<I>(key, self.0) }
    }
}

/// What was found for a group of hashes, of which the lines have been asked for.
#[derive(Debug)]
pub(in crate::steering) struct Group {
    pub(in crate::steering) keys: [Key; GROUP],
    apart: [Apart; GROUP],
}

impl Group {
    /// True if each flow's entry is there, and young.
    #[inline(always)]
    pub(in crate::steering) fn is_plain(&self) -> bool {
        self.apart.iter().fold(0, |all, a| all | a.flaws()) == 0
    }

    /// The home cores, if [plain](Self::is_plain).
    #[inline(always)]
    pub(in crate::steering) fn cores(&self) -> [CoreId; GROUP] {
        self.apart.map(Apart::core)
    }

    /// The home core of the `i`-th flow, if its entry is there, and young.
    #[inline(always)]
    pub(in crate::steering) fn core(&self, i: usize) -> Option<CoreId> {
        let apart = self.apart[i];
        (apart.flaws() == 0).then(|| apart.core())
    }
}

impl FlowTable {
    /// Looks for the entries of a group. Changes nothing.
    ///
    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    pub(in crate::steering) unsafe fn group<I: Isa>(&self, hashes: &[u32; GROUP]) -> Group {
        let keys = hashes.map(|hash| self.key(hash));
        let wants = keys.map(|key| key.want);
        // SAFETY: lines of this table, by key().
        let lines = keys.map(|key| unsafe { self.line(key.line) });
        // SAFETY: the caller's promise.
        let apart = unsafe { I::nearest(lines, &wants) };
        Group { keys, apart }
    }

    /// The home core of each flow, for a burst: lines are asked for before they are read.
    ///
    /// # Panics
    /// If `cores` is shorter than `hashes`.
    #[inline]
    pub fn lookup_burst(&mut self, hashes: &[u32], cores: &mut [Option<CoreId>]) {
        if let (&[hash], [core, ..]) = (hashes, &mut *cores) {
            *core = self.lookup_one(hash);
            return;
        }
        match self.vectors {
            // SAFETY: every processor has the baseline.
            Vectors::Baseline => unsafe { self.lookup_baseline(hashes, cores) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: use_vectors() and widest() give available vectors only.
            Vectors::Avx2 => unsafe { self.lookup_avx2(hashes, cores) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: use_vectors() and widest() give available vectors only.
            Vectors::Avx512 => unsafe { self.lookup_avx512(hashes, cores) },
        }
    }

    /// The home core of a flow; `core` for one that had none before. For a burst.
    ///
    /// # Panics
    /// If `cores` is shorter than `hashes`.
    #[inline]
    pub fn lookup_or_insert_burst(&mut self, hashes: &[u32], core: CoreId, cores: &mut [CoreId]) {
        if let (&[hash], [out, ..]) = (hashes, &mut *cores) {
            *out = self.upsert_one(hash, core);
            return;
        }
        match self.vectors {
            // SAFETY: every processor has the baseline.
            Vectors::Baseline => unsafe { self.upsert_baseline(hashes, core, cores) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: use_vectors() and widest() give available vectors only.
            Vectors::Avx2 => unsafe { self.upsert_avx2(hashes, core, cores) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: use_vectors() and widest() give available vectors only.
            Vectors::Avx512 => unsafe { self.upsert_avx512(hashes, core, cores) },
        }
    }

    /// One alone is compared with the baseline's vectors, whatever there is: code for
    /// wider ones cannot be inlined here, and the call costs more than they save.
    #[inline]
    fn lookup_one(&mut self, hash: u32) -> Option<CoreId> {
        let key = self.key(hash);
        // SAFETY: every processor has the baseline, and key() makes keys of this table.
        unsafe { self.hit::<Baseline>(key) }
    }

    #[inline]
    fn upsert_one(&mut self, hash: u32, new: CoreId) -> CoreId {
        let key = self.key(hash);
        // SAFETY: as for lookup_one().
        unsafe { self.hit_or_insert::<Baseline>(key, new) }
    }

    #[inline(never)]
    unsafe fn lookup_baseline(&mut self, hashes: &[u32], cores: &mut [Option<CoreId>]) {
        // SAFETY: every processor has the baseline.
        unsafe { self.lookup::<Baseline>(hashes, cores) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn lookup_avx2(&mut self, hashes: &[u32], cores: &mut [Option<CoreId>]) {
        // SAFETY: the feature is enabled here.
        unsafe { self.lookup::<Avx2>(hashes, cores) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn lookup_avx512(&mut self, hashes: &[u32], cores: &mut [Option<CoreId>]) {
        // SAFETY: the feature is enabled here.
        unsafe { self.lookup::<Avx512>(hashes, cores) }
    }

    #[inline(never)]
    unsafe fn upsert_baseline(&mut self, hashes: &[u32], core: CoreId, cores: &mut [CoreId]) {
        // SAFETY: every processor has the baseline.
        unsafe { self.upsert::<Baseline>(hashes, core, cores) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn upsert_avx2(&mut self, hashes: &[u32], core: CoreId, cores: &mut [CoreId]) {
        // SAFETY: the feature is enabled here.
        unsafe { self.upsert::<Avx2>(hashes, core, cores) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn upsert_avx512(&mut self, hashes: &[u32], core: CoreId, cores: &mut [CoreId]) {
        // SAFETY: the feature is enabled here.
        unsafe { self.upsert::<Avx512>(hashes, core, cores) }
    }

    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn lookup<I: Isa>(&mut self, hashes: &[u32], cores: &mut [Option<CoreId>]) {
        // SAFETY: the caller's promise.
        unsafe { self.burst::<I, _>(hashes, cores, Lookup) }
    }

    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn upsert<I: Isa>(&mut self, hashes: &[u32], new: CoreId, cores: &mut [CoreId]) {
        // SAFETY: the caller's promise.
        unsafe { self.burst::<I, _>(hashes, cores, LookupOrInsert(new)) }
    }

    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn burst<I: Isa, P: Purpose>(&mut self, hashes: &[u32], out: &mut [P::Out], of: P) {
        assert!(out.len() >= hashes.len());
        let mut keys = Keys {
            lines: [0; BURST + AHEAD],
            wants: [Wanted::new(0); BURST],
            apart: [Apart::FAR; BURST],
        };
        for (hashes, out) in hashes.chunks(BURST).zip(out.chunks_mut(BURST)) {
            let out = &mut out[..hashes.len()];
            let rooms = keys.lines.iter_mut().zip(&mut keys.wants);
            for (&hash, (line, want)) in hashes.iter().zip(rooms) {
                let key = self.key(hash);
                (*line, *want) = (key.line, key.want);
            }
            for &line in &keys.lines[..AHEAD] {
                self.ask_for(line);
            }
            let (lines, wants) = (keys.lines.as_chunks().0, keys.wants.as_chunks().0);
            let ahead = keys.lines[AHEAD..].as_chunks::<GROUP>().0;
            let apart = keys.apart.as_chunks_mut().0;
            let groups = lines.iter().zip(wants).zip(ahead).zip(apart);
            for (((lines, wants), ahead), apart) in groups.take(hashes.len().div_ceil(GROUP)) {
                for &line in ahead {
                    self.ask_for(line);
                }
                let lines: &[u32; GROUP] = lines;
                // SAFETY: lines of this table, by key(), or line 0.
                let lines = lines.map(|line| unsafe { self.line(line) });
                // SAFETY: the caller's promise.
                *apart = unsafe { I::nearest(lines, wants) };
            }
            // As if all were plain: without a question in between it is done in vectors.
            let mut flaws = 0;
            for (out, apart) in out.iter_mut().zip(&keys.apart) {
                *out = P::plain(apart.core());
                flaws |= apart.flaws();
            }
            if flaws == 0 {
                continue;
            }
            for (i, out) in out.iter_mut().enumerate() {
                if keys.apart[i].flaws() != 0 {
                    // To be looked for again: it may be the flow of an earlier hash.
                    let (line, want) = (keys.lines[i], keys.wants[i]);
                    // SAFETY: the caller's promise; the key is of this table.
                    *out = unsafe { of.other::<I>(self, Key { line, want }) };
                }
            }
        }
    }

    #[inline(always)]
    fn ask_for(&self, line: u32) {
        crate::hint::prefetch_read(self.lines.as_ptr().wrapping_add(line as usize));
    }

    /// # Safety
    /// It is below the number of lines.
    #[inline(always)]
    unsafe fn line(&self, line: u32) -> &Line {
        debug_assert!((line as usize) < self.lines.len());
        // SAFETY: the caller's promise.
        unsafe { self.lines.get_unchecked(line as usize) }
    }

    /// The home core in a key's entry, which is young again.
    ///
    /// # Safety
    /// The processor has `I`, and the key is of this table.
    #[inline(always)]
    unsafe fn hit<I: Isa>(&mut self, key: Key) -> Option<CoreId> {
        debug_assert!((key.line as usize) < self.lines.len());
        // SAFETY: the caller's promise.
        let line = unsafe { self.lines.get_unchecked_mut(key.line as usize) };
        // SAFETY: the caller's promise.
        let found = unsafe { I::find(line, key.want) };
        if found == 0 {
            return self.find_guest(key).map(|place| {
                self.touch(place);
                self.core(place)
            });
        }
        let way = I::first(found) as usize;
        let entry = line.entry(way);
        if entry.age() != 0 {
            line.set(way, entry.fresh());
        }
        Some(CoreId(entry.core().into()))
    }

    /// # Safety
    /// The processor has `I`, and the key is of this table.
    #[inline(always)]
    unsafe fn hit_or_insert<I: Isa>(&mut self, key: Key, new: CoreId) -> CoreId {
        // SAFETY: the caller's promise.
        if let Some(core) = unsafe { self.hit::<I>(key) } {
            return core;
        }
        // SAFETY: the caller's promise.
        unsafe { self.insert::<I>(key, new, |_| false) };
        new
    }
}
