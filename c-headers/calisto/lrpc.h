/*
 * lrpc.h - one-way message rings in shared memory
 *
 * One producer, one consumer, size slots (a power of two), 32-bit counters
 * that wrap. The message at counter h lies in slot h & (size - 1):
 *
 *        slot 0            slot 1                  slot size-1
 *   +------+---------+ +------+---------+     +------+---------+
 *   | cmd  | payload | | cmd  | payload | ... | cmd  | payload |
 *   +------+---------+ +------+---------+     +------+---------+
 *     bit 63: parity                                    wb: consumer's counter
 *
 * The parity bit publishes a message: it is set on even laps (h & size == 0)
 * and clear on odd ones, so that zeroed memory reads as empty. The write-back
 * word wb is flow control only.
 */
#ifndef CALISTO_LRPC_H
#define CALISTO_LRPC_H

#include <stdint.h>

#define LRPC_DONE_PARITY	(1ULL << 63)
#define LRPC_CMD_MASK		(~LRPC_DONE_PARITY)

struct lrpc_msg {
	uint64_t	cmd;
	uint64_t	payload;
};

/* The producer's private state. */
struct lrpc_producer {
	struct lrpc_msg	*tbl;
	const uint32_t	*wb;
	uint32_t	size, head, tail;
};

/* The consumer's private state. */
struct lrpc_consumer {
	struct lrpc_msg	*tbl;
	uint32_t	*wb;
	uint32_t	size, head;
};

/* Sends one message. Returns 1, or 0 when the ring is full. */
static inline int lrpc_produce(struct lrpc_producer *p, uint64_t cmd, uint64_t payload)
{
	struct lrpc_msg *m = &p->tbl[p->head & (p->size - 1)];

	if (p->head - p->tail >= p->size) {
		/* pairs with the consumer's release store of wb */
		p->tail = __atomic_load_n(p->wb, __ATOMIC_ACQUIRE);
		if (p->head - p->tail >= p->size)
			return 0;
	}
	m->payload = payload;
	/* pairs with the consumer's acquire load of cmd */
	__atomic_store_n(&m->cmd, cmd | ((p->head & p->size) ? 0 : LRPC_DONE_PARITY),
			 __ATOMIC_RELEASE);
	p->head++;
	return 1;
}

/* Messages sent and, as far as the write-back word tells, not yet consumed. */
static inline uint32_t lrpc_in_flight(struct lrpc_producer *p)
{
	p->tail = __atomic_load_n(p->wb, __ATOMIC_ACQUIRE);
	return p->head - p->tail;
}

/* Receives one message. Returns 1, or 0 when the ring is empty. */
static inline int lrpc_consume(struct lrpc_consumer *c, uint64_t *cmd, uint64_t *payload)
{
	struct lrpc_msg *m = &c->tbl[c->head & (c->size - 1)];
	/* pairs with the producer's release store of cmd */
	uint64_t v = __atomic_load_n(&m->cmd, __ATOMIC_ACQUIRE);

	if ((v & LRPC_DONE_PARITY) != ((c->head & c->size) ? 0 : LRPC_DONE_PARITY))
		return 0;
	*cmd = v & LRPC_CMD_MASK;
	*payload = m->payload;
	c->head++;
	__atomic_store_n(c->wb, c->head, __ATOMIC_RELEASE);
	return 1;
}

#endif /* CALISTO_LRPC_H */
