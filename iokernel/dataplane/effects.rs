//! What the dataplane does to a runtime's threads: pin, wake, preempt.

use std::os::fd::AsFd;
use std::sync::Arc;

use crate::control::{DetachReason, Fault};
use crate::cores::executor::{self, EffectError, Thread, WakeWatch};
use crate::cores::topology::CpuId;
use crate::ids::{CoreId, KthreadIdx, Micros};
use crate::proc::{Kthread, Proc};

/// Carries decisions out.
#[derive(Debug)]
pub struct Effects {
    watch: Arc<WakeWatch>,
    /// The CPU of each core; empty: nothing is pinned.
    cpus: Box<[CpuId]>,
}

impl Effects {
    /// Pins core `i` to `cpus[i]`; `watch` guards wakes.
    pub fn new(watch: Arc<WakeWatch>, cpus: Box<[CpuId]>) -> Effects {
        Effects { watch, cpus }
    }

    /// Pins nothing: for tests whose kthreads are the test itself.
    pub fn unpinned() -> Effects {
        Effects::new(WakeWatch::new(), Box::default())
    }

    /// Lets a kthread run on the core's CPU only. False if that cannot be had: a CPU that
    /// went offline is no runtime's fault, and the kthread runs where it may.
    ///
    /// # Errors
    /// Why the runtime is to be detached: a thread that is gone.
    pub fn pin(
        &self,
        proc: &Proc,
        kthread: KthreadIdx,
        core: CoreId,
    ) -> Result<bool, DetachReason> {
        let k = &proc.kthreads[kthread.index()];
        let Some(cpu) = self.cpus.get(core.index()) else {
            return Ok(true);
        };
        match executor::pin(thread(proc, k), *cpu) {
            Ok(()) => Ok(true),
            Err(EffectError::NoCpu) => Ok(false),
            Err(e) => Err(blame(e, kthread, k, "pinning it")),
        }
    }

    /// Wakes a kthread and tells it its core.
    ///
    /// # Errors
    /// Why the runtime is to be detached: an eventfd that blocks.
    pub fn wake(
        &self,
        proc: &Proc,
        kthread: KthreadIdx,
        core: CoreId,
        now: Micros,
    ) -> Result<(), DetachReason> {
        let k = &proc.kthreads[kthread.index()];
        executor::wake(&self.watch, k.park_efd.as_fd(), core, now)
            .map_err(|e| blame(e, kthread, k, "waking it"))
    }

    /// Asks a kthread to park.
    ///
    /// # Errors
    /// Why the runtime is to be detached: a thread that is gone.
    pub fn preempt(&self, proc: &Proc, kthread: KthreadIdx) -> Result<(), DetachReason> {
        let k = &proc.kthreads[kthread.index()];
        executor::preempt(thread(proc, k)).map_err(|e| blame(e, kthread, k, "signalling it"))
    }
}

fn thread<'a>(proc: &Proc, k: &'a Kthread) -> Thread<'a> {
    Thread {
        pid: proc.pid,
        tid: k.tid,
        pidfd: k.pidfd.as_ref().map(AsFd::as_fd),
    }
}

#[cold]
fn blame(error: EffectError, kthread: KthreadIdx, k: &Kthread, what: &'static str) -> DetachReason {
    let fault = match error {
        EffectError::ThreadGone => {
            let tid = k.tid;
            return DetachReason::ThreadGone { kthread, tid };
        }
        EffectError::EfdBlocked => Fault::WakeBlocked { kthread },
        // Only pin() gives it, and does not blame it.
        EffectError::NoCpu => Fault::Os {
            kthread,
            what,
            errno: libc::EINVAL,
        },
        EffectError::Other(errno) => Fault::Os {
            kthread,
            what,
            errno,
        },
    };
    DetachReason::Fault(fault)
}
