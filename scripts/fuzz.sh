#!/usr/bin/env bash
# Builds and runs the fuzz targets with the pinned toolchain.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: scripts/fuzz.sh [build | brief | run TARGET [ARG...] | minimise TARGET | list]

  build     builds all targets
  brief     (default) builds them, then runs each over its corpus and for some
            whole seconds more (FUZZ_SECONDS, 5), two at a time. What it finds
            goes to fuzz/artifacts, and is a failure
  run       builds them and runs one: ARGs are libFuzzer's, such as
            -max_total_time=3600, or a file to replay, by its path from fuzz/.
            New inputs go to fuzz/target/corpus/TARGET
  minimise  builds them and puts the smallest set of inputs with the same
            coverage, of those in fuzz/corpus/TARGET and
            fuzz/target/corpus/TARGET, into the former: at most FUZZ_KEEP (60)
            inputs of at most FUZZ_LEN (2048) bytes
  list      names the targets

No cargo-fuzz is needed, and no nightly: libFuzzer comes with the crate
libfuzzer-sys, and the flags below are those that cargo-fuzz gives. With it,
`cargo +nightly fuzz run TARGET` works as well. Needs clang's or gcc's C++.
USAGE
}

cd "$(dirname "$0")/../fuzz"
. ../scripts/group.sh
triple=x86_64-unknown-linux-gnu
bins=$PWD/target/$triple/release
mapfile -t targets < <(sed -n 's/^path = "targets\/\(.*\)\.rs"$/\1/p' Cargo.toml)
# Detached explicitly; what threads that still run hold is no leak.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0}

known() {
	[[ "${1:-}" != *" "* && " ${targets[*]} " == *" ${1:-} "* ]] || {
		echo "fuzz.sh: no target ${1:-}: there are ${targets[*]}" >&2
		exit 2
	}
}

number() { # VARIABLE DEFAULT
	local value=${!1:-$2}
	[[ $value =~ ^[1-9][0-9]{0,8}$ ]] || {
		echo "fuzz.sh: $1=$value: give a whole number above 0" >&2
		exit 2
	}
	export "$1=$value"
}

build() {
	# The pinned toolchain brings the sanitizer's runtime; the flag alone is unstable.
	local flags=(--cfg fuzzing -Zsanitizer=address -Cforce-frame-pointers -Cpasses=sancov-module)
	local coverage
	for coverage in level=4 inline-8bit-counters pc-table trace-compares; do
		flags+=("-Cllvm-args=-sanitizer-coverage-$coverage")
	done
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="${flags[*]}" \
		in_group cargo build --locked --release --target "$triple" --bins
}

# One target over its corpus and a little further. New inputs are not kept.
brief_one() { # TARGET
	local new=$scratch/$1 log=$scratch/$1.log seconds=$FUZZ_SECONDS
	mkdir -p "artifacts/$1" "corpus/$1" "$new"
	if "$bins/$1" -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=60 -max_len=4096 -len_control=10 \
		-print_final_stats=1 -artifact_prefix="artifacts/$1/" "$new" "corpus/$1" >"$log" 2>&1; then
		echo "ok $1: $(find "corpus/$1" -type f | wc -l) inputs and $seconds s more," \
			"$(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions"
	else
		tail -n 60 "$log" >&2
		echo "fuzz.sh: $1 failed: see above; the input is in fuzz/artifacts/$1" >&2
		return 1
	fi
}

brief() {
	printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -c 'set -euo pipefail; brief_one {}'
}

minimise() { # TARGET
	local all=$scratch/all kept=$scratch/kept log=$scratch/log
	mkdir -p "corpus/$1" "target/corpus/$1" "$all" "$kept"
	# Cases with a name stay; they are described in the README.
	find "corpus/$1" -type f -regextype posix-extended ! -regex '.*/[0-9a-f]{40}' -exec cp {} "$kept" \;
	find "corpus/$1" "target/corpus/$1" -type f -size "-$((FUZZ_LEN + 1))c" -exec cp {} "$all" \;
	in_group "$bins/$1" -set_cover_merge=1 -rss_limit_mb=4096 "$kept" "$all" >"$log" 2>&1 || {
		tail -n 60 "$log" >&2
		echo "fuzz.sh: $1 failed: see above; its corpus is as it was" >&2
		return 1
	}
	find "corpus/$1" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
	# Should the merge keep more, the largest: they cover most.
	find "$kept" -type f -printf '%s %p\n' | sort -rn | head -n "$FUZZ_KEEP" | cut -d' ' -f2- |
		xargs -r cp -t "corpus/$1"
	echo "$1: $(find "corpus/$1" -type f | wc -l) inputs, $(du -sb "corpus/$1" | cut -f1) bytes"
}

case ${1:-brief} in
-h | --help) usage ;;
list) printf '%s\n' "${targets[@]}" ;;
build) build ;;
brief)
	number FUZZ_SECONDS 5
	build
	export -f brief_one
	export bins scratch
	in_group brief
	;;
run)
	known "${2:-}"
	build
	mkdir -p "target/corpus/$2" "corpus/$2" "artifacts/$2"
	dirs=("target/corpus/$2" "corpus/$2")
	for arg in "${@:3}"; do
		# An input to replay takes the place of the corpora.
		[[ $arg == -* ]] || dirs=()
	done
	in_group "$bins/$2" -rss_limit_mb=4096 -timeout=60 -max_len=4096 -len_control=10 \
		-artifact_prefix="artifacts/$2/" "${@:3}" "${dirs[@]}"
	;;
minimise)
	known "${2:-}"
	number FUZZ_KEEP 60
	number FUZZ_LEN 2048
	build
	minimise "$2"
	;;
*)
	echo "fuzz.sh: unknown command $1 (see --help)" >&2
	exit 2
	;;
esac
