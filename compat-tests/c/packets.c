/*
 * packets.c - messages from the I/O kernel, and frames to it
 *
 * An egress buffer is free, in the program's hands, or under way. Each use
 * has a generation, and completion_data names buffer and generation, veiled
 * by a number of this process: a completion that comes twice, or was never
 * asked for, or was made up, matches no buffer that is under way.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"
#include "librt.h"
#include "point.h"

enum buf_state { BUF_FREE, BUF_TAKEN, BUF_SENT };

struct egress_buf {
	uint32_t	generation;
	uint8_t		state;
};

/* Guarded by the lock: a completion may come to any kthread. */
struct egress {
	pthread_mutex_t	lock;
	char		*base;
	uint64_t	veil;
	uint32_t	count, nr_free, nr_sent;
	uint32_t	*free;
	struct egress_buf *bufs;
};

void rt_egress_setup(struct rt *rt, char *bufs)
{
	struct egress *e = calloc(1, sizeof(*e));
	struct timespec now;
	uint32_t i, n = rt->cfg.egress_bufs;

	if (e) {
		e->free = calloc(n + 1, sizeof(*e->free));
		e->bufs = calloc(n + 1, sizeof(*e->bufs));
	}
	if (!e || !e->free || !e->bufs)
		rt_die("out of memory");
	clock_gettime(CLOCK_REALTIME, &now);
	e->veil = ((uint64_t)now.tv_nsec << 32 | (uint64_t)getpid()) * 0x9e3779b97f4a7c15ULL;
	pthread_mutex_init(&e->lock, NULL);
	e->base = bufs;
	e->count = e->nr_free = n;
	for (i = 0; i < n; i++)
		e->free[i] = n - 1 - i;
	rt->egress = e;
}

static struct tx_net_hdr *buf_hdr(struct egress *e, uint32_t i)
{
	return (struct tx_net_hdr *)(e->base + (size_t)i * MBUF_DEFAULT_LEN);
}

static uint32_t buf_index(struct egress *e, const uint8_t *frame)
{
	return (uint32_t)(((const char *)frame - e->base) / MBUF_DEFAULT_LEN);
}

uint8_t *rt_tx_frame(struct kthread *k)
{
	struct egress *e = k->rt->egress;
	uint8_t *frame = NULL;

	pthread_mutex_lock(&e->lock);
	if (e->nr_free > 0) {
		uint32_t i = e->free[--e->nr_free];

		e->bufs[i].state = BUF_TAKEN;
		e->bufs[i].generation++;
		frame = (uint8_t *)(buf_hdr(e, i) + 1);
	}
	pthread_mutex_unlock(&e->lock);
	if (!frame)
		rt_count(k, RT_tx_no_buf);
	return frame;
}

static void buf_release(struct egress *e, uint32_t i)
{
	e->bufs[i].state = BUF_FREE;
	e->free[e->nr_free++] = i;
}

bool rt_tx_send(struct kthread *k, uint8_t *frame, uint32_t len, uint32_t olflags)
{
	struct egress *e = k->rt->egress;
	uint32_t i = buf_index(e, frame);
	struct tx_net_hdr *hdr = buf_hdr(e, i);

	pthread_mutex_lock(&e->lock);
	*hdr = (struct tx_net_hdr){
		.completion_data = ((uint64_t)e->bufs[i].generation << 32 | i) ^ e->veil,
		.len = len, .olflags = olflags,
	};
	e->bufs[i].state = BUF_SENT;
	e->nr_sent++;
	pthread_mutex_unlock(&e->lock);

	rt_point(RT_AT_sending);
	if (lrpc_produce(&k->txpktq, TXPKT_NET_XMIT, rt_shmptr(k->rt, hdr))) {
		rt_point(RT_AT_sent);
		rt_count(k, RT_tx_frames);
		return true;
	}
	rt_count(k, RT_tx_full);
	pthread_mutex_lock(&e->lock);
	e->nr_sent--;
	buf_release(e, i);
	pthread_mutex_unlock(&e->lock);
	return false;
}

uint32_t rt_tx_pending(struct rt *rt)
{
	uint32_t n;

	pthread_mutex_lock(&rt->egress->lock);
	n = rt->egress->nr_sent;
	pthread_mutex_unlock(&rt->egress->lock);
	return n;
}

static void completed(struct kthread *k, uint64_t data)
{
	struct egress *e = k->rt->egress;
	uint32_t i, generation;

	data ^= e->veil;
	i = (uint32_t)data;
	generation = (uint32_t)(data >> 32);
	pthread_mutex_lock(&e->lock);
	if (i < e->count && e->bufs[i].state == BUF_SENT && e->bufs[i].generation == generation) {
		e->nr_sent--;
		buf_release(e, i);
		rt_count(k, RT_completions);
	} else {
		rt_count(k, RT_bad_completions);
	}
	pthread_mutex_unlock(&e->lock);
}

static void check_ipv4(struct kthread *k, const struct rx_frame *f)
{
	struct ipv4_view v;

	if (!frame_ipv4(f->data, f->len, &v))
		return;
	if (!frame_ip_csum_ok(f->data))
		rt_count(k, f->csum_type == CHECKSUM_TYPE_NEEDED ? RT_rx_bad_ip_csum
								 : RT_rx_bad_csum_type);
	if (!frame_l4_csum_ok(&v))
		rt_count(k, RT_rx_bad_l4_csum);
	if (k->rt->cfg.check_hash && !v.fragment && v.l4_len >= 4 &&
	    (v.proto == PROTO_TCP || v.proto == PROTO_UDP)) {
		rt_count(k, RT_rx_hash_checked);
		if (f->rss_hash != toeplitz_ipv4(v.src, v.dst, v.sport, v.dport))
			rt_count(k, RT_rx_bad_hash);
	}
}

