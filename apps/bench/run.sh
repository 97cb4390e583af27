#!/usr/bin/env bash
# One measured run: a dispatcher with the NIC emulator preloaded, and the sink,
# in network, IPC and PID namespaces of their own. scripts/bench.sh calls this.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: apps/bench/run.sh KTHREADS DISPATCHER_COMMAND [SINK_OPTION...]

Runs DISPATCHER_COMMAND (with "--virtual-cores KTHREADS" when that is more than
1, then "--" and EAL options) under the NIC emulator, attaches the sink, and
prints, separated by a tab, the emulator's line of JSON and the sink's last.
Needs root and about 450 free huge pages of 2 MiB.

environment:
  NICGEN_*     what the emulator does: apps/bench/nicgen/settings.h
  SINK_CPU     the sink's CPU (0)
  EAL          EAL options (a null device, nothing left behind on disk)
  TOOLS        where nicgen.so is (target/bench); SINK: the sink (target/release/sink)
  VERBOSE=1    the dispatcher's output, even when all is well
USAGE
}

fail() {
	echo "run.sh: $*" >&2
	exit 1
}

case "${1:-}" in
-h | --help) usage && exit 0 ;;
esac
[ $# -ge 2 ] || {
	usage >&2
	exit 2
}

if [ -z "${BENCH_DIR:-}" ]; then
	BENCH_DIR=$(mktemp -d)
	export BENCH_DIR
	inside=
	# unshare itself ignores SIGTERM. When it is killed, the PID namespace's first process goes
	# with it, and then all others there; the segments go with the IPC namespace.
	trap '[ -z "$inside" ] || kill -KILL "$inside" 2>/dev/null; rm -rf "$BENCH_DIR"' EXIT
	trap 'exit 130' INT TERM
	unshare --net --ipc --pid --fork --kill-child --mount-proc bash "$0" "$@" &
	inside=$!
	wait "$inside" && status=0 || status=$?
	inside=
	exit "$status"
fi

kthreads=$1 dispatcher=$2
shift 2
root=$(cd "$(dirname "$0")/../.." && pwd)
tools=${TOOLS:-$root/target/bench}
sink=${SINK:-$root/target/release/sink}
eal=${EAL:---no-pci --vdev=net_null0 --in-memory --no-telemetry --log-level=4}
dir=$BENCH_DIR
ip link set lo up
# Made here, so that it is there for whichever of the two comes first.
truncate -s 4096 "$dir/progress"

[ "$kthreads" -eq 1 ] || dispatcher+=" --virtual-cores $kthreads"
export NICGEN_SINK="$dir/progress" NICGEN_OUT="$dir/nic.json"
# env, so that the shell itself does not load DPDK.
bash -c "exec env LD_PRELOAD='$tools/nicgen.so' $dispatcher -- $eal" >"$dir/log" 2>&1 &
dispatcher_pid=$!
# Not every sink has patience: it starts when the dispatcher listens (flags 10000), on the name of zero
# bytes only, or has ended, which is seen below.
for ((i = 0; i < 200; i++)); do
	! grep -q ' 00010000 .*@@@@' /proc/net/unix && kill -0 "$dispatcher_pid" 2>/dev/null || break
	sleep 0.05
done
SINK_CPU=${SINK_CPU:-0} SINK_PROGRESS="$dir/progress" \
	"$sink" --kthreads "$kthreads" "$@" >"$dir/sink.json" 2>"$dir/sink.log" &
sink_pid=$!

show_log() {
	sed 's/^/  dispatcher: /' "$dir/log" >&2
	sed 's/^/  sink: /' "$dir/sink.log" >&2
}

# Ten seconds to start, and as long again for what takes longer on a busy machine.
limit=$(awk "BEGIN { print int((${NICGEN_WARM_S:-1} + ${NICGEN_SECS:-3} + 20) * 20) }")
for ((i = 0; i < limit; i++)); do
	[ -e "$dir/nic.json" ] && break
	for pid in $dispatcher_pid $sink_pid; do
		kill -0 "$pid" 2>/dev/null || {
			show_log
			fail "dispatcher or sink ended before the measurement"
		}
	done
	sleep 0.05
done
[ -e "$dir/nic.json" ] || {
	show_log
	fail "no result in time"
}
kill -TERM "$sink_pid"
wait "$sink_pid" || {
	show_log
	fail "the sink failed"
}
kill -0 "$dispatcher_pid" 2>/dev/null || {
	show_log
	fail "the dispatcher ended during the run"
}
kill -TERM "$dispatcher_pid"
for ((i = 0; i < 40; i++)); do
	kill -0 "$dispatcher_pid" 2>/dev/null || break
	sleep 0.05
done
[ -z "${VERBOSE:-}" ] || show_log
paste "$dir/nic.json" <(tail -n 1 "$dir/sink.json")
