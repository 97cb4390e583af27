# Sourced: what is tried on the emulated machines.

address_of() { echo "192.168.1.$((10 + $1))"; }

# start_runtime N PROGRAM OPTION...: C runtime number N.
start_runtime() {
	local number=$1 program=$2
	shift 2
	must "$program $number" guest "runtime r$number c-$program --mac 02:00:00:00:00:0$number" \
		"--ip $(address_of "$number") --pages huge --check-cpu 1 --core-map /tmp/cores --drain 2 $*"
}

# start_daemon COMMAND...: `log` is what it has said when it is ready.
start_daemon() {
	must "$*" guest "daemon $*" || return
	guest 'cat /tmp/daemon.log'
	log=$said
}

# field NAME: of the report in `said`.
field() { grep -oE "\"$1\":[0-9]+" <<<"$said" | head -n 1 | cut -d: -f2; }

# cores: those that the runtime of the report in `said` had.
cores() { grep -oE '"cores":\[[0-9,]*\]' <<<"$said" | grep -oE '[0-9,]+\]' | tr -d ']'; }

# plan DATAPLANE CONTROL CORES: as the log has it.
planned() {
	has plan "$log" "dataplane on CPU $1, control and parked kthreads on CPU $2\$"
	has plan "$log" "runtime cores?: $3\$"
}

# No arguments: upstream's choice of cores, in the log and in the kernel's word on each thread.
defaults() {
	wire 0 || return
	start_daemon iokerneld || return
	planned "$1" "$2" "$3"
	# Without physical addresses it has no use for the right to everything.
	[[ $machine != *+iommu ]] || has capabilities "$log" "capabilities: KILL IPC_LOCK IPC_OWNER SYS_NICE\$"
	# shellcheck disable=SC2016 # for the guest
	guest 'places $DAEMON'
	equal "the polling thread's CPU" "$(head -n 1 <<<"$said")" "iokerneld $1 "
	has "the control thread" "$said" "^control $2 \$"
	local others
	others=$(tail -n +2 <<<"$said" | awk -v cpu="$1" '$NF == cpu')
	equal "other threads on the dataplane's CPU" "$others" ""
	start_runtime 1 echo --kthreads 3 --guaranteed 1 || return
	must ping pings "$(address_of 1)"
	guest 'cpus_of r1'
	local cpu
	for cpu in $said; do
		has "CPUs of kthreads, by the kernel" " $2 $4 " " $cpu "
	done
	good_report r1
	good_end
}

# The device does what upstream asks of it, and the software for it stays idle.
offloads() {
	local ip before udp=60
	wire 0 || return
	ip=$(address_of 1)
	start_daemon iokerneld || return
	has port "$log" "all offloads in hardware"
	start_runtime 1 echo --kthreads 3 --guaranteed 1 || return
	must ping pings "$ip"
	# No ARP from here on: nobody hashes it.
	ip neigh replace "$ip" lladdr 02:00:00:00:00:01 dev tap0 nud permanent
	sleep 1
	counted PORT_RX_SOFT_HASH
	before=$said
	must UDP udp_echoes "$ip" $udp
	must TCP tcp_echoes "$ip" 80 100000 6
	sleep 1
	counted PORT_RX_SOFT_HASH
	equal "frames hashed in software" "$said" "$before"
	counted PORT_TX_SOFT_CSUM PORT_TX_COPIED
	equal "frames finished in software, or copied" "$said" 0
	counted PORT_RX_PACKETS
	at_least "received" "$said" $((udp + 500))
	ip neigh del "$ip" dev tap0
	good_report r1
	at_least "hashes of the device, as computed again" "$(field rx_hash_checked)" $((udp + 400))
	equal "answers" "$(field udp_echoes)" $udp
	at_least TCP "$(field tcp_bytes)" 600000
	good_end
}

