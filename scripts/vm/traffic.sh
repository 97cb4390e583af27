# Sourced: Linux, on the tap's side of the wire, talks to runtimes in the guest.

# pings ADDRESS: 8 bytes to the longest that fits a frame, each answered.
pings() {
	local bytes
	for bytes in 8 56 1472; do
		ping -q -n -c 1 -W 20 -s "$bytes" "$1" >/dev/null || return 1
	done
}

# udp_echoes ADDRESS FLOWS: datagrams of many sizes come back unchanged. One that is lost
# is sent again, twice.
udp_echoes() {
	local n size tries socket file
	file=$(mktemp -p "$work")
	for n in $(seq "$2"); do
		size=$((1 + (n * 211) % 1472))
		head -c "$size" /dev/urandom >"$file"
		exec {socket}<>"/dev/udp/$1/7"
		for tries in 1 2 3; do
			dd if="$file" bs=2048 count=1 status=none >&"$socket"
			timeout 5 dd bs=2048 count=1 status=none <&"$socket" | cmp -s - "$file" && break
			[ "$tries" != 3 ] || return 1
		done
		exec {socket}>&-
	done
	rm -f "$file"
}

# tcp_echoes ADDRESS PORT BYTES CONNECTIONS: so many bytes through each and back, all at once.
tcp_echoes() {
	local n jobs=() failed=0
	for n in $(seq "$4"); do
		tcp_echo "$1" "$2" "$3" &
		jobs+=($!)
	done
	for n in "${jobs[@]}"; do wait "$n" || failed=1; done
	return $failed
}

tcp_echo() {
	local stream file
	file=$(mktemp -p "$work")
	head -c "$3" /dev/urandom >"$file"
	exec {stream}<>"/dev/tcp/$1/$2" || return 1
	cat "$file" >&"$stream" &
	timeout 60 head -c "$3" <&"$stream" | cmp -s - "$file"
	local code=$?
	wait $!
	exec {stream}>&-
	rm -f "$file"
	return $code
}

# udp_bursts ADDRESS FLOWS ROUNDS: in each round a datagram of each flow, then a lull. Nobody
# waits for answers.
udp_bursts() {
	local sockets=() socket n
	for n in $(seq "$2"); do
		exec {socket}<>"/dev/udp/$1/7"
		sockets+=("$socket")
	done
	for n in $(seq "$3"); do
		for socket in "${sockets[@]}"; do printf x >&"$socket"; done
		sleep 0.03
	done
	for socket in "${sockets[@]}"; do exec {socket}>&-; done
}
