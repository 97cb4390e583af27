# Sourced: a guest under QEMU's software emulation, and a network with it.
#
# The guest's serial line is a shell: guest() sends a line with a number and waits for
# that number with the exit code.

# Longest wait for the guest: a watchdog, far beyond what a busy machine needs.
PATIENCE=180

# boot TOPOLOGY NIC[@NODE]...: TOPOLOGY is SOCKETSxCORESxTHREADS, with +iommu or not; a node for
# each socket.
# NIC number N (from 0) is on the tap interface tapN and has the address 52:54:00:00:00:0N.
boot() {
	local topology=$1 sockets cores threads number=0 nic node arguments=() pages
	shift
	IFS=x read -r sockets cores threads <<<"${topology%+iommu}"
	local per_node=$((cores * threads)) all=$((sockets * cores * threads))
	arguments=(-smp "$all,sockets=$sockets,cores=$cores,threads=$threads")
	case $sockets in
	1) arguments+=(-m 2G) pages=520 ;;
	2)
		arguments+=(-m 2560M
			-object memory-backend-ram,id=m0,size=2G -object memory-backend-ram,id=m1,size=512M
			-numa "node,nodeid=0,cpus=0-$((per_node - 1)),memdev=m0"
			-numa "node,nodeid=1,cpus=$per_node-$((all - 1)),memdev=m1"
			-numa dist,src=0,dst=1,val=21)
		pages=520,120
		;;
	esac
	# Before the devices behind it. DPDK wants addresses as wide as a process has.
	[[ $topology != *+iommu ]] || arguments+=(-device intel-iommu,intremap=on,caching-mode=on,aw-bits=48)
	for nic in "$@"; do
		ip tuntap add dev "tap$number" mode tap
		# A NIC without offloads meets whole frames with whole checksums.
		ethtool -K "tap$number" tx off tso off gso off gro off >/dev/null 2>&1 || true
		ip link set "tap$number" up
		arguments+=(-netdev "tap,id=net$number,ifname=tap$number,script=no,downscript=no")
		node=${nic#*@}
		nic=${nic%@*},netdev=net$number,mac=52:54:00:00:00:0$number,romfile=
		if [ "$node" != "${nic%%,*}" ]; then
			# A NIC on the root bus has no node.
			arguments+=(-device "pxb-pcie,id=bridge$number,bus_nr=$((128 + 8 * number)),numa_node=$node,bus=pcie.0"
				-device "pcie-root-port,id=port$number,bus=bridge$number,chassis=$number,slot=$number")
			nic=$nic,bus=port$number
		fi
		arguments+=(-device "$nic")
		number=$((number + 1))
	done
	rm -f "$work/to-guest"
	mkfifo "$work/to-guest"
	: >"$work/serial"
	LD_LIBRARY_PATH=$bed/root/usr/lib/x86_64-linux-gnu:$bed/root/lib/x86_64-linux-gnu \
	QEMU_MODULE_DIR=$(unpacked usr/lib/x86_64-linux-gnu/qemu) \
		"$(unpacked usr/bin/qemu-system-x86_64)" \
		-L "$(unpacked usr/share/qemu)" -L "$(unpacked usr/share/seabios)" \
		-machine q35 -accel tcg,thread=multi -cpu max,vendor=GenuineIntel \
		-nodefaults -display none -no-reboot -serial stdio "${arguments[@]}" \
		-kernel "$(echo "$bed"/root/boot/vmlinuz-*)" -initrd "$work/initrd" \
		-append "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off tsc=reliable numa_balancing=disable init_on_alloc=0 no_timer_check intel_iommu=on calisto.pages=$pages" \
		<"$work/to-guest" >>"$work/serial" 2>"$work/qemu.log" &
	qemu=$!
	exec {to_guest}>"$work/to-guest"
	asked=0 read_to=0 silent=''
	answer || {
		echo "vm-test.sh: the machine $topology does not come up:" >&2
		tail -n 40 "$work/qemu.log" "$work/serial" >&2
		return 1
	}
}

# guest LINE: runs it there; `said` is what it printed, and the exit code is its own.
# Not for a subshell: how far the serial line was read is kept here. A guest that was silent
# for too long is not asked again.
guest() {
	[ -z "$silent" ] || { said="the guest is silent" && return 99; }
	asked=$((asked + 1))
	printf '%d %s\n' "$asked" "$*" >&"$to_guest"
	answer
}

# answer: waits for the mark of the line asked last.
answer() {
	local mark until=$((SECONDS + PATIENCE))
	until mark=$(grep -anm1 "^<<$asked [0-9]*>>" "$work/serial"); do
		if ! kill -0 "$qemu" 2>/dev/null || [ $SECONDS -gt $until ]; then
			said="the guest is silent" silent=1
			return 99
		fi
		sleep 0.05
	done
	said=$(tail -n +$((read_to + 1)) "$work/serial" | head -n $((${mark%%:*} - read_to - 1)) | tr -d '\r')
	read_to=${mark%%:*}
	mark=${mark##* }
	return "${mark%%>>*}"
}

# power_off: ends the guest, and removes its interfaces.
power_off() {
	exec {to_guest}>&-
	local n
	for n in $(seq 100); do
		kill -0 "$qemu" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL "$qemu" 2>/dev/null || true
	wait "$qemu" 2>/dev/null || true
	for n in $(taps); do ip link del "$n"; done
}

# taps: the interfaces of the guest's NICs.
taps() { ip -o link show type tun | grep -o 'tap[0-9]*'; }

# wire N: NIC number N, and no other, is DPDK's, and the network 192.168.1.0/24 is on its tap.
# Behind an IOMMU it is vfio-pci's, else uio_pci_generic's.
wire() {
	local n driver=uio_pci_generic
	[[ $machine != *+iommu ]] || driver=vfio-pci
	for n in $(taps); do ip addr flush dev "$n"; done
	ip addr add 192.168.1.1/24 dev "tap$1"
	must "the NIC goes to $driver" guest "use_nics $driver ${nic_at[$1]}"
}
