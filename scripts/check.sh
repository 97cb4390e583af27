#!/usr/bin/env bash
# What goes beyond tests: models of races, sanitizers, an interpreter, fuzzing.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: scripts/check.sh [STAGE...]

Runs the stages, by default all of them in this order, and prints a table of
what ran, what was skipped, and why:

  exhaustive  offsets and lengths, all of them over small regions, against
              arithmetic in 128 bits. In place of proofs: Kani's compiler is no
              package of a registry, but a bundle to be fetched from GitHub
  loom        models of the rings, of a ring whose peer lies, and of the race
              between a park and a wake (two preemptions), in every order of steps
  miri        the rings and the pure parts, interpreted: undefined behaviour.
              Needs a nightly toolchain with Miri
  asan        unit tests under AddressSanitizer
  tsan        tests of many threads under ThreadSanitizer. Needs a nightly
              toolchain with rust-src: with a standard library that is not
              instrumented it reports races that are none
  fuzz        all fuzz targets, each over its corpus and some seconds more

With CALISTO_REQUIRE=1 a skip is a failure. Exit code: 0, 2 for bad usage, 1 for
any failure; the other stages run all the same.
USAGE
}

cd "$(dirname "$0")/.."
root=$PWD
all_stages=(exhaustive loom miri asan tsan fuzz)
triple=x86_64-unknown-linux-gnu
calisto=(-p calisto --no-default-features --lib)

skip() { # STAGE WHY
	echo "SKIPPED: $1: $2"
	[ "${CALISTO_REQUIRE:-}" != 1 ]
}

stage_exhaustive() { cargo test "${calisto[@]}" -- exhaustive a_frame_is; }

stage_loom() {
	RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom \
		cargo test "${calisto[@]}" -- lrpc:: park_wake::
}

# No shared memory and no files there; and what loops a hundred thousand times, or
# draws its cases at random, would take hours.
stage_miri() {
	cargo +nightly miri --version >/dev/null 2>&1 || {
		skip miri "no Miri: rustup toolchain install nightly --component miri,rust-src"
		return
	}
	PROPTEST_CASES=2 MIRIFLAGS=-Zmiri-disable-isolation CARGO_TARGET_DIR=target/miri \
		cargo +nightly miri test "${calisto[@]}" -- \
		abi::lrpc port::headers::tests port::hash dataplane::macs cores::congestion \
		cores::arbiter::tests::left cores::arbiter::tests::scenarios \
		--skip agrees_with --skip the_short_way --skip the_copy_is --skip sleeping_procs
}

# The pinned toolchain brings the sanitizer's runtime; the flag alone is unstable.
stage_asan() {
	# Shared memory is detached explicitly; leaks of threads that still run are not ours to hunt.
	RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address' ASAN_OPTIONS=detect_leaks=0 \
		CARGO_TARGET_DIR=target/asan \
		cargo test "${calisto[@]}" --target "$triple"
}

stage_tsan() {
	[ -e "$(rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/Cargo.lock" ] || {
		skip tsan "no nightly toolchain with rust-src: rustup toolchain install nightly --component rust-src"
		return
	}
	RUSTFLAGS='-Zsanitizer=thread' CARGO_TARGET_DIR=target/tsan \
		cargo +nightly test "${calisto[@]}" --target "$triple" -Zbuild-std -- \
		abi:: control:: admin:: stats:: dataplane:: --test-threads=2
}

stage_fuzz() { "$root/scripts/fuzz.sh" brief; }

# A stage is a process of its own: in a function that is the condition of an
# `if`, bash ignores `set -e`, and failures but the last with it.
if [ "${1:-}" = --stage ]; then
	"stage_$2"
	exit
fi

. scripts/stages.sh
choose_stages check.sh "${all_stages[*]}" "${all_stages[*]}" "$@"

. scripts/group.sh
log=$scratch/log
logged_stage() { bash "$root/scripts/check.sh" --stage "$1" 2>&1 | tee "$log"; }
table='' failed=0
for stage in "${stages[@]}"; do
	echo "--- $stage"
	began=$SECONDS
	outcome=passed
	in_group logged_stage "$stage" || outcome=FAILED
	# Tests that passed, or targets.
	cases=$(grep -cE '^test .* ok$|^ok ' "$log" || true)
	note="$cases cases"
	if why=$(grep -m 1 -oP "^SKIPPED: $stage: \K.*" "$log"); then
		[ $outcome = FAILED ] || outcome=skipped
		note=$why
	elif [ "$cases" -eq 0 ]; then
		# A filter that fits no test any more checks nothing.
		outcome=FAILED
	fi
	[ $outcome != FAILED ] || failed=1
	table+=$(printf '%-11s %-8s %5s s  %s' "$stage" "$outcome" $((SECONDS - began)) "$note")$'\n'
done
echo "--- checks"
printf '%s' "$table"
exit $failed
