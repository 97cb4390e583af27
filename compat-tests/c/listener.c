/*
 * listener.c - a runtime that receives and says nothing
 *
 * It tells the probes of broadcasts apart by their number, so that one that
 * came twice, or never, is seen. With --hold N it keeps the first N frames
 * and never gives their buffers back: what a runtime that is killed leaves. It
 * says "holding" when it has them all.
 */
#include <string.h>

#include "frame.h"
#include "librt.h"
#include "probe.h"

enum { probes = RT_OWN_COUNTERS, probes_repeated, held };

static const char *const counters[] = { "probes", "probes_repeated", "held", NULL };

/* Probe numbers below this are told apart. */
#define MAX_PROBES	65536

static atomic_bool seen[MAX_PROBES];
static atomic_long to_hold;

static bool option(const char *name, const char *value)
{
	if (strcmp(name, "hold") != 0)
		return false;
	atomic_store(&to_hold, rt_parse_num(name, value));
	return true;
}

static void on_probe(struct kthread *k, const struct probe *p)
{
	if (p->seq >= MAX_PROBES)
		return;
	rt_count(k, atomic_exchange(&seen[p->seq], true) ? probes_repeated : probes);
}

static bool on_frame(struct kthread *k, const struct rx_frame *f)
{
	struct ipv4_view v;
	const struct probe *p;

	if (frame_ipv4(f->data, f->len, &v) && (p = probe_of(&v)))
		on_probe(k, p);
	if (atomic_load(&to_hold) <= 0)
		return true;
	rt_count(k, held);
	if (atomic_fetch_sub(&to_hold, 1) == 1) {
		printf("holding\n");
		fflush(stdout);
	}
	return false;
}

int main(int argc, char **argv)
{
	static const struct rt_program listener = {
		.name = "listener", .counters = counters, .option = option, .on_frame = on_frame,
	};

	return rt_main(&listener, argc, argv);
}
