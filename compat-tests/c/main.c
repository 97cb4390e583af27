/*
 * main.c - a test runtime's options, life and report
 *
 * Exit status: 0 after a report, 1 when the runtime could not be set up, 2
 * for wrong usage. What the report says is for the test to judge.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"
#include "librt.h"
#include "point.h"

/* How often the main thread looks at clock and flags. */
#define TICK_MS		10
/* Nothing was under way at so many looks in a row: all has come home. */
#define CALM_TICKS	5
/* Longest wait for completions and joins that are still under way, unless told (--drain). */
#define DRAIN_SECONDS	20

_Noreturn void rt_die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	/* other threads may be anywhere: no exit handlers */
	_exit(1);
}

uint64_t rt_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t rt_now_us(void)
{
	return rt_now_ns() / 1000;
}

static _Noreturn void bad_usage(const char *what, const char *value)
{
	fprintf(stderr, "option --%s: cannot use '%s'\n", what, value ? value : "");
	exit(2);
}

void rt_parse_mac(const char *text, uint8_t *mac)
{
	unsigned int b[6];
	int i;

	if (sscanf(text, "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) != 6)
		bad_usage("mac", text);
	for (i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
}

uint32_t rt_parse_ip(const char *text)
{
	struct in_addr a;

	if (inet_pton(AF_INET, text, &a) != 1)
		bad_usage("ip", text);
	return ntohl(a.s_addr);
}

long rt_parse_num(const char *name, const char *text)
{
	char *end;
	long n = strtol(text, &end, 0);

	if (*text == '\0' || *end != '\0' || n < 0)
		bad_usage(name, text);
	return n;
}

static bool common_option(struct rt_config *c, const char *name, const char *value)
{
	if (!strcmp(name, "mac"))
		rt_parse_mac(value, c->mac);
	else if (!strcmp(name, "ip"))
		c->ip = rt_parse_ip(value);
	else if (!strcmp(name, "kthreads"))
		c->kthreads = (int)rt_parse_num(name, value);
	else if (!strcmp(name, "guaranteed"))
		c->guaranteed = (int)rt_parse_num(name, value);
	else if (!strcmp(name, "seconds"))
		c->seconds = strtod(value, NULL);
	else if (!strcmp(name, "drain"))
		c->drain = strtod(value, NULL);
	else if (!strcmp(name, "pages"))
		c->huge = !strcmp(value, "huge");
	else if (!strcmp(name, "ring"))
		c->ring = (uint32_t)rt_parse_num(name, value);
	else if (!strcmp(name, "egress-bufs"))
		c->egress_bufs = (uint32_t)rt_parse_num(name, value);
	else if (!strcmp(name, "spin"))
		c->spin = rt_parse_num(name, value) != 0;
	else if (!strcmp(name, "steal"))
		c->steal = rt_parse_num(name, value) != 0;
	else if (!strcmp(name, "park-after-us"))
		c->park_after_us = (uint64_t)rt_parse_num(name, value);
	else if (!strcmp(name, "look-ns"))
		c->look_ns = (uint64_t)rt_parse_num(name, value);
	else if (!strcmp(name, "keep-name"))
		c->keep_name = rt_parse_num(name, value) != 0;
	else if (!strcmp(name, "check-hash"))
		c->check_hash = rt_parse_num(name, value) != 0;
	else if (!strcmp(name, "check-cpu"))
		c->check_cpu = rt_parse_num(name, value) != 0;
	else if (!strcmp(name, "core-map"))
		c->core_map = value;
	else
		return rt_point_option(name, value);
	return true;
}

static void parse(struct rt *rt, int argc, char **argv)
{
	int i;

	rt->cfg = (struct rt_config){
		.mac = { 0x02, 0, 0, 0, 0, 0x02 }, .ip = 0x0a000002, .kthreads = 1,
		.ring = 4096, .egress_bufs = 4096, .steal = true, .park_after_us = 20,
		.check_hash = true, .drain = DRAIN_SECONDS,
	};
	for (i = 1; i < argc; i += 2) {
		const char *name = argv[i] + 2, *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strncmp(argv[i], "--", 2) != 0 || !value)
			bad_usage(argv[i], value);
		if (!common_option(&rt->cfg, name, value) &&
		    !(rt->prog->option && rt->prog->option(name, value)))
			bad_usage(name, value);
	}
	if (rt->cfg.kthreads < 1 || rt->cfg.kthreads > NCPU)
		bad_usage("kthreads", "that many");
	if (rt->cfg.ring == 0 || (rt->cfg.ring & (rt->cfg.ring - 1)) != 0)
		bad_usage("ring", "no power of two");
}

void rt_finish(struct rt *rt)
{
	atomic_store(&rt->finished, true);
}

/* Waits for the end: time, SIGTERM, hang-up, or the program's own. */
static void wait_for_end(struct rt *rt, int signals)
{
	uint64_t end = rt->cfg.seconds > 0 ? rt_now_us() + (uint64_t)(rt->cfg.seconds * 1e6)
						: UINT64_MAX;
	struct pollfd fds[2] = { { rt->sock, POLLIN | POLLRDHUP, 0 }, { signals, POLLIN, 0 } };
	bool told = false;

	while (rt_now_us() < end && !atomic_load(&rt->finished)) {
		if (poll(fds, 2, TICK_MS) < 0 && errno != EINTR)
			rt_die("poll: %s", strerror(errno));
		if (!told && atomic_load(&rt->attached)) {
			told = true;
			/* The I/O kernel has the region: it may lose its name. Upstream's keeps it. */
			if (!rt->cfg.keep_name)
				rt_region_forget(rt);
			printf("attached\n");
			fflush(stdout);
		}
		if (fds[0].revents) {
			atomic_store(&rt->hung_up, true);
			return;
		}
		if (fds[1].revents)
			return;
	}
}

/* Lets everything that is still under way come home. */
static void drain(struct rt *rt)
{
	uint64_t end = rt_now_us() + (uint64_t)(rt->cfg.drain * 1e6);
	int calm = 0;

	atomic_store(&rt->draining, true);
	/* More than once: a kthread that looked before may be about to send. */
	while (!rt->hung_up && atomic_load(&rt->attached) && rt_now_us() < end && calm < CALM_TICKS) {
		usleep(TICK_MS * 1000);
		if (rt_tx_pending(rt) || rt_joins_missing(rt) || rt_stranded(rt))
			calm = 0;
		else
			calm++;
	}
}

static uint64_t sum(struct rt *rt, int counter)
{
	uint64_t n = 0;
	int i;

	for (i = 0; i < rt->cfg.kthreads; i++)
		n += __atomic_load_n(&rt->kthreads[i].counters[counter], __ATOMIC_RELAXED);
	return n;
}

static void report(struct rt *rt)
{
	static const char *const names[] = {
#define X(name) #name,
		RT_COUNTERS(X)
#undef X
	};
	const char *comma = "";
	int i;

	printf("{\"program\":\"%s\",\"pid\":%d", rt->prog->name, getpid());
	for (i = 0; i < RT_OWN_COUNTERS; i++)
		printf(",\"%s\":%lu", names[i], sum(rt, i));
	for (i = 0; rt->prog->counters && rt->prog->counters[i]; i++)
		printf(",\"%s\":%lu", rt->prog->counters[i], sum(rt, RT_OWN_COUNTERS + i));
	printf(",\"attached\":%d,\"hung_up\":%d,\"lost_completions\":%u,\"joins_missing\":%u,\"stranded\":%u,\"early_us\":%lu",
	       atomic_load(&rt->attached), rt->hung_up, rt_tx_pending(rt), rt_joins_missing(rt),
	       rt_stranded(rt), atomic_load(&rt->early_us));
	printf(",\"cores\":[");
	for (i = 0; i < NCPU; i++) {
		if (!atomic_load(&rt->cores_seen[i]))
			continue;
		printf("%s%d", comma, i);
		comma = ",";
	}
	printf("]");
	if (rt->prog->report)
		rt->prog->report(rt, stdout);
	printf("}\n");
	fflush(stdout);
}

int rt_main(const struct rt_program *prog, int argc, char **argv)
{
	static struct rt rt;
	sigset_t set;
	size_t bytes;
	int signals;

	rt.prog = prog;
	parse(&rt, argc, argv);
	bytes = sizeof(*rt.kthreads) * (size_t)rt.cfg.kthreads;
	rt.kthreads = aligned_alloc(_Alignof(struct kthread), bytes);
	if (!rt.kthreads)
		rt_die("out of memory");
	memset(rt.kthreads, 0, bytes);

	/* Blocked in every thread; the main thread reads them. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);

	rt_core_map_open(&rt);
	rt_region_setup(&rt);
	if (prog->start)
		prog->start(&rt);
	rt_kthreads_start(&rt);
	rt_register(&rt);
	wait_for_end(&rt, signals);
	drain(&rt);
	report(&rt);
	rt_core_map_leave(&rt);
	rt_region_forget(&rt);
	/* Kthreads are running or parked for ever: no exit handlers. */
	_exit(0);
}
