//! Why a runtime was refused. A refused runtime is never told: its connection
//! is closed, and one line goes to the log.

use std::io;

use crate::abi::lrpc::RingError;
use crate::abi::shm::ShmError;
use crate::ids::Mac;
use crate::stats::ControlCounter;

use super::registration::{DEADLINE, MAX_FDS};

/// Why a registration was refused, with the offending values.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The peer closed its end too early.
    #[error("hung up after {0} of 13 bytes")]
    HungUp(usize),
    /// The peer sent nothing more.
    #[error("silent for {secs} s after {0} of 13 bytes", secs = DEADLINE.as_secs())]
    Silent(usize),
    /// Others wait, and this one is not getting on.
    #[error("gave way to others after {0} of 13 bytes: too many registrations at once")]
    GaveWay(usize),
    /// The fds came with the key or the length.
    #[error("fds came with byte {0}, not with the last of 13")]
    EarlyFds(usize),
    /// The last byte came without fds.
    #[error("no fds came with the last byte")]
    NoFds,
    /// More fds than a runtime may have kthreads.
    #[error("{0} fds, at most {MAX_FDS} kthreads")]
    TooManyFds(usize),
    /// The kernel dropped some fds.
    #[error(
        "only {0} of its fds arrived: too many, or our limit of open files is reached (`ulimit -n`)"
    )]
    FdsCut(usize),
    /// Bytes after the registration.
    #[error("sent more than the 13 bytes of a registration")]
    ExtraBytes,
    /// A system call of ours failed.
    #[error("{0} failed: {1}")]
    Os(&'static str, #[source] io::Error),
    /// `SO_PEERCRED` gives no process.
    #[error("its process is not visible here: iokerneld must run in an outer pid namespace")]
    InvisiblePeer,
    /// The operator lets in others.
    #[error("user {0} is not let in by --allow-uid, nor one of its groups by --allow-gid")]
    NotAllowed(u32),
    /// Too many runtimes of a user wait because others of its made the polling loop wait.
    #[error(
        "runtimes of user {0} filled their eventfds again and again: more of its wait already, try again later"
    )]
    Penalty(u32),
    /// The process that connected is gone; its id may be somebody else's by now.
    #[error("the process that connected has ended")]
    PeerGone,
    /// No segment has the key.
    #[error("no segment has the key {key:#x} (another IPC namespace?): {error}")]
    NoSegment {
        /// The key.
        key: u32,
        /// What `shmget` said.
        error: io::Error,
    },
    /// The key names the ingress segment.
    #[error("its key {0:#x} is the ingress segment's")]
    IngressSegment(u32),
    /// Another user's segment.
    #[error("segment {shmid} belongs to uid {owner} (made by uid {creator})")]
    ForeignSegment {
        /// Its id.
        shmid: i32,
        /// Its owner.
        owner: u32,
        /// Its creator.
        creator: u32,
    },
    /// The region cannot hold a header, or is longer than its segment.
    #[error("a region of {len} bytes in a segment of {size} bytes; a header needs {need}")]
    RegionLength {
        /// Bytes as sent.
        len: u64,
        /// Bytes of the segment.
        size: u64,
        /// Bytes of the smallest header.
        need: u64,
    },
    /// The segment is not the one that was checked.
    #[error("segment {0} was replaced meanwhile")]
    SegmentChanged(i32),
    /// Pages of its region could not be had.
    #[error("its memory is not there: no huge page was free for it (SHM_NORESERVE?)")]
    MemoryGone,
    /// Something in the header.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Something about a kthread.
    #[error("kthread {index}: {error}")]
    Kthread {
        /// Its number.
        index: usize,
        /// What.
        error: KthreadError,
    },
    /// The port's device cannot reach the region.
    #[error("its memory cannot be mapped for the port: {0}")]
    Mapping(String),
    /// Another runtime has the Ethernet address.
    #[error("Ethernet address {mac} is that of pid {pid}")]
    MacInUse {
        /// The address.
        mac: Mac,
        /// Who has it.
        pid: i32,
    },
    /// Another runtime has the segment.
    #[error("segment {shmid} is that of pid {pid}, which is attached")]
    SegmentInUse {
        /// The segment.
        shmid: i32,
        /// Who has it.
        pid: i32,
    },
    /// Guarantees would pass the number of cores.
    #[error("wants {wanted} guaranteed cores; {reserved} of {total} are promised already")]
    Guarantee {
        /// Its `guaranteed_cores`.
        wanted: u32,
        /// Promised to others.
        reserved: u32,
        /// All runtime cores.
        total: u32,
    },
    /// There is no memory for what its flows' steering needs.
    #[error("no memory for its {flows} flow entries ({error}): lower --flow-entries")]
    NoFlowTable {
        /// As configured.
        flows: u32,
        /// What the system says.
        error: std::io::Error,
    },
    /// All slots are taken.
    #[error("{} runtimes are attached already", super::messages::MAX_PROCS)]
    TableFull,
}

