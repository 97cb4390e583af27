//! Rules of a running daemon, asked for and changed by `calistoctl`.

#![allow(
    clippy::tests_outside_test_module,
    reason = "the whole file is a test crate"
)]

use std::path::PathBuf;

use compat_tests::{Host, Runtime, daemon};

const USAGE: i32 = 2;
const FAILURE: i32 = 1;

/// A configuration file; removed on drop.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn new(name: &str, text: &str) -> ConfigFile {
        let name = format!("{name}-{}.toml", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, text).expect("cargo gives tests a directory");
        ConfigFile(path)
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Exit code, standard output, standard error.
fn ctl(host: &Host, words: &[&str]) -> (Option<i32>, String, String) {
    let out = host.command(daemon::ctl()).args(words).output();
    let out = out.expect("calistoctl runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

/// What it answers.
fn answer(host: &Host, words: &[&str]) -> String {
    let (code, said, complaint) = ctl(host, words);
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{words:?}");
    said
}

/// It must refuse, in one line with `says` in it, and exit with `code`.
fn refused(host: &Host, words: &[&str], code: i32, says: &str) {
    let (found, said, complaint) = ctl(host, words);
    assert_eq!(found, Some(code), "{words:?}: {complaint}");
    assert_eq!(said, "", "{words:?}");
    assert_eq!(complaint.lines().count(), 1, "{words:?}: {complaint}");
    assert!(complaint.starts_with("calistoctl: "), "{complaint}");
    assert!(complaint.contains(says), "{words:?}: {complaint}");
}

#[test]
fn rules_are_listed_added_and_deleted() {
    let file = ConfigFile::new(
        "rules",
        "virtual-cores = 4\npolicy = \"hybrid\"\n[[rule]]\ncore = 3\nhash = 0x51ccc178\n",
    );
    let path = file.0.to_str().expect("UTF-8");
    let Some(mut host) = Host::loopback_with("rules", &["--config", path]) else {
        return;
    };
    let listed = "CORE  HASH        FLOW\n3     0x51ccc178\n";
    assert_eq!(answer(&host, &["rules"]), listed);

    let flow = "udp 10.0.0.1:5000 -> 192.168.1.3:80";
    assert_eq!(
        answer(&host, &["rule", "add", "--core", "2", "--flow", flow]),
        ""
    );
    host.daemon()
        .wait_log(&format!("rule add core=2 flow={flow}"));
    let json = answer(&host, &["rules", "--json"]);
    let rules: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0]["hash"], "0x51ccc178");
    assert_eq!(
        (&rules[1]["core"], &rules[1]["flow"]),
        (&2.into(), &flow.into())
    );

    // The same flow by its hash; then as TCP, which hashes alike.
    let hash = rules[1]["hash"].as_str().expect("a string");
    let again = ["rule", "add", "--core", "1", "--hash", hash];
    refused(&host, &again, FAILURE, "has a rule already");
    let tcp = flow.replace("udp", "tcp");
    answer(&host, &["rule", "del", "--flow", &tcp]);
    assert_eq!(answer(&host, &["rules"]), listed);
    refused(&host, &["rule", "del", "--hash", hash], FAILURE, "no rule");
    answer(&host, &["rule", "clear"]);
    assert_eq!(answer(&host, &["rules"]), "CORE  HASH  FLOW\n");

    for (words, says) in [
        (&[][..], "a command is missing"),
        (&["rulez"], "rulez"),
        (&["rule"], "a command is missing"),
        (&["rule", "add", "--core", "1"], "--hash"),
        (&["rule", "add", "--hash", "1"], "--core"),
        (&["rule", "add", "--core", "256", "--hash", "1"], "0 to 255"),
        (&["rule", "add", "--core", "1", "--hash", "x"], "32 bits"),
        (&["rule", "add", "--core", "1", "--flow", "udp"], "such as"),
        (&["rule", "del"], "--flow"),
        (&["rule", "del", "--hash", "1", "--flow", flow], "--flow"),
    ] {
        refused(&host, words, USAGE, says);
    }

    host.stop_daemon();
    refused(&host, &["rules"], FAILURE, "no iokerneld runs");
    host.finish();
}

