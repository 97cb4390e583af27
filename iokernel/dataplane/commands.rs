//! Commands of the runtimes: returned packets, and parks.
//!
//! *Source:* C: `commands_rx`, iokernel/commands.c.

use super::loans::Returned;
use super::{Dataplane, KthreadRef};
use crate::abi::lrpc::Msg;
use crate::abi::types::{RX_JOIN, TXCMD_NET_COMPLETE, TXCMD_PARKED, TXCMD_PARKED_LAST};
use crate::control::Fault;
use crate::cores::arbiter::Park;
use crate::ids::{Micros, ProcSlot};
use crate::port::Port;
use crate::stats::Counter;

/// Commands taken in one turn of the loop. C: `IOKERNEL_CMD_BURST_SIZE`.
pub(super) const CMD_BURST_SIZE: usize = 64;
/// Commands of one runtime before others had their turn, where several are polled.
pub(super) const CMD_SHARE: usize = CMD_BURST_SIZE / 4;
/// Bad tags after which a runtime is detached.
pub(super) const BAD_TAGS_MAX: u32 = 16;
/// Longest timer that is believed: a day. A later one is cut to it, and the
/// runtime, woken early, asks again.
const TIMER_MAX: Micros = Micros(24 * 3600 * 1_000_000);

impl<P: Port> Dataplane<P> {
    /// Takes a burst of commands, beginning at another kthread each turn. True
    /// if there was any.
    ///
    /// Each runtime has its share first, however many kthreads it has; what nobody else
    /// wanted goes to those that were cut short. A park costs a hundred times what a
    /// returned packet does, so it ends a runtime's turn.
    pub(super) fn commands(&mut self) -> bool {
        let mut budget = CMD_BURST_SIZE;
        if self.runtimes_polled > 1 {
            budget = self.command_round(budget, CMD_SHARE);
        }
        if self.runtimes_polled == 1 || (self.cut && budget > 0) {
            budget = self.command_round(budget, CMD_BURST_SIZE);
        }
        let taken = CMD_BURST_SIZE - budget;
        self.give_back();
        self.stats.add(Counter::CommandsPulled, taken as u64);
        taken > 0
    }

    /// One round over the kthreads, in which no runtime comes to more than `share`
    /// commands in this turn. Returns what is left of the budget.
    #[inline]
    fn command_round(&mut self, mut budget: usize, share: usize) -> usize {
        self.cut = false;
        let kthreads = self.polled.len();
        let mut at = self.command_turn;
        for _ in 0..kthreads {
            // Decisions taken on the way only add kthreads at the end.
            at = if at + 1 < kthreads { at + 1 } else { 0 };
            let Some(who) = self.polled.get(at).copied() else {
                break;
            };
            // Nobody is to be kept from anything by the only one.
            if self.runtimes_polled == 1 {
                budget -= self.commands_of(who, budget);
            } else {
                let before = self.taken(who.slot).commands;
                let most = budget.min(share.saturating_sub(before));
                let took = self.commands_of(who, most);
                budget -= took;
                self.cut |= took == most;
                // Unless a park has set it to more.
                let taken = self.taken(who.slot);
                taken.commands = taken.commands.max(before + took);
            }
            if budget == 0 {
                break;
            }
        }
        self.command_turn = at;
        budget
    }

    /// Takes up to `most` commands of one kthread; returns how many.
    #[inline]
    fn commands_of(&mut self, who: KthreadRef, most: usize) -> usize {
        let mut took = 0;
        while took < most {
            let Some(proc) = self.procs[who.slot.index()].as_mut() else {
                return took;
            };
            if proc.notes.leaving.is_some() {
                return took;
            }
            let queue = &mut proc.kthreads[who.kthread.index()].txcmdq;
            let Some(Msg { cmd, payload }) = queue.recv() else {
                queue.write_back();
                return took;
            };
            took += 1;
            if cmd == u64::from(TXCMD_NET_COMPLETE) {
                self.take_back(who, payload);
            } else {
                // At once: the runtime takes an unwritten word for "my park was not seen".
                queue.write_back();
                self.other_command(who, cmd, payload);
                // A parked kthread sends nothing before it is woken; another's turn comes.
                if self.runtimes_polled > 1 {
                    self.taken(who.slot).commands = CMD_BURST_SIZE;
                }
                return took;
            }
        }
        if let Some(proc) = self.procs[who.slot.index()].as_mut() {
            proc.kthreads[who.kthread.index()].txcmdq.write_back();
        }
        took
    }

