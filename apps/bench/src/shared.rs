//! What the sink shares with the NIC emulator: the stamp in each request, and
//! the progress file. The layouts are those of `nicgen/stamp.h`.

#![allow(unsafe_code, reason = "maps a file that another process reads")]

use std::fs::OpenOptions;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use rustix::mm::{MapFlags, ProtFlags};

/// Marks a stamp. C: `STAMP_MAGIC`.
pub const STAMP_MAGIC: u32 = 0x6e67_6531;
/// Where the stamp lies in a request: after Ethernet, IPv4 and UDP headers (14 + 20 + 8).
pub const STAMP_AT: u64 = 42;
/// Bytes of a stamp.
pub const STAMP_LEN: u32 = 24;

/// Offsets within the stamp. C: `struct stamp`.
pub mod stamp {
    /// `magic`, 4 bytes.
    pub const MAGIC: u64 = 0;
    /// `flow`, 4 bytes.
    pub const FLOW: u64 = 4;
    /// `seq`, 8 bytes.
    pub const SEQ: u64 = 16;
}

/// Each word on a line of its own. C: `struct progress`.
#[repr(C)]
#[derive(Debug, Default)]
struct Words {
    ready: AtomicU64,
    pad0: [u64; 7],
    received: AtomicU64,
    pad1: [u64; 7],
}

const _: () = assert!(std::mem::offset_of!(Words, received) == 64 && size_of::<Words>() == 128);

/// The sink's progress, in a file that the NIC emulator maps.
#[derive(Debug)]
pub struct Progress {
    words: NonNull<Words>,
}

impl Progress {
    /// Maps the file, making it where there is none.
    ///
    /// # Errors
    /// When it cannot be opened, sized or mapped.
    pub fn open(path: &Path) -> anyhow::Result<Progress> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .and_then(|f| f.set_len(size_of::<Words>() as u64).map(|()| f))
            .with_context(|| format!("cannot write the progress file {}", path.display()))?;
        // SAFETY: no address is asked for, so no mapping is replaced; set_len() above made the
        // file as long as the mapping.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size_of::<Words>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }
        .context("cannot map the progress file")?;
        let words = NonNull::new(at.cast()).context("mapped at zero")?;
        Ok(Progress { words })
    }

    /// Says that the sink has registered.
    pub fn ready(&self) {
        self.words().ready.store(1, Ordering::Release);
    }

    /// Says how many packets the sink has taken so far.
    #[inline]
    pub fn received(&self, count: u64) {
        self.words().received.store(count, Ordering::Relaxed);
    }

    fn words(&self) -> &Words {
        // SAFETY: open() mapped that many bytes, page-aligned, and only drop() unmaps them;
        // both sides access the words atomically.
        unsafe { self.words.as_ref() }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // SAFETY: the mapping is open()'s; words() borrows from self, so no reference is left.
        // A failure leaves the mapping to the end of the process.
        let _ = unsafe { rustix::mm::munmap(self.words.as_ptr().cast(), size_of::<Words>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_sees_the_count_in_the_second_line_of_the_file() {
        let path = std::env::temp_dir().join(format!("calisto-progress-{}", std::process::id()));
        let progress = Progress::open(&path).expect("the file can be made");
        progress.ready();
        progress.received(0x0102_0304);
        let bytes = std::fs::read(&path).expect("the file is there");
        std::fs::remove_file(&path).expect("the file is there");
        assert_eq!(bytes.len(), 128);
        assert_eq!(bytes[0..8], 1u64.to_le_bytes());
        assert_eq!(bytes[64..72], 0x0102_0304u64.to_le_bytes());
    }
}
