/*
 * flows.c - which cores the packets of each flow were taken on
 */
#include <stdlib.h>

#include "flows.h"
#include "frame.h"
#include "probe.h"

#define MAX_FLOWS	65536

/* One packet. */
struct seen {
	_Atomic uint64_t turn;	/* how many were taken before it, plus one; 0: never came */
	uint16_t	flow;
	int16_t		core;
	uint16_t	repeats;
};

static struct seen *seen;
static uint64_t last_seq;
static _Atomic uint64_t turns;
static _Atomic uint64_t unknown;

void flows_start(uint64_t last)
{
	last_seq = last;
	seen = calloc(last + 1, sizeof(*seen));
	if (!seen)
		rt_die("out of memory");
}

void flows_note(struct kthread *k, const struct rx_frame *f)
{
	struct ipv4_view v;
	const struct probe *p;
	struct seen *s;

	if (!seen)
		return;
	if (!frame_ipv4(f->data, f->len, &v) || !(p = probe_of(&v)) || p->seq > last_seq ||
	    p->flow >= MAX_FLOWS) {
		atomic_fetch_add(&unknown, 1);
		return;
	}
	s = &seen[p->seq];
	if (atomic_load(&s->turn)) {
		s->repeats++;
		return;
	}
	s->flow = (uint16_t)p->flow;
	s->core = (int16_t)k->core;
	atomic_store(&s->turn, atomic_fetch_add(&turns, 1) + 1);
}

void flows_report(FILE *out)
{
	static uint64_t last[MAX_FLOWS];
	uint64_t seq, packets = 0, flows = 0, changed_core = 0, overtook = 0, repeats = 0;

	if (!seen)
		return;
	for (seq = 0; seq <= last_seq; seq++) {
		const struct seen *s = &seen[seq], *before;

		if (!atomic_load(&s->turn))
			continue;
		packets++;
		repeats += s->repeats;
		before = &seen[last[s->flow]];
		/* sequence numbers start at 1 */
		if (last[s->flow] == 0) {
			flows++;
		} else {
			changed_core += s->core != before->core;
			overtook += s->turn < before->turn;
		}
		last[s->flow] = seq;
	}
	fprintf(out, ",\"watched_packets\":%lu,\"watched_flows\":%lu,\"changed_core\":%lu,\"overtook\":%lu",
		packets, flows, changed_core, overtook);
	fprintf(out, ",\"watched_twice\":%lu,\"unwatched\":%lu", repeats, atomic_load(&unknown));
}
