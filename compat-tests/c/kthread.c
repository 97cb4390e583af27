/*
 * kthread.c - kthreads: wake, park, preempt, join
 *
 * Terms: a park *stands* when the I/O kernel took the core; it is *refused*
 * when it wrote the eventfd again because a message was on its way. A park
 * with a payload that stands must come back as exactly one RX_JOIN; a refused
 * one as none. From here the two look alike, except that after a refused park
 * the message is there: an rxq that is empty at the wake, and from which
 * nobody stole, proves that the park stood.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "librt.h"
#include "point.h"

/* Parks with a payload that one run can keep account of. */
#define MAX_PARK_RECORDS	(1u << 20)
/* Messages taken before anything else is looked at. */
#define POLL_BURST		32
/* A timer may be due this early: the clocks of both sides differ a little. */
#define CLOCK_SLACK_US		50

static __thread volatile sig_atomic_t preempted;

static void on_sigusr1(int sig)
{
	(void)sig;
	preempted = 1;
}

bool rt_preempted(void)
{
	return preempted != 0;
}

/*
 * A file of NCPU words that all runtimes of a test map, one word a core:
 * the kthread that holds it. So a core with two owners is found, whoever
 * they are.
 */
void rt_core_map_open(struct rt *rt)
{
	size_t len = sizeof(uint32_t) * NCPU;
	int fd;

	if (!rt->cfg.core_map)
		return;
	fd = open(rt->cfg.core_map, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0 || ftruncate(fd, (off_t)len) < 0)
		rt_die("%s: %s", rt->cfg.core_map, strerror(errno));
	rt->core_map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (rt->core_map == MAP_FAILED)
		rt_die("%s: %s", rt->cfg.core_map, strerror(errno));
	close(fd);
}

static uint32_t owner_name(const struct kthread *k)
{
	return ((uint32_t)getpid() << 8 | (uint32_t)k->idx) + 1;
}

static void core_unmap(struct kthread *k, int core)
{
	uint32_t me = owner_name(k);

	if (k->rt->core_map && core >= 0)
		atomic_compare_exchange_strong(&k->rt->core_map[core], &me, 0);
}

static void core_claim(struct kthread *k)
{
	uint32_t nobody = 0;

	if (!k->rt->core_map || k->core < 0)
		return;
	if (!atomic_compare_exchange_strong(&k->rt->core_map[k->core], &nobody, owner_name(k)))
		rt_count(k, RT_double_core);
	/* in this order, as rt_core_map_leave has it the other way round */
	if (atomic_load(&k->rt->left_core_map))
		core_unmap(k, k->core);
}

static void core_release(struct kthread *k)
{
	core_unmap(k, k->core);
	k->core = -1;
}

void rt_core_map_leave(struct rt *rt)
{
	int i, core;

	atomic_store(&rt->left_core_map, true);
	for (i = 0; i < rt->cfg.kthreads; i++)
		for (core = 0; core < NCPU; core++)
			core_unmap(&rt->kthreads[i], core);
}

/* Blocks until the I/O kernel gives a core, and checks what it gave. */
static void wait_for_core(struct kthread *k)
{
	struct rt *rt = k->rt;
	uint64_t value = 0;
	cpu_set_t cpus;

	while (read(k->efd, &value, sizeof(value)) != sizeof(value)) {
		if (errno != EINTR)
			rt_die("read of an eventfd: %s", strerror(errno));
		/* Preempted while parked: the park that was sent is the answer. */
		if (preempted)
			rt_count(k, RT_late_preempts);
		preempted = 0;
	}
	rt_count(k, RT_wakes);
	rt_point(RT_AT_woken);
	if (!atomic_exchange(&rt->attached, true) && k->idx != 0)
		rt_count(k, RT_bad_first_wake);
	if (value < 1 || value > NCPU) {
		rt_count(k, RT_bad_core);
	} else {
		k->core = (int)value - 1;
		atomic_store(&rt->cores_seen[k->core], true);
	}
	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0 || CPU_COUNT(&cpus) != 1 ||
	    (rt->cfg.check_cpu && (k->core < 0 || !CPU_ISSET(k->core, &cpus))))
		rt_count(k, RT_bad_affinity);
	core_claim(k);
	atomic_fetch_add(&rt->active, 1);
	atomic_store(&k->running, true);
	k->idle_since_us = rt_now_us();
}

