//! Open files: how many this process may have.

/// Raises the limit of open files as far as possible; returns it.
///
/// 1024 runtimes with 256 kthreads need an eventfd and a pidfd for each kthread.
pub fn raise_fd_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let old = getrlimit(Resource::Nofile);
    // Root may pass the hard limit, up to what the kernel was built for.
    let most = read("/proc/sys/fs/nr_open");
    for limit in [most, old.maximum].into_iter().flatten() {
        let new = Rlimit {
            current: Some(limit),
            maximum: Some(limit.max(old.maximum.unwrap_or(limit))),
        };
        if setrlimit(Resource::Nofile, new).is_ok() {
            return limit;
        }
    }
    old.current.unwrap_or(u64::MAX)
}
