# Sourced: runs a command in fresh namespaces that end with this script, however that ends.

# in_spaces COMMAND...: COMMAND begins with `unshare ... --fork --kill-child`. That program
# ignores SIGINT and SIGTERM while its child runs, so we end it; all in its
# namespaces ends with it.
in_spaces() {
	local child status
	"$@" &
	child=$!
	trap 'kill -KILL "$child" 2>/dev/null || true; wait "$child" 2>/dev/null || true; exit 130' INT
	trap 'kill -KILL "$child" 2>/dev/null || true; wait "$child" 2>/dev/null || true; exit 143' TERM HUP
	wait "$child" && status=0 || status=$?
	trap - INT TERM HUP
	return "$status"
}