# Runtimes of three kthreads each, in C and in Rust, all at once.
several() {
	local n jobs=()
	wire 0 || return
	start_daemon iokerneld || return
	for n in 1 2; do start_runtime $n echo --kthreads 3 --guaranteed 1 || return; done
	# Without a guarantee: there may be two cores only.
	must "the runtime in Rust" guest "runtime r3 rust-echo --addr $(address_of 3)" \
		"--mac 02:00:00:00:00:03 --kthreads 3 --guaranteed 0 --huge" || return
	for n in 1 2 3; do
		[ $n = 3 ] || { pings "$(address_of $n)" & jobs+=($!); }
		udp_echoes "$(address_of $n)" 20 &
		jobs+=($!)
	done
	tcp_echoes "$(address_of 1)" 80 60000 3 & jobs+=($!)
	tcp_echoes "$(address_of 2)" 80 60000 3 & jobs+=($!)
	tcp_echoes "$(address_of 3)" 7 60000 3 & jobs+=($!)
	for n in "${!jobs[@]}"; do
		wait "${jobs[n]}" || problems+=("exchange number $n of ${#jobs[@]} failed")
	done
	good_report r1
	good_report r2
	guest "runtime_end r3" || problems+=("the runtime in Rust did not end well: $said")
	has "the runtime in Rust" "$said" "^bad_messages 0\$"
	good_end
}

# A runtime's second core is the sibling of its first; the lowest idle core goes to the next runtime.
siblings() {
	wire 0 || return
	start_daemon iokerneld || return
	local n
	for n in 1 2 3; do
		start_runtime $n burner --kthreads 2 --guaranteed 2 || return
		guest "cpus_of r$n"
		equal "CPUs of runtime $n, by the kernel" "$said" "$((2 * n)) $((2 * n + 1)) "
	done
	for n in 1 2 3; do
		good_report r$n
		equal "cores of runtime $n" "$(cores)" "$((2 * n)),$((2 * n + 1))"
	done
	good_end
}

# A kthread goes back to the core that it had last, although a lower one is idle.
last_core() {
	wire 0 || return
	start_daemon iokerneld || return
	start_runtime 1 burner --kthreads 1 --guaranteed 1 || return
	start_runtime 2 echo --kthreads 1 --guaranteed 1 || return
	good_report r1
	equal "core of the first" "$(cores)" 2
	must ping pings "$(address_of 2)"
	guest "cpus_of r2"
	equal "CPU of the second, by the kernel" "$said" "3 "
	good_report r2
	equal "cores of the second" "$(cores)" 3
	at_least wakes "$(field wakes)" 2
	good_end
}

# Who bursts beyond its guarantee gives a core up as soon as another has a right to it.
preemption() {
	wire 0 || return
	start_daemon iokerneld || return
	start_runtime 1 burner --kthreads 6 --guaranteed 0 || return
	sleep 1
	guest "cpus_of r1"
	equal "CPUs of the one that bursts, by the kernel" "$said" "2 3 4 5 6 7 "
	start_runtime 2 echo --kthreads 1 --guaranteed 1 --spin 1 || return
	must ping pings "$(address_of 2)"
	counted PREEMPTS
	at_least preemptions "$said" 1
	guest "cpus_of r2"
	local cpu=$said
	has "CPU of the one with a guarantee, by the kernel" " 2 3 4 5 6 7 " " ${cpu:-none}"
	good_report r2
	equal "its core" "$(cores) " "$cpu"
	good_report r1
	at_least "preempted" "$(field preempts)" 1
	good_end
}

# One runtime core for each pair of siblings, by the option and by the name.
no_smt() {
	local command
	wire 0 || return
	for command in "iokerneld --no-smt" iokerneld-noht; do
		start_daemon "$command" || return
		planned 1 0 2,4,6
		start_runtime 1 burner --kthreads 3 --guaranteed 3 || return
		guest "cpus_of r1"
		equal "CPUs, by the kernel ($command)" "$said" "2 4 6 "
		good_report r1
		good_end
	done
}

