//! A runtime's header, and where its queues lie.
//!
//! The header and the thread specs are copied out once; the copies are checked
//! and used. All that we will ever read or write must lie in the region and
//! apart from each other:
//!
//! ```text
//!   | control_hdr thread_spec[n] | rxq slots | txpktq slots | wb | txcmdq slots | wb | q_ptrs | ...
//! ```
//!
//! `rxq`'s write-back word has no place of its own: it is the first of `q_ptrs`.

use std::fmt;

use crate::abi::lrpc::{LrpcRx, LrpcTx, RingError};
use crate::abi::qptrs::QPtrs;
use crate::abi::shm::{ShmPtr, ShmRegion};
use crate::abi::types::{self, control_hdr, lrpc_msg, q_ptrs, queue_spec, thread_spec};
use crate::ids::Mac;

use super::error::LayoutError;
use super::faults::Queue;
use super::registration::MAX_FDS;

/// Bytes of the smallest header: one kthread.
pub const MIN_LEN: usize = size_of::<control_hdr>() + size_of::<thread_spec>();

/// What a header says, checked, apart from tids.
#[derive(Debug)]
pub struct Layout {
    /// A unicast Ethernet address.
    pub mac: Mac,
    /// As asked for.
    pub guaranteed_cores: u32,
    /// For the log only: nothing is ever allocated by it.
    pub egress_buf_count: u64,
    /// One for each fd.
    pub kthreads: Vec<KthreadViews>,
}

/// One kthread's queues, and the tid that it claims.
#[derive(Debug)]
pub struct KthreadViews {
    /// To the runtime.
    pub rxq: LrpcTx,
    /// Packets from it.
    pub txpktq: LrpcRx,
    /// Commands from it.
    pub txcmdq: LrpcRx,
    /// How far its run queue has come.
    pub q_ptrs: QPtrs,
    /// In the runtime's pid namespace; unchecked.
    pub tid: i32,
}

/// Reads and checks the header of a runtime that sent `fds` fds.
///
/// The views in the result must not outlive `region`.
///
/// *Source:* C: iokernel/control.c, `control_create_proc`.
///
/// # Errors
/// [`LayoutError`].
pub fn read(region: &ShmRegion, fds: usize) -> Result<Layout, LayoutError> {
    let too_short = |count: u32, need| LayoutError::HeaderLength {
        count,
        need,
        len: region.len(),
    };
    let header: control_hdr = region.read(ShmPtr(0)).map_err(|_| too_short(1, MIN_LEN))?;
    if header.magic != types::CONTROL_HDR_MAGIC {
        // Caladan has its version in front of the same magic number.
        return Err(if header.thread_count == types::CONTROL_HDR_MAGIC {
            LayoutError::Caladan(header.magic)
        } else {
            LayoutError::Magic(header.magic)
        });
    }
    let count = header.thread_count as usize;
    if count == 0 || count > MAX_FDS || count != fds {
        return Err(LayoutError::ThreadCount {
            count: header.thread_count,
            fds,
        });
    }
    let need = size_of::<control_hdr>() + count * size_of::<thread_spec>();
    if need > region.len() {
        return Err(too_short(header.thread_count, need));
    }
    let mac = Mac(header.mac);
    if mac.is_multicast() || mac == Mac::default() {
        return Err(LayoutError::Mac(mac));
    }
    let mut kthreads = Vec::with_capacity(count);
    let mut map = Map::default();
    map.add(0, need, Part::Header);
    for index in 0..count {
        let at = size_of::<control_hdr>() + index * size_of::<thread_spec>();
        let spec: thread_spec = region
            .read(ShmPtr(at as u64))
            .map_err(|_| too_short(header.thread_count, need))?;
        kthreads.push(views(region, index, &spec)?);
        map.add_kthread(index, &spec);
    }
    map.check()?;
    Ok(Layout {
        mac,
        guaranteed_cores: header.sched_cfg.guaranteed_cores,
        egress_buf_count: header.egress_buf_count,
        kthreads,
    })
}

fn views(
    region: &ShmRegion,
    index: usize,
    spec: &thread_spec,
) -> Result<KthreadViews, LayoutError> {
    let ring = |queue| {
        move |error: RingError| LayoutError::Ring {
            queue,
            index,
            error,
        }
    };
    let receiver = |queue, q: &queue_spec| {
        LrpcRx::new(region, q.msg_count, ShmPtr(q.msg_buf), ShmPtr(q.wb)).map_err(ring(queue))
    };
    if spec.rxq.wb != spec.q_ptrs {
        return Err(LayoutError::RxqWriteBack {
            index,
            wb: spec.rxq.wb,
            q_ptrs: spec.q_ptrs,
        });
    }
    let q = &spec.rxq;
    Ok(KthreadViews {
        rxq: LrpcTx::new(region, q.msg_count, ShmPtr(q.msg_buf), ShmPtr(q.wb))
            .map_err(ring(Queue::Rxq))?,
        txpktq: receiver(Queue::Txpktq, &spec.txpktq)?,
        txcmdq: receiver(Queue::Txcmdq, &spec.txcmdq)?,
        q_ptrs: QPtrs::new(region, ShmPtr(spec.q_ptrs))
            .map_err(|error| LayoutError::QPtrs { index, error })?,
        tid: spec.tid,
    })
}

/// What lies in a range of the region.
#[derive(Debug, Clone, Copy)]
enum Part {
    Header,
    Slots(Queue, usize),
    WriteBack(Queue, usize),
    QPtrs(usize),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Header => write!(f, "the header"),
            Part::Slots(queue, i) => write!(f, "the {queue} of kthread {i}"),
            Part::WriteBack(queue, i) => write!(f, "the write-back word of {queue} of kthread {i}"),
            Part::QPtrs(i) => write!(f, "q_ptrs of kthread {i}"),
        }
    }
}

/// All ranges that are ours to use. Each was checked to lie in the region.
#[derive(Debug, Default)]
struct Map(Vec<(u64, u64, Part)>);

impl Map {
    fn add(&mut self, start: u64, len: usize, part: Part) {
        self.0.push((start, start + len as u64, part));
    }

    fn add_kthread(&mut self, index: usize, spec: &thread_spec) {
        let queues = [
            (Queue::Rxq, &spec.rxq),
            (Queue::Txpktq, &spec.txpktq),
            (Queue::Txcmdq, &spec.txcmdq),
        ];
        for (queue, q) in queues {
            let count = usize::try_from(q.msg_count).expect("at most MAX_SLOTS: a view was made");
            self.add(
                q.msg_buf,
                count * size_of::<lrpc_msg>(),
                Part::Slots(queue, index),
            );
            if queue != Queue::Rxq {
                self.add(q.wb, size_of::<u32>(), Part::WriteBack(queue, index));
            }
        }
        self.add(spec.q_ptrs, size_of::<q_ptrs>(), Part::QPtrs(index));
    }

    /// Sorted by start, ranges are apart if each is apart from the next.
    fn check(mut self) -> Result<(), LayoutError> {
        self.0.sort_unstable_by_key(|&(start, end, _)| (start, end));
        match self.0.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            None => Ok(()),
            Some(pair) => Err(LayoutError::Overlap {
                first: pair[0].2.to_string(),
                second: pair[1].2.to_string(),
                at: pair[1].0,
            }),
        }
    }
}
