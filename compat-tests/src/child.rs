//! A child process whose output is kept, and that never outlives its owner.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait for anything a test waits for. A watchdog, not a demand: it is
/// far beyond what a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Lines that a process wrote so far, from both of its streams.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<String>,
    open_streams: usize,
}

/// A running process; killed on drop.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

impl Output {
    fn collect(self: Arc<Output>, stream: impl Read) {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.with(|lines| lines.text.push(line));
        }
        self.with(|lines| lines.open_streams -= 1);
    }

    fn with<T>(&self, f: impl FnOnce(&mut Lines) -> T) -> T {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let value = f(&mut lines);
        self.grown.notify_all();
        value
    }
}

impl Child {
    /// Starts `command`; `name` is for messages.
    ///
    /// # Errors
    /// What `spawn` reports.
    pub fn spawn(name: impl Into<String>, command: &mut Command) -> io::Result<Child> {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = Arc::new(Output::default());
        output.with(|lines| lines.open_streams = 2);
        let stdout = process
            .stdout
            .take()
            .expect("stdout was asked to be a pipe");
        let stderr = process
            .stderr
            .take()
            .expect("stderr was asked to be a pipe");
        let (a, b) = (Arc::clone(&output), Arc::clone(&output));
        let readers = vec![
            std::thread::spawn(move || a.collect(stdout)),
            std::thread::spawn(move || b.collect(stderr)),
        ];
        Ok(Child {
            name: name.into(),
            process,
            output,
            readers,
            status: None,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything it wrote so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.with(|lines| lines.text.clone())
    }

    /// Waits until it writes a line that `wanted` accepts, and returns that
    /// line; `None` if it closes its output before.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub fn wait_line(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + PATIENCE;
        let mut lines = self
            .output
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = lines.text.iter().find(|l| wanted(l)) {
                return Some(line.clone());
            }
            if lines.open_streams == 0 {
                return None;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{} does not say what was waited for:\n{}",
                self.name,
                lines.text.join("\n")
            );
            let (guard, _) = self
                .output
                .grown
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner);
            lines = guard;
        }
    }

    /// Sends a signal, if it is still there.
    pub fn signal(&mut self, signal: i32) {
        if self.try_status().is_some() {
            return;
        }
        let pid = i32::try_from(self.pid()).expect("process ids are small");
        #[allow(unsafe_code, reason = "std can only send SIGKILL")]
        // SAFETY: plain system call. The child is not yet waited for (checked
        // above, and only we wait), so the id is still its own.
        let _ = unsafe { libc::kill(pid, signal) };
    }

    /// Sends a signal to one of its threads, if it is still there.
    pub fn signal_thread(&mut self, tid: i32, signal: i32) {
        if self.try_status().is_some() {
            return;
        }
        let pid = i32::try_from(self.pid()).expect("process ids are small");
        #[allow(unsafe_code, reason = "std knows no threads of others")]
        // SAFETY: plain system call. The child is not yet waited for, so its id is its own,
        // and the kernel checks that the thread is one of it.
        let _ = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
    }

    /// Sends a signal to its process group, which must be its own.
    pub fn signal_group(&mut self, signal: i32) {
        if self.try_status().is_some() {
            return;
        }
        let pid = i32::try_from(self.pid()).expect("process ids are small");
        #[allow(unsafe_code, reason = "std knows no process groups")]
        // SAFETY: plain system call. The child is not yet waited for, so its id is its own,
        // and that of no other's group.
        let _ = unsafe { libc::kill(-pid, signal) };
    }

    /// Its exit status, if it has ended.
    pub fn try_status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.process.try_wait().ok().flatten();
        }
        self.status
    }

    /// Waits for its end and all of its output.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.try_status() {
                self.readers.drain(..).for_each(|r| drop(r.join()));
                return status;
            }
            assert!(
                Instant::now() < end,
                "{} does not end:\n{}",
                self.name,
                self.lines().join("\n")
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end like [`wait`](Self::wait), but kills it after `patience`; `None` then.
    pub fn wait_at_most(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        while self.try_status().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let status = self.try_status();
        if status.is_none() {
            self.kill();
        }
        self.wait();
        status
    }

    /// Kills it, like `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        self.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let lines = self.lines();
        // A lone line is a runtime's "attached": no news.
        if std::thread::panicking() && lines.len() > 1 {
            let from = lines.len().saturating_sub(30);
            let tail = lines[from..].join("\n");
            eprintln!("--- {} (pid {}) said:\n{tail}", self.name, self.pid());
        }
    }
}

/// Lets a thread run on every CPU, as the kernel does when the only one it may run on goes
/// offline.
///
/// # Panics
/// When the kernel does not let us.
pub fn run_anywhere(tid: i32) {
    #[allow(unsafe_code, reason = "std knows no affinity")]
    // SAFETY: all-zero is an empty cpu_set_t; CPU_SET writes within it; the call reads it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (0..1024).for_each(|cpu| libc::CPU_SET(cpu, &mut set));
        libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Waits until `condition` holds.
///
/// # Panics
/// After [`PATIENCE`], saying `what` was waited for.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
