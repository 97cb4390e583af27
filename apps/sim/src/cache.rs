//! Where a flow's state is, and how long a core waits for it.
//!
//! # Model
//!
//! Each physical core has private caches of one capacity, each socket an L3. Both have a
//! clock that counts the lines brought in. What was touched when the clock stood at `t` is
//! still there while fewer lines than the capacity were brought in since: what an LRU cache
//! does, by the stack distance (hits bring in nothing, so lines that hit again and again count
//! once, at their latest place). A flow's state moves as one object; only its last toucher is
//! remembered:
//!
//! | last touched by | and there | found |
//! |---|---|---|
//! | this physical core | still in the private caches | private |
//! | another of the socket | still private there | written lines there (dirty), the others in the L3 |
//! | another of the socket, or this one | not private, in the L3 | L3 |
//! | a core of another socket | in its private caches or its L3 | far |
//! | anyone | pushed out everywhere | memory |
//!
//! A touch by another core leaves nothing behind where it was (written lines are invalidated;
//! that clean ones may stay is neglected, which makes flows that are only read a little dearer
//! to move than they are). An L3 holds what its cores touched, also what they only hit.
//!
//! The wait is for one line, and a little for each further one: several are under way at once.

use calisto::ids::CoreId;

use crate::machine::{Cache as Costs, Machine};
use crate::report::Touches;

const LINE: u64 = 64;

/// Where a flow's state was touched last. Clocks count lines and wrap: an age of 256 GiB
/// looks young again.
/// By default, which is all zero, nobody touched it yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    private: u32,
    l3: u32,
    /// The core's number, and one.
    toucher: u16,
}

/// Which lines are touched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footprint {
    lines: u32,
    write_share: f64,
}

impl Footprint {
    /// So many bytes, of which a share is written.
    pub(crate) fn new(bytes: u32, write_share: f64) -> Footprint {
        Footprint {
            lines: bytes.div_ceil(64),
            write_share,
        }
    }
}

/// All caches of the machine.
#[derive(Debug)]
pub(crate) struct Caches {
    costs: Costs,
    private_lines: u32,
    l3_lines: u32,
    private: Vec<u32>,
    l3: Vec<u32>,
    physical_of: Vec<u16>,
    socket_of: Vec<u16>,
}

/// The wait for `lines` lines.
fn wait(lines: f64, first: f64, further: f64) -> f64 {
    if lines <= 0.0 {
        0.0
    } else if lines < 1.0 {
        // Part of a line: a touch that is not always made.
        lines * first
    } else {
        first + (lines - 1.0) * further
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "clocks wrap; capacities are cut"
)]
fn lines(bytes: u64) -> u32 {
    (bytes / LINE).min(u32::MAX.into()) as u32
}

impl Caches {
    /// Empty.
    pub(crate) fn new(machine: &Machine) -> Caches {
        let t = machine.topology;
        let cores = t.physical * t.threads;
        let by_core =
            |f: fn(&Machine, CoreId) -> u16| (0..cores).map(|c| f(machine, CoreId(c))).collect();
        Caches {
            costs: machine.cache,
            private_lines: lines(machine.cache.private_bytes),
            l3_lines: lines(machine.cache.l3_bytes),
            private: vec![0; t.physical.into()],
            l3: vec![0; t.sockets.into()],
            physical_of: by_core(Machine::physical),
            socket_of: by_core(Machine::socket),
        }
    }

    /// `core` brings in other bytes, which push out what lies there. They come from the L3.
    pub(crate) fn pollute(&mut self, core: CoreId, bytes: u64) {
        let clock = &mut self.private[usize::from(self.physical_of[core.index()])];
        *clock = clock.wrapping_add(lines(bytes));
    }

    /// The time that a transfer of so many lines takes that another core wrote.
    pub(crate) fn dirty_ns(&self, lines: u32) -> f64 {
        wait(lines.into(), self.costs.dirty_ns, self.costs.dirty_line_ns)
    }

    /// The wait for one line at random of an object of so many bytes that the core uses all the
    /// time and shares with nobody.
    pub(crate) fn own_line_ns(&self, bytes: u64) -> f64 {
        if bytes <= self.costs.private_bytes {
            self.costs.private_ns
        } else if bytes <= self.costs.l3_bytes {
            self.costs.l3_ns
        } else {
            self.costs.memory_ns
        }
    }

