#!/usr/bin/env bash
# Builds iokerneld, attaches a C runtime to it, talks to the runtime, cleans up.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: scripts/demo.sh [--veth | --loopback]

Builds iokerneld, starts it, attaches a small C runtime that answers ARP, ping,
UDP and TCP, and shows what happens. Needs no NIC and no huge pages.

  --veth      iokerneld drives one end of a veth pair through DPDK; Linux pings
              the runtime from the other end and sends UDP. Needs root.
  --loopback  frames between two runtimes on this machine; needs no root
  (neither)   veth if that is possible here, else loopback

Everything runs in namespaces of its own where they are allowed, and is gone
when the demo ends.
USAGE
}

mode=auto
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage && exit 0 ;;
	--veth) mode=veth ;;
	--loopback) mode=loopback ;;
	*)
		echo "demo.sh: unknown option $1 (see --help)" >&2
		exit 2
		;;
	esac
	shift
done

cd "$(dirname "$0")/.."
[ "${CALISTO_DEMO_INSIDE:-}" ] || scripts/setup_machine.sh

step() { printf '\n--- %s\n' "$*"; }

# Inside the namespaces: this very script again, so that everything started
# here ends with it.
if [ -z "${CALISTO_DEMO_INSIDE:-}" ]; then
	step "building (the first time takes a minute or two)"
	cargo build -p calisto
	mkdir -p target/demo
	for runtime in echo sender; do
		cc -std=c11 -O2 -D_GNU_SOURCE -Ic-headers -pthread -o "target/demo/$runtime" \
			compat-tests/c/{main,region,kthread,packets,frame,tcp}.c "compat-tests/c/$runtime.c"
	done
	export CALISTO_DEMO_INSIDE=1
	root=()
	[ "$(id -u)" = 0 ] || root=(sudo -n --preserve-env=CALISTO_DEMO_INSIDE)
	spaces=(unshare --net --ipc --pid --fork --kill-child --mount-proc)
	if [ $mode != loopback ] && "${root[@]}" "${spaces[@]}" true 2>/dev/null; then
		exec "${root[@]}" "${spaces[@]}" bash "$0" --veth
	fi
	if [ $mode = veth ]; then
		echo "demo.sh: --veth needs root and namespaces; try --loopback" >&2
		exit 1
	fi
	if "${spaces[@]}" true 2>/dev/null; then
		exec "${spaces[@]}" bash "$0" --loopback
	elif unshare --user --map-root-user "${spaces[@]:1}" true 2>/dev/null; then
		exec unshare --user --map-root-user "${spaces[@]:1}" bash "$0" --loopback
	fi
	echo "(no namespaces here: running beside whatever else runs)"
	exec bash "$0" --loopback
fi

dir=$(mktemp -d)
pids=()
cleanup() {
	local pid
	for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
	for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
	rm -rf "$dir"
}
trap cleanup EXIT

# start LOG WORD CMD...: runs CMD until it prints WORD, or fails.
start() {
	local log=$dir/$1 word=$2 pid
	shift 2
	echo "\$ $*"
	"$@" >"$log" 2>&1 &
	pid=$!
	pids+=("$pid")
	for _ in $(seq 300); do
		grep -q "$word" "$log" && return
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	cat "$log" >&2
	echo "demo.sh: it did not start" >&2
	exit 1
}

# stop N: ends the Nth program started and waits for it.
stop() {
	kill -TERM "${pids[$1]}"
	wait "${pids[$1]}" || true
}

# The interesting fields of a runtime's report.
fields() { tr ',{}' '\n\n\n' <"$1" | grep -E "\"($2)\"" | tr -d '"' | paste -sd ' ' | sed 's/^/    /'; }

ip link set lo up 2>/dev/null || true
echo 1 >/proc/sys/kernel/shm_rmid_forced 2>/dev/null || true

if [ $mode = veth ]; then
	ip link add veth0 type veth peer name veth1
	# Another network namespace for Linux, so that its packets take the wire.
	unshare --net sleep 1000 &
	pids+=($!)
	peer=$!
	for _ in $(seq 50); do
		[ "$(readlink "/proc/$peer/ns/net")" != "$(readlink /proc/self/ns/net)" ] && break
		sleep 0.1
	done
	in_peer() { nsenter --net="/proc/$peer/ns/net" "$@"; }
	ip link set veth1 netns "$peer"
	ethtool -K veth0 tx off tso off gso off gro off >/dev/null 2>&1 || true
	in_peer ethtool -K veth1 tx off tso off gso off gro off >/dev/null 2>&1 || true
	ip link set veth0 arp off up
	in_peer ip addr add 192.168.1.1/24 dev veth1
	in_peer ip link set veth1 up

	step "iokerneld on one end of a veth pair"
	start iokerneld ready target/debug/iokerneld --no-huge -- --no-pci --vdev=net_af_packet0,iface=veth0
	sed 's/^/    /' "$dir/iokerneld"

	step "a C runtime attaches: one kthread, one guaranteed core"
	start echo attached target/demo/echo --pages small --mac 02:00:00:00:00:03 --ip 192.168.1.3
	grep attached "$dir/iokerneld" | sed 's/^/    /'

	step "Linux pings it"
	in_peer ping -c 4 -i 0.3 -w 30 192.168.1.3 | sed 's/^/    /'

	step "Linux sends it UDP"
	in_peer bash -c '
		exec 3<>/dev/udp/192.168.1.3/7
		for word in flow affinity calisto; do
			printf "%s\n" "$word" >&3
			# one read, one datagram
			answer=$(timeout 5 dd bs=2048 count=1 status=none <&3) || { echo "no answer to $word" >&2; exit 1; }
			[ "$answer" = "$word" ] || { echo "sent $word, got $answer" >&2; exit 1; }
			echo "    sent \"$word\", got \"$answer\""
		done'
	runtime=2
else
	step "iokerneld with the loopback port and four virtual cores"
	start iokerneld ready target/debug/iokerneld --port loopback --no-huge --virtual-cores 4 --idle yield
	sed 's/^/    /' "$dir/iokerneld"

	step "a C runtime attaches: two kthreads, one guaranteed core"
	start echo attached target/demo/echo --pages small --kthreads 2 --mac 02:00:00:00:00:03 --ip 192.168.1.3
	grep attached "$dir/iokerneld" | sed 's/^/    /'

	step "another runtime sends it 10,000 UDP packets and checks the answers"
	start sender replies target/demo/sender --pages small --mac 02:00:00:00:00:04 --ip 192.168.1.4 \
		--peer-mac 02:00:00:00:00:03 --peer-ip 192.168.1.3 --count 10000 --flows 16
	fields "$dir/sender" 'sent|replies|lost|corrupt'
	grep -q '"replies":10000' "$dir/sender" || { echo "demo.sh: answers are missing" >&2; exit 1; }
	runtime=1
fi

step "the runtime's own account"
stop $runtime
fields "$dir/echo" 'rx_frames|tx_frames|completions|lost_completions|udp_echoes|ping_replies|wakes|parks'

step "iokerneld stops, and says what it counted"
stop $((runtime - 1))
grep -E 'stats:|left|stopped' "$dir/iokerneld" | sed 's/^/    /'
step "done"
