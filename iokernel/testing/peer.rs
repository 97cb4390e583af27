//! The runtime's side of the contract, in private shared memory.

use std::os::fd::{AsFd, OwnedFd};

use crate::abi::lrpc::{LrpcRx, LrpcTx, Msg};
use crate::abi::qptrs::QPtrs;
use crate::abi::shm::{ShmPtr, ShmRegion};
use crate::abi::types::{
    TXCMD_NET_COMPLETE, TXCMD_PARKED, TXPKT_NET_XMIT, q_ptrs, rx_net_hdr, tx_net_hdr,
};
use crate::cores::arbiter::{ProcSpec, Seat};
use crate::ids::{Mac, ProcId};
use crate::port::dma::{Mapping, NoDma};
use crate::proc::{Kthread, MAX_UNCOMPLETED, Notes, Proc};
use crate::stats::SteerStats;
use crate::steering::{ProcSteering, SteeringSpec};

/// Slots of each ring, as in unmodified runtimes.
const SLOTS: u64 = 4096;
const RING: u64 = SLOTS * 16;
/// Bytes of one kthread's rings and words.
const KTHREAD: u64 = 3 * RING + 3 * 64;
/// Bytes of one egress buffer.
const EGRESS: u64 = 2048;

/// What a [`Peer`] is to be.
#[derive(Debug, Clone, Copy)]
pub struct PeerSpec {
    /// Slot and generation.
    pub id: ProcId,
    /// Its address.
    pub mac: Mac,
    /// Kthreads.
    pub kthreads: usize,
    /// Guaranteed cores.
    pub guaranteed: u16,
    /// Egress buffers.
    pub egress: u64,
    /// How its flows are steered.
    pub steering: SteeringSpec,
}

/// A runtime whose kthreads are whatever the test does.
#[derive(Debug)]
pub struct Peer {
    /// Its kthreads.
    pub kthreads: Vec<PeerKthread>,
    /// Its region, mapped a second time.
    pub region: ShmRegion,
    egress_at: u64,
}

/// The runtime's ends of one kthread's queues.
#[derive(Debug)]
pub struct PeerKthread {
    /// From the I/O kernel.
    pub rxq: LrpcRx,
    /// Packets.
    pub txpktq: LrpcTx,
    /// Commands.
    pub txcmdq: LrpcTx,
    /// Woken through it.
    pub park_efd: OwnedFd,
    q_ptrs_at: ShmPtr,
}

struct Place {
    rxq: u64,
    txpktq: u64,
    txcmdq: u64,
    words: u64,
}

impl Place {
    fn of(kthread: usize) -> Place {
        let at = kthread as u64 * KTHREAD;
        Place {
            rxq: at,
            txpktq: at + RING,
            txcmdq: at + 2 * RING,
            words: at + 3 * RING,
        }
    }
}

impl Peer {
    /// A runtime, and what the control thread would hand to the dataplane.
    ///
    /// # Panics
    /// When the machine has no memory or fds left.
    pub fn new(spec: PeerSpec) -> (Peer, Box<Proc>) {
        let egress_at = spec.kthreads as u64 * KTHREAD;
        let len = usize::try_from(egress_at + spec.egress * EGRESS).expect("64 bits");
        let [mine, theirs] = ShmRegion::private_pair(len).expect("shared memory");
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        let mut ours = Vec::new();
        let mut peers = Vec::new();
        for n in 0..spec.kthreads {
            let efd = eventfd();
            let at = Place::of(n);
            let (pkt_wb, cmd_wb) = (ShmPtr(at.words), ShmPtr(at.words + 64));
            let q_ptrs_at = ShmPtr(at.words + 128);
            let tx = |r: &ShmRegion, buf, wb| LrpcTx::new(r, SLOTS, ShmPtr(buf), wb).expect("fits");
            let rx = |r: &ShmRegion, buf, wb| LrpcRx::new(r, SLOTS, ShmPtr(buf), wb).expect("fits");
            ours.push(Kthread {
                rxq: tx(&theirs, at.rxq, q_ptrs_at),
                txpktq: rx(&theirs, at.txpktq, pkt_wb),
                txcmdq: rx(&theirs, at.txcmdq, cmd_wb),
                q_ptrs: QPtrs::new(&theirs, q_ptrs_at).expect("fits"),
                tid,
                park_efd: efd.try_clone().expect("an fd"),
                pidfd: None,
                polled: false,
                received: 0,
            });
            peers.push(PeerKthread {
                rxq: rx(&mine, at.rxq, q_ptrs_at),
                txpktq: tx(&mine, at.txpktq, pkt_wb),
                txcmdq: tx(&mine, at.txcmdq, cmd_wb),
                park_efd: efd,
                q_ptrs_at,
            });
        }
        let mapping = Mapping::new(std::sync::Arc::new(NoDma), theirs.base(), len, 4096)
            .expect("nothing to map");
        let proc = Proc {
            id: spec.id,
            pid: i32::try_from(std::process::id()).expect("a pid"),
            uid: 0,
            mac: spec.mac,
            guaranteed_cores: spec.guaranteed,
            kthreads: ours.into_boxed_slice(),
            overflow: std::collections::VecDeque::with_capacity(MAX_UNCOMPLETED),
            joins: std::collections::VecDeque::with_capacity(spec.kthreads),
            steering: ProcSteering::new(
                &spec.steering,
                u16::try_from(spec.kthreads).expect("at most 256"),
                || (),
            )
            .expect("memory"),
            seat: Some(Seat::new(ProcSpec {
                kthreads: u16::try_from(spec.kthreads).expect("at most 256"),
                guaranteed: spec.guaranteed,
            })),
            steer_stats: SteerStats::default(),
            notes: Notes::default(),
            mapping,
            region: theirs,
        };
        let peer = Peer {
            kthreads: peers,
            region: mine,
            egress_at,
        };
        (peer, Box::new(proc))
    }

