#!/usr/bin/env bash
# Builds Calisto and shows it: a load sweep under upstream's rule and under the flow table.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: scripts/demo.sh [--loopback | --veth | --nic IFACE --ip ADDR [--client WORDS]] [OPTION...]

Builds what it needs, then runs iokerneld with four virtual cores, a server
runtime and a client, and raises the load step by step, under `modulo` (upstream's
rule) and under `flow-table`. Prints latencies and how many packets changed core;
writes plots (SVG and PNG) and all samples to target/demo.

  --loopback   both runtimes on one iokerneld (the default): no NIC, no huge
               pages, no root
  --veth       iokerneld drives one end of a veth pair through DPDK, Linux sends
               from the other end. Needs root.
  --nic IFACE  iokerneld drives IFACE: a kernel interface (through af_packet) or a
               PCI address (bound to a DPDK driver). Needs root and
    --ip ADDR       an address for the server, free in that network
    --client WORDS  what runs a command on another machine of that network, such
                    as "ssh HOST"; this folder must be at the same path there.
                    Without it the demo serves until Ctrl-C and says how to load it.

OPTION is one of `experiment demo`: --policies modulo,buckets, --load, --steps, --seconds,
--rounds, --flows, --mean, --fakework, --cores, --out, each with a value
(`target/release/experiment demo --help`); without --client, --policy, --flows, --cores.

Runs in namespaces of its own where they are allowed; nothing is left behind.
USAGE
}

bad_usage() {
	echo "demo.sh: $* (see --help)" >&2
	exit 2
}

mode=loopback
nic='' ip='' client=''
options=()
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage && exit 0 ;;
	--veth) mode=veth ;;
	--loopback) mode=loopback ;;
	--nic | --ip | --client)
		[ $# -gt 1 ] || bad_usage "$1 needs a value"
		declare "${1#--}=$2"
		[ "$1" != --nic ] || mode=nic
		shift
		;;
	--policies | --load | --steps | --seconds | --rounds | --flows | --mean | --cores | --fakework | --out | --policy)
		[ $# -gt 1 ] || bad_usage "$1 needs a value"
		options+=("$1" "$2")
		shift
		;;
	*) bad_usage "unknown option $1" ;;
	esac
	shift
done
[ $mode != nic ] || [ -n "$ip" ] || bad_usage "--nic needs --ip, an address for the server that is free in that network"

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
. scripts/spaces.sh

build() {
	scripts/setup_machine.sh || echo "(not everything could be installed: going on with what there is)"
	echo "building (the first time takes some minutes)"
	local features=()
	# The loopback port needs no DPDK.
	[ $mode != loopback ] || pkg-config --exists libdpdk || features=(--no-default-features)
	cargo build --release -p calisto "${features[@]}"
	cargo build --release -p calisto-synthetic -p calisto-experiment
}

if [ -z "${CALISTO_DEMO_INSIDE:-}" ]; then
	[ -n "${CALISTO_DEMO_BUILT:-}" ] || build
	arguments=(--"$mode" "${options[@]}")
	[ $mode != nic ] || arguments=(--nic "$nic" --ip "$ip" --client "$client" "${options[@]}")
	if [ $mode != loopback ] && [ "$(id -u)" != 0 ]; then
		export CALISTO_DEMO_BUILT=1
		sudo -n true 2>/dev/null || {
			echo "demo.sh: --$mode needs root and namespaces; without options it needs neither" >&2
			exit 1
		}
		exec sudo -n --preserve-env=CALISTO_DEMO_BUILT,CARGO_TARGET_DIR bash "$0" "${arguments[@]}"
	fi
	# Again inside fresh namespaces, so that everything started here ends with it.
	export CALISTO_DEMO_INSIDE=1
	spaces=(unshare --ipc --pid --fork --kill-child --mount-proc)
	# A NIC stays where it is.
	[ $mode = nic ] || spaces+=(--net)
	if "${spaces[@]}" true 2>/dev/null; then
		in_spaces "${spaces[@]}" bash "$0" "${arguments[@]}"
		exit
	elif [ $mode != loopback ]; then
		echo "demo.sh: --$mode needs namespaces, which are not allowed here" >&2
		exit 1
	elif unshare --user --map-root-user "${spaces[@]:1}" true 2>/dev/null; then
		in_spaces unshare --user --map-root-user "${spaces[@]:1}" bash "$0" "${arguments[@]}"
		exit
	fi
	echo "(no namespaces here: running beside whatever else runs)"
fi

ip link set lo up 2>/dev/null || true
echo 1 >/proc/sys/kernel/shm_rmid_forced 2>/dev/null || true
experiment=$target/release/experiment

if [ $mode = veth ]; then
	ip link add veth0 type veth peer name veth1
	# Another network namespace for Linux, so that its packets take the wire.
	unshare --net sleep infinity &
	peer=$!
	for _ in $(seq 50); do
		[ "$(readlink "/proc/$peer/ns/net")" != "$(readlink /proc/self/ns/net)" ] && break
		sleep 0.1
	done
	in_peer() { nsenter --net="/proc/$peer/ns/net" "$@"; }
	ip link set veth1 netns "$peer"
	# A port without offloads meets whole frames with whole checksums.
	ethtool -K veth0 tx off tso off gso off gro off >/dev/null 2>&1 || true
	in_peer ethtool -K veth1 tx off tso off gso off gro off >/dev/null 2>&1 || true
	ip link set veth0 arp off up
	in_peer ip addr add 192.168.1.1/24 dev veth1
	in_peer ip link set veth1 up
	nic=veth0 ip=192.168.1.3 client="nsenter --net=/proc/$peer/ns/net"
fi

if [ -n "$nic" ]; then
	case $nic in
	*:*:*.*) eal="-a $nic" ;;
	*) eal="--no-pci --vdev=net_af_packet0,iface=$nic" ;;
	esac
	if [ -z "$client" ]; then
		exec "$experiment" serve --bin "$target/release" --eal "$eal" --ip "$ip" "${options[@]}"
	fi
	"$experiment" demo --bin "$target/release" --eal "$eal" --ip "$ip" --client "$client" "${options[@]}"
else
	"$experiment" demo --bin "$target/release" "${options[@]}"
fi
