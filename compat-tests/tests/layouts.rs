//! The recorded contract against the Rust types and against the C headers.
//!
//! The tables below are the record: read off the interface headers of upstream
//! Shenango, never derived from our own. Rust and C are each compared with
//! them, both ways, so that neither can drift and none can gain a field unseen.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use std::process::Command;

use calisto::abi::types;
use compat_tests::c_view;
use memoffset::span_of;

/// One struct of the contract, in bytes.
struct Layout {
    name: &'static str,
    size: usize,
    align: usize,
    /// Name, offset, size; in order, every byte named.
    fields: &'static [(&'static str, usize, usize)],
}

const LAYOUTS: &[Layout] = &[
    Layout {
        name: "control_hdr",
        size: 48,
        align: 8,
        fields: &[
            ("magic", 0, 4),
            ("thread_count", 4, 4),
            ("egress_buf_count", 8, 8),
            ("mac", 16, 6),
            ("pad0", 22, 2),
            ("sched_cfg", 24, 20),
            ("pad1", 44, 4),
        ],
    },
    Layout {
        name: "sched_spec",
        size: 20,
        align: 4,
        fields: &[
            ("priority", 0, 4),
            ("max_cores", 4, 4),
            ("guaranteed_cores", 8, 4),
            ("congestion_latency_us", 12, 4),
            ("scaleout_latency_us", 16, 4),
        ],
    },
    Layout {
        name: "thread_spec",
        size: 88,
        align: 8,
        fields: &[
            ("rxq", 0, 24),
            ("txpktq", 24, 24),
            ("txcmdq", 48, 24),
            ("q_ptrs", 72, 8),
            ("tid", 80, 4),
            ("park_efd", 84, 4),
        ],
    },
    Layout {
        name: "queue_spec",
        size: 24,
        align: 8,
        fields: &[("msg_count", 0, 8), ("msg_buf", 8, 8), ("wb", 16, 8)],
    },
    Layout {
        name: "q_ptrs",
        size: 12,
        align: 4,
        fields: &[("rxq_wb", 0, 4), ("rq_head", 4, 4), ("rq_tail", 8, 4)],
    },
    Layout {
        name: "lrpc_msg",
        size: 16,
        align: 8,
        fields: &[("cmd", 0, 8), ("payload", 8, 8)],
    },
    Layout {
        name: "rx_net_hdr",
        size: 24,
        align: 8,
        fields: &[
            ("completion_data", 0, 8),
            ("len", 8, 4),
            ("rss_hash", 12, 4),
            ("csum_type", 16, 4),
            ("csum", 20, 4),
        ],
    },
    Layout {
        name: "tx_net_hdr",
        size: 18,
        align: 1,
        fields: &[
            ("completion_data", 0, 8),
            ("len", 8, 4),
            ("olflags", 12, 4),
            ("pad", 16, 2),
        ],
    },
];

/// A constant as recorded, and as the Rust types have it.
macro_rules! constants {
    ($($name:ident = $value:expr;)*) => {
        const CONSTANTS: &[(&str, u64, i128)] =
            &[$((stringify!($name), $value, types::$name as i128)),*];
    };
}

constants! {
    CONTROL_HDR_MAGIC = 0x696f_6b3a;
    CONTROL_SOCK_PATH_LEN = 108;
    INGRESS_MBUF_SHM_KEY = 0x696d_736b;
    INGRESS_MBUF_SHM_SIZE = 512 << 20;
    NCPU = 256;
    IOKERNEL_MAX_PROC = 1024;
    MBUF_DEFAULT_LEN = 2048;
    ETH_FRAME_MAX = 1514;
    ETH_FRAME_MAX_VLAN = 1518;
    SCHED_PRIORITY_SYSTEM = 0;
    SCHED_PRIORITY_NORMAL = 1;
    SCHED_PRIORITY_BATCH = 2;
    RX_NET_RECV = 0;
    RX_NET_COMPLETE = 1;
    RX_JOIN = 2;
    TXPKT_NET_XMIT = 0;
    TXCMD_NET_COMPLETE = 0;
    TXCMD_PARKED = 1;
    TXCMD_PARKED_LAST = 2;
    CHECKSUM_TYPE_NEEDED = 0;
    CHECKSUM_TYPE_UNNECESSARY = 1;
    CHECKSUM_TYPE_COMPLETE = 2;
    OLFLAG_IP_CHKSUM = 1 << 0;
    OLFLAG_TCP_CHKSUM = 1 << 1;
    OLFLAG_IPV4 = 1 << 2;
    OLFLAG_IPV6 = 1 << 3;
}

/// Constants that the Rust side has under its own name: as recorded, and that.
const RENAMED_CONSTANTS: &[(&str, u64, u64)] = &[
    ("SHMPTR_NULL", u64::MAX, calisto::abi::shm::ShmPtr::NULL.0),
    ("LRPC_DONE_PARITY", 1 << 63, calisto::abi::lrpc::DONE_PARITY),
    (
        "LRPC_CMD_MASK",
        u64::MAX >> 1,
        !calisto::abi::lrpc::DONE_PARITY,
    ),
];

