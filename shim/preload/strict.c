/*
 * strict.c - does as a C runtime does at its start, for the test of mbind.c
 *
 *   strict COUNT   COUNT huge pages of 2 MiB are filled by this CPU, then bound to node 0
 *
 * Exit status 0 and "bound, N pages on node 0" if the kernel agreed; 1 and its
 * reason if not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HUGE_PAGE	(2UL << 20)
#define MPOL_BIND	2
#define MPOL_MF_STRICT	1

/* Pages that lie on node 0; the kernel says where each is. */
static int on_node_0(char *base, int count)
{
	int i, n = 0;

	for (i = 0; i < count; i++) {
		void *page = base + (size_t)i * HUGE_PAGE;
		int node = -1;

		if (syscall(SYS_move_pages, 0, 1UL, &page, NULL, &node, 0) == 0 && node == 0)
			n++;
	}
	return n;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 1;
	size_t len = (size_t)count * HUGE_PAGE;
	unsigned long node_0 = 1;
	char *base = mmap(NULL, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);

	if (base == MAP_FAILED) {
		printf("no huge pages: %s\n", strerror(errno));
		return 1;
	}
	printf("filled, %d pages on node 0\n", on_node_0(base, count));
	if (syscall(SYS_mbind, base, len, MPOL_BIND, &node_0, 64UL, MPOL_MF_STRICT) != 0) {
		printf("not bound: %s\n", strerror(errno));
		return 1;
	}
	memset(base, 1, len);
	printf("bound, %d pages on node 0\n", on_node_0(base, count));
	return 0;
}
