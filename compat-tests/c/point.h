/*
 * point.h - points of a runtime's life at which it can be told to die
 *
 *   --die-at POINT   on passing it for the
 *   --die-after N    Nth time (default 1)
 *   --die-how self | group | thread | exit
 *                    SIGKILL to the process, to its process group, to the one thread
 *                    (which ends them all); or the one thread exits, and no other
 *
 * A process that dies there has done all that comes before the point and nothing
 * that comes after, which a kill from outside cannot be aimed at.
 */
#ifndef POINT_H
#define POINT_H

#include <stdbool.h>

#define RT_POINTS(X)							\
	X(region)	/* the segment is made, its name known to nobody */ \
	X(connected)	/* nothing is sent yet */			\
	X(half_key)							\
	X(key)								\
	X(half_length)							\
	X(length)							\
	X(registered)	/* the fds are sent */				\
	X(woken)	/* a kthread was given a core */		\
	X(frame)	/* a received frame is in hand */		\
	X(sending)	/* a packet is written, and not queued */	\
	X(sent)		/* queued */					\
	X(parking)	/* about to tell of a park */			\
	X(parked)	/* told, and not blocked yet */			\
	X(preempted)	/* SIGUSR1 was seen, and not answered */

enum rt_point {
#define X(name) RT_AT_##name,
	RT_POINTS(X)
#undef X
	RT_NR_POINTS,
};

/* Takes an option of the list above; false if it is none. */
bool rt_point_option(const char *name, const char *value);
/* True if this is where to die: for what must be done in part before. */
bool rt_dies_at(enum rt_point point);
/* A point is passed, by any thread. */
void rt_point(enum rt_point point);

#endif /* POINT_H */
