//! Texts for what reads files and lines.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// A file that holds `text` and has no name; dropped, it is gone.
#[derive(Debug)]
pub struct NamelessFile(std::fs::File);

impl NamelessFile {
    /// # Panics
    /// When the machine has no memory or fds left.
    pub fn new(text: &[u8]) -> NamelessFile {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let fd = rustix::fs::memfd_create("text", flags).expect("an fd");
        let mut file = std::fs::File::from(fd);
        file.write_all(text).expect("memory");
        NamelessFile(file)
    }

    /// Where it can be read, as long as it lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// A message for people: one line that says something.
///
/// # Panics
/// When it is none.
pub fn assert_one_line(message: &str) {
    assert!(!message.trim().is_empty(), "an empty message");
    assert!(
        !message.contains(['\n', '\r']),
        "more than one line: {message:?}"
    );
}
