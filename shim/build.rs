//! Finds libdpdk, binds what `src/lib.rs` promises, compiles the forwards of inline functions.

use std::env;
use std::path::PathBuf;
use std::process::{Command, exit};

use bindgen::callbacks::{ItemInfo, ParseCallbacks};

/// The oldest DPDK whose interfaces are used here.
const OLDEST: &str = "22.11";

/// Functions of the library, as regular expressions.
const FUNCTIONS: &[&str] = &[
    "rte_eal_(init|cleanup|iova_mode)",
    "rte_strerror",
    "rte_extmem_(un)?register",
    "rte_mem_virt2iova",
    "rte_dev_(name|bus|dma_map|dma_unmap)",
    "rte_bus_name",
    "rte_eth_dev_(is_valid_port|get_port_by_name|get_name_by_port|info_get|configure)",
    "rte_eth_dev_(adjust_nb_rx_tx_desc|get_mtu|socket_id|start|stop|close)",
    "rte_eth_(rx|tx)_queue_setup",
    "rte_eth_(find_next|promiscuous_enable|macaddr_get|stats_get|tx_done_cleanup)",
    "rte_pktmbuf_(pool_create_extbuf|pool_init|init)",
    "rte_mbuf_set_platform_mempool_ops",
    "rte_mempool_(create_empty|set_ops_byname|populate_default|obj_iter|free|avail_count)",
    // The flow table's tests and benches compare it with DPDK's.
    "rte_hash_(create|free|reset|count|add_key_data|del_key|lookup_data|lookup_bulk|lookup_bulk_data)",
    "rte_malloc_heap_(create|destroy|memory_add|memory_remove|get_socket)",
    "calisto_.*",
];

/// Types that the functions do not mention but callers fill or read.
const TYPES: &[&str] = &[
    "rte_mbuf",
    "rte_mbuf_ext_shared_info",
    "rte_pktmbuf_pool_private",
    "rte_eth_stats",
];

/// Types of which only pointers are passed on.
const OPAQUE: &[&str] = &[
    "rte_mempool",
    "rte_device",
    "rte_bus",
    "rte_memzone",
    "rte_hash",
];

/// Gives the constants of wrapper.h the names that DPDK has for them.
#[derive(Debug)]
struct DpdkNames;

impl ParseCallbacks for DpdkNames {
    fn item_name(&self, item: ItemInfo<'_>) -> Option<String> {
        item.name.strip_prefix("CALISTO_").map(str::to_owned)
    }
}

/// Ends the build with a sentence instead of a backtrace.
fn stop(why: &str) -> ! {
    println!("cargo::error={why}");
    exit(1);
}

/// Compiler flags that the pkg-config crate leaves out: `-include rte_config.h`, `-march`.
fn other_cflags() -> Vec<String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = Command::new(program)
        .args(["--cflags-only-other", "libdpdk"])
        .output()
        .unwrap_or_else(|e| stop(&format!("pkg-config does not run: {e}")));
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG");
    let dpdk = pkg_config::Config::new()
        .atleast_version(OLDEST)
        .probe("libdpdk")
        .unwrap_or_else(|_| {
            stop(&format!(
                "DPDK {OLDEST} or newer is needed: apt install libdpdk-dev libclang-dev clang \
                 pkg-config (or build with --no-default-features, without the DPDK port)"
            ))
        });
    let cflags = other_cflags();

    let mut shim = cc::Build::new();
    shim.file("src/shim.c")
        .includes(&dpdk.include_paths)
        .opt_level(3)
        .flag("-std=gnu11");
    for flag in &cflags {
        shim.flag(flag);
    }
    shim.compile("calisto_shim");

    let mut bindings = bindgen::Builder::default()
        .header("src/wrapper.h")
        .clang_args(
            dpdk.include_paths
                .iter()
                .map(|p| format!("-I{}", p.display())),
        )
        .clang_args(&cflags)
        .allowlist_var("CALISTO_.*")
        .parse_callbacks(Box::new(DpdkNames))
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        .layout_tests(true)
        .generate_comments(false)
        .use_core();
    for name in FUNCTIONS {
        bindings = bindings.allowlist_function(name);
    }
    for name in TYPES {
        bindings = bindings.allowlist_type(name);
    }
    for name in OPAQUE {
        bindings = bindings.opaque_type(name);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("dpdk.rs");
    match bindings.generate() {
        Ok(bindings) => bindings
            .write_to_file(&out)
            .unwrap_or_else(|e| stop(&format!("cannot write {}: {e}", out.display()))),
        Err(e) => stop(&format!(
            "bindgen cannot read the headers of libdpdk ({e}): apt install libclang-dev clang"
        )),
    }
}
