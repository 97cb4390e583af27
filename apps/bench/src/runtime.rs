//! Registration: a region, its header, N kthreads, one connection.
//!
//! Every kthread has a thread of its own, so that the I/O kernel has something
//! to pin and to signal, but these threads only sleep: they wait for SIGUSR1
//! (preemption) and note it. One other thread does the kthreads' work
//! ([`sink`](crate::sink)), which takes the operating system's scheduler out of
//! the measurement.

#![allow(unsafe_code, reason = "makes a SysV segment, waits for signals")]

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use calisto::abi::ingress;
use calisto::abi::shm::{ShmPtr, ShmRegion};
use calisto::abi::types::{
    CONTROL_HDR_MAGIC, CONTROL_SOCK_PATH_LEN, INGRESS_MBUF_SHM_KEY, SCHED_PRIORITY_NORMAL,
    control_hdr, sched_spec, thread_spec,
};
use rustix::event::EventfdFlags;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType,
};

use crate::layout::Layout;

/// Most kthreads: what one `SCM_RIGHTS` message carries (Linux: `SCM_MAX_FD`).
pub const MAX_KTHREADS: u16 = 253;

/// What to register as.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Kthreads.
    pub kthreads: u16,
    /// Cores that the runtime is guaranteed.
    pub guaranteed: u16,
    /// Last byte of its Ethernet address, 02:00:00:00:00:xx.
    pub id: u8,
    /// How long to wait for the I/O kernel to be there.
    pub patience: Duration,
}

/// A SysV segment that goes away with its last user.
#[derive(Debug)]
struct Segment {
    shmid: i32,
    key: i32,
}

