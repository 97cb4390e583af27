//! Has a kthread taken the last packet of a flow?
//!
//! A [`Mark`] says where a flow's newest packet was queued: on which kthread's rxq, and
//! at which count of messages sent there. It is pending until the kthread has consumed
//! as many. Counts are kept to 24 bits: no ring has so many slots, so the packets that
//! are under way are told apart; a mark older than 16 million messages may by chance
//! look pending once, which delays a move and does no harm.
//!
//! A packet that found its rxq full was marked and never sent: its mark is one ahead of
//! the count. Earlier packets of the flow may lie in that rxq, so until it is empty, or
//! the next message has taken the mark's place, the flow counts as pending.
//!
//! ```text
//!   | 31 .. kthread .. 24 | 23 .. count after the packet .. 0 |     0: no packet yet
//! ```
//!
//! As in Linux's RFS (`rps_dev_flow.last_qtail`).

use std::io;

use crate::ids::KthreadIdx;
use crate::pages::Pages;

/// How far the rxqs of a proc's kthreads have come. Counts wrap.
pub trait Rxqs {
    /// Messages ever sent to the kthread; our own count.
    fn sent(&self, kthread: KthreadIdx) -> u32;
    /// Of those, how many it has consumed, by its word as last believed.
    fn consumed(&mut self, kthread: KthreadIdx) -> u32;
}

const COUNT: u32 = (1 << 24) - 1;

/// Where a flow's newest packet was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark(u32);

impl Mark {
    /// The next message to `kthread` is a packet of the flow.
    #[inline]
    pub(super) fn next_to(kthread: KthreadIdx, rxqs: &impl Rxqs) -> Mark {
        Mark::at(kthread, rxqs.sent(kthread).wrapping_add(1))
    }

    /// The last message sent to `kthread` was a packet of the flow.
    #[inline]
    pub(super) fn last_to(kthread: KthreadIdx, rxqs: &impl Rxqs) -> Mark {
        Mark::at(kthread, rxqs.sent(kthread))
    }

    #[inline]
    fn at(kthread: KthreadIdx, count: u32) -> Mark {
        Mark(u32::from(kthread.0) << 24 | count & COUNT)
    }

    /// The kthread that got the packet.
    #[inline]
    pub(super) fn kthread(self) -> KthreadIdx {
        #[allow(clippy::cast_possible_truncation, reason = "8 bits")]
        KthreadIdx((self.0 >> 24) as u16)
    }

    /// True if the kthread has not taken the packet.
    pub(super) fn is_pending(self, rxqs: &mut impl Rxqs) -> bool {
        let kthread = self.kthread();
        let consumed = rxqs.consumed(kthread);
        let under_way = rxqs.sent(kthread).wrapping_sub(consumed);
        let ahead = (self.0 & COUNT).wrapping_sub(consumed) & COUNT;
        ahead != 0 && (ahead <= under_way || under_way > 0 && ahead == under_way + 1)
    }
}

/// The marks of a table's places, where they are kept: with the order guard.
#[derive(Debug)]
pub(super) struct Marks(Option<Pages<u32>>);

impl Marks {
    /// For so many places.
    pub(super) fn new(kept: bool, places: usize, pause: impl FnMut()) -> io::Result<Marks> {
        let words = kept.then(|| Pages::zeroed(places, pause)).transpose()?;
        Ok(Marks(words))
    }

    #[inline(always)]
    pub(super) fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, Pages::bytes)
    }

    /// Where the first of them is.
    pub(super) fn address(&self) -> Option<usize> {
        self.0.as_ref().map(|words| words.as_ptr().addr())
    }

    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<Mark> {
        self.0.as_ref().map(|words| Mark(words[place]))
    }

    /// The next message to `kthread` is a packet of what is at the place.
    #[inline(always)]
    pub(super) fn set_next(&mut self, place: usize, kthread: KthreadIdx, rxqs: &impl Rxqs) {
        if let Some(words) = &mut self.0 {
            words[place] = Mark::next_to(kthread, rxqs).0;
        }
    }

    /// The last message sent to `kthread` was one.
    #[inline]
    pub(super) fn set_last(&mut self, place: usize, kthread: KthreadIdx, rxqs: &impl Rxqs) {
        if let Some(words) = &mut self.0 {
            words[place] = Mark::last_to(kthread, rxqs).0;
        }
    }

    /// True if the newest packet of what is at the place has not been taken.
    pub(super) fn is_pending(&self, place: usize, rxqs: &mut impl Rxqs) -> bool {
        self.get(place).is_some_and(|mark| mark.is_pending(rxqs))
    }
}

/// True if the kthread has messages that it has not taken.
pub(super) fn is_behind(kthread: KthreadIdx, rxqs: &mut impl Rxqs) -> bool {
    rxqs.consumed(kthread) != rxqs.sent(kthread)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(u32, u32);

    impl Rxqs for One {
        fn sent(&self, _: KthreadIdx) -> u32 {
            self.0
        }

        fn consumed(&mut self, _: KthreadIdx) -> u32 {
            self.1
        }
    }

    #[test]
    fn a_packet_is_pending_until_it_is_consumed_also_across_wraps() {
        for start in [0, 5, (1 << 24) - 2, u32::MAX - 2] {
            let at = |n: u32| start.wrapping_add(n);
            let mark = Mark::next_to(KthreadIdx(200), &One(at(2), start));
            assert_eq!(mark.kthread(), KthreadIdx(200));
            assert_eq!(mark, Mark::last_to(KthreadIdx(200), &One(at(3), start)));
            for consumed in 0..=10 {
                let pending = mark.is_pending(&mut One(at(10), at(consumed)));
                assert_eq!(pending, consumed < 3, "start {start}, consumed {consumed}");
            }
        }
    }

    #[test]
    fn a_dropped_packet_is_pending_until_all_before_it_are_consumed() {
        // Four slots, all taken: 7 to 10 of the messages. The fifth is dropped.
        let mark = Mark::next_to(KthreadIdx(1), &One(10, 6));
        for consumed in 6..10 {
            assert!(mark.is_pending(&mut One(10, consumed)), "{consumed}");
        }
        assert!(!mark.is_pending(&mut One(10, 10)));
        // Other flows' messages follow.
        assert!(mark.is_pending(&mut One(13, 10)));
        assert!(!mark.is_pending(&mut One(13, 11)));
    }

    #[test]
    fn a_packet_that_was_never_sent_is_not_pending_in_an_empty_ring() {
        let mark = Mark::next_to(KthreadIdx(1), &One(7, 7));
        assert!(
            !mark.is_pending(&mut One(7, 7)),
            "dropped: the ring was full"
        );
        assert!(!Mark::default().is_pending(&mut One(9, 9)));
    }
}