/// The Rust types' rows: the struct's, then its fields'.
macro_rules! rust_rows {
    ($rows:ident: $($type:ident { $($field:ident),* })*) => { $(
        $rows.push((stringify!($type), None, align_of::<types::$type>(), size_of::<types::$type>()));
        $(
            let span = span_of!(types::$type, $field);
            $rows.push((stringify!($type), Some(stringify!($field)), span.start, span.len()));
        )*
    )* };
}

type Row = (&'static str, Option<&'static str>, usize, usize);

fn rust_layouts() -> Vec<Row> {
    let mut rows = Vec::new();
    rust_rows! { rows:
        control_hdr { magic, thread_count, egress_buf_count, mac, pad0, sched_cfg, pad1 }
        sched_spec { priority, max_cores, guaranteed_cores, congestion_latency_us, scaleout_latency_us }
        thread_spec { rxq, txpktq, txcmdq, q_ptrs, tid, park_efd }
        queue_spec { msg_count, msg_buf, wb }
        q_ptrs { rxq_wb, rq_head, rq_tail }
        lrpc_msg { cmd, payload }
        rx_net_hdr { completion_data, len, rss_hash, csum_type, csum }
        tx_net_hdr { completion_data, len, olflags, pad }
    }
    rows
}

fn recorded_layouts() -> Vec<Row> {
    let mut rows = Vec::new();
    for l in LAYOUTS {
        rows.push((l.name, None, l.align, l.size));
        rows.extend(
            l.fields
                .iter()
                .map(|&(f, at, len)| (l.name, Some(f), at, len)),
        );
    }
    rows
}

#[test]
fn recorded_fields_leave_no_byte_unnamed() {
    for l in LAYOUTS {
        let end = l.fields.iter().fold(0, |end, &(field, at, len)| {
            assert_eq!(at, end, "{}.{field}: a gap or an overlap", l.name);
            at + len
        });
        assert_eq!(end, l.size, "{}: bytes after its last field", l.name);
    }
}

#[test]
fn rust_types_lie_as_recorded() {
    assert_eq!(rust_layouts(), recorded_layouts());
}

#[test]
fn c_structs_lie_as_recorded() {
    let c: Vec<Row> = c_view::layouts()
        .into_iter()
        .map(|r| (r.type_name, r.field, r.offset, r.size))
        .collect();
    assert_eq!(c, recorded_layouts());
}

#[test]
fn rust_constants_are_as_recorded() {
    for &(name, recorded, rust) in CONSTANTS {
        assert_eq!(rust, i128::from(recorded), "{name}");
    }
    for &(name, recorded, rust) in RENAMED_CONSTANTS {
        assert_eq!(rust, recorded, "{name}");
    }
}

#[test]
fn c_constants_are_as_recorded() {
    let mut c: Vec<_> = c_view::constants()
        .into_iter()
        .map(|r| (r.name, r.value))
        .collect();
    let mut recorded: Vec<_> = CONSTANTS
        .iter()
        .map(|&(name, value, _)| (name, value))
        .chain(
            RENAMED_CONSTANTS
                .iter()
                .map(|&(name, value, _)| (name, value)),
        )
        .collect();
    c.sort_unstable();
    recorded.sort_unstable();
    assert_eq!(c, recorded);
}

#[test]
fn rxq_write_back_word_is_the_first_of_q_ptrs() {
    // thread_spec.rxq.wb and thread_spec.q_ptrs name the same address, so the
    // write-back word must come first.
    assert_eq!(span_of!(types::q_ptrs, rxq_wb), 0..4);
}

/// Every header of the contract, by path.
fn headers() -> Vec<std::path::PathBuf> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../c-headers/calisto");
    let mut headers: Vec<_> = std::fs::read_dir(dir)
        .expect("the headers are part of the source tree")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|e| e == "h"))
        .collect();
    headers.sort();
    assert!(headers.len() >= 5, "headers are missing from {dir}");
    headers
}

/// Compiles each header on its own and demands silence.
fn each_header_compiles(compiler: &str, args: &[&str]) {
    for header in headers() {
        let out = Command::new(compiler)
            .args(args)
            .args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only"])
            .arg(&header)
            .output()
            .unwrap_or_else(|e| panic!("cannot run {compiler}: {e}"));
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{}: {said}", header.display());
    }
}

#[test]
fn each_header_alone_is_c11() {
    // "-x c": the file is a program of its own, not a header to precompile.
    each_header_compiles("cc", &["-std=c11", "-pedantic", "-x", "c"]);
}

#[test]
fn each_header_alone_is_cpp17() {
    if Command::new("g++").arg("--version").output().is_err() {
        compat_tests::skip::skip("headers as C++17", "there is no g++");
        return;
    }
    each_header_compiles("g++", &["-std=c++17", "-x", "c++"]);
}
