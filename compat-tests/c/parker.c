/*
 * parker.c - a runtime that goes through every way of losing a core
 *
 * All kthreads go through the same phases, over and over. Whoever is awake
 * moves the phases on; one kthread, the keeper, stays awake where the others
 * park, so that somebody is there to wake them and to adopt what they left.
 *
 *   grow     look congested until every kthread has a core, or time is up
 *   park     all but the keeper park with nothing left behind
 *   join     all but the keeper park with a payload: each must be joined once
 *   refuse   each parks with a message on its way: it must be woken at once,
 *            on its core, and nothing may be joined
 *   settle   the keeper sees the I/O kernel go round a few times, so that it
 *            has forgotten that we were congested
 *   timer    all park; the last leaves a deadline, and a core must come again
 *            when it is due, not before
 *   burn     all spin and look congested: to be preempted
 *
 * With --cycles N and --preempts N it ends by itself after so many.
 */
#include <sched.h>
#include <stddef.h>
#include <string.h>

#include "frame.h"
#include "librt.h"

enum {
	cycles = RT_OWN_COUNTERS, grown, join_parks, refused, refused_elsewhere, not_refused,
};

static const char *const counters[] = {
	"cycles", "grown", "join_parks", "refused", "refused_elsewhere", "not_refused", NULL,
};

enum phase { GROW, PARK, JOIN, REFUSE, SETTLE, TIMER, BURN };

static const enum phase order[] = {
	GROW, PARK, GROW, JOIN, GROW, REFUSE, PARK, SETTLE, TIMER, BURN,
};
#define NR_PHASES	(sizeof(order) / sizeof(order[0]))

#define GROW_US		50000
#define BURN_US		20000
#define TIMER_US	10000
/* A message is on its way for at most this long before a kthread gives up. */
#define MESSAGE_US	20000
/* A refused park is answered by then, however busy the machine. */
#define REFUSED_US	5000000
/*
 * A park stands, message or not, when the core was wanted by another runtime.
 * After a preemption nobody waits longer than this for a refusal.
 */
#define PREEMPTED_US	30000
#define SETTLE_ROUNDS	4
#define SETTLE_US	50
/* Beyond that the keeper was preempted: no timer this time. */
#define UNSETTLED_US	200000

/* When to end; 0 and 0: when told. */
static uint64_t enough_cycles, enough_preempts;

static bool option(const char *name, const char *value)
{
	if (!strcmp(name, "cycles"))
		enough_cycles = (uint64_t)rt_parse_num(name, value);
	else if (!strcmp(name, "preempts"))
		enough_preempts = (uint64_t)rt_parse_num(name, value);
	else
		return false;
	return true;
}

/* Guarded by the lock; step and keeper are read without it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint step_nr;		/* ever growing; the phase is order[step_nr % NR] */
static atomic_int keeper;
static uint64_t since_us, preempts_before;
/* The keeper's rounds: who sent, when, and its completions before that. */
static int pinger;
static unsigned int pings;
static uint64_t pinged_us, completions_before;
/* Kthreads that have begun, and finished, their refused park of this phase. */
static atomic_int refuse_begun, refuse_done;
/* The last step in which each kthread did what is done once a phase. */
static unsigned int done_in[NCPU];

static enum phase phase(void)
{
	return order[atomic_load(&step_nr) % NR_PHASES];
}

static uint64_t total(struct rt *rt, int counter)
{
	uint64_t n = 0;
	int i;

	for (i = 0; i < rt->cfg.kthreads; i++)
		n += __atomic_load_n(&rt->kthreads[i].counters[counter], __ATOMIC_RELAXED);
	return n;
}

static uint64_t preempts(struct rt *rt)
{
	return total(rt, RT_preempts) + total(rt, RT_late_preempts);
}

static void next_phase(struct kthread *k, uint64_t now)
{
	atomic_store(&keeper, k->idx);
	atomic_store(&refuse_begun, 0);
	atomic_store(&refuse_done, 0);
	pings = 0;
	since_us = now;
	preempts_before = preempts(k->rt);
	atomic_fetch_add(&step_nr, 1);
	if (phase() == TIMER)
		atomic_store(&k->rt->deadline_us, now + TIMER_US);
	if (atomic_load(&step_nr) % NR_PHASES != 0)
		return;
	rt_count(k, cycles);
	if (enough_cycles && total(k->rt, cycles) >= enough_cycles &&
	    total(k->rt, RT_preempts) >= enough_preempts)
		rt_finish(k->rt);
}

/* A frame for nobody: all it brings is its completion. */
static bool send_to_nobody(struct kthread *k)
{
	static const uint8_t nobody[6] = { 0x02, 0xff, 0xff, 0xff, 0xff, 0xfe };
	uint8_t *f = rt_tx_frame(k);

	if (!f)
		return false;
	frame_put_ipv4(f, k->rt, nobody, 0x0afffffe, PROTO_UDP, sizeof(struct udp_hdr));
	frame_put_udp(f, 9, 9, 0);
	return rt_tx_send(k, f, (uint32_t)(L4_AT + sizeof(struct udp_hdr)),
			  OLFLAG_IPV4 | OLFLAG_IP_CHKSUM);
}

