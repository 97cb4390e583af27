//! The contract as the C compiler sees it: `c/layouts.c`, read through FFI.

#![allow(unsafe_code, reason = "reads constant tables of a C object")]

use std::ffi::{CStr, c_char};

/// One row of the C compiler's layout table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayoutRow {
    /// The struct's name.
    pub type_name: &'static str,
    /// A field's name; `None` in the row of the struct itself.
    pub field: Option<&'static str>,
    /// A field's offset; the struct's alignment in its own row. Bytes.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
}

/// One constant of the C headers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConstantRow {
    /// The macro's or enumerator's name.
    pub name: &'static str,
    /// Its value, widened without sign extension.
    pub value: u64,
}

#[repr(C)]
struct CLayoutRow {
    type_name: *const c_char,
    field: *const c_char,
    offset: u64,
    size: u64,
}

#[repr(C)]
struct CConstantRow {
    name: *const c_char,
    value: u64,
}

unsafe extern "C" {
    static calisto_layouts: [CLayoutRow; 0];
    static calisto_layouts_len: u64;
    static calisto_constants: [CConstantRow; 0];
    static calisto_constants_len: u64;
}

/// A C string literal as a `str`; `None` for a null pointer.
///
/// # Safety
/// `s` is null or points to a string literal of a linked object.
unsafe fn literal(s: *const c_char) -> Option<&'static str> {
    if s.is_null() {
        return None;
    }
    // SAFETY: by the caller: a terminated string that lives as long as the program.
    let text = unsafe { CStr::from_ptr(s) };
    Some(text.to_str().expect("C names are ASCII"))
}

fn bytes(n: u64) -> usize {
    usize::try_from(n).expect("a size fits usize on x86-64")
}

/// Every struct and field that `c/layouts.c` lists.
pub fn layouts() -> Vec<LayoutRow> {
    // SAFETY: the object defines a table of exactly calisto_layouts_len rows
    // (sizeof / sizeof), never written, of the same repr(C) row type.
    let rows = unsafe {
        std::slice::from_raw_parts(
            (&raw const calisto_layouts).cast(),
            bytes(calisto_layouts_len),
        )
    };
    rows.iter()
        .map(|r: &CLayoutRow| LayoutRow {
            // SAFETY: the table holds string literals, by its macros.
            type_name: unsafe { literal(r.type_name) }.expect("every row names its struct"),
            // SAFETY: as above, or null.
            field: unsafe { literal(r.field) },
            offset: bytes(r.offset),
            size: bytes(r.size),
        })
        .collect()
}

/// Every constant that `c/layouts.c` lists.
pub fn constants() -> Vec<ConstantRow> {
    // SAFETY: as in layouts().
    let rows = unsafe {
        std::slice::from_raw_parts(
            (&raw const calisto_constants).cast(),
            bytes(calisto_constants_len),
        )
    };
    rows.iter()
        .map(|r: &CConstantRow| ConstantRow {
            // SAFETY: the table holds string literals, by its macro.
            name: unsafe { literal(r.name) }.expect("every constant has a name"),
            value: r.value,
        })
        .collect()
}
