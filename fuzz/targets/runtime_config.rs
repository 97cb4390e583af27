//! Configuration files of runtimes.
#![no_main]

use std::fmt::Write;

use calisto_fuzz::text::{NamelessFile, assert_one_line};
use calisto_runtime::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let file = NamelessFile::new(bytes);
    match Config::from_file(file.path()) {
        Ok(config) => {
            assert_eq!(config.check().map_err(|e| e.to_string()), Ok(()));
            // Written down plainly, it is the same.
            let again = NamelessFile::new(plainly(&config).as_bytes());
            let again = Config::from_file(again.path()).map_err(|e| e.to_string());
            assert_eq!(again, Ok(config));
        }
        Err(why) => assert_one_line(&why.to_string()),
    }
});

/// A file that says what `config` says.
fn plainly(config: &Config) -> String {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(config.prefix_len))
        .unwrap_or(0);
    let mut text = format!(
        "host_addr {}\nhost_netmask {}\nruntime_kthreads {}\nruntime_guaranteed_kthreads {}\n",
        config.addr,
        std::net::Ipv4Addr::from_bits(mask),
        config.kthreads,
        config.guaranteed,
    );
    let mut line = |what: String| writeln!(text, "{what}").expect("a String takes all");
    if let Some(gateway) = config.gateway {
        line(format!("host_gateway {gateway}"));
    }
    if let Some(mac) = config.mac {
        line(format!("host_mac {}", address(mac)));
    }
    for (ip, mac) in &config.arp {
        line(format!("static_arp {ip} {}", address(*mac)));
    }
    if config.spinning {
        line("runtime_spinning_kthreads 1".into());
    }
    text
}

fn address(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
