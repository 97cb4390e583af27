#!/usr/bin/env bash
# A long storm of kills: compat-tests/tests/storm.rs, for as long as asked.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: scripts/soak.sh [--cycles N] [--dpdk-cycles N] [--seed S]

Runtimes attach to an iokerneld in namespaces of its own, take packets, and are killed
in every way: N times (default 10000) on the loopback port, and N times (default 1000)
on a DPDK port over a veth pair. One runtime lives through it and must lose nothing;
every 250 cycles what the daemon holds is compared with what it held before the first.

Needs root, what scripts/setup_machine.sh installs, and 32 free huge pages of 2 MiB,
in which some of the runtimes live. 10000 cycles take some ten
minutes on two calm CPUs. What is random is drawn from S (default: the time), which is
printed: the same S makes the same deaths in the same order.

Exit code 0 if nothing was lost and nothing was left, else 1; 2 for bad usage.
USAGE
}

die_usage() {
	echo "soak.sh: $1 (see --help)" >&2
	exit 2
}

cycles=10000
dpdk_cycles=1000
seed=$(date +%s)
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage && exit 0 ;;
	--cycles | --dpdk-cycles | --seed)
		[[ ${2:-} =~ ^[0-9]{1,18}$ ]] || die_usage "$1 takes a number"
		case $1 in
		--cycles) cycles=$2 ;;
		--dpdk-cycles) dpdk_cycles=$2 ;;
		--seed) seed=$2 ;;
		esac
		shift 2
		;;
	*) die_usage "no option $1" ;;
	esac
done
[ $((10#$cycles + 10#$dpdk_cycles)) -gt 0 ] || die_usage "no cycles at all: nothing would be soaked"

cd "$(dirname "$0")/.."
. scripts/group.sh
began=$SECONDS
echo "soak.sh: $cycles cycles on the loopback port, $dpdk_cycles on a DPDK port, seed $seed"
# A case that does not run here is a failure: nothing would have been soaked.
export CALISTO_REQUIRE=1 CALISTO_STORM_SEED=$seed CALISTO_STORM_CYCLES=$cycles \
	CALISTO_STORM_DPDK_CYCLES=$dpdk_cycles
if ! in_group cargo test -q -p compat-tests --test storm -- --nocapture --test-threads=1; then
	echo "soak.sh: FAILED after $((SECONDS - began)) s; again with --cycles $cycles" \
		"--dpdk-cycles $dpdk_cycles --seed $seed" >&2
	exit 1
fi
echo "soak.sh: passed: $cycles cycles on the loopback port and $dpdk_cycles on a DPDK port," \
	"seed $seed, in $((SECONDS - began)) s, $(nproc) CPUs," \
	"revision $(git describe --always --dirty 2>/dev/null || echo unknown)"
