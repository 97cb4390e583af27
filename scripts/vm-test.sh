#!/usr/bin/env bash
# iokerneld on emulated machines: hyperthreads, NUMA nodes, PCI NICs.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: scripts/vm-test.sh [--only PATTERN] [--log] [--clean]

Boots small machines under QEMU's software emulation, with hyperthreads, two NUMA
nodes and PCI NICs (igb, e1000e, vmxnet3, virtio-net) that DPDK drives, and runs
iokerneld and runtimes in them: choice of cores with no arguments, placement,
offloads, traffic with Linux at the other end of the wire. Prints a table. What a
thread may run on is the kernel's word. Behaviour only: eight virtual CPUs on two
real ones tell nothing about time.

  --only PATTERN  cases whose name has it
  --log           keeps the serial lines of the machines, in target/vm/serial
  --clean         removes what was fetched before, and ends

QEMU (8.0 or later), a kernel and busybox are fetched with apt and unpacked in
target/vm (80 MB); nothing is installed. Needs root for network namespaces, or user
namespaces. All that runs, runs in namespaces that end with it.

Exit code 0 if all passed or nothing can run here (SKIPPED says why; with
CALISTO_REQUIRE=1 that is a failure), 1 if a case failed, 2 for bad usage.
USAGE
}

bad_usage() {
	echo "vm-test.sh: $* (see --help)" >&2
	exit 2
}

only='' log_wanted='' clean=''
arguments=("$@")
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage && exit 0 ;;
	--only)
		[ $# -gt 1 ] || bad_usage "--only needs a value"
		only=$2
		shift
		;;
	--log) log_wanted=1 ;;
	--clean) clean=1 ;;
	*) bad_usage "unknown option $1" ;;
	esac
	shift
done

cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
bed=$target/vm
. scripts/spaces.sh
. scripts/vm/packages.sh

if [ -n "$clean" ]; then
	rm -rf "$bed"
	exit
fi

# programs: builds all that goes into the guest, and prints NAME=PATH of each.
programs() {
	local built name
	cargo build -q -p calisto -p calisto-runtime --bins --example echo >&2
	built=$(cargo build -q -p compat-tests --message-format=json |
		grep -o '"out_dir":"[^"]*/compat-tests-[^"]*"' | tail -n 1 | cut -d '"' -f 4)
	for name in iokerneld calistoctl; do echo "$name=$target/debug/$name"; done
	for name in echo burner; do echo "c-$name=$built/$name"; done
	echo "rust-echo=$target/debug/examples/echo"
}

if [ -z "${CALISTO_VM_INSIDE:-}" ]; then
	spaces=(--net --pid --ipc --mount-proc --fork --kill-child)
	if unshare "${spaces[@]}" true 2>/dev/null; then
		spaces=(unshare "${spaces[@]}")
	elif unshare --user --map-root-user "${spaces[@]}" true 2>/dev/null; then
		spaces=(unshare --user --map-root-user "${spaces[@]}")
	else
		unavailable "namespaces are not allowed here"
	fi
	"${spaces[@]}" ip tuntap add dev tap0 mode tap 2>/dev/null || unavailable "no tap interfaces here"
	fetch_packages
	CALISTO_VM_PROGRAMS=$(programs)
	work=$(mktemp -d -p "$bed" run.XXXXXX)
	trap 'rm -rf "$work"' EXIT
	export CALISTO_VM_INSIDE=$work CALISTO_VM_PROGRAMS
	in_spaces "${spaces[@]}" bash "$0" "${arguments[@]}" || exit
	exit
fi

work=$CALISTO_VM_INSIDE
. scripts/vm/initramfs.sh
. scripts/vm/machine.sh
. scripts/vm/traffic.sh
. scripts/vm/report.sh
. scripts/vm/cases.sh
# From here on a case notes what goes wrong, and the next goes on.
set +e
ip link set lo up
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 2>/dev/null
mapfile -t files <<<"$CALISTO_VM_PROGRAMS"
cc -O2 -shared -fPIC -o "$work/calisto-mbind.so" shim/preload/mbind.c
cc -O2 -o "$work/strict" shim/preload/strict.c
make_initramfs "$work/initrd" "${files[@]}" "strict=$work/strict" \
	"calisto-mbind.so=$work/calisto-mbind.so" || exit 1

# try NAME FUNCTION ARGUMENT...: a case, if it is wanted, on a machine that is up by then.
try() {
	[[ $1 == *"$only"* ]] || return 0
	[ -n "$up" ] || {
		boot "$machine" "${nics[@]}" || exit 1
		guest nics
		mapfile -t nic_at < <(sed 's/ .*//' <<<"$said")
		up=1
	}
	case_of "$@"
}

# on TOPOLOGY NIC...: the cases that follow are on such a machine.
on() {
	[ -z "$up" ] || off
	machine=$1 nics=("${@:2}")
}

# off: ends the machine that is up.
off() {
	power_off
	up=''
	[ -z "$log_wanted" ] || { mkdir -p "$bed/serial" && cp "$work/serial" "$bed/serial/$machine"; }
}
up=''

on 1x4x2 igb
try "no arguments" defaults 1 0 "2-7; siblings 2\\+3 4\\+5 6\\+7" "2 3 4 5 6 7"
try "offloads in hardware" offloads
try "several runtimes" several
try "siblings first" siblings
try "last core used" last_core
try "preemption" preemption
try "no hyperthreads" no_smt
try "CPUs offline" offline
try "cpusets" cpusets
try "flows under modulo" flows modulo
try "flows under flow-table" flows flow-table

on 2x2x2 igb e1000e vmxnet3 virtio-net-pci igb@1
try "no arguments" defaults 1 0 "2-3; siblings 2\\+3" "2 3"
try "offloads in hardware" offloads
try "several runtimes" several
try "cores on both sockets" both_sockets
try "strict memory binding" strict_binding
try "NIC igb" nic igb 0 "all offloads in hardware"
try "NIC e1000e" nic e1000e 1 "in software: RSS hash\$" 256
try "NIC vmxnet3" nic vmxnet3 2 "in software"
try "NIC virtio-net" nic virtio-net 3 "in software"
try "NIC on the other node" other_node 4

on 1x4x2+iommu igb
try "IOMMU, no arguments" defaults 1 0 "2-7; siblings 2\\+3 4\\+5 6\\+7" "2 3 4 5 6 7"
try "IOMMU, offloads" offloads
try "IOMMU, several" several
[ -z "$up" ] || off

print_table
