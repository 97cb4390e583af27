/*
 * shim.c - DPDK's inline functions as functions, and a mempool handler
 */
#include "wrapper.h"

#include <rte_branch_prediction.h>
#include <rte_jhash.h>
#include <rte_lcore.h>
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

uint32_t calisto_jhash(const void *key, uint32_t len, uint32_t initval)
{
	return rte_jhash(key, len, initval);
}

/*
 * Freed objects in the order of their return: obj[head .. tail). There is room for all
 * objects of the pool. Only the lcore that made the pool, which also sends and takes,
 * touches these. A few drivers free from a thread of their own (failsafe, netvsc):
 * what comes from there waits under a lock.
 */
struct done {
	unsigned int owner;
	uint32_t cap;
	uint32_t head;
	uint32_t tail;
	rte_spinlock_t lock;
	uint32_t others;
	void **from_others;
	void *obj[];
};

static int done_alloc(struct rte_mempool *mp)
{
	const size_t slots = mp->size;
	struct done *d;

	/* A thread that is no lcore could not be told from the others. */
	if (rte_lcore_id() == LCORE_ID_ANY)
		return -EPERM;
	d = calloc(1, sizeof(*d) + 2 * slots * sizeof(void *));
	if (!d)
		return -ENOMEM;
	d->owner = rte_lcore_id();
	d->cap = mp->size;
	d->from_others = &d->obj[slots];
	rte_spinlock_init(&d->lock);
	mp->pool_data = d;
	return 0;
}

static void done_free(struct rte_mempool *mp)
{
	free(mp->pool_data);
}

static void done_append(struct done *d, void *const *objs, uint32_t n)
{
	if (unlikely(d->tail + n > d->cap)) {
		memmove(d->obj, &d->obj[d->head], (d->tail - d->head) * sizeof(void *));
		d->tail -= d->head;
		d->head = 0;
	}
	/* One at a time is how many drivers free. */
	if (n == 1)
		d->obj[d->tail] = objs[0];
	else
		memcpy(&d->obj[d->tail], objs, n * sizeof(void *));
	d->tail += n;
}

static __rte_noinline int done_enqueue_other(struct done *d, void *const *objs, uint32_t n)
{
	rte_spinlock_lock(&d->lock);
	memcpy(&d->from_others[d->others], objs, n * sizeof(void *));
	__atomic_store_n(&d->others, d->others + n, __ATOMIC_RELAXED);
	rte_spinlock_unlock(&d->lock);
	return 0;
}

static int done_enqueue(struct rte_mempool *mp, void *const *objs, unsigned int n)
{
	struct done *d = mp->pool_data;

	if (unlikely(rte_lcore_id() != d->owner))
		return done_enqueue_other(d, objs, n);
	done_append(d, objs, n);
	return 0;
}

static int done_dequeue(struct rte_mempool *mp, void **objs, unsigned int n)
{
	(void)mp, (void)objs, (void)n;
	return -ENOBUFS;
}

static unsigned int done_count(const struct rte_mempool *mp)
{
	const struct done *d = mp->pool_data;

	return d->tail - d->head + d->others;
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

	/* A look without the lock; what it misses is there next time. */
	if (unlikely(__atomic_load_n(&d->others, __ATOMIC_RELAXED) != 0)) {
		rte_spinlock_lock(&d->lock);
		done_append(d, d->from_others, d->others);
		__atomic_store_n(&d->others, 0, __ATOMIC_RELAXED);
		rte_spinlock_unlock(&d->lock);
	}
	n = RTE_MIN(n, d->tail - d->head);
	memcpy(pkts, &d->obj[d->head], n * sizeof(void *));
	d->head += n;
	if (d->head == d->tail)
		d->head = d->tail = 0;
	return n;
}
