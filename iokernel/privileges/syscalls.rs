//! The system calls of a running daemon, and what becomes of others.
//!
//! The list is by purpose, and as narrow as arguments allow: files are opened to be
//! read, memory is never made executable, segments are never made, signals are the one
//! that asks a kthread to park, and those between our own threads. A forbidden call
//! fails with `ENOSYS`, as on a kernel that has it not, unless the operator wants
//! otherwise: what a driver or a C library of tomorrow tries then has its way around,
//! or an error that it handles, and nobody's packets stop; what an intruder tries has
//! no effect either way.
//!
//! *Source:* seccomp(2); the kernel's Documentation/userspace-api/seccomp_filter.rst.

#![allow(unsafe_code, reason = "installs a filter")]

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::PortNeeds;

/// What a forbidden system call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnForbidden {
    /// It fails with `ENOSYS`; the kernel's log has a line.
    #[default]
    Deny,
    /// It ends the process (SIGSYS).
    Kill,
    /// It is done, and the kernel's log has a line.
    Log,
    /// No list at all.
    Off,
}

impl fmt::Display for OnForbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnForbidden::Deny => "fail",
            OnForbidden::Kill => "end the process",
            OnForbidden::Log => "are done and logged by the kernel",
            OnForbidden::Off => "are done",
        })
    }
}

impl OnForbidden {
    fn action(self) -> SeccompAction {
        match self {
            OnForbidden::Deny => SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
            OnForbidden::Kill => SeccompAction::KillProcess,
            OnForbidden::Log => SeccompAction::Log,
            OnForbidden::Off => SeccompAction::Allow,
        }
    }
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum RestrictError {
    /// The kernel refused.
    #[error("{0} failed: {1} (a kernel without seccomp filters?)")]
    Os(&'static str, #[source] io::Error),
    /// The kernel has no such action.
    #[error("this kernel cannot do what --seccomp asks for; it takes Linux 4.14")]
    Action,
    /// A thread has a filter of its own.
    #[error("thread {0} cannot be restricted with the others")]
    Thread(i64),
    /// Our own list is at fault.
    #[error("{0}")]
    List(#[from] BackendError),
}

/// The C library's, with which the EAL ends its threads. *Source:* glibc, internal-signals.h.
const SIGCANCEL: libc::c_int = 32;

/// Whatever their arguments: memory, threads, time, files and sockets that are open.
const PLAIN: [libc::c_long; 57] = [
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_shmdt,
    // Our own threads and signals.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // Other processes' threads.
    libc::SYS_pidfd_open,
    // Time and chance.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    // Who we are.
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getuid,
    // Files and sockets that are open, and what files are there.
    libc::SYS_accept4,
    libc::SYS_access,
    libc::SYS_close,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fstat,
    libc::SYS_getdents64,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_setsockopt,
    libc::SYS_statx,
    libc::SYS_write,
];

/// For a port with devices: interrupts, alarms and telemetry of the EAL, drivers, and
/// DPDK's memory, which may grow.
const DEVICES: [libc::c_long; 25] = [
    libc::SYS_accept,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_fallocate,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_get_mempolicy,
    libc::SYS_mbind,
    libc::SYS_memfd_create,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_readv,
    libc::SYS_recvmmsg,
    libc::SYS_sendmsg,
    libc::SYS_set_mempolicy,
    libc::SYS_shutdown,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_writev,
];

/// For a driver that configures interfaces of the kernel.
const SOCKETS: [libc::c_long; 5] = [
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_sendto,
    libc::SYS_socket,
];

/// For memory that DPDK's processes share.
const FILES: [libc::c_long; 4] = [
    libc::SYS_mkdir,
    libc::SYS_openat,
    libc::SYS_rename,
    libc::SYS_rmdir,
];

/// System calls and, for each, the alternatives of arguments; none: any.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// One argument's condition. Arguments count from 0.
fn arg(number: u8, len: Len, op: Op, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(number, len, op, value)?])
}

/// The bits of `mask` in an `int` argument are those of `value`.
fn bits(number: u8, mask: libc::c_int, value: libc::c_int) -> Result<SeccompRule, BackendError> {
    let wide = |n: libc::c_int| u64::from(n.cast_unsigned());
    arg(number, Len::Dword, Op::MaskedEq(wide(mask)), wide(value))
}

/// An `int` argument is one of a few.
fn one_of(number: u8, values: &[libc::c_int]) -> Result<Vec<SeccompRule>, BackendError> {
    values
        .iter()
        .map(|&value| bits(number, -1, value))
        .collect()
}

/// What may be called with some arguments only.
fn by_arguments() -> Result<Vec<(libc::c_long, Vec<SeccompRule>)>, BackendError> {
    let writing = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;
    let thread = libc::CLONE_VM | libc::CLONE_THREAD;
    // Of runtimes' kthreads; the rest is between our own threads.
    let signals = [0, libc::SIGUSR1];
    let own = [libc::SIGURG, libc::SIGABRT, SIGCANCEL];
    let descriptors = [
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
    ];
    Ok(vec![
        // No new code.
        (libc::SYS_mmap, vec![bits(2, libc::PROT_EXEC, 0)?]),
        (libc::SYS_mprotect, vec![bits(2, libc::PROT_EXEC, 0)?]),
        (libc::SYS_shmat, vec![bits(2, libc::SHM_EXEC, 0)?]),
        // Files are read.
        (libc::SYS_openat, vec![bits(2, writing, libc::O_RDONLY)?]),
        (libc::SYS_fcntl, one_of(1, &descriptors)?),
        // Segments are found, looked at and removed.
        (libc::SYS_shmget, vec![bits(2, libc::IPC_CREAT, 0)?]),
        (
            libc::SYS_shmctl,
            one_of(1, &[libc::IPC_STAT, libc::IPC_RMID])?,
        ),
        // Processes are never made; clone3 hides its flags behind a pointer (see without()).
        (libc::SYS_clone, vec![bits(0, thread, thread)?]),
        (libc::SYS_clone3, Vec::new()),
        (libc::SYS_prctl, one_of(0, &[libc::PR_SET_NAME])?),
        (libc::SYS_prlimit64, vec![arg(2, Len::Qword, Op::Eq, 0)?]),
        (libc::SYS_pidfd_send_signal, one_of(1, &signals)?),
        (libc::SYS_tgkill, {
            let mut rules = one_of(2, &signals)?;
            rules.extend(one_of(2, &own)?);
            rules
        }),
        // To whom the socket is bound or connected.
        (libc::SYS_sendto, vec![arg(4, Len::Qword, Op::Eq, 0)?]),
    ])
}

fn rules(port: PortNeeds) -> Result<Rules, BackendError> {
    let mut rules: Rules = by_arguments()?.into_iter().collect();
    let mut allow = |calls: &[libc::c_long]| {
        for &call in calls {
            // Any arguments, also of those that had conditions.
            rules.insert(call, Vec::new());
        }
    };
    allow(&PLAIN);
    if port.devices {
        allow(&DEVICES);
    }
    if port.sockets {
        allow(&SOCKETS);
    }
    if port.files {
        allow(&FILES);
    }
    if port.devices {
        // Everything that drivers ask, but no typing on somebody's terminal.
        let typing = arg(1, Len::Dword, Op::Ne, libc::TIOCSTI)?;
        rules.insert(libc::SYS_ioctl, vec![typing]);
    }
    Ok(rules)
}

/// A filter with one call that this kernel seems not to have. The C library then starts
/// threads with clone, of which the flags can be seen.
pub(super) fn without(call: libc::c_long) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(
        Rules::from([(call, Vec::new())]),
        SeccompAction::Allow,
        OnForbidden::Deny.action(),
        TargetArch::x86_64,
    )?
    .try_into()
}

