/*
 * region.c - a runtime's shared memory, and its registration
 *
 *   0        control_hdr, thread_spec[n]
 *   64-byte steps, for each kthread:
 *            rxq, txpktq + wb, txcmdq + wb, q_ptrs (its first word is rxq's wb)
 *   page     egress buffers of 2048 bytes, none across a page
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "librt.h"
#include "point.h"

#define LINE		64
#define SMALL_PAGE	4096
#define HUGE_PAGE	(2UL << 20)

static size_t align_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

/* Hands out the region front to back. With base NULL it only measures. */
struct layout {
	char	*base;
	size_t	at;
};

static char *place(struct layout *l, size_t bytes, size_t align)
{
	size_t at = align_up(l->at, align);

	l->at = at + bytes;
	return l->base ? l->base + at : NULL;
}

static void place_producer(struct rt *rt, struct layout *l, struct queue_spec *spec,
			   struct lrpc_producer *p)
{
	struct lrpc_msg *tbl = (struct lrpc_msg *)place(l, sizeof(*tbl) * rt->cfg.ring, LINE);
	uint32_t *wb = (uint32_t *)place(l, sizeof(*wb), LINE);

	if (!l->base)
		return;
	*spec = (struct queue_spec){ rt->cfg.ring, rt_shmptr(rt, tbl), rt_shmptr(rt, wb) };
	*p = (struct lrpc_producer){ .tbl = tbl, .wb = wb, .size = rt->cfg.ring };
}

static void place_kthread(struct rt *rt, struct layout *l, struct thread_spec *spec,
			  struct kthread *k)
{
	struct lrpc_msg *rx = (struct lrpc_msg *)place(l, sizeof(*rx) * rt->cfg.ring, LINE);

	place_producer(rt, l, &spec->txpktq, &k->txpktq);
	place_producer(rt, l, &spec->txcmdq, &k->txcmdq);
	k->q_ptrs = (struct q_ptrs *)place(l, sizeof(struct q_ptrs), LINE);
	if (!l->base)
		return;
	spec->q_ptrs = rt_shmptr(rt, k->q_ptrs);
	spec->rxq = (struct queue_spec){ rt->cfg.ring, rt_shmptr(rt, rx), spec->q_ptrs };
	k->rxq = (struct lrpc_consumer){ .tbl = rx, .wb = &k->q_ptrs->rxq_wb, .size = rt->cfg.ring };
}

/* Lays everything out; twice, first to learn the length. */
static size_t lay_out(struct rt *rt, char *base)
{
	size_t page = rt->cfg.huge ? HUGE_PAGE : SMALL_PAGE;
	struct layout l = { .base = base };
	struct thread_spec scratch = { 0 }, *specs = NULL;
	char *bufs;
	int i;

	place(&l, sizeof(struct control_hdr), LINE);
	specs = (struct thread_spec *)place(&l, sizeof(*specs) * rt->cfg.kthreads, 8);
	for (i = 0; i < rt->cfg.kthreads; i++)
		place_kthread(rt, &l, base ? &specs[i] : &scratch, &rt->kthreads[i]);
	bufs = place(&l, (size_t)rt->cfg.egress_bufs * MBUF_DEFAULT_LEN, page);
	if (base)
		rt_egress_setup(rt, bufs);
	return align_up(l.at, page);
}

/* A new segment of a key that nobody has. */
static void create_segment(struct rt *rt)
{
	int flags = IPC_CREAT | IPC_EXCL | 0777 | (rt->cfg.huge ? SHM_HUGETLB : 0);
	struct timespec now;
	int tries;

	clock_gettime(CLOCK_MONOTONIC, &now);
	rt->key = (uint32_t)now.tv_nsec ^ ((uint32_t)getpid() << 12);
	for (tries = 0; tries < 1000; tries++) {
		rt->key = rt->key * 2654435761u + 1;
		/* 0 would be IPC_PRIVATE, which the I/O kernel could not attach */
		if (rt->key == 0 || rt->key == INGRESS_MBUF_SHM_KEY)
			continue;
		rt->shmid = shmget((key_t)rt->key, rt->region_len, flags);
		if (rt->shmid >= 0)
			return;
		if (errno != EEXIST)
			break;
	}
	rt_die("no segment of %zu bytes: %s (huge pages free?)", rt->region_len, strerror(errno));
}

