# Sourced: qemu, a kernel and busybox, unpacked from Debian's packages and never installed.

# QEMU's igb, the one emulated NIC with all that upstream demands of a device, came with this version.
QEMU_WANTED=1:8.0

# unavailable WHY: ends the script as one that this machine cannot run.
unavailable() {
	echo "SKIPPED: virtual machines: $*"
	[ "${CALISTO_REQUIRE:-}" != 1 ] || exit 1
	exit 0
}

# apt_here COMMAND...: apt with its lists and archives in $bed, so that nothing of the
# machine changes and it takes no root.
apt_here() {
	local command=$1
	shift
	"$command" -o "Dir::Etc::sourcelist=$bed/sources.list" -o "Dir::State::lists=$bed/lists" \
		-o "Dir::Cache=$bed/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User= "$@"
}

# fetch_packages: fills $bed/root; does nothing if it is there.
fetch_packages() {
	[ ! -e "$bed/complete" ] || return 0
	[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || unavailable "this is not Debian on amd64"
	rm -rf "$bed"
	mkdir -p "$bed"/{lists/partial,cache/archives/partial,root}
	local mirror release kernel packages=(qemu-system-x86 busybox-static) from=() deb
	cat /etc/apt/sources.list 2>/dev/null >"$bed/sources.list" || true
	mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | sort -u |
		awk '/\/debian\/? [a-z]+$/ { print; exit }')
	[ -n "$mirror" ] || unavailable "apt knows no mirror of Debian"
	release=${mirror##* } mirror=${mirror%% *}
	apt_here apt-get -qq update >"$bed/log" 2>&1 || unavailable "apt-get update: $(tail -n 1 "$bed/log")"
	if ! dpkg --compare-versions "$(version_of qemu-system-x86)" ge "$QEMU_WANTED"; then
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
			"$mirror $release-backports main" >>"$bed/sources.list"
		from=(-t "$release-backports")
		apt_here apt-get -qq update >"$bed/log" 2>&1 || unavailable "apt-get update: $(tail -n 1 "$bed/log")"
	fi
	apt_here apt-get -qq -y "${from[@]}" --no-install-recommends --download-only install "${packages[@]}" \
		>"$bed/log" 2>&1 || unavailable "${packages[*]} cannot be had: $(tail -n 1 "$bed/log")"
	kernel=$(apt_here apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
	[ -n "$kernel" ] || unavailable "apt knows no kernel linux-image-cloud-amd64"
	(cd "$bed/cache/archives" && apt_here apt-get -qq download "$kernel") >"$bed/log" 2>&1 ||
		unavailable "$kernel cannot be had: $(tail -n 1 "$bed/log")"
	for deb in "$bed"/cache/archives/*.deb; do
		dpkg -x "$deb" "$bed/root"
	done
	rm -rf "$bed/cache" "$bed/lists"
	touch "$bed/complete"
}

# version_of PACKAGE: the one that apt would install.
version_of() { apt_here apt-cache policy "$1" | awk '/Candidate:/ { print $2 }'; }

# unpacked PATH: a file of those packages, or the machine's own where its package is installed.
unpacked() {
	if [ -e "$bed/root/$1" ]; then echo "$bed/root/$1"; else echo "/$1"; fi
}
