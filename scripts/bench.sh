#!/usr/bin/env bash
# Measures the whole dispatcher on two CPUs, alone or beside another one.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: scripts/bench.sh [OPTIONS]

Builds the release, then runs iokerneld with a NIC emulator preloaded and a
minimal runtime attached, case by case, and prints a table of medians.
How to read it: apps/bench/README.md.

  --against CMD     measure this dispatcher, too, each of its runs right after
                    ours, and print the ratios. It is called as
                    CMD [--virtual-cores N] -- EAL OPTIONS; give a wrapper for
                    one with another command line
  --policies LIST   measure ours under each of these steering policies in turn,
                    within each round, and print the ratios to modulo (or to
                    the first). Commas between; +strict and +order-guard may
                    follow a name: modulo,flow-table,flow-table+order-guard
  --fairness        instead: what each kind of offending runtime does to the
                    latency of another, in the polling loop alone; takes
                    --rounds (7) and no root, huge pages or second CPU
  --iokerneld CMD   ours (target/release/iokerneld)
  --rounds N        runs of each case (5)
  --secs S          seconds of each measurement (3), after --warm S (1)
  --cases LIST      of those below, with commas between (the first six; with
                    --policies: receive-10,echo-10,park-10)
  --sink-cpu N      the runtime's CPU (0); the dispatcher chooses its own
  --out FILE        keep the runs' raw figures there
  --no-build        measure what is built already
  -h, --help        this

cases:
  receive-1         flood, 1 kthread, 1 flow: received and completed
  receive-1024      the same with 1024 flows
  echo-1            256 requests under way, 1 kthread, 1024 flows, echoed
  echo-10           the same with 10 kthreads (virtual cores) and 700,000 flows
  flood-10          flood, 10 kthreads, 700,000 flows, echoed
  latency-1         500,000 requests a second at random, 1 kthread, 1024 flows
  receive-10        flood, 10 kthreads, 700,000 flows, received and completed
  park-10           500,000 requests a second at random, 10 kthreads, 1024 flows,
                    echoed; kthreads park when idle for 100 us, and the runtime
                    counts flows that change core

Needs root, libdpdk with its headers, two CPUs, and 450 free huge pages of
2 MiB; takes the missing ones for the time of the measurement. Everything runs
in namespaces of its own. Exit code: 0, 2 for bad usage, 1 for any failure.
USAGE
}

fail() {
	echo "bench.sh: $*" >&2
	exit 1
}

bad_usage() {
	echo "bench.sh: $* (see --help)" >&2
	exit 2
}

# The options of a policy as --policies names it.
policy_options() { # NAME
	local part options="--policy ${1%%+*}"
	for part in $(tr + ' ' <<<"$1" | cut -s -d' ' -f2-); do
		case $part in
		strict) options+=" --affinity strict" ;;
		order-guard) options+=" --order-guard" ;;
		*) bad_usage "--policies $1: +strict and +order-guard may follow a name" ;;
		esac
	done
	echo "$options"
}

root=$(cd "$(dirname "$0")/.." && pwd)
default_cases=receive-1,receive-1024,echo-1,echo-10,flood-10,latency-1
policy_cases=receive-10,echo-10,park-10
all_cases=$default_cases,$policy_cases
against='' policies='' ours="$root/target/release/iokerneld" rounds=5 secs=3 warm=1
cases='' sink_cpu=0 out='' build=1 fairness='' rounds_given=''
pages_needed=450

