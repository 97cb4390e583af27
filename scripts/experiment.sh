#!/usr/bin/env bash
# The paper's section 5 again, simulated and for real, and what came out as a report.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: scripts/experiment.sh [--quick] [--only simulated|real] [OPTION...]

Builds the simulator and the programs, then runs the paper's experiment: about 700
thousand flows over ten cores, load raised step by step, each policy; in the
simulator with the paper's machine, and for real with ten virtual cores on this
one; then up to saturation, with 64 cores, and over a map of where affinity pays.
Writes target/experiment/report.md with plots. No root, no NIC, no huge pages.

  --quick   a tenth of everything: to see that it runs
  --only    one part alone

Any other OPTION goes to `experiment paper`: see `target/release/experiment paper --help`.
USAGE
}

case ${1:-} in
-h | --help) usage && exit 0 ;;
esac

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
. scripts/spaces.sh
if [ -z "${CALISTO_EXPERIMENT_INSIDE:-}" ]; then
	scripts/setup_machine.sh || echo "(not everything could be installed: going on with what there is)"
	echo "building (the first time takes some minutes)"
	features=()
	# The loopback port needs no DPDK.
	pkg-config --exists libdpdk || features=(--no-default-features)
	cargo build --release -p calisto "${features[@]}"
	cargo build --release -p calisto-synthetic -p calisto-experiment
	export CALISTO_EXPERIMENT_INSIDE=1
	# Again inside fresh namespaces, so that everything started here ends with it.
	spaces=(unshare --net --ipc --pid --fork --kill-child --mount-proc)
	if "${spaces[@]}" true 2>/dev/null; then
		in_spaces "${spaces[@]}" bash "$0" "$@"
		exit
	elif unshare --user --map-root-user "${spaces[@]:1}" true 2>/dev/null; then
		in_spaces unshare --user --map-root-user "${spaces[@]:1}" bash "$0" "$@"
		exit
	fi
	echo "(no namespaces here: running beside whatever else runs)"
fi
ip link set lo up 2>/dev/null || true
echo 1 >/proc/sys/kernel/shm_rmid_forced 2>/dev/null || true
exec "$target/release/experiment" paper --bin "$target/release" "$@"
