#!/usr/bin/env bash
# The simulator beside a measured run of the same thing on this machine.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: scripts/sim-check.sh [OPTION...]

Runs the I/O kernel with the NIC emulator (apps/bench/nicgen) on one CPU and a C
runtime on another: one kthread, one guaranteed core, 10 us of work a request,
parked after 2 us without a message as upstream's. Requests are Poisson, at
several rates; then as many as it can serve. The simulator gets the same rates and
what the machine costs (`calisto-sim measure`, before each round), and no result.
What both say is printed, with what agrees within 20 %, and written to
target/sim-check/: report.md, check.json, runs (what was measured, a line each)
and machine-N.toml. That they disagree is a finding, not a failure.

  --rates LIST     requests a second (5000,10000,20000,40000,60000)
  --rounds N       how often each is measured (3)
  --secs SECONDS   length of one measurement (3), after --warm SECONDS (1)
  --look-us US     how long the runtime looks for a message before it parks (2);
                   1000000: it never parks, so that wakes play no part
  --iokerneld PATH another I/O kernel (target/release/iokerneld)
  --no-build       what is in target/ already

Needs root, libdpdk with its headers, and two CPUs with nothing else to do. Takes
1 GB of memory, no huge pages. Everything runs in namespaces of its own. Where
others use the machine, and its kernel groups processes by session, this puts
it before them:

  setsid -w bash -c 'echo -20 >/proc/self/autogroup; exec scripts/sim-check.sh'

Exit code: 0, 2 for bad usage, 1 for any failure.
USAGE
}

fail() {
	echo "sim-check.sh: $*" >&2
	exit 1
}

bad_usage() {
	echo "sim-check.sh: $* (see --help)" >&2
	exit 2
}

root=$(cd "$(dirname "$0")/.." && pwd)
ours="$root/target/release/iokerneld" rates=5000,10000,20000,40000,60000
rounds=3 secs=3 warm=1 look_us=2 build=1
scenario=$root/apps/sim/scenarios/vm2.toml