/* Nobody but k has a core, or is about to run on one. */
static bool alone(struct kthread *k)
{
	int i;

	for (i = 0; i < k->rt->cfg.kthreads; i++)
		if (i != k->idx && rt_has_core(&k->rt->kthreads[i]))
			return false;
	return true;
}

/* The keeper's rounds; true after the last, if it was alone then. */
static bool settled(struct kthread *k, uint64_t now)
{
	uint64_t completions = k->counters[RT_completions];

	if (atomic_load(&keeper) != k->idx)
		return false;
	if (pinger != k->idx)
		pings = 0;
	if (pings > 0 && (completions == completions_before || now - pinged_us < SETTLE_US))
		return false;
	if (pings == SETTLE_ROUNDS) {
		pings = 0;
		return alone(k);
	}
	if (send_to_nobody(k)) {
		pings++;
		pinger = k->idx;
		pinged_us = now;
		completions_before = completions;
	}
	return false;
}

/* Moves on when the phase has reached its aim; the lock is held. */
static void advance(struct kthread *k)
{
	struct rt *rt = k->rt;
	uint64_t now = rt_now_us(), spent = now - since_us;
	int active = atomic_load(&rt->active);
	bool next = false;

	/* A keeper that was preempted cannot keep anything. */
	if (!atomic_load(&rt->kthreads[atomic_load(&keeper)].running))
		atomic_store(&keeper, k->idx);
	switch (phase()) {
	case GROW:
		next = active == rt->cfg.kthreads;
		if (next)
			rt_count(k, grown);
		next |= spent > GROW_US;
		break;
	case PARK:
	case JOIN:
		next = active == 1;
		break;
	case REFUSE:
		next = atomic_load(&refuse_begun) >= active &&
		       atomic_load(&refuse_done) == atomic_load(&refuse_begun);
		if (preempts(rt) != preempts_before)
			next |= spent > PREEMPTED_US;
		if (!next && spent > REFUSED_US) {
			rt_count(k, not_refused);
			next = true;
		}
		break;
	case SETTLE:
		next = settled(k, now);
		if (!next && spent > UNSETTLED_US) {
			/* past the timer, whose early wake would prove nothing */
			atomic_fetch_add(&step_nr, 1);
			next = true;
		}
		break;
	case TIMER:
		next = atomic_load(&rt->deadline_us) == 0;
		break;
	case BURN:
		next = spent > BURN_US;
		break;
	}
	if (next)
		next_phase(k, now);
}

/* Parks with a message in the rxq that was not taken. */
static void refuse(struct kthread *k)
{
	uint64_t end = rt_now_us() + MESSAGE_US;
	int core = k->core;

	atomic_fetch_add(&refuse_begun, 1);
	if (send_to_nobody(k))
		while (rt_rxq_empty(k) && !rt_preempted() && rt_now_us() < end)
			sched_yield();
	if (!rt_rxq_empty(k) && !rt_preempted()) {
		rt_park(k, TXCMD_PARKED, 0);
		rt_count(k, k->core == core ? refused : refused_elsewhere);
	}
	atomic_fetch_add(&refuse_done, 1);
}

/* True the first time in this step of the phases. */
static bool once(struct kthread *k)
{
	unsigned int now = atomic_load(&step_nr) + 1;

	if (done_in[k->idx] == now)
		return false;
	done_in[k->idx] = now;
	return true;
}

static bool step(struct kthread *k)
{
	struct rt *rt = k->rt;
	bool keep;

	if (atomic_load(&rt->draining)) {
		rt_set_congested(k, false);
		atomic_store(&rt->deadline_us, 0);
		return false;
	}
	if (pthread_mutex_trylock(&lock) == 0) {
		advance(k);
		pthread_mutex_unlock(&lock);
	}
	keep = atomic_load(&keeper) == k->idx;
	rt_set_congested(k, phase() == GROW || phase() == BURN);
	switch (phase()) {
	case GROW:
	case BURN:
		break;
	case PARK:
	case SETTLE:
		if (!keep)
			rt_park_idle(k);
		break;
	case JOIN:
		if (keep)
			break;
		if (once(k)) {
			rt_count(k, join_parks);
			rt_park_joinable(k);
		} else {
			rt_park_idle(k);
		}
		break;
	case REFUSE:
		if (once(k))
			refuse(k);
		break;
	case TIMER:
		if (atomic_load(&rt->deadline_us))
			rt_park_idle(k);
		break;
	}
	/* It decides itself when to park. */
	return true;
}

static bool on_frame(struct kthread *k, const struct rx_frame *f)
{
	(void)k;
	(void)f;
	return true;
}

int main(int argc, char **argv)
{
	static const struct rt_program parker = {
		.name = "parker", .counters = counters, .option = option, .on_frame = on_frame, .step = step,
	};

	return rt_main(&parker, argc, argv);
}
