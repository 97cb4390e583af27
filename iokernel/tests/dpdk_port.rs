//! The DPDK port on real (virtual) devices of DPDK.
//!
//! The EAL starts once per process, so each test runs itself again as a child, in a
//! network namespace of its own. Ordinary pages do: no huge pages are needed. Where
//! the machine does not allow something, a test is skipped, and says why.

#![allow(
    unsafe_code,
    clippy::cast_possible_truncation,
    reason = "a test that stands in for Linux and for a runtime"
)]

#[cfg(test)]
mod netns;
#[cfg(test)]
mod port_bed;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::UdpSocket;
    use std::process::Command;
    use std::sync::Arc;
    use std::time::Duration;

    use calisto::abi::ingress::BUFS_PER_PAGE;
    use calisto::abi::shm::ShmRegion;
    use calisto::port::dpdk::{Dpdk, Eal, EalConfig, PortSel, probe};
    use calisto::port::hash::hash_frame;
    use calisto::port::{
        Port, RX_BURST_SIZE, RxFlags, RxFrame, TX_BURST_SIZE, TxOffloads, checksum,
    };

    use crate::netns::{self, LINUX_IP, PORT_IP, PORT_MAC, RawSocket};
    use crate::port_bed::{
        CSUM, Runtime, bytes, eal, first_cpu, in_child, receive, region, release,
    };

    /// A port on one end of a veth pair, whose other end is Linux.
    fn af_packet() -> Result<(Dpdk, Arc<ShmRegion>, RawSocket), String> {
        netns::enter()?;
        netns::ip("link add cal0 type veth peer name cal1")?;
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/cal0/disable_ipv6", "1");
        netns::address("cal1")?;
        netns::ip("link set cal0 up")?;
        let peer = RawSocket::open("cal1").map_err(|e| e.to_string())?;
        let eal = eal(&["--vdev=net_af_packet0,iface=cal0"])?;
        let ingress = region(2);
        let port = Dpdk::start(eal, &PortSel::Id(0), Arc::clone(&ingress), 4096);
        Ok((port.map_err(|e| e.to_string())?, ingress, peer))
    }

    #[test]
    fn received_frames_are_whole_hashed_and_their_buffers_come_back() {
        in_child(
            "received_frames_are_whole_hashed_and_their_buffers_come_back",
            || {
                let (mut port, ingress, peer) = af_packet()?;
                assert!(!port.info().hw_rss && !port.info().hw_tx_csum);
                assert_eq!(port.info().driver, "net_af_packet");
                let all = 2 * BUFS_PER_PAGE;
                assert_eq!(port.free_buffers(), all);
                let mut held = Vec::new();
                // 2,880 frames through 1,926 buffers: each buffer is used again.
                for round in 0..90_u16 {
                    let sent: Vec<Vec<u8>> = (0..32)
                        .map(|i| {
                            let data = vec![i as u8; usize::from(round * 16 + i)];
                            let ports = (round, 1000 + i);
                            let mut f = netns::udp(PORT_MAC, LINUX_IP, PORT_IP, ports, &data);
                            match i % 4 {
                                0 => {}                                  // header checksum zero: wrong
                                1 => f[12..14].copy_from_slice(&[8, 6]), // no IP at all
                                _ => checksum::finish(&mut f, TxOffloads::IP_CSUM),
                            }
                            f
                        })
                        .collect();
                    sent.iter().for_each(|f| peer.send(f));
                    let got = receive(&mut port, sent.len());
                    assert_eq!(got.len(), sent.len(), "round {round}");
                    for (i, (frame, sent)) in got.iter().zip(&sent).enumerate() {
                        assert_eq!(&bytes(&ingress, frame), sent);
                        assert_eq!(frame.hash, hash_frame(sent));
                        let good = RxFlags::IP_CSUM_GOOD;
                        assert_eq!(frame.flags, if i % 4 > 1 { good } else { RxFlags::empty() });
                        assert!(i % 4 == 1 || frame.hash != 0);
                    }
                    held.extend(got);
                    assert_eq!(port.free_buffers(), all - held.len() as u32);
                    if held.len() > 700 {
                        held.reverse();
                        release(&mut port, &held);
                        held.clear();
                    }
                }
                release(&mut port, &held);
                assert_eq!(port.free_buffers(), all);
                assert_eq!(port.stats().rx_packets, 90 * 32);
                Ok(())
            },
        );
    }

    #[test]
    fn without_free_buffers_nothing_is_received_and_nothing_breaks() {
        in_child(
            "without_free_buffers_nothing_is_received_and_nothing_breaks",
            || {
                let (mut port, _, peer) = af_packet()?;
                let all = 2 * BUFS_PER_PAGE;
                let frame = netns::udp(PORT_MAC, LINUX_IP, PORT_IP, (1, 2), b"x");
                let mut held = Vec::new();
                while (held.len() as u32) < all {
                    let n = 32.min(all as usize - held.len());
                    (0..n).for_each(|_| peer.send(&frame));
                    let got = receive(&mut port, n);
                    assert_eq!(got.len(), n);
                    held.extend(got);
                }
                let distinct: BTreeSet<_> = held.iter().map(|f| f.buf).collect();
                assert_eq!(distinct.len() as u32, all, "no buffer is given out twice");
                peer.send(&frame);
                let mut burst = [RxFrame::EMPTY; RX_BURST_SIZE];
                for _ in 0..1000 {
                    assert_eq!(port.rx_burst(&mut burst), 0);
                }
                release(&mut port, &held);
                peer.send(&frame);
                assert!(!receive(&mut port, 1).is_empty());
                Ok(())
            },
        );
    }

    /// Every runtime maps the ingress region read-write. Upstream keeps DPDK's mbuf
    /// headers there: addresses, pool, next pointer. Here nothing is believed that
    /// lies in it.
    #[test]
    fn a_runtime_may_overwrite_the_whole_ingress_region_at_any_time() {
        in_child(
            "a_runtime_may_overwrite_the_whole_ingress_region_at_any_time",
            || {
                let (mut port, ingress, peer) = af_packet()?;
                let scribble = |byte: u8| {
                    // SAFETY: the region is mapped; nobody reads it meanwhile.
                    unsafe { ingress.base().as_ptr().write_bytes(byte, ingress.len()) };
                };
                let frame = netns::udp(PORT_MAC, LINUX_IP, PORT_IP, (1, 2), b"calisto");
                for byte in [0xff, 0x00, 0x41] {
                    scribble(byte);
                    (0..32).for_each(|_| peer.send(&frame));
                    let got = receive(&mut port, 32);
                    assert_eq!(got.len(), 32);
                    assert!(got.iter().all(|f| bytes(&ingress, f) == frame));
                    // Once more while the buffers are lent, and before they are returned.
                    scribble(!byte);
                    release(&mut port, &got);
                    assert_eq!(port.free_buffers(), 2 * BUFS_PER_PAGE);
                }
                Ok(())
            },
        );
    }

    #[test]
    fn linux_accepts_finished_frames_and_every_token_comes_back_once() {
        in_child(
            "linux_accepts_finished_frames_and_every_token_comes_back_once",
            || {
                let (mut port, ingress, peer) = af_packet()?;
                let linux = netns::mac("cal1");
                let mut runtime = Runtime::new();
                linux_answers(&mut port, &ingress, &mut runtime, linux);
                while peer.recv().is_some() {}
                // As they lie, and finished: both arrive as they should.
                for i in 0..500_u16 {
                    let data = vec![i as u8; usize::from(i)];
                    let frame = netns::udp(linux, PORT_IP, LINUX_IP, (i, 9), &data);
                    let offloads = if i % 2 == 0 { CSUM } else { TxOffloads::IPV4 };
                    runtime.push(&mut port, &frame, offloads);
                    assert_eq!(port.tx_flush(), 1);
                    let mut expected = frame;
                    checksum::finish(&mut expected, offloads);
                    assert_eq!(peer.recv().unwrap(), expected, "frame {i}");
                    runtime.done(&mut port);
                }
                assert!(runtime.outstanding.is_empty(), "{:?}", runtime.outstanding);
                Ok(())
            },
        );
    }

    /// Linux answers a SYN to a closed port with a reset, and drops one with a wrong
    /// checksum; a datagram reaches a socket only with a right header checksum.
    fn linux_answers(port: &mut Dpdk, ingress: &ShmRegion, runtime: &mut Runtime, linux: [u8; 6]) {
        let socket = UdpSocket::bind("10.9.0.1:7777").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let datagram = netns::udp(linux, PORT_IP, LINUX_IP, (5, 7777), b"hello");
        runtime.push(port, &datagram, TxOffloads::IPV4);
        runtime.push(port, &datagram, TxOffloads::IPV4 | TxOffloads::IP_CSUM);
        assert_eq!(port.tx_flush(), 2);
        let mut room = [0; 16];
        assert_eq!(socket.recv(&mut room).unwrap(), 5);
        assert!(socket.recv(&mut room).is_err(), "the first had no checksum");

        let frame = netns::syn(linux, 4001, 81);
        runtime.push(port, &frame, TxOffloads::IPV4 | TxOffloads::IP_CSUM);
        let frame = netns::syn(linux, 4002, 81);
        runtime.push(port, &frame, CSUM);
        assert_eq!(port.tx_flush(), 2);
        let got = receive(port, 2);
        let answers: Vec<Vec<u8>> = got.iter().map(|f| bytes(ingress, f)).collect();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0][23], 6, "TCP");
        assert_eq!(answers[0][34..38], [0, 81, 0x0f, 0xa2], "from 81 to 4002");
        assert_eq!(answers[0][47] & 4, 4, "a reset");
        release(port, &got);
        runtime.done(port);
        assert!(runtime.outstanding.is_empty(), "{:?}", runtime.outstanding);
    }

    #[test]
    fn a_device_with_checksum_offload_is_left_to_do_it() {
        in_child("a_device_with_checksum_offload_is_left_to_do_it", || {
            netns::enter()?;
            std::fs::metadata("/dev/net/tun").map_err(|e| format!("/dev/net/tun: {e}"))?;
            let eal = eal(&["--vdev=net_tap0,iface=cal0"])?;
            let info = probe(&eal, &PortSel::Name("net_tap0".into())).unwrap();
            assert!(info.hw_tx_csum, "{info:?}");
            let ingress = region(2);
            let sel = PortSel::Name("net_tap0".into());
            let mut port = Dpdk::start(eal, &sel, Arc::clone(&ingress), 4096).unwrap();
            netns::address("cal0")?;
            let linux = netns::mac("cal0");
            linux_answers(&mut port, &ingress, &mut Runtime::new(), linux);
            Ok(())
        });
    }

    /// A net_ring device receives what it sends, and its ring holds 1,023 frames.
    #[test]
    fn what_a_full_device_does_not_take_stays_queued_in_order() {
        in_child(
            "what_a_full_device_does_not_take_stays_queued_in_order",
            || {
                let eal = eal(&["--vdev=net_ring0"])?;
                let mut port = Dpdk::start(eal, &PortSel::Id(0), region(2), 4096).unwrap();
                let mut runtime = Runtime::new();
                let frame = netns::udp(PORT_MAC, PORT_IP, LINUX_IP, (1, 2), b"data");
                let mut taken = 0;
                for _ in 0..32 {
                    while port.tx_room() > 0 {
                        runtime.push(&mut port, &frame, TxOffloads::empty());
                    }
                    taken += port.tx_flush();
                }
                assert_eq!(taken, 1023);
                assert_eq!(runtime.sent, 1023 + TX_BURST_SIZE as u64);
                assert_eq!(port.tx_room(), 0);
                runtime.done(&mut port);
                assert_eq!(
                    runtime.outstanding.len() as u64,
                    runtime.sent,
                    "none is done"
                );
                // They come in as mbufs whose buffers are not of the ingress region: dropped,
                // counted, and done.
                let mut burst = [RxFrame::EMPTY; RX_BURST_SIZE];
                for _ in 0..20 {
                    assert_eq!(port.rx_burst(&mut burst), 0);
                    taken += port.tx_flush();
                    runtime.done(&mut port);
                }
                assert_eq!(taken as u64, runtime.sent);
                assert!(runtime.outstanding.is_empty(), "{:?}", runtime.outstanding);
                assert_eq!(port.stats().rx_errors, runtime.sent);
                assert_eq!(port.tx_room(), TX_BURST_SIZE);
                // Copied frames are done at once; their buffers are used again and again.
                for _ in 0..5000 {
                    runtime.push(&mut port, &frame, CSUM);
                    port.tx_flush();
                    runtime.done(&mut port);
                    assert!(runtime.outstanding.is_empty());
                    port.rx_burst(&mut burst);
                }
                Ok(())
            },
        );
    }

    #[test]
    fn frames_of_impossible_length_are_dropped_and_done() {
        in_child("frames_of_impossible_length_are_dropped_and_done", || {
            let eal = eal(&["--vdev=net_null0,no-rx=1"])?;
            let mut port = Dpdk::start(eal, &PortSel::Id(0), region(2), 4096).unwrap();
            let mut runtime = Runtime::new();
            for len in [0, 16, 17, 1518, 1519, 2048] {
                runtime.push(&mut port, &vec![1; len], CSUM);
            }
            // 17 and 1518 are sent: an MTU of 1500, 14 bytes of Ethernet, 4 of VLAN.
            assert_eq!(port.tx_flush(), 2);
            runtime.done(&mut port);
            assert!(runtime.outstanding.is_empty());
            assert_eq!(port.stats().tx_errors, 4);
            Ok(())
        });
    }

    #[test]
    fn a_port_that_is_not_there_is_said_in_one_line() {
        in_child("a_port_that_is_not_there_is_said_in_one_line", || {
            let eal = eal(&["--vdev=net_null0"])?;
            for (sel, wanted) in [
                (PortSel::Id(3), "port 3"),
                (PortSel::Name("eth9".into()), "port eth9"),
            ] {
                let error = probe(&eal, &sel).unwrap_err().to_string();
                assert!(error.contains(wanted), "{error}");
                assert!(error.contains("ports: 0 (net_null0)"), "{error}");
                assert!(!error.contains('\n'), "{error}");
            }
            // Probing leaves the port as it was.
            probe(&eal, &PortSel::Id(0)).unwrap();
            drop(Dpdk::start(eal, &PortSel::Id(0), region(2), 4096).unwrap());
            let again = Eal::init(&EalConfig::default()).unwrap_err().to_string();
            assert!(again.contains("once"), "{again}");
            Ok(())
        });
    }

    #[test]
    fn a_device_that_cannot_be_made_is_said_in_one_line() {
        in_child("a_device_that_cannot_be_made_is_said_in_one_line", || {
            let eal = eal(&["--vdev=net_af_packet0,iface=nosuch0"])?;
            let error = probe(&eal, &PortSel::Id(0)).unwrap_err().to_string();
            assert!(
                error.contains("ports: none") && error.contains("initialize net_af_packet0"),
                "{error}"
            );
            assert!(!error.contains('\n'), "{error}");
            Ok(())
        });
    }

    #[test]
    fn without_root_and_huge_pages_a_virtual_device_works() {
        in_child("without_root_and_huge_pages_a_virtual_device_works", || {
            let ingress = region(2);
            // SAFETY: no memory is involved.
            if unsafe { libc::setgid(65534) != 0 || libc::setuid(65534) != 0 } {
                println!("(not root to begin with)");
            }
            let eal = eal(&["--vdev=net_null0"]).unwrap();
            let mut port = Dpdk::start(eal, &PortSel::Id(0), ingress, 4096).unwrap();
            let got = receive(&mut port, 64);
            assert_eq!(got.len(), 64);
            release(&mut port, &got);
            Ok(())
        });
    }

    fn huge_pages_free() -> u32 {
        std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Files of DPDK whose path has this file prefix.
    fn files_of(prefix: &str) -> Vec<String> {
        let run = format!("/var/run/dpdk/{prefix}");
        ["/dev/hugepages", run.as_str()]
            .iter()
            .filter_map(|dir| std::fs::read_dir(dir).ok())
            .flatten()
            .map(|entry| entry.unwrap().path().display().to_string())
            .filter(|path| path.contains(prefix))
            .collect()
    }

    const PREFIX: &str = "CALISTO_DPDK_PREFIX";

    /// Runs the same test once more, in a process that finds `prefix` in its environment.
    fn another(prefix: &str) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(std::env::args().skip(1))
            .env(PREFIX, prefix)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success(), "{text}");
        text.into_owned()
    }

    #[test]
    fn with_huge_pages_the_port_leaves_no_file_behind() {
        in_child("with_huge_pages_the_port_leaves_no_file_behind", || {
            let Ok(prefix) = std::env::var(PREFIX) else {
                let free = huge_pages_free();
                if free < 64 {
                    return Err(format!("{free} huge pages are free, 64 are wanted"));
                }
                let prefix = format!("calisto{}", std::process::id());
                let text = another(&prefix);
                assert!(!text.contains("SKIPPED"), "{text}");
                assert_eq!(files_of(&prefix), [""; 0]);
                // DPDK leaves the empty directory of the prefix.
                let _ = std::fs::remove_dir(format!("/var/run/dpdk/{prefix}"));
                return Ok(());
            };
            let config = EalConfig {
                cpu: first_cpu(),
                no_huge: false,
                args: vec![
                    "--no-pci".into(),
                    "--vdev=net_null0".into(),
                    format!("--file-prefix={prefix}"),
                ],
            };
            let eal = Eal::init(&config).map_err(|e| e.to_string())?;
            let mut port = Dpdk::start(eal, &PortSel::Id(0), region(2), 4096).unwrap();
            let socket = format!("/var/run/dpdk/{prefix}/dpdk_telemetry.v2");
            assert_eq!(files_of(&prefix), [socket], "while it runs");
            let got = receive(&mut port, 64);
            release(&mut port, &got);
            Ok(())
        });
    }

    #[test]
    fn a_second_process_with_the_same_files_is_told_what_to_do() {
        in_child(
            "a_second_process_with_the_same_files_is_told_what_to_do",
            || {
                let first = std::env::var(PREFIX);
                let prefix = first
                    .clone()
                    .unwrap_or_else(|_| format!("calisto{}", std::process::id()));
                // Settings in files, as without `--in-memory`.
                let eal = eal(&["--proc-type=primary", &format!("--file-prefix={prefix}")]);
                if first.is_ok() {
                    println!("ERROR {}", eal.unwrap_err());
                    return Ok(());
                }
                let eal = eal?;
                let text = another(&prefix);
                let error = text.lines().find_map(|line| line.split_once("ERROR "));
                let (_, error) = error.unwrap_or_else(|| panic!("{text}"));
                assert!(error.contains("--file-prefix NAME"), "{error}");
                drop(eal);
                let _ = std::fs::remove_dir_all(format!("/var/run/dpdk/{prefix}"));
                Ok(())
            },
        );
    }
}
