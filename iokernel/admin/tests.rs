//! The admin thread and its client over a real socket.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::{AskError, ask};
use super::{Admin, AdminConfig, Request, address};
use crate::control::directory::Directory;
use crate::control::test_runtime::{become_user, may_become_another, private_namespaces};
use crate::control::{ControlStats, rules_link};
use crate::stats::{ControlCounter, Counter, Gauges, Held, Stats, SteerCounter};
use crate::steering::Policy;
use crate::steering::rules::RuleSet;
use crate::testing::World;

/// The admin thread, and a loop that takes rules.
struct Bed {
    directory: Directory,
    stats: Stats,
    gauges: Gauges,
    control: Arc<ControlStats>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Bed {
    /// `None` where tests have no namespaces of their own.
    #[track_caller]
    fn start(policy: Policy) -> Option<Bed> {
        if !private_namespaces() {
            return None;
        }
        let (link, mut end) = rules_link(Box::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (directory, stats) = (Directory::default(), Stats::default());
        let (gauges, control) = (Gauges::default(), Arc::<ControlStats>::default());
        let admin = Admin::spawn(AdminConfig {
            listener: Admin::bind().unwrap(),
            cores: (0..256).map(crate::ids::CoreId).collect(),
            cpu: None,
            policy,
            rules: Vec::new(),
            link,
            directory: directory.clone(),
            stats: stats.clone(),
            gauges: gauges.clone(),
            control: control.clone(),
            stop: Arc::clone(&stop),
        });
        let dataplane = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut rules = Box::<RuleSet>::default();
                while !stop.load(Ordering::Relaxed) {
                    end.renew(&mut rules);
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
        });
        Some(Bed {
            directory,
            stats,
            gauges,
            control,
            stop,
            threads: vec![admin.unwrap(), dataplane],
        })
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking());
        }
    }
}

fn request(text: &str) -> Result<Vec<String>, AskError> {
    ask(&text.parse::<Request>().unwrap())
}

/// Sends bytes as they are; everything that comes back.
fn say(bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect_addr(&address()).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    // Bytes that were not read reset the connection behind the answer.
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn rules_are_listed_as_they_were_given() {
    let Some(_bed) = Bed::start(Policy::Hybrid) else {
        return;
    };
    assert_eq!(request("rules").unwrap(), Vec::<String>::new());
    let flow = "core=6 flow=udp 10.0.0.1:5000 -> 192.168.1.3:80";
    request(&format!("rule add {flow}")).unwrap();
    request("rule add core=5 hash=7").unwrap();
    assert_eq!(request("rules").unwrap(), [flow, "core=5 hash=0x00000007"]);
    // The same flow by another name.
    let refused = request("rule add core=1 flow=tcp 10.0.0.1:5000 -> 192.168.1.3:80");
    assert!(matches!(refused, Err(AskError::Refused(line)) if line.contains(flow)));
    request("rule del flow=tcp 10.0.0.1:5000 -> 192.168.1.3:80").unwrap();
    assert_eq!(request("rules").unwrap(), ["core=5 hash=0x00000007"]);
    request("rule clear").unwrap();
    assert_eq!(request("rules").unwrap(), Vec::<String>::new());
}

#[test]
fn runtimes_and_counters_are_json() {
    let Some(bed) = Bed::start(Policy::FlowTable) else {
        return;
    };
    assert_eq!(request("runtimes").unwrap(), Vec::<String>::new());
    let (_peer, proc) = World::peer(3, 2, 1);
    bed.directory.enter(&proc);
    proc.steer_stats.add(SteerCounter::Packets, 9);
    bed.stats.add(Counter::RxPulled, 11);
    bed.gauges.held.set(Held::BufsFree, 12);
    bed.control.reserved_cores.store(13, Ordering::Relaxed);
    bed.control.reasons.add(ControlCounter::RefusedSilent, 2);
    let lines = request("runtimes").unwrap();
    let runtime: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(runtime["pid"], std::process::id());
    assert_eq!(runtime["mac"], "02:00:00:00:00:03");
    assert_eq!(runtime["kthreads"], 2);
    assert_eq!(runtime["steering"]["ST_PACKETS"], 9);
    assert_eq!(runtime["steering"]["ST_FLOWS"], 0);
    let lines = request("stats").unwrap();
    let stats: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(lines.len(), 1);
    let both = serde_json::json!({ "RX_PULLED": 11, "REFUSED_SILENT": 2 });
    assert_eq!(stats["counters"], both);
    assert_eq!(stats["steering"]["ST_PACKETS"], 9);
    assert_eq!(stats["held"]["BUFS_FREE"], 12);
    assert_eq!(stats["held"]["ADDRESSES"], 0);
    assert_eq!(stats["port"]["PORT_RX_NO_BUF"], 0);
    assert_eq!(stats["control"]["CONTROL_RESERVED_CORES"], 13);
}

#[test]
fn a_thousand_runtimes_fit_into_an_answer() {
    let Some(bed) = Bed::start(Policy::FlowTable) else {
        return;
    };
    // More than a socket holds: the answer is written as it is read.
    let (_peer, mut proc) = World::peer(0, 1, 1);
    for slot in 0..1024 {
        proc.id.slot.0 = slot;
        bed.directory.enter(&proc);
    }
    assert_eq!(request("runtimes").unwrap().len(), 1024);
}

#[test]
fn what_is_no_request_gets_one_line() {
    let Some(_bed) = Bed::start(Policy::Hybrid) else {
        return;
    };
    let long = [b'x'; 2000];
    for (bytes, part) in [
        (&b"up\n"[..], "error: unknown request `up`"),
        (b"\n", "error: unknown request ``"),
        (b"rule add core=500 hash=1\n", "error: core 500: must be"),
        (b"\xff\xfe\n", "error: the request is not UTF-8"),
        (&long, "error: the request is longer than 1024 bytes"),
        (b"rules", "error: no request came in 1 s"),
    ] {
        let answer = say(bytes);
        assert!(answer.starts_with(part), "{answer}");
        assert_eq!(answer.matches('\n').count(), 1, "{answer:?}");
    }
    let half = UnixStream::connect_addr(&address()).unwrap();
    (&half).write_all(b"rules").unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    (&half).read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "error: the request ended without a newline\n");
    // Others are served as before.
    assert_eq!(say(b"rules\r\n"), "ok\n");
}