#[test]
fn a_runtime_is_shown_while_it_is_attached() {
    let Some(host) = Host::loopback("runtimes shown") else {
        return;
    };
    assert_eq!(answer(&host, &["runtimes", "--json"]), "");
    let echo = host.start(Runtime::echo(1).kthreads(3, 2));
    let json = answer(&host, &["runtimes", "--json"]);
    let runtime: serde_json::Value = serde_json::from_str(&json).expect("one line of JSON");
    assert_eq!(runtime["kthreads"], 3);
    assert_eq!(runtime["guaranteed_cores"], 2);
    let mac = runtime["mac"].as_str().expect("a string");
    assert!(answer(&host, &["runtimes"]).contains(mac));
    let stats = answer(&host, &["stats"]);
    let attached = stats
        .lines()
        .find_map(|line| line.strip_prefix("ATTACHED "));
    assert_eq!(attached.map(str::trim), Some("1"), "{stats}");
    // Rules are another policy's.
    let add = ["rule", "add", "--core", "1", "--hash", "1"];
    refused(&host, &add, FAILURE, "rules need --policy hybrid");
    echo.stop().assert_good();
    compat_tests::child::eventually("it is gone", || {
        answer(&host, &["runtimes", "--json"]).is_empty()
    });
    host.finish();
}

#[test]
fn rules_without_their_policy_are_bad_usage() {
    let file = ConfigFile::new("policy", "[[rule]]\ncore = 3\nhash = 1\n");
    let out = std::process::Command::new(daemon::binary())
        .args(["--port", "loopback", "--config"])
        .arg(&file.0)
        .output()
        .expect("iokerneld runs");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(USAGE), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("--policy hybrid"), "{said}");
}

/// From the file and at run time: the flow's packets wake the core that its rule names,
/// which nothing else here would be given before lower ones.
#[test]
fn packets_go_where_their_rules_say() {
    let flow = |port: u16| format!("udp 10.0.0.2:{port} -> 10.0.0.1:7");
    let file = ConfigFile::new(
        "placed",
        &format!(
            "virtual-cores = 8\npolicy = \"hybrid\"\naffinity = \"strict\"\n[[rule]]\ncore = 7\nflow = \"{}\"\n",
            flow(10_000)
        ),
    );
    let path = file.0.to_str().expect("UTF-8");
    let Some(mut host) = Host::loopback_with("packets and rules", &["--config", path]) else {
        return;
    };
    let echo = host.start(Runtime::echo(1).kthreads(3, 1));
    let send = |host: &Host| {
        // Ports 10000 and 10001.
        let sender = host.start(Runtime::sender(2).to(1).set("flows", 2).count(2000));
        let report = sender.wait();
        report.assert_good().assert_zero(&["lost", "corrupt"]);
    };
    send(&host);
    let runtimes = answer(&host, &["runtimes", "--json"]);
    assert!(runtimes.contains("ST_STRICT_WAKES"), "{runtimes}");
    let second = flow(10_001);
    answer(&host, &["rule", "add", "--core", "6", "--flow", &second]);
    send(&host);
    refused(
        &host,
        &["rule", "add", "--core", "8", "--hash", "1"],
        FAILURE,
        "no runtime core: those are 0,1,2,3,4,5,6,7",
    );
    let report = echo.stop();
    report.assert_good();
    let cores = report.cores();
    assert!(cores.contains(&7) && cores.contains(&6), "{cores:?}");
    let totals = compat_tests::Counters::of_daemon(&host.stop_daemon());
    assert!(totals.get("ST_STRICT_WAKES") >= 2);
    host.finish();
}
