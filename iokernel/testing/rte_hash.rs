//! DPDK's hash table as the paper uses it, to compare ours with: the RSS hash is a
//! four-byte key, hashed once more by `rte_jhash`; the value is the home core.
//!
//! Its memory may come from a [`Heap`]: transparent huge pages, as our table has them.

#![allow(unsafe_code, reason = "calls DPDK")]

use std::ffi::{CString, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk_sys as sys;

use crate::ids::CoreId;
use crate::pages::Pages;
use crate::port::dpdk::Eal;

/// Keys of one bulk lookup.
pub const BULK: usize = sys::RTE_HASH_LOOKUP_BULK_MAX as usize;
const HUGE: usize = 2 << 20;

/// Names must differ within the process.
fn name(of: &str) -> CString {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    CString::new(format!("{of}-{n}")).expect("a name without NUL")
}

/// DPDK's word for what went wrong.
fn failed(what: &str) -> String {
    // SAFETY: reads the calling thread's error number.
    let errno = unsafe { sys::calisto_errno() };
    format!("{what}: {}", std::io::Error::from_raw_os_error(errno))
}

/// Memory for tables, beside the EAL's own.
#[derive(Debug)]
pub struct Heap<'a> {
    name: CString,
    memory: Pages<u32>,
    socket: c_int,
    eal: PhantomData<&'a Eal>,
}

impl<'a> Heap<'a> {
    /// A heap of this size, rounded up to huge pages.
    ///
    /// # Errors
    /// No memory, or what DPDK says.
    pub fn new(_: &'a Eal, bytes: usize) -> Result<Heap<'a>, String> {
        let len = bytes.next_multiple_of(HUGE);
        let memory =
            Pages::<u32>::zeroed(len / size_of::<u32>(), || ()).map_err(|e| e.to_string())?;
        let name = name("heap");
        // SAFETY: the EAL runs; a C string.
        if unsafe { sys::rte_malloc_heap_create(name.as_ptr()) } != 0 {
            return Err(failed("rte_malloc_heap_create"));
        }
        // SAFETY: whole huge pages at a huge page's address (Pages), ours until drop().
        // No device uses them, so none needs their address.
        let added = unsafe {
            sys::rte_malloc_heap_memory_add(
                name.as_ptr(),
                memory.as_ptr().cast_mut().cast(),
                len,
                std::ptr::null_mut(),
                0,
                HUGE,
            )
        };
        if added != 0 {
            return Err(failed("rte_malloc_heap_memory_add"));
        }
        // SAFETY: a C string.
        let socket = unsafe { sys::rte_malloc_heap_get_socket(name.as_ptr()) };
        Ok(Heap {
            name,
            memory,
            socket,
            eal: PhantomData,
        })
    }

    /// Where it is.
    pub fn address(&self) -> usize {
        self.memory.as_ptr().addr()
    }
}

impl Drop for Heap<'_> {
    fn drop(&mut self) {
        let (at, len) = (self.memory.as_ptr(), self.memory.bytes());
        // SAFETY: tables borrow their heap, so none is left in it; the EAL is borrowed.
        unsafe {
            sys::rte_malloc_heap_memory_remove(self.name.as_ptr(), at.cast_mut().cast(), len);
            sys::rte_malloc_heap_destroy(self.name.as_ptr());
        }
    }
}

/// Keys of a bulk lookup, and the pointers to them that it takes.
#[derive(Debug)]
struct Bulk {
    keys: [u32; BULK],
    at: [*const c_void; BULK],
    values: [*mut c_void; BULK],
}

/// The table.
#[derive(Debug)]
pub struct RteHash<'a> {
    table: NonNull<sys::rte_hash>,
    bulk: Box<Bulk>,
    of: PhantomData<&'a Eal>,
}

