//! Who is attached: slots, Ethernet addresses, segments, guarantees.
//!
//! A slot is its tenant's from [`Table::admit`] until the dataplane returned
//! the tenant's `Proc` and [`Table::remove`] took it out. A tenant that hung up
//! is *leaving* meanwhile and keeps its address and guarantee, because the
//! dataplane may still act on them.
//!
//! Invariants: no two tenants have the same Ethernet address or segment; the
//! sum of guarantees is at most the number of runtime cores; a slot's
//! generation is never used again.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::ids::{Mac, ProcId, ProcSlot};
use crate::proc::Proc;
use crate::steering::ProcSteering;

use super::checks::Candidate;
use super::error::RegistrationError;
use super::messages::MAX_PROCS;
use super::sigbus::Guard;
use super::socket::Peer;
use super::sysv;

/// Guaranteed cores promised so far.
#[derive(Debug)]
struct Guarantees {
    total: u32,
    reserved: Rc<Cell<u32>>,
}

/// A part of the cores; given back on drop.
#[derive(Debug)]
struct Reservation {
    cores: u32,
    reserved: Rc<Cell<u32>>,
}

impl Guarantees {
    fn reserve(&self, cores: u32) -> Result<Reservation, RegistrationError> {
        let reserved = self.reserved.get();
        // Reserved is at most total, so nothing wraps.
        if cores > self.total - reserved {
            return Err(RegistrationError::Guarantee {
                wanted: cores,
                reserved,
                total: self.total,
            });
        }
        self.reserved.set(reserved + cores);
        Ok(Reservation {
            cores,
            reserved: Rc::clone(&self.reserved),
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.reserved.set(self.reserved.get() - self.cores);
    }
}

/// A runtime that holds a slot.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: ProcId,
    pub(crate) peer: Peer,
    pub(crate) mac: Mac,
    pub(crate) connection: OwnedFd,
    /// It hung up; the dataplane was told.
    pub(crate) leaving: bool,
    /// Of its region. To be dropped before the region is.
    pub(super) guard: Guard,
    shmid: i32,
    key: u32,
    _reservation: Reservation,
}

/// A segment that stays though its runtime has left.
#[derive(Debug, thiserror::Error)]
#[error("segment {shmid} (key {key:#x}) stays, for it cannot be removed: {error}")]
pub(crate) struct SegmentLeft {
    shmid: i32,
    key: u32,
    #[source]
    error: io::Error,
}

impl SegmentLeft {
    /// What its operator can do.
    pub(crate) fn remedy(&self) -> String {
        let by_hand = format!("`ipcrm -m {}` removes it", self.shmid);
        match self.error.raw_os_error() {
            Some(libc::EPERM) => format!(
                "it is another user's, which takes CAP_SYS_ADMIN: {by_hand}; --keep-caps sys_admin (if iokerneld is root's) or kernel.shm_rmid_forced=1 spares that"
            ),
            _ => by_hand,
        }
    }
}

impl Tenant {
    /// Removes the segment's name if nobody but us maps it, so that the runtime is gone, or
    /// if it is `broken`, whatever it still does; its own mapping stays. To be called while
    /// the region is mapped, so that the id is still this segment's.
    ///
    /// An unmodified runtime never removes its segment: each that ends would leave
    /// gigabytes of huge pages behind wherever `kernel.shm_rmid_forced` is not set.
    ///
    /// # Errors
    /// [`SegmentLeft`]: above all, another user's takes `CAP_SYS_ADMIN`.
    pub(crate) fn remove_segment(&self, broken: bool) -> Result<(), SegmentLeft> {
        // Where the guard put pages, the kernel counts our mapping not once.
        let only_ours = || {
            !self.guard.hit() && sysv::info(self.shmid).is_ok_and(|segment| segment.attached == 1)
        };
        if !broken && !only_ours() {
            return Ok(());
        }
        let Err(error) = sysv::remove(self.shmid) else {
            return Ok(());
        };
        let gone = match sysv::info(self.shmid) {
            Ok(segment) => segment.removed,
            Err(e) => matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EIDRM)),
        };
        if gone {
            return Ok(());
        }
        let (shmid, key) = (self.shmid, self.key);
        Err(SegmentLeft { shmid, key, error })
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    tenant: Option<Tenant>,
}

/// All slots.
#[derive(Debug)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    guarantees: Guarantees,
    tenants: usize,
}

/// What keeps a candidate out.
#[derive(Debug)]
pub(crate) struct Conflict {
    /// Why.
    pub(crate) error: RegistrationError,
    /// It may pass once those that are leaving have left.
    pub(crate) passing: bool,
}

impl Table {
    /// An empty table for `cores` runtime cores.
    pub(crate) fn new(cores: u16) -> Table {
        Table {
            slots: (0..MAX_PROCS).map(|_| Slot::default()).collect(),
            guarantees: Guarantees {
                total: u32::from(cores),
                reserved: Rc::default(),
            },
            tenants: 0,
        }
    }

    /// Tenants, leaving ones included.
    pub(crate) fn len(&self) -> usize {
        self.tenants
    }

    /// Cores promised.
    pub(crate) fn reserved(&self) -> u32 {
        self.guarantees.reserved.get()
    }