while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage && exit 0 ;;
	--no-build) build=0 && shift && continue ;;
	--fairness) fairness=1 && shift && continue ;;
	--against | --policies | --iokerneld | --rounds | --secs | --warm | --cases | --sink-cpu | --out) ;;
	*) bad_usage "unknown option $1" ;;
	esac
	[ $# -ge 2 ] || bad_usage "$1 needs a value"
	case $1 in
	--against) against=$2 ;;
	--policies) policies=$2 ;;
	--iokerneld) ours=$2 ;;
	--rounds) rounds=$2 rounds_given=1 ;;
	--secs) secs=$2 ;;
	--warm) warm=$2 ;;
	--cases) cases=$2 ;;
	--sink-cpu) sink_cpu=$2 ;;
	--out) out=$2 ;;
	esac
	shift 2
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || bad_usage "--rounds $rounds: give a whole number from 1"
[[ $secs =~ ^[0-9.]+$ && $warm =~ ^[0-9.]+$ ]] || bad_usage "--secs and --warm: give seconds"
[[ $sink_cpu =~ ^[0-9]+$ ]] || bad_usage "--sink-cpu $sink_cpu: give a CPU number"
for p in ${policies//,/ }; do
	policy_options "$p" >/dev/null
done
[ -z "$policies" ] || [ -z "$against" ] || bad_usage "--policies and --against: one of them"
if [ -z "$cases" ]; then
	[ -z "$policies" ] && cases=$default_cases || cases=$policy_cases
fi
for c in ${cases//,/ }; do
	[[ ",$all_cases," == *",$c,"* ]] || bad_usage "--cases: no case $c"
done

if [ -n "$fairness" ]; then
	cd "$root"
	echo "machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)," \
		"$(nproc --all) CPUs, Linux $(uname -r), load $(cut -d' ' -f1-3 /proc/loadavg)"
	exec cargo bench --quiet -p calisto --no-default-features --bench fairness -- \
		"$([ -n "$rounds_given" ] && echo "$rounds" || echo 7)"
fi

# Builds as the caller, measures as root.
build_all() {
	command -v cargo >/dev/null || fail "no cargo: install Rust from https://rustup.rs"
	pkg-config --exists libdpdk || fail "no libdpdk: apt-get install libdpdk-dev pkg-config"
	(cd "$root" && cargo build --release --bin iokerneld && cargo build --release -p calisto-bench) >&2
	mkdir -p "$root/target/bench"
	# The words of pkg-config are options each.
	# shellcheck disable=SC2046
	cc -std=gnu11 -O3 -march=native -Wall -Wextra -shared -fPIC -fvisibility=hidden \
		-o "$root/target/bench/nicgen.so" "$root"/apps/bench/nicgen/{nicgen,settings}.c \
		$(pkg-config --cflags --libs-only-L libdpdk) \
		-lrte_ethdev -lrte_mbuf -lrte_mempool -lrte_eal -ldl -lm >&2
}
[ "$build" -eq 0 ] || build_all
for built in bench/nicgen.so release/sink release/bench-report; do
	[ -e "$root/target/$built" ] || fail "target/$built is missing: run without --no-build"
done

[ "$(id -u)" -eq 0 ] || fail "measuring takes root (namespaces, huge pages): sudo $0 --no-build"
[ "$(nproc --all)" -ge 2 ] || fail "one CPU only: the dispatcher and the runtime need one each"

dir=$(mktemp -d)
runs=$dir/runs
run_pid=
pages_file=/proc/sys/vm/nr_hugepages
pages_before='' pages_set=''
clean_up() {
	[ -z "$run_pid" ] || { kill "$run_pid" && wait "$run_pid"; } 2>/dev/null || true
	rm -rf "$dir"
	# Only if nobody else has changed it since.
	if [ -n "$pages_set" ] && [ "$(cat $pages_file)" = "$pages_set" ]; then
		echo "$pages_before" >$pages_file
	fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

free_pages() {
	awk '/^HugePages_Free/ { print $2 }' /proc/meminfo
}

reserve_pages() {
	local missing=$((pages_needed - $(free_pages)))
	[ "$missing" -gt 0 ] || return 0
	pages_before=$(cat $pages_file)
	pages_set=$((pages_before + missing))
	echo "$pages_set" >$pages_file
	pages_set=$(cat $pages_file)
	[ "$(free_pages)" -ge "$pages_needed" ] ||
		fail "no room for $pages_needed huge pages of 2 MiB: free some memory, or reboot with hugepages=$pages_needed"
}
reserve_pages

describe_machine() {
	echo "machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)," \
		"$(nproc --all) CPUs$(grep -qw hypervisor /proc/cpuinfo && echo ' (virtual)'), Linux $(uname -r)"
	echo "pinning: sink on CPU $sink_cpu, dispatchers on the CPU that they choose"
	echo "DPDK $(pkg-config --modversion libdpdk), $(git -C "$root" describe --always --dirty 2>/dev/null || echo 'no git')"
	echo "load before: $(cut -d' ' -f1-3 /proc/loadavg); $rounds rounds of $secs s after $warm s"
}

# The settings of a case: what the emulator does, then kthreads and sink options.
# Becomes the run: to be called in the background.
one_run() { # CASE COMMAND
	local command=$2
	local -a nic sink
	case $1 in
	receive-1) nic=(flood 1) sink=(1) ;;
	receive-1024) nic=(flood 1024) sink=(1) ;;
	echo-1) nic=(window 1024) sink=(1 --echo) ;;
	echo-10) nic=(window 700000) sink=(10 --echo) ;;
	flood-10) nic=(flood 700000) sink=(10 --echo) ;;
	latency-1) nic=(open 1024) sink=(1 --echo) ;;
	receive-10) nic=(flood 700000) sink=(10) ;;
	park-10) nic=(open 1024) sink=(10 --echo --track --park-us 100) ;;
	esac
	exec env NICGEN_MODE="${nic[0]}" NICGEN_FLOWS="${nic[1]}" NICGEN_WINDOW=256 \
		NICGEN_PPS=500000 NICGEN_WARM_S="$warm" NICGEN_SECS="$secs" \
		SINK_CPU="$sink_cpu" TOOLS="$root/target/bench" \
		"$root/apps/bench/run.sh" "${sink[0]}" "$command" "${sink[@]:1}"
}

measure() { # ROUND CASE WHO COMMAND
	# In the background, so that a signal need not wait for it.
	one_run "$2" "$4" >"$dir/figures" &
	run_pid=$!
	wait "$run_pid" || fail "round $1, $2, $3: the run failed"
	run_pid=
	printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$(cat "$dir/figures")" >>"$runs"
	echo "round $1/$rounds $2 $3" >&2
}

# Each policy of the list, another one first in each round: what a run does to the
# machine, its neighbour in time suffers, and that is to be each in turn.
measure_policies() { # ROUND CASE
	local -a list
	local i n name
	IFS=, read -ra list <<<"$policies"
	n=${#list[@]}
	for ((i = 0; i < n; i++)); do
		name=${list[(i + $1 - 1) % n]}
		measure "$1" "$2" "$name" "$ours $(policy_options "$name")"
	done
}

describe_machine
for ((round = 1; round <= rounds; round++)); do
	for c in ${cases//,/ }; do
		if [ -n "$policies" ]; then
			measure_policies "$round" "$c"
			continue
		fi
		measure "$round" "$c" ours "$ours"
		[ -z "$against" ] || measure "$round" "$c" other "$against"
	done
done
echo
"$root/target/release/bench-report" <"$runs"
[ -z "$out" ] || cp "$runs" "$out"
