/*
 * shim.c - DPDK's inline functions as functions, and a mempool handler
 */
#include "wrapper.h"

#include <rte_spinlock.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What the Rust side relies on. */
_Static_assert(sizeof(struct rte_mbuf) == 128, "two cache lines, private data behind them");
_Static_assert(offsetof(struct rte_mbuf, buf_addr) == 0, "first line: where the bytes are");
_Static_assert(offsetof(struct rte_mbuf, pool) < 64, "first line: all that receiving reads");
_Static_assert(sizeof(((struct rte_mbuf *)0)->ol_flags) == 8, "offload flags are 64 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->data_len) == 2, "a segment's length is 16 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->pkt_len) == 4, "a packet's length is 32 bits");
_Static_assert(sizeof(((struct rte_mbuf *)0)->tx_offload) == 8, "header lengths are one word");
_Static_assert(sizeof(((struct rte_eth_rxmode *)0)->offloads) == 8, "device offloads are 64 bits");
_Static_assert(sizeof(((struct rte_eth_txmode *)0)->offloads) == 8, "device offloads are 64 bits");
_Static_assert(sizeof(((struct rte_eth_rss_conf *)0)->rss_hf) == 8, "RSS types are 64 bits");
_Static_assert(sizeof(rte_iova_t) == 8, "device addresses are 64 bits");
_Static_assert(RTE_BAD_IOVA == UINT64_MAX, "as in lib.rs");
_Static_assert(RTE_IOVA_AS_PA, "buf_iova is a field of its own");

int calisto_errno(void)
{
	return rte_errno;
}

uint16_t calisto_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	return rte_eth_rx_burst(port, queue, pkts, n);
}

uint16_t calisto_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, pkts, n);
}

void calisto_mempool_put_bulk(struct rte_mempool *mp, struct rte_mbuf *const *pkts, uint32_t n)
{
	rte_mempool_put_bulk(mp, (void *const *)pkts, n);
}

void calisto_pktmbuf_free(struct rte_mbuf *m)
{
	rte_pktmbuf_free(m);
}

uint64_t calisto_tx_offload(uint64_t l2_len, uint64_t l3_len, uint64_t l4_len)
{
	return rte_mbuf_tx_offload(l2_len, l3_len, l4_len, 0, 0, 0, 0);
}

/*
 * Freed objects in the order of their return: obj[head .. tail). There is room for
 * all objects of the pool. The lock is for drivers that free from a thread of their
 * own (failsafe, netvsc); it is taken once for a bulk and never waited for otherwise.
 */
struct done {
	rte_spinlock_t lock;
	uint32_t cap;
	uint32_t head;
	uint32_t tail;
	void *obj[];
};

static int done_alloc(struct rte_mempool *mp)
{
	struct done *d = calloc(1, sizeof(*d) + (size_t)mp->size * sizeof(void *));

	if (!d)
		return -ENOMEM;
	rte_spinlock_init(&d->lock);
	d->cap = mp->size;
	mp->pool_data = d;
	return 0;
}

static void done_free(struct rte_mempool *mp)
{
	free(mp->pool_data);
}

static int done_enqueue(struct rte_mempool *mp, void *const *objs, unsigned int n)
{
	struct done *d = mp->pool_data;
	int ret = -ENOBUFS;

	rte_spinlock_lock(&d->lock);
	if (d->tail + n > d->cap) {
		memmove(d->obj, &d->obj[d->head], (d->tail - d->head) * sizeof(void *));
		d->tail -= d->head;
		d->head = 0;
	}
	if (d->tail + n <= d->cap) {
		memcpy(&d->obj[d->tail], objs, n * sizeof(void *));
		/* Release: pairs with the look in calisto_done_take(). */
		__atomic_store_n(&d->tail, d->tail + n, __ATOMIC_RELEASE);
		ret = 0;
	}
	rte_spinlock_unlock(&d->lock);
	return ret;
}

static int done_dequeue(struct rte_mempool *mp, void **objs, unsigned int n)
{
	(void)mp, (void)objs, (void)n;
	return -ENOBUFS;
}

static unsigned int done_count(const struct rte_mempool *mp)
{
	const struct done *d = mp->pool_data;

	return d->tail - d->head;
}

static const struct rte_mempool_ops done_ops = {
	.name = "calisto_done",
	.alloc = done_alloc,
	.free = done_free,
	.enqueue = done_enqueue,
	.dequeue = done_dequeue,
	.get_count = done_count,
};

int calisto_done_register(void)
{
	return rte_mempool_register_ops(&done_ops);
}

uint32_t calisto_done_take(struct rte_mempool *mp, struct rte_mbuf **pkts, uint32_t n)
{
	struct done *d = mp->pool_data;
	uint32_t ready;

	/* A look without the lock: only this function moves head. */
	if (__atomic_load_n(&d->tail, __ATOMIC_ACQUIRE) == __atomic_load_n(&d->head, __ATOMIC_RELAXED))
		return 0;
	rte_spinlock_lock(&d->lock);
	ready = d->tail - d->head;
	if (n > ready)
		n = ready;
	memcpy(pkts, &d->obj[d->head], n * sizeof(void *));
	d->head += n;
	if (d->head == d->tail)
		d->head = d->tail = 0;
	rte_spinlock_unlock(&d->lock);
	return n;
}