/* What a real runtime trusts blindly. False: the frame cannot be looked at. */
static bool check_frame(struct kthread *k, const struct rx_frame *f)
{
	static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const struct eth_hdr *eth = (const struct eth_hdr *)f->data;
	uint32_t max = ETH_FRAME_MAX;

	if (f->len >= L2_LEN && eth->type == htons(ETH_TYPE_VLAN))
		max = ETH_FRAME_MAX_VLAN;
	if (f->len < L2_LEN || f->len > max) {
		rt_count(k, RT_rx_bad_len);
		return false;
	}
	if (memcmp(eth->dst, broadcast, 6) == 0)
		rt_count(k, RT_rx_broadcast);
	else if (memcmp(eth->dst, k->rt->cfg.mac, 6) != 0)
		rt_count(k, RT_rx_alien_mac);
	if (f->csum_type > CHECKSUM_TYPE_COMPLETE)
		rt_count(k, RT_rx_bad_csum_type);
	check_ipv4(k, f);
	return true;
}

void rt_complete(struct kthread *k, uint64_t completion_data)
{
	/* Drained by the I/O kernel in every iteration. */
	while (!lrpc_produce(&k->txcmdq, TXCMD_NET_COMPLETE, completion_data)) {
		if (k->rt->hung_up)
			return;
		rt_relax();
	}
}

/* The frame that a message names; false if it names none. */
static bool frame_at(struct kthread *k, uint64_t at, struct rx_frame *f)
{
	const struct rx_net_hdr *hdr;

	/* The real runtime's own check, without an addition that could wrap. */
	if (at > INGRESS_MBUF_SHM_SIZE - MBUF_DEFAULT_LEN)
		return false;
	hdr = (const struct rx_net_hdr *)(k->rt->ingress + at);
	*f = (struct rx_frame){
		.data = (const uint8_t *)(hdr + 1), .len = hdr->len, .rss_hash = hdr->rss_hash,
		.csum_type = hdr->csum_type, .completion_data = hdr->completion_data,
	};
	return true;
}

static void received(struct kthread *k, uint64_t at)
{
	struct rx_frame f;

	if (!frame_at(k, at, &f)) {
		rt_count(k, RT_rx_bad_place);
		return;
	}
	rt_count(k, RT_rx_frames);
	rt_add(k, RT_rx_bytes, f.len);
	rt_point(RT_AT_frame);
	if (!check_frame(k, &f) || k->rt->prog->on_frame(k, &f))
		rt_complete(k, f.completion_data);
}

/* A guess if another kthread steals right now. */
bool rt_rxq_empty(const struct kthread *k)
{
	const struct lrpc_consumer *c = &k->rxq;
	uint64_t v = __atomic_load_n(&c->tbl[c->head & (c->size - 1)].cmd, __ATOMIC_ACQUIRE);

	return (v & LRPC_DONE_PARITY) != ((c->head & c->size) ? 0 : LRPC_DONE_PARITY);
}

/* Shows the program a frame that is next in owner's rxq, before anybody is told that it is taken. */
static void show_next(struct kthread *k, struct kthread *owner)
{
	const struct lrpc_consumer *c = &owner->rxq;
	const struct lrpc_msg *m = &c->tbl[c->head & (c->size - 1)];
	struct rx_frame f;

	if (k->rt->prog->on_next && (m->cmd & LRPC_CMD_MASK) == RX_NET_RECV &&
	    frame_at(k, m->payload, &f) && f.len <= ETH_FRAME_MAX_VLAN)
		k->rt->prog->on_next(k, &f);
}

/* k takes messages of owner, whose lock it holds. */
static int take(struct kthread *k, struct kthread *owner, int max)
{
	uint64_t cmd, payload;
	int n;

	for (n = 0; n < max && !rt_rxq_empty(owner); n++) {
		show_next(k, owner);
		if (!lrpc_consume(&owner->rxq, &cmd, &payload))
			break;
		switch (cmd) {
		case RX_NET_RECV:
			received(k, payload);
			break;
		case RX_NET_COMPLETE:
			completed(k, payload);
			break;
		case RX_JOIN:
			rt_joined(k, payload);
			break;
		default:
			rt_count(k, RT_rx_alien_cmd);
		}
	}
	return n;
}

int rt_poll(struct kthread *k, int max)
{
	int n;

	pthread_mutex_lock(&k->rx_lock);
	n = take(k, k, max);
	pthread_mutex_unlock(&k->rx_lock);
	return n;
}

int rt_steal(struct kthread *k, int max)
{
	int i, n = 0;

	for (i = 0; i < k->rt->cfg.kthreads && n < max; i++) {
		struct kthread *owner = &k->rt->kthreads[i];

		if (atomic_load(&owner->running) || rt_rxq_empty(owner) ||
		    pthread_mutex_trylock(&owner->rx_lock) != 0)
			continue;
		if (!atomic_load(&owner->running)) {
			/* said before the first message is gone: see rt_park_joinable */
			atomic_store(&owner->stolen_from, true);
			n += take(k, owner, max - n);
		}
		pthread_mutex_unlock(&owner->rx_lock);
	}
	return n;
}
