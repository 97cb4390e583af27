# Sourced: what the script starts and what that leaves in the temporary directory end with the script.

scratch=$(mktemp -d)
# Killed programs do not clean up.
export TMPDIR=$scratch

# in_group COMMAND...: COMMAND, which reads no input, in a process group of its own. A
# signal to the script alone ends the whole group; bash would wait for COMMAND first.
in_group() {
	local status
	# With job control a background command leads a group.
	set -m
	"$@" </dev/null &
	set +m
	wait $! && status=0 || status=$?
	return "$status"
}

# Ends the group, politely at first: in it may be a script with groups of its own.
end_group() {
	local leader i
	trap '' INT TERM HUP
	for leader in $(jobs -p); do
		kill -TERM -- "-$leader" 2>/dev/null || continue
		for ((i = 0; i < 100; i++)); do
			kill -0 -- "-$leader" 2>/dev/null || break
			sleep 0.1
		done
		kill -KILL -- "-$leader" 2>/dev/null || true
	done
	rm -rf "$scratch"
}

trap end_group EXIT
# A second signal must not end the end.
trap 'trap "" INT TERM HUP; exit 130' INT
trap 'trap "" INT TERM HUP; exit 143' TERM HUP
