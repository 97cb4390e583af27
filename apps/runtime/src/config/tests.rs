use std::path::Path;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    file::parse(text, Path::new("app.config")).map_err(|e| e.to_string())
}

const SMALLEST: &str = "host_addr 192.168.1.3\nhost_netmask 255.255.255.0\nruntime_kthreads 4\n";

#[test]
fn a_file_of_upstream_is_understood() {
    let text = "\
# an example
host_addr 192.168.1.3
host_netmask 255.255.240.0   # /20
host_gateway 192.168.1.1
host_mac 02:00:00:0a:0b:FF
runtime_kthreads 10
runtime_guaranteed_kthreads 4
runtime_spinning_kthreads 1
static_arp 192.168.1.4 02:00:00:00:00:01
static_arp 192.168.1.5 02:00:00:00:00:02
log_level 5
disable_watchdog true
";
    let config = parse(text).unwrap();
    assert_eq!(config.addr, Ipv4Addr::new(192, 168, 1, 3));
    assert_eq!(config.prefix_len, 20);
    assert_eq!(config.gateway, Some(Ipv4Addr::new(192, 168, 1, 1)));
    assert_eq!(config.mac, Some([2, 0, 0, 10, 11, 255]));
    assert_eq!((config.kthreads, config.guaranteed), (10, 4));
    assert!(config.spinning);
    assert_eq!(config.arp.len(), 2);
    assert_eq!(config.arp[1].1, [2, 0, 0, 0, 0, 2]);
}

#[test]
fn what_is_not_said_is_as_upstream_has_it() {
    let config = parse(SMALLEST).unwrap();
    assert_eq!((config.kthreads, config.guaranteed), (4, 0));
    assert!(!config.spinning);
    assert_eq!((config.gateway, config.mac), (None, None));
}

#[test]
fn a_bad_line_is_named() {
    let cases = [
        ("host_adr 1.2.3.4", "unknown key \"host_adr\""),
        (
            "host_mac 02:00:00:00:00",
            "an Ethernet address is six bytes",
        ),
        (
            "host_mac 02:00:00:00:00:100",
            "an Ethernet address is six bytes",
        ),
        ("host_gateway 1.2.3", "give an IPv4 address"),
        ("runtime_guaranteed_kthreads", "has no value"),
        ("runtime_guaranteed_kthreads -1", "give a number"),
        ("runtime_kthreads 4", "given twice"),
        ("log_level 5 6", "one word too many"),
        ("static_arp 1.2.3.4", "has no value"),
    ];
    for (line, why) in cases {
        let error = parse(&format!("{SMALLEST}{line}\n")).unwrap_err();
        assert!(error.starts_with("app.config:4: "), "{error}");
        assert!(error.contains(why), "{line}: {error}");
    }
}

#[test]
fn a_netmask_with_holes_is_refused() {
    let text = SMALLEST.replace("255.255.255.0", "255.0.255.0");
    assert!(parse(&text).unwrap_err().contains("has holes"));
    for (mask, len) in [("0.0.0.0", 0), ("255.255.255.255", 32)] {
        let text = SMALLEST.replace("255.255.255.0", mask);
        assert_eq!(parse(&text).unwrap().prefix_len, len);
    }
}

#[test]
fn a_missing_address_is_said() {
    let error = parse("host_addr 10.0.0.1\nruntime_kthreads 1\n").unwrap_err();
    assert_eq!(error, "app.config: host_netmask is missing");
}

#[test]
fn impossible_values_are_refused() {
    let cases: [fn(&mut Config); 7] = [
        |c| c.kthreads = 0,
        |c| c.kthreads = MAX_KTHREADS + 1,
        |c| c.guaranteed = c.kthreads + 1,
        |c| c.prefix_len = 33,
        |c| c.addr = Ipv4Addr::BROADCAST,
        |c| c.mac = Some([1, 0, 0, 0, 0, 1]),
        |c| c.egress_bufs = 1,
    ];
    for (i, spoil) in cases.iter().enumerate() {
        let mut config = Config::default();
        assert!(config.check().is_ok());
        spoil(&mut config);
        assert!(config.check().is_err(), "case {i}");
    }
}

#[test]
fn a_file_that_is_not_there_is_said() {
    let error = Config::from_file("/nonexistent/app.config").unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nonexistent/"));
}