impl<'a> RteHash<'a> {
    /// An empty table for `flows` flows, in a heap or in the EAL's own memory.
    ///
    /// # Errors
    /// What DPDK says: no memory, mostly.
    pub fn new(_: &'a Eal, heap: Option<&'a Heap<'_>>, flows: u32) -> Result<RteHash<'a>, String> {
        let name = name("flows");
        let parameters = sys::rte_hash_parameters {
            name: name.as_ptr(),
            entries: flows,
            key_len: 4,
            hash_func: Some(sys::calisto_jhash),
            socket_id: heap.map_or(sys::SOCKET_ID_ANY, |heap| heap.socket),
            // SAFETY: integers and pointers, for which zero is a value.
            ..unsafe { std::mem::zeroed() }
        };
        // SAFETY: the EAL runs; the name is copied.
        let table = NonNull::new(unsafe { sys::rte_hash_create(&raw const parameters) })
            .ok_or_else(|| failed("rte_hash_create"))?;
        let mut bulk = Box::new(Bulk {
            keys: [0; BULK],
            at: [std::ptr::null(); BULK],
            values: [std::ptr::null_mut(); BULK],
        });
        for (at, key) in bulk.at.iter_mut().zip(&bulk.keys) {
            *at = std::ptr::from_ref(key).cast();
        }
        Ok(RteHash {
            table,
            bulk,
            of: PhantomData,
        })
    }

    /// Keys in it.
    pub fn len(&self) -> usize {
        // SAFETY: the table lives.
        let n = unsafe { sys::rte_hash_count(self.table.as_ptr()) };
        usize::try_from(n).expect("a number of keys")
    }

    /// True without any key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all keys.
    pub fn clear(&mut self) {
        // SAFETY: the table lives, and is not shared.
        unsafe { sys::rte_hash_reset(self.table.as_ptr()) };
    }

    /// `rte_hash_lookup_data`: the home core of a flow.
    #[inline]
    pub fn get(&self, hash: &u32) -> Option<CoreId> {
        let mut value = std::ptr::null_mut();
        let key = std::ptr::from_ref(hash).cast();
        // SAFETY: the table lives, the key has its four bytes.
        let at = unsafe { sys::rte_hash_lookup_data(self.table.as_ptr(), key, &raw mut value) };
        (at >= 0).then(|| core(value))
    }

    /// `rte_hash_lookup_bulk_data`: the home cores of up to [`BULK`] flows; stale for
    /// flows that are not there, as the mask says.
    #[inline]
    pub fn get_bulk(&mut self, hashes: &[u32]) -> (u64, &[*mut c_void]) {
        let Bulk { keys, at, values } = &mut *self.bulk;
        keys[..hashes.len()].copy_from_slice(hashes);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "at most BULK, by the slice"
        )]
        let n = hashes.len() as u32;
        let mut hits = 0;
        // SAFETY: the table lives; `n` keys, and room for as many values.
        let done = unsafe {
            sys::rte_hash_lookup_bulk_data(
                self.table.as_ptr(),
                at.as_mut_ptr(),
                n,
                &raw mut hits,
                values.as_mut_ptr(),
            )
        };
        debug_assert!(done >= 0);
        (hits, &values[..hashes.len()])
    }

    /// `rte_hash_add_key_data`: adds a flow, or changes its home core. False if it is full.
    #[inline]
    pub fn set(&mut self, hash: &u32, core: CoreId) -> bool {
        let value = std::ptr::without_provenance_mut(usize::from(core.0));
        let key = std::ptr::from_ref(hash).cast();
        // SAFETY: the table lives, the key has its four bytes; the value is no address.
        unsafe { sys::rte_hash_add_key_data(self.table.as_ptr(), key, value) == 0 }
    }

    /// `rte_hash_del_key`: forgets a flow. False if it was not there.
    pub fn remove(&mut self, hash: &u32) -> bool {
        let key = std::ptr::from_ref(hash).cast();
        // SAFETY: the table lives, the key has its four bytes.
        unsafe { sys::rte_hash_del_key(self.table.as_ptr(), key) >= 0 }
    }
}

/// The core in a value of the table.
#[inline]
pub fn core(value: *mut c_void) -> CoreId {
    #[allow(clippy::cast_possible_truncation, reason = "set() put 16 bits there")]
    CoreId(value.addr() as u16)
}

impl Drop for RteHash<'_> {
    fn drop(&mut self) {
        // SAFETY: the table lives until here.
        unsafe { sys::rte_hash_free(self.table.as_ptr()) };
    }
}