#[test]
fn who_takes_no_answer_is_given_up() {
    let Some(bed) = Bed::start(Policy::FlowTable) else {
        return;
    };
    let (_peer, mut proc) = World::peer(0, 1, 1);
    for slot in 0..1024 {
        proc.id.slot.0 = slot;
        bed.directory.enter(&proc);
    }
    let mut deaf = UnixStream::connect_addr(&address()).unwrap();
    deaf.write_all(b"runtimes\n").unwrap();
    assert_eq!(request("rules").unwrap(), Vec::<String>::new());
}

#[test]
fn other_policies_refuse_rules() {
    let Some(_bed) = Bed::start(Policy::Buckets) else {
        return;
    };
    assert_eq!(
        say(b"rule add core=1 hash=1\n"),
        "error: rules need --policy hybrid\n"
    );
}

#[test]
fn only_root_and_the_daemons_user_may_ask() {
    for (uid, own, may) in [(0, 0, true), (0, 7, true), (7, 7, true), (7, 0, false)] {
        assert_eq!(super::server::may_ask(uid, own), may, "{uid} of {own}");
    }
    if !may_become_another() {
        return;
    }
    let Some(_bed) = Bed::start(Policy::Hybrid) else {
        return;
    };
    // The admin thread stays who it is.
    become_user(4321);
    let refused = request("rules");
    assert!(matches!(refused, Err(AskError::Refused(line)) if line.contains("uid 4321")));
    assert!(say(b"").starts_with("error: uid 4321 may not ask"));
}

#[test]
fn nobody_there_and_a_death_in_the_middle_are_told_apart() {
    if !private_namespaces() {
        return;
    }
    assert!(matches!(request("rules"), Err(AskError::Absent)));
    let listener = UnixListener::bind_addr(&address()).unwrap();
    let dying = std::thread::spawn(move || {
        for answer in [
            &b""[..],
            b"core=5 hash=0x00000007\n",
            b"core=5 hash=0x00000007\no",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
            // As a process does that dies: what it was sent may be unread.
        }
    });
    for _ in 0..3 {
        let error = request("rules").unwrap_err();
        assert!(matches!(error, AskError::CutOff), "{error}");
    }
    dying.join().unwrap();
}

#[test]
fn the_thread_ends_soon_and_leaves_the_name() {
    let Some(bed) = Bed::start(Policy::Hybrid) else {
        return;
    };
    // Somebody who would be waited for.
    let _silent = UnixStream::connect_addr(&address()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    drop(bed);
    assert!(began.elapsed() < Duration::from_secs(1), "{began:?}");
    UnixListener::bind_addr(&address()).unwrap();
}
