/*
 * probe.h - the payload of the sender's UDP packets
 *
 * All fields in the sender's own byte order: only it, and processes beside
 * it, read them. After the header, byte i is (seq + i) & 0xff.
 */
#ifndef PROBE_H
#define PROBE_H

#include "frame.h"

#define PROBE_MAGIC	0x6c706f43u

struct probe {
	uint32_t	magic;
	uint32_t	slot;
	uint64_t	seq;
	uint32_t	flow;
	uint32_t	len;		/* of the whole payload */
};

/* The probe that a UDP packet carries, or NULL. */
static inline const struct probe *probe_of(const struct ipv4_view *v)
{
	const struct probe *p = (const struct probe *)(v->l4 + sizeof(struct udp_hdr));

	if (v->proto != PROTO_UDP || v->fragment || v->l4_len < sizeof(struct udp_hdr) + sizeof(*p) ||
	    p->magic != PROBE_MAGIC)
		return NULL;
	return p;
}

#endif /* PROBE_H */
