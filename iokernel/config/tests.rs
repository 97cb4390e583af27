//! Every refusal, and what the defaults are.

use super::*;
use crate::ids::{CoreId, Micros};

fn parse(args: &[&str]) -> Result<Config, Stop> {
    parse_as("iokerneld", args)
}

fn parse_as(name: &str, args: &[&str]) -> Result<Config, Stop> {
    Config::from_args(
        std::iter::once(name)
            .chain(args.iter().copied())
            .map(OsString::from),
    )
}

/// The one line of a refusal.
fn refused(args: &[&str]) -> String {
    match parse(args) {
        Err(stop @ Stop::Usage(_)) => {
            assert_eq!(stop.exit_code(), 2);
            let Stop::Usage(line) = stop else {
                unreachable!()
            };
            assert!(!line.contains('\n'), "more than one line: {line:?}");
            line
        }
        other => panic!("{args:?}: {other:?}"),
    }
}

fn with_file(name: &str, text: &str, args: &[&str]) -> Result<Config, Stop> {
    let path = std::env::temp_dir().join(format!("calisto-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let mut all = vec!["--config", path.to_str().unwrap()];
    all.extend(args);
    let result = parse(&all);
    std::fs::remove_file(&path).unwrap();
    result
}

#[test]
fn no_flags_mean_what_upstream_does() {
    let config = parse(&[]).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.port, PortChoice::Dpdk(DpdkPort::Id(0)));
    assert_eq!(config.steering, SteeringSpec::default());
    assert_eq!(
        (config.smt, config.huge_pages, config.shm_mode),
        (true, true, 0o777)
    );
}

#[test]
fn every_flag_arrives() {
    let config = parse(&[
        "--port",
        "loopback",
        "--policy",
        "calisto",
        "--affinity",
        "strict",
        "--flow-entries",
        "16000000",
        "--flow-idle",
        "86400",
        "--order-guard",
        "--watch-flows",
        "--cores",
        "2-3,5",
        "--dataplane-core",
        "1",
        "--control-core",
        "0",
        "--no-smt",
        "--virtual-cores",
        "8",
        "--idle",
        "yield",
        "--no-huge",
        "--shm-mode",
        "0770",
        "--allow-uid",
        "0,1000",
        "--allow-gid",
        "100",
        "--lent-max",
        "50",
        "--seccomp",
        "kill",
        "--keep-caps",
        "net_admin",
        "--dry-run",
        "-vv",
    ])
    .unwrap();
    assert_eq!(
        config,
        Config {
            port: PortChoice::Loopback,
            steering: SteeringSpec {
                policy: Policy::FlowTable,
                affinity: Affinity::Strict,
                flow_entries: 16_000_000,
                flow_idle: Micros(86_400_000_000),
                order_guard: true,
                watch_flows: true,
            },
            rules: Vec::new(),
            cores: Some(vec![2, 3, 5]),
            dataplane_core: Some(1),
            control_core: Some(0),
            smt: false,
            virtual_cores: Some(8),
            idle: Some(Idle::Yield),
            huge_pages: false,
            shm_mode: 0o770,
            shm_gid: None,
            admission: Admission {
                uids: Some(vec![0, 1000]),
                gids: Some(vec![100]),
            },
            lent_max: 50,
            seccomp: Some(OnForbidden::Kill),
            keep_caps: CapabilitySet::NET_ADMIN,
            dry_run: true,
            verbosity: 2,
            eal_args: Vec::new(),
            notes: Vec::new(),
        }
    );
}

#[test]
fn a_group_for_the_segment_keeps_others_out() {
    let config = parse(&["--shm-gid", "100", "--allow-gid", "100"]).unwrap();
    assert_eq!((config.shm_gid, config.shm_mode), (Some(100), 0o770));
    assert!(config.notes.is_empty(), "{:?}", config.notes);
    let config = parse(&["--shm-gid", "100", "--shm-mode", "0777"]).unwrap();
    assert_eq!(config.shm_mode, 0o777);
    let line = refused(&["--shm-gid", "100", "--shm-mode", "0660"]);
    assert!(line.contains("must be 7"), "{line}");
}

#[test]
fn who_may_not_attach_and_may_still_look_is_noted() {
    for args in [&["--allow-uid", "0"], &["--allow-gid", "0"]] {
        let notes = parse(args).unwrap().notes;
        assert!(notes[0].contains("--shm-gid"), "{notes:?}");
        let closed = [args[0], args[1], "--shm-mode", "0770"];
        assert!(parse(&closed).unwrap().notes.is_empty());
    }
}

#[test]
fn ids_are_digits_and_somebodys() {
    for flag in ["--allow-uid", "--allow-gid", "--shm-gid"] {
        for id in ["4294967295", "4294967296", "+5", "-1", "", "0x5", "5 5"] {
            let line = refused(&[&format!("{flag}={id}")]);
            assert!(line.starts_with(&format!("{flag} {id}: must be")), "{line}");
        }
        parse(&[flag, "4294967294"]).unwrap();
    }
    let line = refused(&["--allow-uid", "0,+5"]);
    assert!(line.starts_with("--allow-uid 0,+5: must be"), "{line}");
    let stop = with_file("nobody", "shm-gid = 4294967295", &[]).unwrap_err();
    assert!(matches!(stop, Stop::Usage(line) if line.contains("--shm-gid 4294967295: must be")));
    let config = with_file("group", "shm-gid = 5", &[]).unwrap();
    assert_eq!(config.shm_gid, Some(5));
}

#[test]
fn what_is_let_in_and_given_up_is_shown() {
    let lines = |args: &[&str]| parse(args).unwrap().access_lines();
    assert_eq!(
        lines(&[]),
        "shm-gid: iokerneld's own\nallow-uid: anybody's\nallow-gid: anybody's\n\
         lent-max: 25 % of all buffers\nseccomp: system calls beyond the list fail\n\
         keep-caps: none\n"
    );
    let all = [
        "--shm-gid",
        "100",
        "--allow-uid",
        "0,1000",
        "--lent-max",
        "50",
        "--seccomp",
        "kill",
        "--keep-caps",
        "kill,sys_admin",
    ];
    assert_eq!(
        lines(&all),
        "shm-gid: 100\nallow-uid: 0,1000\nallow-gid: none\nlent-max: 50 % of all buffers\n\
         seccomp: system calls beyond the list end the process\nkeep-caps: KILL SYS_ADMIN\n"
    );
}

#[test]
fn ports_by_number_and_by_name() {
    let port = |text| parse(&["--port", text]).unwrap().port;
    assert_eq!(port("dpdk"), PortChoice::Dpdk(DpdkPort::Id(0)));
    assert_eq!(port("dpdk:3"), PortChoice::Dpdk(DpdkPort::Id(3)));
    let pci = DpdkPort::Name("0000:01:00.0".into());
    assert_eq!(port("dpdk:0000:01:00.0"), PortChoice::Dpdk(pci));
    let vdev = DpdkPort::Name("net_af_packet0".into());
    assert_eq!(port("dpdk:net_af_packet0"), PortChoice::Dpdk(vdev));
}

#[test]
fn eal_options_are_passed_on_untouched() {
    let config = parse(&["--idle", "spin", "--", "--no-pci", "--vdev=net_null0", "-v"]).unwrap();
    assert_eq!(config.eal_args, ["--no-pci", "--vdev=net_null0", "-v"]);
    assert_eq!(config.verbosity, 0);
}

#[test]
fn the_name_noht_turns_hyperthreads_off() {
    assert!(!parse_as("/usr/sbin/iokerneld-noht", &[]).unwrap().smt);
    assert!(parse_as("/opt/iokerneld-noht/iokerneld", &[]).unwrap().smt);
    assert!(!parse(&["noht"]).unwrap().smt);
}

#[test]
fn caladans_simple_is_accepted_with_a_note() {
    let config = parse(&["simple"]).unwrap();
    assert_eq!(config.notes.len(), 1);
    assert_eq!(
        Config {
            notes: Vec::new(),
            ..config
        },
        Config::default()
    );
}

#[test]
fn caladans_other_words_are_refused_with_a_reason() {
    assert!(refused(&["ias"]).contains("Caladan"));
    assert!(refused(&["numa"]).contains("Caladan"));
    assert!(refused(&["nicpci", "0000:01:00.0"]).contains("-- -a"));
    assert!(refused(&["bogus"]).contains("`bogus`"));
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (args, part) in [
        (["--port", "eth0"], "--port eth0: must be"),
        (["--port", "dpdk:"], "--port dpdk:: must be"),
        (
            ["--policy", "magic"],
            "--policy magic: must be modulo, kthread-table, flow-table, buckets or hybrid",
        ),
        (
            ["--affinity", "loose"],
            "--affinity loose: must be sticky or strict",
        ),
        (
            ["--flow-entries", "0"],
            "--flow-entries 0: must be 1 to 16000000",
        ),
        (
            ["--flow-entries", "4294967297"],
            "--flow-entries 4294967297: must be 1 to 16000000",
        ),
        (["--flow-idle", "0"], "--flow-idle 0: must be 1 to 86400 s"),
        (["--flow-idle", "86401"], "--flow-idle 86401: must be 1 to"),
        (
            ["--cores", "3-1"],
            "--cores 3-1: the range 3-1 runs backwards",
        ),
        (["--cores", ""], "--cores : "),
        (
            ["--dataplane-core", "256"],
            "--dataplane-core 256: CPUs go from 0 to 255",
        ),
        (["--control-core", "70000"], "--control-core 70000: "),
        (
            ["--virtual-cores", "0"],
            "--virtual-cores 0: must be 1 to 256",
        ),
        (
            ["--virtual-cores", "257"],
            "--virtual-cores 257: must be 1 to 256",
        ),
        (["--idle", "sleep"], "--idle sleep: must be spin or yield"),
        (["--shm-mode", "0888"], "--shm-mode 0888: must be octal"),
        (
            ["--shm-mode", "1777"],
            "--shm-mode 1777: must be permission bits",
        ),
        (
            ["--shm-mode", "0077"],
            "--shm-mode 0077: must let its owner",
        ),
        (["--dataplane-core", "x"], "--dataplane-core"),
        (
            ["--config", "/nonexistent.toml"],
            "--config /nonexistent.toml: ",
        ),
    ] {
        let line = refused(&args);
        assert!(line.contains(part), "{args:?}: {line}");
    }
}

#[test]
fn flags_that_exclude_each_other_are_refused() {
    let line = refused(&["--dataplane-core", "2", "--cores", "2-3"]);
    assert!(line.contains("also in --cores"), "{line}");
    let line = refused(&["--dataplane-core", "2", "--control-core", "2"]);
    assert!(line.contains("the same CPU"), "{line}");
    let line = refused(&["--port", "loopback", "--", "--no-pci"]);
    assert!(line.contains("EAL options"), "{line}");
    // Virtual cores share CPUs by their nature.
    let shared = [
        "--virtual-cores",
        "4",
        "--dataplane-core",
        "0",
        "--control-core",
        "0",
        "--cores",
        "0",
    ];
    parse(&shared).unwrap();
}

#[test]
fn a_misspelt_flag_gets_a_hint() {
    assert!(refused(&["--virtual-core", "3"]).contains("--virtual-cores"));
    assert!(refused(&["--zzz"]).contains("see --help"));
    assert!(refused(&["--port"]).contains("--port"));
}

#[test]
fn help_and_version_are_answers() {
    for flag in ["--help", "-h", "--version", "-V"] {
        let stop = parse(&[flag]).unwrap_err();
        assert_eq!(stop.exit_code(), 0, "{flag}");
    }
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let text = "idle = \"yield\"\nvirtual-cores = 4\nno-huge = true\neal = [\"--no-pci\"]\n";
    let config = with_file("beats", text, &["--virtual-cores", "6"]).unwrap();
    assert_eq!(config.virtual_cores, Some(6));
    assert_eq!(config.idle, Some(Idle::Yield));
    assert!(!config.huge_pages);
    assert_eq!(config.eal_args, ["--no-pci"]);
}

#[test]
fn the_files_values_are_checked_like_flags() {
    let stop = with_file("value", "shm-mode = \"9\"", &[]).unwrap_err();
    assert!(matches!(stop, Stop::Usage(line) if line.contains("must be octal")));
    let stop = with_file("key", "prot = \"loopback\"", &[]).unwrap_err();
    assert!(matches!(stop, Stop::Usage(line) if line.ends_with("did you mean `port`?")));
}

#[test]
fn policies_without_homes_take_nothing_that_is_about_homes() {
    for policy in ["modulo", "kthread-table"] {
        let line = refused(&["--policy", policy, "--affinity", "strict"]);
        assert!(line.starts_with("--affinity strict: "), "{line}");
        let line = refused(&["--policy", policy, "--order-guard"]);
        assert!(line.starts_with("--order-guard: "), "{line}");
        parse(&["--policy", policy, "--affinity", "sticky", "--watch-flows"]).unwrap();
    }
    for policy in ["flow-table", "buckets", "hybrid"] {
        parse(&["--policy", policy, "--affinity", "strict", "--order-guard"]).unwrap();
    }
}

#[test]
fn rules_in_the_file_name_hashes_or_flows() {
    let text = "
        policy = 'hybrid'
        [[rule]]
        core = 5
        hash = 0x51ccc178
        [[rule]]
        core = 0
        hash = '0x7'
        [[rule]]
        core = 255
        flow = 'udp 199.92.111.2:14230 -> 65.69.140.83:4739'
    ";
    let rules = with_file("rules", text, &[]).unwrap().rules;
    let rules: Vec<_> = rules.iter().map(RuleSpec::rule).collect();
    let found: Vec<_> = rules.iter().map(|r| (r.hash, r.core)).collect();
    assert_eq!(
        found,
        [
            (0x51cc_c178, CoreId(5)),
            (7, CoreId(0)),
            // Published: see port/hash.rs.
            (0xc626_b0ea, CoreId(255)),
        ]
    );
}

#[test]
fn wrong_rules_are_refused_in_one_line() {
    let good = "[[rule]]\ncore = 5\nhash = 1\n";
    for (bad, part) in [
        (
            "core = 256\nhash = 2",
            "[[rule]] number 2: core 256: must be",
        ),
        ("core = -1\nhash = 2", "[[rule]] number 2: core -1: must be"),
        ("core = 5", "[[rule]] number 2: a rule needs either"),
        (
            "core = 5\nhash = 2\nflow = 'udp 1.1.1.1:1 -> 1.1.1.2:1'",
            "[[rule]] number 2: a rule needs either",
        ),
        ("core = 5\nhash = 0x100000000", "hash 4294967296: must be"),
        ("core = 5\nhash = 2.5", "hash 2.5: must be"),
        ("core = 5\nflow = 'udp'", "flow udp: must be such as"),
        ("core = 5\nhash = 1", "two rules for hash 0x00000001"),
        ("hash = 2", "missing field `core`"),
        ("core = 5\nport = 80", "unknown field `port`"),
    ] {
        let text = format!("policy = 'hybrid'\n{good}[[rule]]\n{bad}");
        let Err(Stop::Usage(line)) = with_file("rule", &text, &[]) else {
            panic!("{bad} is taken");
        };
        assert!(line.contains(part), "{bad}: {line}");
        assert!(!line.contains('\n'), "{line:?}");
    }
}

#[test]
fn rules_need_the_policy_that_has_them() {
    let text = "[[rule]]\ncore = 5\nhash = 1\n";
    for policy in ["modulo", "kthread-table", "flow-table", "buckets"] {
        let stop = with_file("policy", text, &["--policy", policy]).unwrap_err();
        assert!(matches!(stop, Stop::Usage(line) if line.contains("rules need --policy hybrid")));
    }
    with_file("policy", text, &["--policy", "hybrid"]).unwrap();
}

#[test]
fn more_rules_than_there_may_be_are_refused() {
    let rules: String = (0..1025)
        .map(|hash| format!("[[rule]]\ncore = 1\nhash = {hash}\n"))
        .collect();
    let stop = with_file("many", &rules, &["--policy", "hybrid"]).unwrap_err();
    assert!(matches!(stop, Stop::Usage(line) if line.contains("1025 rules: there may be 1024")));
}

#[test]
fn the_steering_line_says_what_matters() {
    let line = |args: &[&str]| parse(args).unwrap().steering_line();
    assert_eq!(
        line(&[]),
        "flow-table, sticky, 700000 flow entries (forgotten after 300 s without a packet)"
    );
    assert_eq!(line(&["--policy", "modulo"]), "modulo");
    let guarded = [
        "--policy",
        "buckets",
        "--affinity",
        "strict",
        "--order-guard",
    ];
    assert_eq!(line(&guarded), "buckets, strict, order guard");
    assert_eq!(line(&["--policy", "hybrid"]), "hybrid, sticky, 0 rules");
    let watched = ["--policy", "modulo", "--watch-flows", "--flow-entries", "9"];
    assert_eq!(
        line(&watched),
        "modulo, 9 flow entries (forgotten after 300 s without a packet), flows watched"
    );
}

/// The first was found by the fuzz target `iokerneld_config`.
#[test]
fn a_refusal_is_one_line_whatever_it_quotes() {
    assert!(refused(&["--port", " \n"]).starts_with("--port  \\n: "));
    assert!(refused(&["--cores", "1\r\u{1b}[2J"]).contains("1\\r\\u{1b}[2J"));
    assert!(!refused(&["--nothing\r\n\nmore"]).contains('\r'));
}
