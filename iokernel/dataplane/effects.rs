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

    /// Pins if asked to, and wakes.
    ///
    /// # Errors
    /// Why the runtime is to be detached: a thread that is gone, an eventfd that blocks.
    pub fn wake(
        &self,
        proc: &Proc,
        kthread: KthreadIdx,
        core: CoreId,
        pin: bool,
        now: Micros,
    ) -> Result<(), DetachReason> {
        let k = &proc.kthreads[kthread.index()];
        if pin && let Some(cpu) = self.cpus.get(core.index()) {
            executor::pin(thread(proc, k), *cpu).map_err(|e| blame(e, kthread, k, "pinning it"))?;
        }
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
        EffectError::Other(errno) => Fault::Os {
            kthread,
            what,
            errno,
        },
    };
    DetachReason::Fault(fault)
}