while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage && exit 0 ;;
	--no-build) build=0 && shift && continue ;;
	--rates | --rounds | --secs | --warm | --look-us | --iokerneld) ;;
	*) bad_usage "unknown option $1" ;;
	esac
	[ $# -ge 2 ] || bad_usage "$1 needs a value"
	case $1 in
	--rates) rates=$2 ;;
	--rounds) rounds=$2 ;;
	--secs) secs=$2 ;;
	--warm) warm=$2 ;;
	--look-us) look_us=$2 ;;
	--iokerneld) ours=$2 && [ -x "$ours" ] || bad_usage "--iokerneld $2: no program there" ;;
	esac
	shift 2
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || bad_usage "--rounds $rounds: give a whole number from 1"
[[ $secs =~ ^[0-9.]+$ && $warm =~ ^[0-9.]+$ ]] || bad_usage "--secs and --warm: give seconds"
[[ $look_us =~ ^[1-9][0-9]{0,6}$ ]] || bad_usage "--look-us $look_us: give a whole number from 1 to 9999999"
[[ $rates =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || bad_usage "--rates $rates: give whole numbers with commas"

# Builds as the caller, measures as root.
build_all() {
	command -v cargo >/dev/null || fail "no cargo: install Rust from https://rustup.rs"
	pkg-config --exists libdpdk || fail "no libdpdk: apt-get install libdpdk-dev pkg-config"
	(cd "$root" && cargo build --release -p calisto-sim --bins &&
		{ [ "$ours" != "$root/target/release/iokerneld" ] || cargo build --release --bin iokerneld; }) >&2
	mkdir -p "$root/target/bench"
	# The words of pkg-config are options each.
	# shellcheck disable=SC2046
	cc -std=gnu11 -O3 -march=native -Wall -Wextra -shared -fPIC -fvisibility=hidden \
		-o "$root/target/bench/nicgen.so" "$root"/apps/bench/nicgen/{nicgen,settings}.c \
		$(pkg-config --cflags --libs-only-L libdpdk) \
		-lrte_ethdev -lrte_mbuf -lrte_mempool -lrte_eal -ldl -lm >&2
	cc -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -pthread -I"$root/c-headers" \
		-o "$root/target/bench/echo" \
		"$root"/compat-tests/c/{main,region,kthread,packets,frame,tcp,flows,echo}.c >&2
}
[ "$build" -eq 0 ] || build_all
for built in bench/nicgen.so bench/echo release/calisto-sim release/sim-check; do
	[ -e "$root/target/$built" ] || fail "target/$built is missing: run without --no-build"
done

[ "$(id -u)" -eq 0 ] || fail "measuring takes root (namespaces): sudo $0 --no-build"
[ "$(nproc --all)" -ge 2 ] || fail "one CPU only: the dispatcher and the runtime need one each"

dir=$(mktemp -d)
run_pid=
clean_up() {
	[ -z "$run_pid" ] || { kill "$run_pid" && wait "$run_pid"; } 2>/dev/null || true
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Where the I/O kernel puts itself, and the first core that it would give.
plan=$("$ours" --dry-run --port loopback --no-huge)
dispatcher_cpu=$(sed -n 's/.*dataplane on CPU \([0-9]*\).*/\1/p' <<<"$plan")
runtime_cpu=$(sed -n 's/.* runtime cores\{0,1\}: \([0-9]*\).*/\1/p' <<<"$plan")
[[ $dispatcher_cpu =~ ^[0-9]+$ && $runtime_cpu =~ ^[0-9]+$ ]] ||
	fail "$ours --dry-run does not say which CPUs it takes"

describe_machine() {
	echo "Machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)," \
		"$(nproc --all) CPUs$(grep -qw hypervisor /proc/cpuinfo && echo ' (virtual)'), Linux $(uname -r);" \
		"dispatcher on CPU $dispatcher_cpu, runtime on CPU $runtime_cpu."
	echo "$rounds rounds of $secs s after $warm s; load before: $(cut -d' ' -f1-3 /proc/loadavg);" \
		"medians (least-greatest)."
}

# In the background, so that a signal need not wait for it.
waited_for() { # COMMAND...
	"$@" &
	run_pid=$!
	wait "$run_pid" || fail "failed: $*"
	run_pid=
}

measure() { # MODE RATE
	NICGEN_MODE=$1 NICGEN_PPS=$2 NICGEN_WINDOW=64 NICGEN_WARM_S=$warm NICGEN_SECS=$secs \
		TOOLS=$root/target/bench SINK=$root/target/bench/echo \
		EAL='--no-pci --vdev=net_null0 --no-telemetry --log-level=4' \
		waited_for "$root/apps/bench/run.sh" 1 "$ours --no-huge --policy modulo" \
		--guaranteed 1 --mac 02:00:00:00:00:03 --ip 192.168.1.3 --check-hash 0 \
		--look-ns "${look_us}000" --work-ns 10000 >"$dir/figures"
}

# What decides most, of each round's machine file.
costs() {
	local name
	for name in wake_ns wake_latency_ns; do
		echo "$name $(sed -n "s/^$name = \([0-9]*\).*/\1/p" "$dir"/machine-*.toml | paste -sd' ')"
	done | paste -sd, | sed 's/,/, /; s/^/Costs, round by round: /; s/$/./'
}

describe_machine >"$dir/report.md"
machines=()
for ((round = 1; round <= rounds; round++)); do
	machines+=(--machine "$dir/machine-$round.toml")
	waited_for "$root/target/release/calisto-sim" measure --name "round-$round" \
		--cpus "$dispatcher_cpu" "$runtime_cpu" >"$dir/machine-$round.toml"
	sed -i "s/^spin_ns = [0-9.]*/spin_ns = ${look_us}000.0/" "$dir/machine-$round.toml"
	for rate in ${rates//,/ }; do
		measure open "$rate"
		printf '%s\t%s\n' "$rate" "$(cat "$dir/figures")" >>"$dir/runs"
		echo "round $round/$rounds: $rate a second" >&2
	done
	measure window 1
	printf '0\t%s\n' "$(cat "$dir/figures")" >>"$dir/runs"
	echo "round $round/$rounds: as many as it can" >&2
done
{
	costs
	echo
	"$root/target/release/sim-check" "$scenario" "${machines[@]}" --json "$dir/check.json" <"$dir/runs"
} >>"$dir/report.md"
mkdir -p "$root/target/sim-check"
rm -f "$root"/target/sim-check/machine-*.toml
cp "$dir"/{report.md,check.json,runs} "$dir"/machine-*.toml "$root/target/sim-check/"
cat "$dir/report.md"
