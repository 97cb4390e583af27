/*
 * mbind.c - lets unmodified C runtimes start on machines of several NUMA nodes
 *
 *   cc -shared -fPIC -O2 -o calisto-mbind.so shim/preload/mbind.c
 *   LD_PRELOAD=$PWD/calisto-mbind.so the_runtime its.config
 *
 * A C runtime fills its memory with huge pages, then binds it to node 0 with
 * MPOL_MF_STRICT, which means: fail (EIO) if a page lies elsewhere already. It
 * exits then. Here the kernel is asked to move such pages instead
 * (MPOL_MF_MOVE); those that cannot be moved stay where they are, and work.
 * Every other call is passed on as it is.
 *
 * The runtime has an mbind() of its own, which goes through syscall(), and that
 * is what a preloaded library can stand before; libnuma's callers have mbind().
 *
 * Source: mbind(2).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/syscall.h>

/* linux/mempolicy.h */
#define MODE_FLAGS	(7 << 13)	/* MPOL_F_* in the mode's high bits */
#define MPOL_BIND	2
#define MPOL_MF_STRICT	1
#define MPOL_MF_MOVE	2

static long next_syscall(long number, const long *a)
{
	static long (*next)(long, ...);

	/* Racing threads find the same. */
	if (!next)
		next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The flags to ask for instead. The kernel looks at 32 bits of both, and so do we. */
static long mended(long mode, long flags)
{
	if (((int)mode & ~MODE_FLAGS) != MPOL_BIND || (int)flags != MPOL_MF_STRICT)
		return flags;
	return MPOL_MF_MOVE;
}

long syscall(long number, ...)
{
	va_list args;
	long a[6];
	int i;

	/* As the C library's own: all six, whatever the call has. */
	va_start(args, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_mbind)
		a[5] = mended(a[2], a[5]);
	return next_syscall(number, a);
}

long mbind(void *start, unsigned long len, int mode, const unsigned long *nodes,
	   unsigned long max_node, unsigned int flags)
{
	long a[6] = { (long)start, (long)len, mode, (long)nodes, (long)max_node,
		      mended(mode, (long)flags) };

	return next_syscall(SYS_mbind, a);
}
