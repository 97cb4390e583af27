# Sourced: cases, what they expect, and the table of them.

results=()
rows=()
flow_rows=()
problems=()

# Counters of a runtime that only a fault of the I/O kernel raises (compat-tests/c/librt.h).
FAULTS='bad_first_wake|bad_core|bad_affinity|double_core|joins_repeated|joins_alien|joins_missing'
FAULTS+='|rx_bad_place|rx_bad_len|rx_alien_mac|rx_bad_csum_type|rx_bad_ip_csum|rx_bad_l4_csum|rx_bad_hash'
FAULTS+='|rx_alien_cmd|bad_completions|lost_completions|stranded'

# case_of NAME FUNCTION ARGUMENT...: runs it; it passes if it finds no problem.
case_of() {
	local name=$1 began=$SECONDS problem
	shift
	problems=()
	"$@" || problems+=("it did not come to its end")
	if [ ${#problems[@]} = 0 ]; then
		results+=("passed|$machine|$name|$((SECONDS - began)) s")
	else
		results+=("FAILED|$machine|$name|${problems[0]}")
		for problem in "${problems[@]}"; do echo "vm-test.sh: $machine: $name: $problem" >&2; done
	fi
	echo "$machine: $name: ${results[-1]%%|*} ($((SECONDS - began)) s)"
	tidy
}

# tidy: whatever a case left running in the guest ends.
tidy() {
	guest 'for f in /tmp/*.pid; do [ ! -e "$f" ] || { kill -KILL $(cat $f); rm $f; }; done; [ ! -d /proc/$DAEMON ] || { kill -KILL $DAEMON; wait $DAEMON; }' || true
}

# must WHAT COMMAND...: a problem, and the end of the case, if the command fails.
must() {
	local what=$1
	shift
	said=
	"$@" && return
	problems+=("$what: ${said:-$*}")
	return 1
}

# equal WHAT IS WANTED
equal() {
	[ "$2" = "$3" ] || problems+=("$1: '$2', not '$3'")
}

# at_least WHAT IS WANTED
at_least() {
	[ "${2:-0}" -ge "$3" ] 2>/dev/null || problems+=("$1: '$2', not $3 or more")
}

# has WHAT TEXT PATTERN
has() {
	grep -qE -- "$3" <<<"$2" || problems+=("$1: no '$3' in: $2")
}

# good_report NAME: the runtime ends, and has found no fault of the I/O kernel. `said` is its report.
good_report() {
	guest "runtime_end $1" || problems+=("$1 did not end well: $said")
	faults "$said" none
}

# faults REPORT BUT: a problem if there is a counter of a fault besides BUT.
faults() {
	local found
	found=$(grep -oE "\"($FAULTS)\":[1-9][0-9]*" <<<"$1" | grep -v "\"$2\"" | tr '\n' ' ')
	[ -z "$found" ] || problems+=("a runtime reports $found")
}

# good_end: the daemon ends well, and its list of system calls lacked nothing. `said` is what it counted.
good_end() {
	guest daemon_end || problems+=("iokerneld did not end well: $(tail -n 8 <<<"$said")")
	local odd
	odd=$(grep -E 'type=1326|segfault|FAULT|ERROR|panicked' <<<"$said")
	[ -z "$odd" ] || problems+=("$odd")
}

# counted LABEL...: what the running daemon has counted, in `said`.
counted() {
	guest "counter $*"
}

# print_table: all results; fails if one case did.
print_table() {
	local row fields failed=0
	echo
	for row in "RESULT|MACHINE|CASE|" "${results[@]}"; do
		IFS='|' read -ra fields <<<"$row"
		printf '%-8s %-14s %-26s %s\n' "${fields[0]}" "${fields[1]}" "${fields[2]}" "${fields[3]:-}"
	done
	if [ ${#rows[@]} -gt 0 ]; then
		echo
		printf '%s\n' "| NIC | driver | port, as iokerneld says | frames hashed in software | checksums filled in in software | copied | given back late |" \
			"|---|---|---|---|---|---|---|" "${rows[@]}"
	fi
	if [ ${#flow_rows[@]} -gt 0 ]; then
		echo
		printf '%s\n' "| policy | packets | grants | parks | moved: core lost | moved: relief | changed core |" \
			"|---|---|---|---|---|---|---|" "${flow_rows[@]}"
	fi
	for row in "${results[@]}"; do [[ $row != FAILED* ]] || failed=1; done
	return $failed
}