# --cores on both sockets: pairs of siblings, whichever socket they are on.
both_sockets() {
	wire 0 || return
	start_daemon iokerneld --cores 2-3,6-7 || return
	planned 1 0 "2-3,6-7; siblings 2\\+3 6\\+7"
	start_runtime 1 burner --kthreads 4 --guaranteed 4 || return
	guest "cpus_of r1"
	equal "CPUs, by the kernel" "$said" "2 3 6 7 "
	good_report r1
	good_end
	start_daemon iokerneld --dataplane-core 5 || return
	planned 5 4 "6-7; siblings 6\\+7"
	good_end
}

# CPUs that are offline when it starts are nowhere; one that goes later is worked around.
offline() {
	wire 0 || return
	guest "echo 0 >/sys/devices/system/cpu/cpu2/online"
	start_daemon iokerneld || return
	planned 1 0 "3-7; siblings 4\\+5 6\\+7"
	start_runtime 1 echo --kthreads 1 --guaranteed 1 || return
	must ping pings "$(address_of 1)"
	good_report r1
	equal "its core" "$(cores)" 3
	good_end
	guest "echo 1 >/sys/devices/system/cpu/cpu2/online"
	start_daemon iokerneld || return
	guest "echo 0 >/sys/devices/system/cpu/cpu2/online"
	guest "runtime r1 c-echo --mac 02:00:00:00:00:01 --ip $(address_of 1) --kthreads 1 --guaranteed 1 --pages huge"
	must "ping while a core's CPU is offline" pings "$(address_of 1)"
	counted PINS_FAILED
	at_least "pins that failed" "$said" 1
	guest "runtime_end r1"
	guest "echo 1 >/sys/devices/system/cpu/cpu2/online"
	good_end
}

# CPUs outside the daemon's cpuset are not used; outside a runtime's, it is woken where it may run.
cpusets() {
	wire 0 || return
	guest "mkdir -p /sys/fs/cgroup/few && echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control" \
		"&& echo 2-5 >/sys/fs/cgroup/few/cpuset.cpus" || problems+=("no cpuset: $said")
	# shellcheck disable=SC2016 # for the guest
	start_daemon "sh -c 'echo \$\$ >/sys/fs/cgroup/few/cgroup.procs; exec iokerneld'" || return
	planned 3 2 "4-5; siblings 4\\+5"
	start_runtime 1 burner --kthreads 2 --guaranteed 2 || return
	guest "cpus_of r1"
	equal "CPUs, by the kernel" "$said" "4 5 "
	good_report r1
	good_end
	start_daemon iokerneld || return
	guest "echo 6-7 >/sys/fs/cgroup/few/cpuset.cpus"
	guest "runtime r1 sh -c 'echo \$\$ >/sys/fs/cgroup/few/cgroup.procs; exec c-echo --mac 02:00:00:00:00:01" \
		"--ip $(address_of 1) --kthreads 1 --guaranteed 1 --pages huge'"
	must "ping to a runtime outside its cpuset" pings "$(address_of 1)"
	counted PINS_FAILED
	at_least "pins that failed" "$said" 1
	guest "runtime_end r1"
	good_end
}

# A device on the other node works, and is warned of; the ingress region is on the dataplane's.
other_node() {
	wire "$1" || return
	start_daemon iokerneld || return
	has warning "$log" "WARN.* is on NUMA node 1, the dataplane's CPU 1 on node 0: choose one of node 1"
	equal "a warning of few huge pages" "$(grep -c 'too few huge pages' <<<"$log")" 0
	# shellcheck disable=SC2016 # for the guest
	guest 'grep SYSV /proc/$DAEMON/numa_maps'
	has "the ingress region's pages" "$said" " N0=256 "
	exchange
	good_end
	# Node 1 has too few for both: they are DPDK's.
	start_daemon iokerneld --dataplane-core 5 || return
	equal "a warning for a CPU of the device's node" "$(grep -c 'is on NUMA node 1, the' <<<"$log")" 0
	# shellcheck disable=SC2016 # for the guest
	guest 'grep SYSV /proc/$DAEMON/numa_maps'
	has "the ingress region's pages" "$said" " N0=256 "
	exchange
	good_end
	# Not even for DPDK.
	guest "echo 10 >/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
	start_daemon iokerneld || return
	has warning "$log" "WARN.*too few huge pages are free on its NUMA node 1"
	exchange
	good_end
}

