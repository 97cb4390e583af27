/*
 * burner.c - a runtime that wants every core it can get
 *
 * It looks congested all the time and parks only when preempted: the victim
 * of preemption tests, and the competitor that causes them. With --pulse MS it
 * burns for MS milliseconds, then sleeps on a timer for as long, over and
 * over, so that cores change hands all the time.
 */
#include <string.h>

#include "librt.h"

enum { turns = RT_OWN_COUNTERS };

static const char *const counters[] = { "turns", NULL };

static uint64_t pulse_us;

static bool option(const char *name, const char *value)
{
	if (strcmp(name, "pulse") != 0)
		return false;
	pulse_us = (uint64_t)rt_parse_num(name, value) * 1000;
	return true;
}

static bool on_frame(struct kthread *k, const struct rx_frame *f)
{
	(void)k;
	(void)f;
	return true;
}

/* Burning now? Even stretches of the clock burn, odd ones sleep. */
static bool burning(uint64_t now)
{
	return pulse_us == 0 || now / pulse_us % 2 == 0;
}

static bool step(struct kthread *k)
{
	struct rt *rt = k->rt;
	uint64_t now = rt_now_us();
	bool on = burning(now);

	if (atomic_load(&rt->draining)) {
		rt_set_congested(k, false);
		return false;
	}
	rt_count(k, turns);
	rt_set_congested(k, on);
	if (!on && pulse_us)
		atomic_store(&rt->deadline_us, (now / pulse_us + 1) * pulse_us);
	/* With work to do it is never idle, and so never parks of its own will. */
	return on;
}

int main(int argc, char **argv)
{
	static const struct rt_program burner = {
		.name = "burner", .counters = counters, .option = option,
		.on_frame = on_frame, .step = step,
	};

	return rt_main(&burner, argc, argv);
}