    /// `core` touches a flow's state; the time that takes.
    pub(crate) fn touch(
        &mut self,
        core: CoreId,
        place: &mut Place,
        what: Footprint,
        counts: &mut Touches,
    ) -> f64 {
        if what.lines == 0 {
            return 0.0;
        }
        let here = self.physical_of[core.index()];
        let socket = self.socket_of[core.index()];
        let n = f64::from(what.lines);
        let c = &self.costs;
        let (brought, from_memory, ns) = if place.toucher == 0 {
            counts.first += 1;
            (true, true, wait(n, c.memory_ns, c.memory_line_ns))
        } else {
            let last = usize::from(place.toucher - 1);
            let last_socket = self.socket_of[last];
            let young = |clock: u32, then: u32, room: u32| clock.wrapping_sub(then) < room;
            let private = young(
                self.private[usize::from(self.physical_of[last])],
                place.private,
                self.private_lines,
            );
            let in_l3 = young(self.l3[usize::from(last_socket)], place.l3, self.l3_lines);
            if private && self.physical_of[last] == here {
                counts.private += 1;
                (false, false, wait(n, c.private_ns, c.private_line_ns))
            } else if last_socket != socket && (private || in_l3) {
                counts.far += 1;
                (true, true, wait(n, c.far_ns, c.far_line_ns))
            } else if private {
                counts.other_core += 1;
                let dirty = n * what.write_share;
                let clean = wait(n - dirty, c.l3_ns, c.l3_line_ns);
                let ns = wait(dirty, c.dirty_ns, c.dirty_line_ns) + clean;
                (true, false, ns)
            } else if in_l3 {
                counts.l3 += 1;
                (true, false, wait(n, c.l3_ns, c.l3_line_ns))
            } else {
                counts.memory += 1;
                (true, true, wait(n, c.memory_ns, c.memory_line_ns))
            }
        };
        let private = &mut self.private[usize::from(here)];
        if brought {
            *private = private.wrapping_add(what.lines);
        }
        let l3 = &mut self.l3[usize::from(socket)];
        if from_memory {
            *l3 = l3.wrapping_add(what.lines);
        }
        *place = Place {
            private: *private,
            l3: *l3,
            toucher: core.0 + 1,
        };
        ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: u32 = 4 * 64;

    struct Bed {
        caches: Caches,
        costs: Costs,
        counts: Touches,
    }

    impl Bed {
        fn new(name: &str) -> Bed {
            let machine = Machine::named(name).unwrap();
            Bed {
                caches: Caches::new(&machine),
                costs: machine.cache,
                counts: Touches::default(),
            }
        }

        fn touch(&mut self, core: u16, place: &mut Place, write_share: f64) -> f64 {
            let what = Footprint::new(FOUR, write_share);
            self.caches
                .touch(CoreId(core), place, what, &mut self.counts)
        }
    }

    #[test]
    fn a_second_touch_is_private_also_for_the_sibling() {
        let mut bed = Bed::new("m510");
        let (c, mut flow) = (bed.costs, Place::default());
        assert_eq!(
            bed.touch(1, &mut flow, 0.5),
            c.memory_ns + 3.0 * c.memory_line_ns
        );
        assert_eq!(
            bed.touch(1, &mut flow, 0.5),
            c.private_ns + 3.0 * c.private_line_ns
        );
        // Cores 1 and 9 are two threads of one.
        assert_eq!(
            bed.touch(9, &mut flow, 0.5),
            c.private_ns + 3.0 * c.private_line_ns
        );
        assert_eq!((bed.counts.first, bed.counts.private), (1, 2));
    }

    #[test]
    fn another_core_waits_for_the_written_lines_of_the_last() {
        let mut bed = Bed::new("m510");
        let (c, mut flow) = (bed.costs, Place::default());
        bed.touch(1, &mut flow, 1.0);
        assert_eq!(
            bed.touch(2, &mut flow, 1.0),
            c.dirty_ns + 3.0 * c.dirty_line_ns
        );
        // Back again: it left nothing behind.
        assert_eq!(bed.touch(1, &mut flow, 0.0), c.l3_ns + 3.0 * c.l3_line_ns);
        assert_eq!(
            bed.touch(2, &mut flow, 0.5),
            c.dirty_ns + c.dirty_line_ns + c.l3_ns + c.l3_line_ns
        );
        assert_eq!(bed.counts.other_core, 3);
    }

    #[test]
    fn as_many_bytes_as_there_is_room_for_push_it_out_and_one_line_less_does_not() {
        let mut bed = Bed::new("m510");
        let mut flow = Place::default();
        let room = bed.costs.private_bytes;
        bed.touch(1, &mut flow, 0.5);
        bed.caches.pollute(CoreId(1), room - LINE);
        bed.touch(1, &mut flow, 0.5);
        assert_eq!(bed.counts.private, 1);
        // The other thread's bytes count as well.
        bed.caches.pollute(CoreId(9), room - LINE);
        bed.caches.pollute(CoreId(1), LINE);
        bed.touch(1, &mut flow, 0.5);
        assert_eq!((bed.counts.private, bed.counts.l3), (1, 1));
        // Another core's do not.
        bed.caches.pollute(CoreId(2), 10 * room);
        bed.touch(1, &mut flow, 0.5);
        assert_eq!(bed.counts.private, 2);
    }

    #[test]
    fn more_flows_than_the_l3_holds_are_in_memory() {
        let mut bed = Bed::new("m510");
        let in_l3 = usize::try_from(bed.costs.l3_bytes / u64::from(FOUR)).unwrap();
        for (flows, memory) in [(in_l3, 0), (in_l3 + 1, in_l3 + 1)] {
            let mut places = vec![Place::default(); flows];
            for place in &mut places {
                bed.touch(1, place, 0.5);
            }
            bed.counts = Touches::default();
            for place in &mut places {
                bed.touch(1, place, 0.5);
            }
            assert_eq!(bed.counts.memory, memory as u64, "{flows} flows");
            assert_eq!(bed.counts.l3 + bed.counts.memory, flows as u64);
        }
    }

    #[test]
    fn another_socket_is_far() {
        let mut bed = Bed::new("server64");
        let (c, mut flow) = (bed.costs, Place::default());
        bed.touch(1, &mut flow, 0.5);
        assert_eq!(
            bed.touch(40, &mut flow, 0.5),
            c.far_ns + 3.0 * c.far_line_ns
        );
        assert_eq!(bed.counts.far, 1);
        // In the far L3 alone is far too.
        bed.caches.pollute(CoreId(40), c.private_bytes);
        bed.touch(1, &mut flow, 0.5);
        assert_eq!(bed.counts.far, 2);
    }
}