    /// Takes the next message of a kthread.
    pub fn recv(&mut self, kthread: usize) -> Option<Msg> {
        let queue = &mut self.kthreads[kthread].rxq;
        let msg = queue.recv();
        queue.write_back();
        msg
    }

    /// Returns a received packet.
    ///
    /// # Panics
    /// When the command queue is full.
    pub fn give_back(&mut self, kthread: usize, tag: u64) {
        assert!(self.command(kthread, u64::from(TXCMD_NET_COMPLETE), tag));
    }

    /// Parks a kthread, leaving `payload` to be joined.
    ///
    /// # Panics
    /// When the command queue is full.
    pub fn park(&mut self, kthread: usize, payload: u64) {
        assert!(self.command(kthread, u64::from(TXCMD_PARKED), payload));
    }

    /// Sends any command. False if the queue is full.
    pub fn command(&mut self, kthread: usize, cmd: u64, payload: u64) -> bool {
        self.kthreads[kthread].txcmdq.send(cmd, payload)
    }

    /// Sends `frame` from egress buffer `buf`; its completion is `buf`.
    /// False if the queue is full.
    ///
    /// # Panics
    /// When the frame does not fit into a buffer.
    pub fn send(&mut self, kthread: usize, buf: u64, frame: &[u8], olflags: u32) -> bool {
        let at = self.egress(buf);
        let hdr = tx_net_hdr {
            completion_data: buf,
            len: u32::try_from(frame.len()).expect("a frame"),
            olflags,
            pad: 0,
        };
        self.region.write(ShmPtr(at), hdr).expect("a buffer");
        let data = at + size_of::<tx_net_hdr>() as u64;
        for (i, byte) in frame.iter().enumerate() {
            self.region
                .write(ShmPtr(data + i as u64), *byte)
                .expect("a buffer");
        }
        self.send_raw(kthread, u64::from(TXPKT_NET_XMIT), at)
    }

    /// Sends any message on the packet queue. False if it is full.
    pub fn send_raw(&mut self, kthread: usize, cmd: u64, payload: u64) -> bool {
        self.kthreads[kthread].txpktq.send(cmd, payload)
    }

    /// Where egress buffer `buf` begins.
    pub fn egress(&self, buf: u64) -> u64 {
        self.egress_at + buf * EGRESS
    }

    /// Sets a kthread's run queue words.
    ///
    /// # Panics
    /// Never: the words lie in the region.
    pub fn set_runqueue(&self, kthread: usize, head: u32, tail: u32) {
        let at = self.kthreads[kthread].q_ptrs_at;
        let mut words: q_ptrs = self.region.read(at).expect("in the region");
        words.rq_head = head;
        words.rq_tail = tail;
        self.region.write(at, words).expect("in the region");
    }

    /// Overwrites a kthread's rxq write-back word.
    ///
    /// # Panics
    /// Never: the word lies in the region.
    pub fn set_rxq_write_back(&self, kthread: usize, wb: u32) {
        let at = self.kthreads[kthread].q_ptrs_at;
        self.region.write(at, wb).expect("in the region");
    }

    /// The core that a kthread was last woken on, if it was woken since the last call.
    pub fn woken(&self, kthread: usize) -> Option<u64> {
        let mut buf = [0; 8];
        rustix::io::read(&self.kthreads[kthread].park_efd, &mut buf).ok()?;
        Some(u64::from_ne_bytes(buf) - 1)
    }
}

fn eventfd() -> OwnedFd {
    let flags = rustix::event::EventfdFlags::NONBLOCK | rustix::event::EventfdFlags::CLOEXEC;
    let efd = rustix::event::eventfd(0, flags).expect("an eventfd");
    debug_assert!(rustix::io::fcntl_getfd(efd.as_fd()).is_ok());
    efd
}

/// Reads a received packet's header out of the ingress region.
pub(super) fn rx_hdr(ingress: &ShmRegion, at: u64) -> rx_net_hdr {
    ingress.read(ShmPtr(at)).expect("in the ingress region")
}
