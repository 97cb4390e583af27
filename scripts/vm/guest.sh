# Sourced by the guest's init: what a case asks of the guest.

# The daemon's process; none yet.
DAEMON=none

# use_nics DRIVER ADDRESS...: these PCI devices, and no others, are DPDK's, through DRIVER.
use_nics() {
	local device address driver=$1
	shift
	for device in /sys/bus/pci/drivers/uio_pci_generic/*:*:* /sys/bus/pci/drivers/vfio-pci/*:*:*; do
		[ -e "$device" ] || continue
		echo >"$device/driver_override"
		echo "${device##*/}" >"${device%/*}/unbind"
	done
	for address in "$@"; do
		echo "$driver" >"/sys/bus/pci/devices/$address/driver_override"
		echo "$address" >/sys/bus/pci/drivers_probe
		[ "$(basename "$(readlink -f "/sys/bus/pci/devices/$address/driver")")" = "$driver" ] || return 1
	done
}

# nics: network devices, in the order of the bus: address, vendor:device, node.
nics() {
	local device
	for device in /sys/bus/pci/devices/*; do
		case $(cat "$device/class") in
		0x0200*) echo "${device##*/} $(cat "$device/vendor"):$(cat "$device/device") $(cat "$device/numa_node")" ;;
		esac
	done
}

# daemon COMMAND...: starts it; succeeds once it is ready. DAEMON is its process.
daemon() {
	: >/tmp/daemon.log
	dmesg -c >/dev/null
	"$@" >>/tmp/daemon.log 2>&1 &
	DAEMON=$!
	wait_for "iokerneld: ready" /tmp/daemon.log $DAEMON || {
		cat /tmp/daemon.log
		return 1
	}
}

# wait_for TEXT FILE PID: until the file has it; fails when the process ends before.
wait_for() {
	local n=0
	until grep -q "$1" "$2"; do
		[ -d "/proc/$3" ] && [ $n -lt 1200 ] || return 1
		usleep 100000
		n=$((n + 1))
	done
}

# daemon_end: as an operator does; prints what it counted, and what its list of system
# calls lacked. Fails if it does not end well.
daemon_end() {
	kill -TERM $DAEMON
	wait $DAEMON
	local code=$?
	grep -E 'stats: |WARN|ERROR' /tmp/daemon.log
	# clone3 is denied on purpose: the C library then does with clone.
	dmesg | grep -E 'type=1326|segfault' | grep -v syscall=435
	[ $code = 0 ] || { echo "exit code $code" && tail -n 5 /tmp/daemon.log; }
	return $code
}

# runtime NAME PROGRAM ARGUMENT...: starts it; succeeds once it has had a core.
runtime() {
	local name=$1
	shift
	"$@" >"/tmp/$name.out" 2>&1 &
	echo $! >"/tmp/$name.pid"
	wait_for '^attached\|^started' "/tmp/$name.out" "$(cat "/tmp/$name.pid")" || {
		cat "/tmp/$name.out"
		return 1
	}
}

# runtime_end NAME: tells it to end, and prints its report.
runtime_end() {
	local pid
	pid=$(cat "/tmp/$1.pid")
	kill -TERM "$pid"
	wait "$pid"
	local code=$?
	cat "/tmp/$1.out"
	return $code
}

# places PID: what the kernel says of each thread: its name and the CPUs it may run on.
places() {
	local task
	for task in "/proc/$1"/task/*; do
		sed -n 's/^Name:\t//p; s/^Cpus_allowed_list:\t//p' "$task/status" | tr '\n' ' '
		echo
	done
}

# cpus_of NAME: the CPUs that the runtime's threads are pinned to, the main thread's not among
# them, each once: "2 3 ".
cpus_of() {
	local pid task
	pid=$(cat "/tmp/$1.pid")
	for task in "/proc/$pid"/task/*; do
		[ "${task##*/}" = "$pid" ] || sed -n 's/^Cpus_allowed_list:\t//p' "$task/status"
	done | sort -un | tr '\n' ' '
}

# counter LABEL...: the daemon's counters of those names, summed.
counter() {
	calistoctl stats | awk -v wanted=" $* " 'index(wanted, " " $1 " ") { n += $2 } END { print n + 0 }'
}
