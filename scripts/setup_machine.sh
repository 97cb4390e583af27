#!/usr/bin/env bash
# Installs what building, testing and the demo need.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: scripts/setup_machine.sh [--huge-pages N]

Installs the Debian packages that building, testing and the demo need, if one
is missing (apt, with sudo when not root). With --huge-pages N it also reserves
N huge pages of 2 MiB until the next boot: 256 for the ingress region, 64 for
DPDK, 1025 for each unmodified C runtime.
USAGE
}

pages=''
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage && exit 0 ;;
	--huge-pages)
		[[ ${2:-} =~ ^[0-9]+$ ]] || { echo "setup_machine.sh: --huge-pages takes a number" >&2; exit 2; }
		pages=$2
		shift
		;;
	*)
		echo "setup_machine.sh: unknown option $1 (see --help)" >&2
		exit 2
		;;
	esac
	shift
done

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

packages=(build-essential clang libclang-dev pkg-config libdpdk-dev iproute2 iputils-ping ethtool procps)
missing=()
for package in "${packages[@]}"; do
	dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
	echo "installing ${missing[*]}"
	as_root apt-get -qq update
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install "${missing[@]}" >/dev/null
fi
command -v cargo >/dev/null || {
	echo "setup_machine.sh: no cargo; install a Rust toolchain (https://rustup.rs) and run this again" >&2
	exit 1
}
if [ -n "$pages" ]; then
	as_root sysctl -qw "vm.nr_hugepages=$pages"
	have=$(cat /proc/sys/vm/nr_hugepages)
	[ "$have" -ge "$pages" ] || {
		echo "setup_machine.sh: the kernel gave $have of $pages huge pages: memory is short or fragmented; try after a reboot" >&2
		exit 1
	}
fi
