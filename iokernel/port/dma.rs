//! A runtime's memory as devices see it.
//!
//! A device addresses memory by IOVA. Where IOVAs are virtual addresses nothing
//! is to be translated; where they are physical, each page has its own, and a
//! frame that crosses into a page that does not follow physically must not be
//! given to the device as one piece.

use std::fmt;
use std::ptr::NonNull;

/// How a mapped region's bytes are addressed by the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Iova {
    /// The IOVA of a byte is its virtual address (or the port needs none).
    Virtual,
    /// One physical address for each page of `1 << page_shift` bytes.
    Physical {
        /// Log2 of the page size.
        page_shift: u32,
        /// The address of each page's first byte, in order.
        pages: Box<[u64]>,
    },
}

impl Iova {
    /// The device's address of `len` bytes at `offset` of a region at `base`,
    /// or `None` if they are not contiguous for the device.
    ///
    /// `offset + len` has been checked against the region.
    #[inline]
    pub fn of(&self, base: NonNull<u8>, offset: usize, len: usize) -> Option<u64> {
        match self {
            Iova::Virtual => Some((base.as_ptr().addr() + offset) as u64),
            Iova::Physical { page_shift, pages } => {
                let size = 1_usize << page_shift;
                let within = offset & (size - 1);
                let first = offset >> page_shift;
                let last = (offset + len.max(1) - 1) >> page_shift;
                let start = *pages.get(first)?;
                for (n, page) in (first..=last).enumerate() {
                    if *pages.get(page)? != start + (n * size) as u64 {
                        return None;
                    }
                }
                Some(start + within as u64)
            }
        }
    }
}

/// Makes regions known to the port's device. Called by the control thread only.
pub trait DmaMapper: Send + Sync + fmt::Debug {
    /// Registers `len` bytes at `base`, in pages of `page_size` bytes.
    ///
    /// # Errors
    /// One line that names the step that failed.
    fn map(&self, base: NonNull<u8>, len: usize, page_size: usize) -> Result<Iova, String>;

    /// Takes the registration back.
    fn unmap(&self, base: NonNull<u8>, len: usize);
}

/// A mapper for ports that never hand memory to a device.
#[derive(Debug, Clone, Copy)]
pub struct NoDma;

impl DmaMapper for NoDma {
    fn map(&self, _: NonNull<u8>, _: usize, _: usize) -> Result<Iova, String> {
        Ok(Iova::Virtual)
    }

    fn unmap(&self, _: NonNull<u8>, _: usize) {}
}

/// A region that is mapped for the port's device, until dropped.
#[derive(Debug)]
pub struct Mapping {
    iova: Iova,
    base: NonNull<u8>,
    len: usize,
    mapper: std::sync::Arc<dyn DmaMapper>,
}

#[allow(unsafe_code, reason = "a raw address makes the type !Send")]
// SAFETY: `base` is an address handed back to the mapper, never dereferenced here.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes at `base` with `mapper`.
    ///
    /// # Errors
    /// What the mapper says.
    pub fn new(
        mapper: std::sync::Arc<dyn DmaMapper>,
        base: NonNull<u8>,
        len: usize,
        page_size: usize,
    ) -> Result<Mapping, String> {
        let iova = mapper.map(base, len, page_size)?;
        Ok(Mapping {
            iova,
            base,
            len,
            mapper,
        })
    }

    /// How the port addresses the region.
    #[inline]
    pub fn iova(&self) -> &Iova {
        &self.iova
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.mapper.unmap(self.base, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn physical() -> Iova {
        // Pages 0 and 1 follow each other, 2 lies elsewhere.
        Iova::Physical {
            page_shift: 12,
            pages: Box::new([0x10_000, 0x11_000, 0x90_000]),
        }
    }

    #[test]
    fn a_frame_across_adjacent_pages_is_contiguous() {
        let at = physical().of(NonNull::dangling(), 4000, 200);
        assert_eq!(at, Some(0x10_000 + 4000));
    }

    #[test]
    fn a_frame_across_scattered_pages_is_not() {
        assert_eq!(physical().of(NonNull::dangling(), 8000, 1000), None);
        assert_eq!(
            physical().of(NonNull::dangling(), 8000, 192),
            Some(0x10_000 + 8000)
        );
    }

    /// Every frame in four pages of four bytes, wherever the pages lie: byte by byte.
    #[test]
    fn a_frame_is_contiguous_exactly_if_its_bytes_follow_each_other() {
        for places in 0..256_u64 {
            let pages: Vec<u64> = (0..4).map(|n| (places >> (2 * n) & 3) * 4 + 100).collect();
            let iova = Iova::Physical {
                page_shift: 2,
                pages: pages.clone().into(),
            };
            let of_byte = |at: usize| pages[at / 4] + (at % 4) as u64;
            for offset in 0..16 {
                for len in 1..=16 - offset {
                    let first = of_byte(offset);
                    let follow = (0..len).all(|i| of_byte(offset + i) == first + i as u64);
                    let got = iova.of(NonNull::dangling(), offset, len);
                    assert_eq!(got, follow.then_some(first), "{pages:?} {offset} {len}");
                }
            }
        }
    }
}