/* The second half of a park, once `active` has been lowered. */
static void park(struct kthread *k, uint64_t cmd, uint64_t payload)
{
	core_release(k);
	atomic_store(&k->stolen_from, false);
	atomic_store(&k->running, false);
	rt_point(RT_AT_parking);
	/* The I/O kernel always drains it, unless it is gone: then wait for the end. */
	while (!lrpc_produce(&k->txcmdq, cmd, payload))
		sched_yield();
	rt_point(RT_AT_parked);
	wait_for_core(k);
}

void rt_park(struct kthread *k, uint64_t cmd, uint64_t payload)
{
	atomic_fetch_sub(&k->rt->active, 1);
	park(k, cmd, payload);
}

/* No message came while it was parked. */
static bool untouched(const struct kthread *k)
{
	/* in this order: a thief says so before it empties the rxq */
	return rt_rxq_empty(k) && !atomic_load(&k->stolen_from);
}

void rt_park_joinable(struct kthread *k)
{
	struct rt *rt = k->rt;
	unsigned int n = atomic_fetch_add(&rt->nr_parks, 1);
	struct park_record *r;

	if (n >= MAX_PARK_RECORDS) {
		atomic_store(&rt->nr_parks, MAX_PARK_RECORDS);
		rt_park(k, TXCMD_PARKED, 0);
		return;
	}
	r = &rt->parks[n];
	r->kthread = k;
	rt_park(k, TXCMD_PARKED, (uint64_t)(uintptr_t)r);
	if (untouched(k))
		atomic_store(&r->stands, true);
}

void rt_park_preempted(struct kthread *k)
{
	rt_point(RT_AT_preempted);
	preempted = 0;
	rt_count(k, RT_preempts);
	rt_park_joinable(k);
}

void rt_park_idle(struct kthread *k)
{
	struct rt *rt = k->rt;
	uint64_t now = rt_now_us(), deadline, wait = 0, woken;
	bool last = atomic_fetch_sub(&rt->active, 1) == 1;

	rt_count(k, RT_parks);
	if (!last) {
		park(k, TXCMD_PARKED, 0);
		return;
	}
	rt_count(k, RT_parks_last);
	deadline = atomic_load(&rt->deadline_us);
	if (deadline)
		wait = deadline > now ? deadline - now : 1;
	park(k, TXCMD_PARKED_LAST, wait);
	woken = rt_now_us();
	if (!deadline)
		return;
	if (woken + CLOCK_SLACK_US >= deadline) {
		/* One kthread finds the timer due, however many are woken. */
		if (atomic_compare_exchange_strong(&rt->deadline_us, &deadline, 0))
			rt_count(k, RT_timer_wakes);
	} else if (untouched(k) && atomic_load(&rt->active) == 1) {
		rt_count(k, RT_early_wakes);
		if (deadline - woken > atomic_load(&rt->early_us))
			atomic_store(&rt->early_us, deadline - woken);
	}
}

bool rt_has_core(struct kthread *k)
{
	struct pollfd efd = { k->efd, POLLIN, 0 };

	return poll(&efd, 1, 0) != 0 || atomic_load(&k->running);
}

void rt_joined(struct kthread *k, uint64_t payload)
{
	struct rt *rt = k->rt;
	uint64_t at = payload - (uint64_t)(uintptr_t)rt->parks;
	struct park_record *r;

	if (at % sizeof(*r) != 0 || at / sizeof(*r) >= atomic_load(&rt->nr_parks)) {
		rt_count(k, RT_joins_alien);
		return;
	}
	r = &rt->parks[at / sizeof(*r)];
	if (atomic_fetch_add(&r->joins, 1) != 0) {
		rt_count(k, RT_joins_repeated);
		return;
	}
	rt_count(k, RT_joins);
	if (r->kthread == k)
		rt_count(k, RT_joins_on_self);
}

