//! Lookups of whole bursts: all keys first, then the lines, eight at a time.
//!
//! Apart, these are faster: keys are made by vector instructions, a line is asked for
//! when those of three groups before it are read, and of a group's lines the entries
//! are found together. What is found plainly is done then: a flow that is there and
//! young. The others, few in most bursts, follow one by one, in their order.
//!
//! A hash that comes alone takes a shorter way through the same table.

use super::line::{Apart, Baseline, GROUP, Isa, Line, Wanted};
#[cfg(target_arch = "x86_64")]
use super::line::{Avx2, Avx512};
use super::{FlowTable, Key, Vectors};
use crate::ids::CoreId;

/// Keys that are made before the first is looked up.
const BURST: usize = 64;
/// How far ahead lines are asked for: more than a core can wait for at once is too far.
const AHEAD: usize = 3 * GROUP;

/// Keys of one burst. Behind the last one are keys of line 0, which does not hurt.
struct Keys {
    lines: [u32; BURST + AHEAD],
    wants: [Wanted; BURST],
    /// What was found.
    apart: [Apart; BURST],
}

impl Keys {
    #[inline(always)]
    fn key(&self, i: usize) -> Key {
        Key {
            line: self.lines[i],
            want: self.wants[i],
        }
    }
}

impl FlowTable {
    /// The home core of each flow, for a burst: the lines are all asked for first.
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
        assert!(cores.len() >= hashes.len());
        for (hashes, cores) in hashes.chunks(BURST).zip(cores.chunks_mut(BURST)) {
            let cores = &mut cores[..hashes.len()];
            // SAFETY: the caller's promise.
            let keys = unsafe { self.look::<I>(hashes) };
            let mut flaws = 0;
            for (core, apart) in cores.iter_mut().zip(&keys.apart) {
                *core = Some(CoreId(apart.core().into()));
                flaws |= apart.flaws();
            }
            if flaws != 0 {
                for (i, core) in cores.iter_mut().enumerate() {
                    if keys.apart[i].flaws() != 0 {
                        // SAFETY: the caller's promise; the key is of this table.
                        *core = unsafe { self.hit::<I>(keys.key(i)) };
                    }
                }
            }
        }
    }

    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn upsert<I: Isa>(&mut self, hashes: &[u32], new: CoreId, cores: &mut [CoreId]) {
        assert!(cores.len() >= hashes.len());
        for (hashes, cores) in hashes.chunks(BURST).zip(cores.chunks_mut(BURST)) {
            let cores = &mut cores[..hashes.len()];
            // SAFETY: the caller's promise.
            let keys = unsafe { self.look::<I>(hashes) };
            let mut flaws = 0;
            for (core, apart) in cores.iter_mut().zip(&keys.apart) {
                *core = CoreId(apart.core().into());
                flaws |= apart.flaws();
            }
            if flaws != 0 {
                for (i, core) in cores.iter_mut().enumerate() {
                    if keys.apart[i].flaws() != 0 {
                        // Looked for again: the same flow may have come earlier in the burst.
                        // SAFETY: the caller's promise; the key is of this table.
                        *core = unsafe { self.hit_or_insert::<I>(keys.key(i), new) };
                    }
                }
            }
        }
    }

    /// Looks for the entries of up to `BURST` hashes. Changes nothing.
    ///
    /// # Safety
    /// The processor has `I`.
    #[inline(always)]
    unsafe fn look<I: Isa>(&self, hashes: &[u32]) -> Keys {
        let mut keys = Keys {
            lines: [0; BURST + AHEAD],
            wants: [Wanted::new(0); BURST],
            apart: [Apart::FAR; BURST],
        };
        let rooms = keys.lines.iter_mut().zip(&mut keys.wants);
        for (&hash, (line, want)) in hashes.iter().zip(rooms) {
            let key = self.key(hash);
            (*line, *want) = (key.line, key.want);
        }
        for &line in &keys.lines[..AHEAD] {
            self.ask_for(line);
        }
        let groups = hashes.len().div_ceil(GROUP);
        let (lines, ahead) = (keys.lines.as_chunks().0, keys.lines[AHEAD..].as_chunks().0);
        let wants = keys.wants.as_chunks().0;
        let apart = keys.apart.as_chunks_mut().0;
        for (((lines, ahead), wants), apart) in
            lines.iter().zip(ahead).zip(wants).zip(apart).take(groups)
        {
            let ahead: &[u32; GROUP] = ahead;
            for &line in ahead {
                self.ask_for(line);
            }
            let lines: &[u32; GROUP] = lines;
            // SAFETY: lines of this table, by key(), or the first.
            let lines = lines.map(|line| unsafe { self.line(line) });
            // SAFETY: the caller's promise.
            *apart = unsafe { I::nearest(lines, wants) };
        }
        keys
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
            return None;
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
