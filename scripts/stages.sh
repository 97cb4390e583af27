# Sourced: which stages a script of stages is to run.

# choose_stages SCRIPT KNOWN DEFAULT [ARG...]: sets `stages` to those that ARGs name, or to
# DEFAULT; KNOWN and DEFAULT are words with spaces between. Answers --help by the script's
# usage(). An unknown stage ends the script: bad usage.
choose_stages() {
	local script=$1 known=$2 default=$3 arg
	shift 3
	stages=()
	for arg in "$@"; do
		case $arg in
		-h | --help) usage && exit 0 ;;
		*)
			[[ $arg != *" "* && " $known " == *" $arg "* ]] || {
				echo "$script: no stage $arg (see --help)" >&2
				exit 2
			}
			stages+=("$arg")
			;;
		esac
	done
	[ ${#stages[@]} -gt 0 ] || read -ra stages <<<"$default"
}
