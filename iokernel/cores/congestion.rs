//! Does a kthread need help? One kthread's two queues, looked at twice.
//!
//! A queue is *congested* if something that lay in it at one look is still there
//! at the next, one interval later: it waited a whole interval. So a [`Watch`]
//! remembers how far each producer had come, and the next look compares that
//! with how far the consumer has come since. Counters are 32 bits and wrap.
//!
//! The numbers come from words the runtime may write at will. A lie makes its
//! own runtime look busy or idle, and nothing else.

/// What one look at a kthread's queues found. Counters wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueObs {
    /// Uthreads ever queued to run (`q_ptrs.rq_head`).
    pub rq_head: u32,
    /// Uthreads ever taken to run (`q_ptrs.rq_tail`). Read before `rq_head`.
    pub rq_tail: u32,
    /// Messages ever sent on the kthread's `rxq`; our own count.
    pub rxq_sent: u32,
    /// Messages ever consumed from it, by its write-back word.
    pub rxq_consumed: u32,
}

/// Which queue stood still for an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Congestion {
    /// Uthreads wait to run. (C: `RQ_GRANT`.)
    Runqueue,
    /// Packets, completions or joins wait to be taken. (C: `RX_GRANT`.)
    Rxq,
}

/// What is remembered of one kthread from look to look.
///
/// *Source:* `last_rq_head`, `last_rxq_head` and `waking` of `struct thread`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watch {
    rq_head: u32,
    rxq_sent: u32,
    just_woken: bool,
}

impl Watch {
    /// Grants a pass: the next [`look`](Watch::look) finds no congestion, since a
    /// kthread that has only just been woken had no time to work.
    #[inline]
    pub fn woken(&mut self) {
        self.just_woken = true;
    }

    /// Remembers `obs` without judging it, and without using up a pass.
    #[inline]
    pub fn remember(&mut self, obs: QueueObs) {
        self.rq_head = obs.rq_head;
        self.rxq_sent = obs.rxq_sent;
    }

    /// Compares `obs` with what was remembered, then remembers `obs`.
    ///
    /// The run queue is judged first. *Source:* cores.c, `cores_is_proc_congested`.
    #[inline]
    pub fn look(&mut self, obs: QueueObs) -> Option<Congestion> {
        let last = *self;
        self.remember(obs);
        if last.just_woken {
            self.just_woken = false;
            None
        } else if is_behind(obs.rq_tail, last.rq_head) {
            Some(Congestion::Runqueue)
        } else if is_behind(obs.rxq_consumed, last.rxq_sent) {
            Some(Congestion::Rxq)
        } else {
            None
        }
    }
}

/// True if counter `a` has not come as far as counter `b`, which are less than 2^31
/// apart. C: `wraps_lt`.
#[inline]
fn is_behind(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) >= 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obs(rq_head: u32, rq_tail: u32, rxq_sent: u32, rxq_consumed: u32) -> QueueObs {
        QueueObs {
            rq_head,
            rq_tail,
            rxq_sent,
            rxq_consumed,
        }
    }

    #[test]
    fn a_queue_that_was_emptied_since_is_not_congested() {
        let mut watch = Watch::default();
        assert_eq!(watch.look(obs(3, 0, 5, 0)), None, "nothing remembered yet");
        // Everything seen last time (3 and 5) is gone; what came since does not count.
        assert_eq!(watch.look(obs(9, 3, 9, 5)), None);
    }

    #[test]
    fn one_uthread_left_from_the_last_look_is_congestion() {
        let mut watch = Watch::default();
        watch.look(obs(3, 3, 0, 0));
        assert_eq!(watch.look(obs(3, 2, 0, 0)), Some(Congestion::Runqueue));
    }

    #[test]
    fn one_message_left_from_the_last_look_is_congestion() {
        let mut watch = Watch::default();
        watch.look(obs(0, 0, 7, 7));
        assert_eq!(watch.look(obs(0, 0, 7, 6)), Some(Congestion::Rxq));
    }

    #[test]
    fn the_run_queue_is_named_when_both_stand_still() {
        let mut watch = Watch::default();
        watch.look(obs(1, 0, 1, 0));
        assert_eq!(watch.look(obs(1, 0, 1, 0)), Some(Congestion::Runqueue));
    }

    #[test]
    fn comparison_holds_across_the_wrap() {
        let mut watch = Watch::default();
        // The head wraps to 1; the tail at u32::MAX is two behind it.
        watch.look(obs(1, u32::MAX, 0, 0));
        assert_eq!(
            watch.look(obs(1, u32::MAX, 0, 0)),
            Some(Congestion::Runqueue)
        );
        // The head was u32::MAX; the tail at 2 is three past it.
        watch.remember(obs(u32::MAX, 0, 0, 0));
        assert_eq!(watch.look(obs(2, 2, 0, 0)), None);
    }

    #[test]
    fn a_woken_kthread_is_passed_over_once() {
        let mut watch = Watch::default();
        watch.look(obs(4, 0, 0, 0));
        watch.woken();
        assert_eq!(watch.look(obs(4, 0, 0, 0)), None);
        assert_eq!(watch.look(obs(4, 0, 0, 0)), Some(Congestion::Runqueue));
    }

    #[test]
    fn remembering_alone_keeps_the_pass() {
        let mut watch = Watch::default();
        watch.woken();
        watch.remember(obs(4, 0, 0, 0));
        assert_eq!(watch.look(obs(4, 0, 0, 0)), None);
        assert_eq!(watch.look(obs(4, 0, 0, 0)), Some(Congestion::Runqueue));
    }
}
