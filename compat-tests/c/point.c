/* point.c - dying at a point: see point.h */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "librt.h"
#include "point.h"

static const char *const names[] = {
#define X(name) #name,
	RT_POINTS(X)
#undef X
};

static enum rt_point where = RT_NR_POINTS;
static atomic_long left = 1;
static enum { HOW_SELF, HOW_GROUP, HOW_THREAD, HOW_EXIT } how;

static bool parse_point(const char *text)
{
	int i;

	for (i = 0; i < RT_NR_POINTS; i++) {
		if (strcmp(text, names[i]) == 0) {
			where = (enum rt_point)i;
			return true;
		}
	}
	return false;
}

static bool parse_how(const char *text)
{
	static const char *const hows[] = { "self", "group", "thread", "exit" };
	int i;

	for (i = 0; i <= HOW_EXIT; i++) {
		if (strcmp(text, hows[i]) == 0) {
			how = i;
			return true;
		}
	}
	return false;
}

bool rt_point_option(const char *name, const char *value)
{
	if (!strcmp(name, "die-at"))
		return parse_point(value);
	if (!strcmp(name, "die-how"))
		return parse_how(value);
	if (strcmp(name, "die-after") != 0)
		return false;
	atomic_store(&left, rt_parse_num(name, value));
	return true;
}

bool rt_dies_at(enum rt_point point)
{
	return point == where;
}

static void die(void)
{
	switch (how) {
	case HOW_SELF:
		kill(getpid(), SIGKILL);
		break;
	case HOW_GROUP:
		kill(0, SIGKILL);
		break;
	case HOW_THREAD:
		syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGKILL);
		break;
	case HOW_EXIT:
		/* the kernel's exit of one thread: no handler runs, nothing is given back */
		syscall(SYS_exit, 0);
		break;
	}
}

void rt_point(enum rt_point point)
{
	if (point == where && atomic_fetch_sub(&left, 1) == 1)
		die();
}