unsigned int rt_joins_missing(struct rt *rt)
{
	unsigned int i, missing = 0, n = atomic_load(&rt->nr_parks);

	for (i = 0; i < n && i < MAX_PARK_RECORDS; i++)
		if (atomic_load(&rt->parks[i].stands) && atomic_load(&rt->parks[i].joins) == 0)
			missing++;
	return missing;
}

unsigned int rt_stranded(struct rt *rt)
{
	unsigned int n = 0;
	int i;

	for (i = 0; i < rt->cfg.kthreads; i++)
		if (!atomic_load(&rt->kthreads[i].running) && !rt_rxq_empty(&rt->kthreads[i]))
			n++;
	return n;
}

void rt_set_congested(struct kthread *k, bool on)
{
	/* One uthread queued that never runs: behind at every look. */
	uint32_t tail = k->q_ptrs->rq_tail;

	__atomic_store_n(&k->q_ptrs->rq_head, tail + (on ? 1 : 0), __ATOMIC_RELEASE);
}

/*
 * Looks for a message as upstream's runtime does before it parks: without
 * giving its CPU away. True if one came.
 */
static bool look(struct kthread *k)
{
	uint64_t end = rt_now_ns() + k->rt->cfg.look_ns;

	while (rt_rxq_empty(k)) {
		if (rt_preempted() || rt_now_ns() >= end)
			return false;
		rt_relax();
	}
	return true;
}

/* What every woken kthread does, for ever. */
static void loop(struct kthread *k)
{
	struct rt *rt = k->rt;

	for (;;) {
		bool worked = rt_poll(k, POLL_BURST) > 0;

		if (rt->prog->step)
			worked |= rt->prog->step(k);
		if (rt_preempted()) {
			rt_park_preempted(k);
			continue;
		}
		if (worked || (rt->cfg.steal && rt_steal(k, POLL_BURST) > 0)) {
			k->idle_since_us = rt_now_us();
			continue;
		}
		if (rt->cfg.look_ns) {
			if (!look(k) && !rt_preempted())
				rt_park_idle(k);
			continue;
		}
		/* Several kthreads may share a CPU: leave it to whoever has work. */
		sched_yield();
		if (rt->cfg.spin || rt_now_us() - k->idle_since_us < rt->cfg.park_after_us)
			continue;
		rt_park_idle(k);
	}
}

static void *kthread_main(void *arg)
{
	struct kthread *k = arg;
	struct control_hdr *hdr = (struct control_hdr *)k->rt->region;
	struct thread_spec *spec = (struct thread_spec *)(hdr + 1) + k->idx;

	/* The tid must stand in the spec before the registration is sent. */
	__atomic_store_n(&spec->park_efd, k->efd, __ATOMIC_RELAXED);
	__atomic_store_n(&spec->tid, (int32_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	wait_for_core(k);
	loop(k);
	return NULL;
}

void rt_kthreads_start(struct rt *rt)
{
	/* No SA_RESTART: a parked kthread must see that it was signalled. */
	struct sigaction sa = { .sa_handler = on_sigusr1 };
	struct control_hdr *hdr = (struct control_hdr *)rt->region;
	struct thread_spec *specs = (struct thread_spec *)(hdr + 1);
	int i;

	sigaction(SIGUSR1, &sa, NULL);
	rt->parks = calloc(MAX_PARK_RECORDS, sizeof(*rt->parks));
	if (!rt->parks)
		rt_die("out of memory");
	for (i = 0; i < rt->cfg.kthreads; i++) {
		struct kthread *k = &rt->kthreads[i];

		k->rt = rt;
		k->idx = i;
		k->core = -1;
		pthread_mutex_init(&k->rx_lock, NULL);
		k->efd = eventfd(0, EFD_CLOEXEC);
		if (k->efd < 0 || pthread_create(&k->pthread, NULL, kthread_main, k) != 0)
			rt_die("cannot start kthread %d", i);
	}
	for (i = 0; i < rt->cfg.kthreads; i++)
		while (__atomic_load_n(&specs[i].tid, __ATOMIC_ACQUIRE) == 0)
			sched_yield();
}