impl Segment {
    /// Makes a segment of 2 MiB pages under a key that nobody has.
    fn create(len: usize) -> anyhow::Result<Segment> {
        let flags = libc::IPC_CREAT | libc::IPC_EXCL | libc::SHM_HUGETLB | (21 << 26) | 0o600;
        // Any key will do that is neither 0 (IPC_PRIVATE) nor the ingress region's.
        let first = 0x6265_0000 | i32::try_from(std::process::id() & 0xffff)?;
        for key in first..first + 16 {
            // SAFETY: shmget takes no pointer.
            let shmid = unsafe { libc::shmget(key, len, flags) };
            if shmid >= 0 {
                return Ok(Segment { shmid, key });
            }
            let e = std::io::Error::last_os_error();
            if e.kind() != std::io::ErrorKind::AlreadyExists {
                return Err(e).with_context(|| {
                    let pages = len >> 21;
                    format!(
                        "no segment of {pages} huge pages: raise vm.nr_hugepages \
                         (sysctl -w vm.nr_hugepages=N), or run as root"
                    )
                });
            }
        }
        bail!("sixteen segments from key {first:#x} exist already: remove them with ipcrm")
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: IPC_RMID takes no buffer. The segment is ours: create() asked for IPC_EXCL.
        unsafe { libc::shmctl(self.shmid, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// An attached runtime. Dropping it hangs up and removes its region.
#[derive(Debug)]
pub struct Runtime {
    /// Its own region.
    pub region: ShmRegion,
    /// Where received packets lie.
    pub ingress: ShmRegion,
    /// What lies where in the region.
    pub layout: Layout,
    /// The kthreads' eventfds, non-blocking, in kthread order.
    pub eventfds: Vec<OwnedFd>,
    /// Set when the I/O kernel preempts a kthread; cleared by whoever parks it.
    pub preempted: Arc<[AtomicBool]>,
    _segment: Segment,
    _socket: OwnedFd,
}

impl Runtime {
    /// Registers with the I/O kernel.
    ///
    /// SIGUSR1 must be blocked in the calling thread ([`block_signals`]), so that
    /// the kthreads' threads inherit that.
    ///
    /// # Errors
    /// No I/O kernel within `spec.patience`, no huge pages, or a refused system call.
    pub fn register(spec: &Spec) -> anyhow::Result<Runtime> {
        ensure!(
            (1..=MAX_KTHREADS).contains(&spec.kthreads) && spec.guaranteed <= spec.kthreads,
            "{} kthreads with {} guaranteed: give 1 to {MAX_KTHREADS}, and no larger guarantee",
            spec.kthreads,
            spec.guaranteed
        );
        let mut layout = Layout::new(spec.kthreads);
        let deadline = Instant::now() + spec.patience;
        let ingress = retry(deadline, attach_ingress)?;
        let segment = Segment::create(layout.len)?;
        let region = ShmRegion::attach(segment.shmid, layout.len)
            .context("cannot attach the segment just made")?;
        touch(&region)?;

        let eventfds = (0..spec.kthreads)
            .map(|_| rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC))
            .collect::<Result<Vec<_>, _>>()
            .context("cannot make an eventfd for each kthread: raise ulimit -n")?;
        let preempted: Arc<[AtomicBool]> =
            eventfds.iter().map(|_| AtomicBool::new(false)).collect();
        for (i, spec) in layout.specs.iter_mut().enumerate() {
            spec.tid = spawn_kthread(&preempted, i)?;
            spec.park_efd = std::os::fd::AsRawFd::as_raw_fd(&eventfds[i]);
        }
        write_header(&region, &layout, spec)?;
        // Last, because an I/O kernel may wait for the rest of a registration and do nothing else.
        let socket = retry(deadline, connect)?;
        send_registration(&socket, &segment, layout.len, &eventfds)?;
        Ok(Runtime {
            region,
            ingress,
            layout,
            eventfds,
            preempted,
            _segment: segment,
            _socket: socket,
        })
    }
}

/// Tries until the deadline: the I/O kernel may be starting still.
fn retry<T>(deadline: Instant, f: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    loop {
        match f() {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}

fn attach_ingress() -> anyhow::Result<ShmRegion> {
    #[allow(clippy::cast_possible_wrap, reason = "0x696d736b is below 2^31")]
    let key = INGRESS_MBUF_SHM_KEY as i32;
    // SAFETY: shmget takes no pointer.
    let shmid = unsafe { libc::shmget(key, ingress::INGRESS_LEN, 0) };
    if shmid < 0 {
        return Err(std::io::Error::last_os_error())
            .context("no ingress segment: start iokerneld first");
    }
    ShmRegion::attach(shmid, ingress::INGRESS_LEN).context("cannot attach the ingress segment")
}

/// Connects to the control socket, whose abstract name is 108 zero bytes.
fn connect() -> anyhow::Result<OwnedFd> {
    // The first of them says that the name is abstract.
    let name = [0u8; CONTROL_SOCK_PATH_LEN as usize - 1];
    let address = SocketAddrUnix::new_abstract_name(&name)?;
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::net::connect(&socket, &address).context("no iokerneld answers: start it first")?;
    Ok(socket)
}

/// Touches every page, so that no page fault falls into the measurement.
fn touch(region: &ShmRegion) -> anyhow::Result<()> {
    for at in (0..region.len()).step_by(4096) {
        region.write(ShmPtr(at as u64), 0u8)?;
    }
    Ok(())
}

fn write_header(region: &ShmRegion, layout: &Layout, spec: &Spec) -> anyhow::Result<()> {
    let header = control_hdr {
        magic: CONTROL_HDR_MAGIC,
        thread_count: u32::from(spec.kthreads),
        egress_buf_count: u64::from(layout.egress_bufs),
        mac: [2, 0, 0, 0, 0, spec.id],
        sched_cfg: sched_spec {
            priority: SCHED_PRIORITY_NORMAL,
            max_cores: u32::from(spec.kthreads),
            guaranteed_cores: u32::from(spec.guaranteed),
            ..sched_spec::default()
        },
        ..control_hdr::default()
    };
    let mut at = size_of::<control_hdr>();
    for thread in &layout.specs {
        region.write(ShmPtr(at as u64), *thread)?;
        at += size_of::<thread_spec>();
    }
    region.write(ShmPtr(0), header)?;
    Ok(())
}

fn send_registration(
    socket: &OwnedFd,
    segment: &Segment,
    len: usize,
    eventfds: &[OwnedFd],
) -> anyhow::Result<()> {
    let gone = "iokerneld closed the connection: its log says why";
    for part in [
        &segment.key.to_le_bytes()[..],
        &(len as u64).to_le_bytes()[..],
    ] {
        let sent = rustix::net::send(socket, part, SendFlags::NOSIGNAL).context(gone)?;
        ensure!(
            sent == part.len(),
            "the control socket took {sent} bytes only"
        );
    }
    let fds: Vec<_> = eventfds.iter().map(AsFd::as_fd).collect();
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&fds).size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(
        control.push(SendAncillaryMessage::ScmRights(&fds)),
        "no room for {} descriptors in one message",
        fds.len()
    );
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .context(gone)?;
    Ok(())
}

/// Blocks SIGUSR1, SIGINT and SIGTERM in this thread and those it starts.
pub fn block_signals() {
    let set = signal_set(&[libc::SIGUSR1, libc::SIGINT, libc::SIGTERM]);
    // SAFETY: `set` was filled by signal_set(); no old mask is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// A flag that SIGINT and SIGTERM set. They must be blocked ([`block_signals`]).
///
/// # Errors
/// When no thread can be started.
pub fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    thread::Builder::new().spawn(move || {
        wait_for(&signal_set(&[libc::SIGINT, libc::SIGTERM]));
        flag.store(true, Ordering::Relaxed);
    })?;
    Ok(stop)
}

/// Starts the thread that stands for a kthread; returns its thread id.
fn spawn_kthread(preempted: &Arc<[AtomicBool]>, kthread: usize) -> anyhow::Result<i32> {
    let (tell, told) = std::sync::mpsc::channel();
    let preempted = Arc::clone(preempted);
    thread::Builder::new()
        .name(format!("kthread {kthread}"))
        .stack_size(64 << 10)
        .spawn(move || {
            // A receiver that is gone means that registration has failed: nobody waits for us.
            let _ = tell.send(rustix::thread::gettid().as_raw_nonzero().get());
            let set = signal_set(&[libc::SIGUSR1]);
            loop {
                wait_for(&set);
                preempted[kthread].store(true, Ordering::Relaxed);
            }
        })
        .context("cannot start a thread for each kthread")?;
    told.recv().context("a kthread's thread ended at once")
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset() initialises the set that it is given; sigaddset() is then given that
    // one, and signal numbers from libc's own constants.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

fn wait_for(set: &libc::sigset_t) {
    let mut signal = 0;
    // SAFETY: both point to locals that outlive the call.
    unsafe { libc::sigwait(set, &raw mut signal) };
}