/// Restricts all threads of the process, and those that they start, for good.
///
/// # Errors
/// [`RestrictError`]; then nothing is restricted.
pub(super) fn restrict(port: PortNeeds, forbidden: OnForbidden) -> Result<(), RestrictError> {
    let list: BpfProgram = SeccompFilter::new(
        rules(port)?,
        forbidden.action(),
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?
    .try_into()?;
    if matches!(forbidden, OnForbidden::Kill | OnForbidden::Log) {
        // An older kernel takes an action that it does not know for another.
        may_do(forbidden.action().into())?;
    }
    rustix::thread::set_no_new_privs(true)
        .map_err(|e| RestrictError::Os("PR_SET_NO_NEW_PRIVS", e.into()))?;
    // The list last: it does not have this call.
    install(&without(libc::SYS_clone3)?)?;
    install(&list)
}

/// Asks whether the kernel knows an action.
fn may_do(action: u32) -> Result<(), RestrictError> {
    const GET_ACTION_AVAIL: libc::c_long = 2;
    // SAFETY: the kernel reads one u32.
    match unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) } {
        0 => Ok(()),
        _ => Err(RestrictError::Action),
    }
}

/// Installs a filter in all threads.
pub(super) fn install(program: &BpfProgram) -> Result<(), RestrictError> {
    // As the kernel lays it out (linux/filter.h).
    #[repr(C)]
    struct Program {
        len: u16,
        instructions: *const seccompiler::sock_filter,
    }
    let argument = Program {
        len: u16::try_from(program.len()).expect("the kernel's limit is 4096 instructions"),
        instructions: program.as_ptr(),
    };
    // A line in the kernel's log for what is denied (4.14); and none of the measures against
    // code that is not to be trusted (4.17), which cost speed: all code here is our own.
    let best = libc::SECCOMP_FILTER_FLAG_TSYNC
        | libc::SECCOMP_FILTER_FLAG_LOG
        | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let mut result = 0;
    for flags in [best, libc::SECCOMP_FILTER_FLAG_TSYNC] {
        // SAFETY: the kernel copies the instructions, as many as `len` says.
        result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const argument,
            )
        };
        if result == 0 {
            return Ok(());
        }
    }
    if result > 0 {
        return Err(RestrictError::Thread(result));
    }
    Err(RestrictError::Os("seccomp", io::Error::last_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_without_devices_adds_nothing() {
        let bare = rules(PortNeeds::NONE).unwrap();
        for call in DEVICES.iter().chain(&[libc::SYS_socket, libc::SYS_ioctl]) {
            assert!(!bare.contains_key(call), "system call {call}");
        }
        assert!(!bare[&libc::SYS_openat].is_empty(), "files are read only");
        assert!(
            !bare[&libc::SYS_sendto].is_empty(),
            "sockets are not addressed"
        );
    }

    #[test]
    fn what_ends_a_program_or_begins_another_is_on_no_list() {
        let everything = PortNeeds {
            devices: true,
            sockets: true,
            files: true,
            ..PortNeeds::NONE
        };
        let most = rules(everything).unwrap();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_kill,
            libc::SYS_init_module,
            libc::SYS_mount,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_setuid,
            libc::SYS_capset,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_seccomp,
        ] {
            assert!(!most.contains_key(&call), "system call {call}");
        }
    }
}
