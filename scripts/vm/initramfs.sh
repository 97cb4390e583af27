# Sourced: the guest's root, an archive of busybox, the project's programs and their libraries.

# What DPDK loads by itself when it starts.
PLUGINS=(net_e1000 net_vmxnet3 net_virtio bus_pci bus_vdev mempool_ring mempool_stack)
# In the order that they need each other.
MODULES=(uio uio_pci_generic irqbypass vfio_virqfd vfio vfio_iommu_type1 vfio-pci-core vfio-pci)

# make_initramfs ARCHIVE NAME=PROGRAM...: the programs go to /bin of the guest, by these names.
make_initramfs() {
	local archive=$1 root=$work/guest folder plugins=() file
	shift
	mkdir -p "$root"/{dev,etc,proc,root,run,sys,tmp,usr/bin,usr/lib/modules,usr/lib64}
	for folder in bin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
	cp "$(unpacked bin/busybox)" "$root/bin/"
	cp scripts/vm/init scripts/vm/guest.sh "$root/"
	chmod 755 "$root/init"
	echo "${MODULES[*]}" >"$root/modules"
	# A kernel may have one built in.
	for file in "${MODULES[@]}"; do
		find "$bed"/root/{usr/,}lib/modules -name "$file.ko" -exec cp {} "$root/lib/modules/" \; 2>/dev/null || true
	done
	ln -s iokerneld "$root/bin/iokerneld-noht"
	for file in "$@"; do
		# Without what debuggers read, which is most of it.
		strip -o "$root/bin/${file%%=*}" "${file#*=}"
	done
	for folder in "$(pkg-config --variable=libdir libdpdk)"/dpdk/pmds-*; do
		for file in "${PLUGINS[@]}"; do plugins+=("$folder/librte_$file".so*); done
	done
	for file in "${plugins[@]}"; do put_library "$root" "$file"; done
	ldd "${@#*=}" "${plugins[@]}" | grep -o '/[^ :]*\.so[^ :]*' | sort -u | while read -r file; do
		put_library "$root" "$file"
	done
	(cd "$root" && find . | "$(unpacked bin/busybox)" cpio -o -H newc 2>/dev/null) >"$archive"
	rm -rf "$root"
}

# put_library ROOT PATH: where it really lies, and a link from PATH; so nothing is there
# twice, and no driver is loaded twice.
put_library() {
	local real
	real=$(readlink -f "$2")
	if [ ! -e "$1$real" ]; then
		mkdir -p "$1$(dirname "$real")"
		cp "$real" "$1$real"
	fi
	[ -e "$1$2" ] || [ -L "$1$2" ] || {
		mkdir -p "$1$(dirname "$2")"
		ln -s "$real" "$1$2"
	}
}
