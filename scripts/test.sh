#!/usr/bin/env bash
# Everything that the project checks on one machine, but the upstream suite.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: scripts/test.sh [STAGE...]

Installs what is missing (apt, with sudo when not root), then runs the stages,
by default all of them in this order:

  deps      Debian packages: libdpdk-dev, clang, and what tests start
  fmt       cargo fmt --check, and that no code is switched off
  headers   each C header alone, as C11 and as C++17
  clippy    all targets, with and without DPDK; a warning is an error
  unit      unit and property tests without DPDK
  system    everything with DPDK: real ports, real processes, namespaces
  loom, asan, fuzz
            models, a sanitizer, fuzz targets: see scripts/check.sh, which runs
            these alone, and more that takes longer
  vm        only if named: emulated machines with hyperthreads, NUMA nodes and
            PCI NICs (scripts/vm-test.sh), some ten minutes

Raises vm.nr_hugepages for the run where it is low and puts it back. A case that
this machine cannot run prints SKIPPED and why; all of them are listed again at
the end, and with CALISTO_REQUIRE=1 each is a failure. With SHENANGO_DIR=TREE, a
built upstream tree, its programs run as well (scripts/compat.sh runs them alone).
USAGE
}

cd "$(dirname "$0")/.."
root=$PWD
checks=(loom asan fuzz)
default_stages=(deps fmt headers clippy unit system "${checks[@]}")
all_stages=("${default_stages[@]}" vm)
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

stage_deps() { "$root/scripts/setup_machine.sh"; }

stage_fmt() {
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	# That lock file goes stale when a dependency of the daemon changes.
	cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
	# A module that is never compiled passes every other check.
	if grep -rn --include='*.rs' --exclude-dir=target 'cfg(any())' .; then
		echo "test.sh: code that is switched off (see above)" >&2
		return 1
	fi
}

stage_headers() {
	local h
	for h in c-headers/calisto/*.h; do
		cc -std=c11 -Wall -Wextra -Werror -fsyntax-only -x c "$h"
		c++ -std=c++17 -Wall -Wextra -Werror -fsyntax-only -x c++ "$h"
		echo "ok $h"
	done
}

stage_clippy() {
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p calisto --no-default-features --all-targets -- -D warnings
}

stage_unit() { cargo test -p calisto --no-default-features; }

stage_system() {
	# One case at a time: each takes cores, huge pages and a machine's patience.
	cargo test --workspace -- --test-threads=1
}

stage_vm() { "$root/scripts/vm-test.sh"; }

# A stage is a process of its own: in a function that is the condition of an
# `if`, bash ignores `set -e`, and failures but the last with it.
if [ "${1:-}" = --stage ]; then
	[[ " ${checks[*]} " != *" $2 "* ]] || exec "$root/scripts/check.sh" "$2"
	"stage_$2"
	exit
fi

. scripts/stages.sh
choose_stages test.sh "${all_stages[*]}" "${default_stages[*]}" "$@"

. scripts/group.sh
log=$scratch/log
pages_before=''
pages_raised=''
huge_pages() { cat /proc/sys/vm/nr_hugepages 2>/dev/null || echo 0; }

# The system stage needs 2 MiB pages: 256 for an ingress region, 64 for DPDK,
# and what the C runtimes of one case take, twice for two hosts.
raise_huge_pages() {
	local want=1200 have
	have=$(huge_pages)
	[ "$have" -lt "$want" ] || return 0
	if as_root sysctl -qw "vm.nr_hugepages=$want" 2>/dev/null; then
		pages_before=$have
		pages_raised=$(huge_pages)
	else
		echo "test.sh: cannot set vm.nr_hugepages; cases with huge pages will be skipped" >&2
	fi
}

# Fails if the stage does: pipefail.
logged_stage() { bash "$root/scripts/test.sh" --stage "$1" 2>&1 | tee -a "$log"; }

restore() {
	end_group
	# Not if somebody else has changed it since.
	if [ -n "$pages_before" ] && [ "$(huge_pages)" = "$pages_raised" ]; then
		as_root sysctl -qw "vm.nr_hugepages=$pages_before" || true
	fi
}
trap restore EXIT

for stage in "${stages[@]}"; do
	echo "=== $stage"
	began=$SECONDS
	[ "$stage" != system ] || raise_huge_pages
	if ! in_group logged_stage "$stage"; then
		echo "=== $stage FAILED after $((SECONDS - began)) s" >&2
		exit 1
	fi
	echo "=== $stage passed in $((SECONDS - began)) s"
done

echo "=== skipped"
# Within a line too: the test harness may have begun one.
grep -oh 'SKIPPED: .*' "$log" | sort -u || echo "nothing"