    /// All tenants, in slot order.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.slots.iter().filter_map(|slot| slot.tenant.as_ref())
    }

    /// True while somebody is leaving.
    pub(crate) fn any_leaving(&self) -> bool {
        self.tenants().any(|tenant| tenant.leaving)
    }

    /// Tenants whose connection has hung up, or holds what it never should, and that are not
    /// leaving yet. One system call, whatever their number.
    pub(crate) fn hung_up(&self) -> Vec<ProcId> {
        let staying: Vec<&Tenant> = self.tenants().filter(|tenant| !tenant.leaving).collect();
        let flags = PollFlags::IN | PollFlags::RDHUP;
        let mut fds: Vec<PollFd<'_>> = staying
            .iter()
            .map(|tenant| PollFd::new(&tenant.connection, flags))
            .collect();
        // Interrupted or not: the next round hears them.
        let _ = poll(&mut fds, Some(&Timespec::default()));
        let gone = fds.iter().zip(&staying);
        gone.filter(|(fd, _)| !fd.revents().is_empty())
            .map(|(_, tenant)| tenant.id)
            .collect()
    }

    /// What keeps this candidate out now, if anything does.
    pub(crate) fn conflict(&self, candidate: &Candidate) -> Option<Conflict> {
        let mac = self.tenants().find(|t| t.mac == candidate.mac);
        let segment = self.tenants().find(|t| t.shmid == candidate.shmid);
        let (error, holder) = if let Some(tenant) = mac {
            let pid = tenant.peer.pid;
            let mac = tenant.mac;
            (RegistrationError::MacInUse { mac, pid }, Some(tenant))
        } else if let Some(tenant) = segment {
            let pid = tenant.peer.pid;
            let shmid = tenant.shmid;
            (RegistrationError::SegmentInUse { shmid, pid }, Some(tenant))
        } else if self.tenants == MAX_PROCS {
            (RegistrationError::TableFull, None)
        } else {
            let error = self.guarantees.reserve(candidate.guaranteed_cores).err()?;
            (error, None)
        };
        let passing = match holder {
            Some(tenant) => tenant.leaving,
            None => candidate.guaranteed_cores <= self.guarantees.total && self.any_leaving(),
        };
        Some(Conflict { error, passing })
    }

    /// Gives a candidate a slot, and its `Proc` to the caller to send.
    ///
    /// # Panics
    /// When [`conflict`](Self::conflict) was not asked before.
    pub(crate) fn admit(&mut self, candidate: Candidate, steering: Box<ProcSteering>) -> Box<Proc> {
        let free = self.slots.iter().position(|slot| slot.tenant.is_none());
        let index = free.expect("conflict() found a free slot");
        let reservation = self
            .guarantees
            .reserve(candidate.guaranteed_cores)
            .expect("conflict() found the guarantee free");
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1);
        let id = ProcId {
            slot: ProcSlot(u16::try_from(index).expect("at most MAX_PROCS slots")),
            generation: slot.generation,
        };
        let (peer, mac) = (candidate.peer, candidate.mac);
        let (shmid, key) = (candidate.shmid, candidate.key);
        let (proc, connection, guard) = candidate.into_proc(id, steering);
        slot.tenant = Some(Tenant {
            id,
            peer,
            mac,
            connection,
            leaving: false,
            guard,
            shmid,
            key,
            _reservation: reservation,
        });
        self.tenants += 1;
        proc
    }

    /// The tenant with this id, unless it has gone.
    pub(crate) fn get_mut(&mut self, id: ProcId) -> Option<&mut Tenant> {
        let tenant = self.slots.get_mut(id.slot.index())?.tenant.as_mut();
        tenant.filter(|tenant| tenant.id == id)
    }

    /// Frees the tenant's slot; dropping the tenant closes its connection.
    pub(crate) fn remove(&mut self, id: ProcId) -> Option<Tenant> {
        self.get_mut(id)?;
        self.tenants -= 1;
        self.slots[id.slot.index()].tenant.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_is_given_back_on_drop() {
        let table = Table::new(4);
        let three = table.guarantees.reserve(3).unwrap();
        assert_eq!(table.reserved(), 3);
        let error = table.guarantees.reserve(2).unwrap_err();
        assert!(matches!(
            error,
            RegistrationError::Guarantee {
                wanted: 2,
                reserved: 3,
                total: 4
            }
        ));
        drop(three);
        assert_eq!(table.reserved(), 0);
    }

    #[test]
    fn what_removes_a_segment_is_said_as_far_as_it_would() {
        let left = |error| SegmentLeft {
            shmid: 7,
            key: 0xbeef,
            error: io::Error::from_raw_os_error(error),
        };
        let said = left(libc::EPERM).to_string();
        assert!(said.starts_with("segment 7 (key 0xbeef) stays"), "{said}");
        let forbidden = left(libc::EPERM).remedy();
        assert!(forbidden.contains("ipcrm -m 7"), "{forbidden}");
        assert!(forbidden.contains("--keep-caps sys_admin"), "{forbidden}");
        let denied = left(libc::ENOSYS).remedy();
        assert_eq!(denied, "`ipcrm -m 7` removes it");
    }

    #[test]
    fn a_guarantee_near_the_top_does_not_wrap() {
        let table = Table::new(4);
        let _one = table.guarantees.reserve(1).unwrap();
        assert!(table.guarantees.reserve(u32::MAX).is_err());
        assert_eq!(table.reserved(), 1);
    }
}