impl RegistrationError {
    /// The counter of its kind.
    pub fn counter(&self) -> ControlCounter {
        use RegistrationError as E;
        match self {
            E::HungUp(_) => ControlCounter::RefusedHungUp,
            E::Silent(_) => ControlCounter::RefusedSilent,
            E::GaveWay(_) => ControlCounter::RefusedGaveWay,
            E::EarlyFds(_) | E::NoFds | E::TooManyFds(_) | E::FdsCut(_) | E::ExtraBytes => {
                ControlCounter::RefusedMessage
            }
            E::InvisiblePeer | E::PeerGone => ControlCounter::RefusedProcess,
            E::NotAllowed(_) | E::Penalty(_) => ControlCounter::RefusedUser,
            E::NoSegment { .. }
            | E::IngressSegment(_)
            | E::ForeignSegment { .. }
            | E::SegmentChanged(_)
            | E::SegmentInUse { .. } => ControlCounter::RefusedSegment,
            E::RegionLength { .. } | E::MemoryGone | E::Mapping(_) => ControlCounter::RefusedRegion,
            E::Layout(error) => error.counter(),
            E::Kthread { error, .. } => error.counter(),
            E::MacInUse { .. } => ControlCounter::RefusedAddress,
            E::Guarantee { .. } => ControlCounter::RefusedGuarantee,
            E::Os(..) | E::NoFlowTable { .. } | E::TableFull => ControlCounter::RefusedResources,
        }
    }
}

/// What is wrong with a runtime's header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A header of Caladan's.
    #[error(
        "this is a Caladan runtime (header version {0}); only Shenango runtimes can attach: rebuild it with Shenango"
    )]
    Caladan(u32),
    /// Not a header.
    #[error("its region begins with {0:#x}, not with the magic number of a runtime")]
    Magic(u32),
    /// An impossible number of kthreads.
    #[error("{count} kthreads with {fds} fds; must be equal, 1 to {MAX_FDS}")]
    ThreadCount {
        /// `thread_count`.
        count: u32,
        /// Fds that came.
        fds: usize,
    },
    /// The header and the thread specs do not fit.
    #[error("{count} kthreads need a header of {need} bytes, its region has {len}")]
    HeaderLength {
        /// `thread_count`.
        count: u32,
        /// Bytes of header and thread specs.
        need: usize,
        /// Bytes of the region.
        len: usize,
    },
    /// No Ethernet address of a station.
    #[error("{0} is no unicast Ethernet address")]
    Mac(Mac),
    /// A queue lies where it may not.
    #[error("{queue} of kthread {index}: {error}")]
    Ring {
        /// Which.
        queue: super::faults::Queue,
        /// The kthread.
        index: usize,
        /// What is wrong.
        error: RingError,
    },
    /// The progress words lie where they may not.
    #[error("q_ptrs of kthread {index}: {error}")]
    QPtrs {
        /// The kthread.
        index: usize,
        /// What is wrong.
        error: ShmError,
    },
    /// `rxq.wb` must be `q_ptrs.rxq_wb`.
    #[error("kthread {index}: rxq.wb is {wb:#x}, q_ptrs {q_ptrs:#x}; must be the same")]
    RxqWriteBack {
        /// The kthread.
        index: usize,
        /// `rxq.wb`.
        wb: u64,
        /// `q_ptrs`.
        q_ptrs: u64,
    },
    /// Two things in the same bytes.
    #[error("{first} and {second} overlap at {at:#x}")]
    Overlap {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// Where the other begins.
        at: u64,
    },
}

impl LayoutError {
    fn counter(&self) -> ControlCounter {
        match self {
            LayoutError::Caladan(_) => ControlCounter::RefusedCaladan,
            LayoutError::Magic(_)
            | LayoutError::ThreadCount { .. }
            | LayoutError::HeaderLength { .. } => ControlCounter::RefusedHeader,
            LayoutError::Mac(_) => ControlCounter::RefusedAddress,
            LayoutError::Ring { .. }
            | LayoutError::QPtrs { .. }
            | LayoutError::RxqWriteBack { .. }
            | LayoutError::Overlap { .. } => ControlCounter::RefusedQueue,
        }
    }
}

/// What is wrong with a kthread's handles.
#[derive(Debug, thiserror::Error)]
pub enum KthreadError {
    /// Not a thread of the peer.
    #[error("tid {tid} is no thread of pid {pid}")]
    ForeignThread {
        /// The tid as given.
        tid: i32,
        /// The peer.
        pid: i32,
    },
    /// Not an eventfd.
    #[error("its fd is `{0}`, not an eventfd")]
    NoEventfd(String),
    /// An eventfd at which a wake would block.
    #[error("its eventfd is full: its count is {0:#x}")]
    FullEventfd(u64),
    /// The same eventfd as another kthread.
    #[error("its eventfd is that of kthread {0} too")]
    SharedEventfd(usize),
    /// May not be pinned.
    #[error("tid {tid} cannot be pinned: {error} (run iokerneld as root, or as the same user)")]
    Pin {
        /// The thread.
        tid: i32,
        /// What the kernel said.
        error: io::Error,
    },
    /// A system call of ours failed.
    #[error("{0} failed: {1}")]
    Os(&'static str, io::Error),
}

impl KthreadError {
    fn counter(&self) -> ControlCounter {
        match self {
            KthreadError::ForeignThread { .. } | KthreadError::Pin { .. } => {
                ControlCounter::RefusedThread
            }
            KthreadError::NoEventfd(_)
            | KthreadError::FullEventfd(_)
            | KthreadError::SharedEventfd(_) => ControlCounter::RefusedEventfd,
            KthreadError::Os(..) => ControlCounter::RefusedResources,
        }
    }
}
