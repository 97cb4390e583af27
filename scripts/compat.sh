#!/usr/bin/env bash
# Runs upstream Shenango's own programs against our iokerneld.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: SHENANGO_DIR=TREE scripts/compat.sh [TEST_NAME...]

TREE is a built tree of upstream Shenango (tests, apps/synthetic). Its programs
run unmodified against iokerneld in namespaces of their own; two "hosts" on one
machine. Needs root and 2,700 huge pages of 2 MiB for the cases with two hosts,
which it takes for the time of the run. Takes half an hour; TEST_NAMEs choose.
USAGE
}

case "${1:-}" in
-h | --help) usage && exit 0 ;;
esac
[ -n "${SHENANGO_DIR:-}" ] || {
	echo "compat.sh: set SHENANGO_DIR to a built upstream tree (see --help)" >&2
	exit 2
}
[ "$(id -u)" = 0 ] || {
	echo "compat.sh: needs root: namespaces, veth, huge pages" >&2
	exit 1
}
cd "$(dirname "$0")/.."

pages=$(cat /proc/sys/vm/nr_hugepages) maps=$(cat /proc/sys/vm/max_map_count)
restore() {
	sysctl -qw "vm.nr_hugepages=$pages" "vm.max_map_count=$maps"
}
trap restore EXIT
[ "$pages" -ge 2800 ] || sysctl -qw vm.nr_hugepages=2800
[ "$maps" -ge 262144 ] || sysctl -qw vm.max_map_count=262144
cargo test -p compat-tests --test upstream --test upstream_synthetic -- --test-threads=1 "$@"
cargo test -p calisto-synthetic --test upstream -- --test-threads=1 "$@"