# exchange: one runtime and a little of everything.
exchange() {
	start_runtime 1 echo --kthreads 3 --guaranteed 1 || return
	must ping pings "$(address_of 1)"
	must TCP tcp_echoes "$(address_of 1)" 80 60000 2
	good_report r1
}

# nic NAME TAP PATTERN [LATE]: works with what the device has; a row for docs/nics.md. A driver
# may keep up to LATE sent frames, 0 if not given, until others are sent.
nic() {
	local ip row late
	wire "$2" || return
	ip=$(address_of 1)
	start_daemon iokerneld || return
	has port "$log" "$3"
	start_runtime 1 echo --kthreads 3 --guaranteed 1 || return
	must ping pings "$ip"
	must UDP udp_echoes "$ip" 40
	must TCP tcp_echoes "$ip" 80 60000 4
	sleep 1
	row="| $1 | $(grep -oE 'port: .*' <<<"$log" | sed -E 's/port: ([^ ]+) \(([^)]*)\), address [^,]*, /\2 | /')"
	counted PORT_RX_PACKETS
	local received=$said
	counted PORT_RX_SOFT_HASH
	row+=" | $said of $received"
	counted PORT_TX_PACKETS
	received=$said
	counted PORT_TX_SOFT_CSUM
	row+=" | $said of $received"
	counted PORT_TX_COPIED
	row+=" | $said"
	guest "runtime_end r1" || problems+=("r1 did not end well: $said")
	late=$(field lost_completions)
	rows+=("$row | $late |")
	faults "$said" "lost_completions"
	[ "$late" -le "${4:-0}" ] || problems+=("$late sent frames were not given back")
	equal "answers" "$(field udp_echoes)" 40
	good_end
}

# What keeps C runtimes from starting on several nodes, and the library that mends it.
strict_binding() {
	guest "taskset 0x10 strict 4" && problems+=("pages of another node are bound without help: $said")
	has "without the library" "$said" "^filled, 0 pages on node 0\$"
	has "without the library" "$said" "^not bound: Input/output error\$"
	guest "LD_PRELOAD=/bin/calisto-mbind.so taskset 0x10 strict 4" || problems+=("not bound: $said")
	has "with the library" "$said" "^filled, 0 pages on node 0\$"
	has "with the library" "$said" "^bound, 4 pages on node 0\$"
}

# flows POLICY: six runtime cores, bursts that wake all of them and lulls in which they park; so
# the active set changes all the time. `changed` remembers the share of each policy, per mille.
declare -A changed
flows() {
	local packets label sum=()
	wire 0 || return
	start_daemon iokerneld --policy "$1" --watch-flows || return
	start_runtime 1 echo --kthreads 6 --guaranteed 6 --spin 1 --work-us 100 --park-every 20 || return
	udp_bursts "$(address_of 1)" 64 80
	sleep 1
	for label in ST_PACKETS ST_CHANGED_CORE ST_MOVED_CORE_LOST ST_MOVED_RELIEF WAKES PARKS; do
		counted $label
		sum+=("$said")
	done
	packets=${sum[0]}
	# The tap drops what comes while the guest stands still.
	at_least packets "$packets" 2560
	at_least parks "${sum[5]}" 50
	changed[$1]=$((1000 * sum[1] / (packets + 1)))
	flow_rows+=("| \`$1\` | $packets | ${sum[4]} | ${sum[5]} | ${sum[2]} | ${sum[3]} | $((changed[$1] / 10)).$((changed[$1] % 10)) % |")
	good_report r1
	at_least "cores that it had" "$(cores | tr ',' '\n' | wc -l)" 6
	good_end
	[ "$1" != flow-table ] || [ -z "${changed[modulo]:-}" ] || [ $((2 * changed[flow-table])) -lt "${changed[modulo]}" ] ||
		problems+=("the flow table moved ${changed[flow-table]} per mille of packets, modulo ${changed[modulo]}")
}