static char *attach(int shmid, const char *what)
{
	void *p = shmat(shmid, NULL, 0);

	if (p == (void *)-1)
		rt_die("cannot attach the %s: %s", what, strerror(errno));
	return p;
}

void rt_region_setup(struct rt *rt)
{
	int ingress;

	rt->region_len = lay_out(rt, NULL);
	create_segment(rt);
	rt->region = attach(rt->shmid, "region");
	lay_out(rt, rt->region);

	/* As upstream's runtime asks for it, but without creating it. */
	ingress = shmget(INGRESS_MBUF_SHM_KEY, INGRESS_MBUF_SHM_SIZE, 0777);
	if (ingress < 0) {
		rt_region_forget(rt);
		rt_die("no ingress region: %s (is the I/O kernel running?)", strerror(errno));
	}
	rt->ingress = attach(ingress, "ingress region");
	rt_point(RT_AT_region);
}

void rt_region_forget(struct rt *rt)
{
	/* The segment goes once nobody has it attached. */
	shmctl(rt->shmid, IPC_RMID, NULL);
}

static void write_all(int fd, const void *p, size_t len)
{
	if (write(fd, p, len) != (ssize_t)len)
		rt_die("registration: %s", strerror(errno));
}

/* Dies in the middle if told to. */
static void send_number(int fd, const void *p, size_t len, enum rt_point half, enum rt_point whole)
{
	if (rt_dies_at(half)) {
		write_all(fd, p, len / 2);
		rt_point(half);
	}
	write_all(fd, p, len);
	rt_point(whole);
}

static void send_eventfds(struct rt *rt)
{
	size_t bytes = sizeof(int) * (size_t)rt->cfg.kthreads;
	char control[CMSG_SPACE(sizeof(int) * NCPU)] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = CMSG_SPACE(bytes),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int i, fds[NCPU];

	for (i = 0; i < rt->cfg.kthreads; i++)
		fds[i] = rt->kthreads[i].efd;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(bytes);
	memcpy(CMSG_DATA(c), fds, bytes);
	if (sendmsg(rt->sock, &msg, 0) != 1)
		rt_die("registration: %s", strerror(errno));
}

/* All kthreads must be about to block on their eventfds. */
void rt_register(struct rt *rt)
{
	struct control_hdr *hdr = (struct control_hdr *)rt->region;
	/* The name is 108 zero bytes: see CONTROL_SOCK_PATH_LEN. */
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	uint64_t len = rt->region_len;

	*hdr = (struct control_hdr){
		.magic = CONTROL_HDR_MAGIC,
		.thread_count = (uint32_t)rt->cfg.kthreads,
		.egress_buf_count = rt->cfg.egress_bufs,
		.sched_cfg = {
			.priority = SCHED_PRIORITY_NORMAL,
			.max_cores = (uint32_t)rt->cfg.kthreads,
			.guaranteed_cores = (uint32_t)rt->cfg.guaranteed,
		},
	};
	memcpy(hdr->mac, rt->cfg.mac, sizeof(hdr->mac));

	rt->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (rt->sock < 0 || connect(rt->sock, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		rt_region_forget(rt);
		rt_die("cannot connect to the I/O kernel: %s", strerror(errno));
	}
	rt_point(RT_AT_connected);
	send_number(rt->sock, &rt->key, sizeof(rt->key), RT_AT_half_key, RT_AT_key);
	send_number(rt->sock, &len, sizeof(len), RT_AT_half_length, RT_AT_length);
	send_eventfds(rt);
	rt_point(RT_AT_registered);
}