    #[inline]
    fn take_back(&mut self, who: KthreadRef, tag: u64) {
        let returned = self.loans.take_back(tag, who.slot);
        if returned == Returned::Bad {
            return self.bad_tag(who, tag);
        }
        self.stats.add(Counter::RxReturned, 1);
        self.proc(who.slot).notes.lent -= 1;
        if let Returned::Free(buf) = returned {
            self.free_later(buf);
        }
    }

    #[cold]
    fn bad_tag(&mut self, who: KthreadRef, tag: u64) {
        self.stats.add(Counter::RxBadTag, 1);
        let notes = &mut self.proc(who.slot).notes;
        notes.bad_tags += 1;
        if notes.bad_tags >= BAD_TAGS_MAX {
            let kthread = who.kthread;
            self.fault(who.slot, Fault::BadTags { kthread, tag });
        }
    }

    #[cold]
    fn other_command(&mut self, who: KthreadRef, cmd: u64, payload: u64) {
        const PARKED: u64 = TXCMD_PARKED as u64;
        const PARKED_LAST: u64 = TXCMD_PARKED_LAST as u64;
        match cmd {
            PARKED => {
                if self.park(who) && payload != 0 {
                    self.join(who.slot, payload);
                }
            }
            PARKED_LAST => {
                if self.park(who) && payload != 0 {
                    let deadline = self.clock.now().0 + payload.min(TIMER_MAX.0);
                    self.arbiter.set_timer(who.slot, Micros(deadline));
                }
            }
            _ => {
                let kthread = who.kthread;
                self.fault(who.slot, Fault::BadCommand { kthread, cmd });
            }
        }
    }

    /// A kthread parked. True if the park stands.
    ///
    /// *Source:* C: `cores_park_kthread`, iokernel/cores.c.
    fn park(&mut self, who: KthreadRef) -> bool {
        let KthreadRef { slot, kthread } = who;
        let in_flight = match self.proc(slot).kthreads[kthread.index()]
            .rxq
            .poll_in_flight()
        {
            Ok(n) => n > 0,
            Err(error) => {
                self.fault(slot, Fault::BadWriteBack { kthread, error });
                return false;
            }
        };
        let park = self
            .arbiter
            .park(slot, kthread, in_flight, &mut self.decisions);
        match park {
            Park::Stands => {
                self.stats.add(Counter::Parks, 1);
                // Before apply(): the core may have gone to another of its kthreads.
                self.proc(slot).steering.parked(kthread);
            }
            Park::Refused => self.stats.add(Counter::ParksRefused, 1),
            Park::NotRunning => self.fault(slot, Fault::StrayPark { kthread }),
        }
        self.apply();
        park == Park::Stands
    }

    /// Sends on what a parked kthread left, to whichever kthread has its turn; now,
    /// or as soon as there is room. A payload that waits already is sent once.
    fn join(&mut self, slot: ProcSlot, payload: u64) {
        if self.send_to_any(slot, u64::from(RX_JOIN), payload) {
            return;
        }
        let proc = self.proc(slot);
        if proc.joins.contains(&payload) {
            return;
        }
        if proc.joins.len() == proc.kthreads.len() {
            return self.stats.add(Counter::RxJoinFail, 1);
        }
        proc.joins.push_back(payload);
        self.try_again(slot);
    }
}
