/*
 * sender.c - a runtime that sends to another one and checks the answers
 *
 * Closed loop: at most --window packets are unanswered, each in a slot of its
 * own; an answer must be the one its slot waits for, byte for byte. One that
 * is neither answered nor lost after LOST_US is called lost. In order, within
 * each flow, if both sides have one kthread.
 *
 *   --peer-mac M --peer-ip A   whom to send to
 *   --count N                  how many packets (0: until the end)
 *   --window N --flows N
 *   --bytes N                  UDP payload; 0: every size in turn
 *   --tcp 1                    SYNs instead of UDP: answers are SYN and ACK
 *   --burst N --pause-us N     bursts of up to N packets, at random; all are answered, and
 *                              N us go by, before the next
 *   --flood 1                  as fast as it goes, answers are not waited for
 */
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "librt.h"
#include "probe.h"

enum {
	sent = RT_OWN_COUNTERS, replies, lost, bad_replies, corrupt, reordered, unexpected,
};

static const char *const counters[] = {
	"sent", "replies", "lost", "bad_replies", "corrupt", "reordered", "unexpected", NULL,
};

#define BURST		16
#define MAX_FLOWS	65536
#define MAX_UDP_BYTES	(ETH_FRAME_MAX - L4_AT - sizeof(struct udp_hdr))
#define LOST_US		15000000
#define FIRST_PORT	10000
#define ECHO_PORT	7
/* A TCP probe's sequence number is its seq above this many bits of its slot. */
#define SLOT_BITS	16

struct slot {
	uint64_t	seq;		/* awaited; 0: free */
	uint64_t	sent_us;
	uint32_t	bytes;
};

static struct {
	uint8_t		mac[6];
	uint32_t	ip;
	uint64_t	count;
	uint32_t	window, flows, bytes, burst;
	uint64_t	pause_us;
	bool		tcp, flood;
} cfg = { .window = 64, .flows = 1, .bytes = 64 };

/* Guarded by the lock: answers may come to any kthread. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot *slots;
static uint32_t *free_slots, nr_free;
static uint64_t next_seq = 1, nr_replies, nr_lost, next_check_us;
static uint64_t last_seq[MAX_FLOWS];
/* Packets left of this burst; or when the next may begin, 0: not known yet. */
static uint64_t burst_left, burst_at_us;

static bool option(const char *name, const char *value)
{
	if (!strcmp(name, "peer-mac"))
		rt_parse_mac(value, cfg.mac);
	else if (!strcmp(name, "peer-ip"))
		cfg.ip = rt_parse_ip(value);
	else if (!strcmp(name, "count"))
		cfg.count = (uint64_t)rt_parse_num(name, value);
	else if (!strcmp(name, "window"))
		cfg.window = (uint32_t)rt_parse_num(name, value);
	else if (!strcmp(name, "flows"))
		cfg.flows = (uint32_t)rt_parse_num(name, value);
	else if (!strcmp(name, "burst"))
		cfg.burst = (uint32_t)rt_parse_num(name, value);
	else if (!strcmp(name, "pause-us"))
		cfg.pause_us = (uint64_t)rt_parse_num(name, value);
	else if (!strcmp(name, "bytes"))
		cfg.bytes = (uint32_t)rt_parse_num(name, value);
	else if (!strcmp(name, "tcp"))
		cfg.tcp = rt_parse_num(name, value) != 0;
	else if (!strcmp(name, "flood"))
		cfg.flood = rt_parse_num(name, value) != 0;
	else
		return false;
	return true;
}

static void start(struct rt *rt)
{
	uint32_t i;

	(void)rt;
	if (cfg.window < 1 || cfg.window > 1u << SLOT_BITS || cfg.flows < 1 || cfg.flows > MAX_FLOWS ||
	    cfg.bytes > MAX_UDP_BYTES || (cfg.bytes && cfg.bytes < sizeof(struct probe)))
		rt_die("sender: window, flows or bytes out of range");
	slots = calloc(cfg.window, sizeof(*slots));
	free_slots = calloc(cfg.window, sizeof(*free_slots));
	if (!slots || !free_slots)
		rt_die("out of memory");
	nr_free = cfg.window;
	for (i = 0; i < nr_free; i++)
		free_slots[i] = nr_free - 1 - i;
}

static uint32_t put_udp(struct kthread *k, uint8_t *f, uint64_t seq, uint32_t slot, uint32_t bytes)
{
	struct probe *p = (struct probe *)(f + L4_AT + sizeof(struct udp_hdr));
	uint32_t flow = (uint32_t)(seq % cfg.flows), i;

	frame_put_ipv4(f, k->rt, cfg.mac, cfg.ip, PROTO_UDP, (uint32_t)sizeof(struct udp_hdr) + bytes);
	frame_put_udp(f, (uint16_t)(FIRST_PORT + flow), ECHO_PORT, bytes);
	*p = (struct probe){ PROBE_MAGIC, slot, seq, flow, bytes };
	for (i = sizeof(*p); i < bytes; i++)
		((uint8_t *)p)[i] = (uint8_t)(seq + i);
	return (uint32_t)(L4_AT + sizeof(struct udp_hdr)) + bytes;
}

static uint32_t put_syn(struct kthread *k, uint8_t *f, uint64_t seq, uint32_t slot)
{
	struct tcp_hdr *tcp = (struct tcp_hdr *)(f + L4_AT);

	frame_put_ipv4(f, k->rt, cfg.mac, cfg.ip, PROTO_TCP, sizeof(*tcp));
	*tcp = (struct tcp_hdr){
		.sport = htons((uint16_t)(FIRST_PORT + seq % cfg.flows)), .dport = htons(ECHO_PORT),
		.seq = htonl((uint32_t)(seq << SLOT_BITS | slot)),
		.offset = sizeof(*tcp) / 4 << 4, .flags = TCP_SYN, .window = htons(0xffff),
	};
	frame_put_tcp_csum(f, sizeof(*tcp));
	return (uint32_t)(L4_AT + sizeof(*tcp));
}

/* Sends one packet; the lock is held. */
static bool send_one(struct kthread *k, uint64_t now)
{
	uint32_t slot = cfg.flood ? 0 : free_slots[nr_free - 1];
	uint32_t bytes = cfg.bytes, len, olflags = OLFLAG_IPV4 | OLFLAG_IP_CHKSUM;
	uint8_t *f = rt_tx_frame(k);

	if (!f)
		return false;
	if (bytes == 0)
		bytes = (uint32_t)(sizeof(struct probe) +
				   next_seq % (MAX_UDP_BYTES - sizeof(struct probe) + 1));
	if (cfg.tcp) {
		len = put_syn(k, f, next_seq, slot);
		olflags |= OLFLAG_TCP_CHKSUM;
	} else {
		len = put_udp(k, f, next_seq, slot, bytes);
	}
	if (!rt_tx_send(k, f, len, olflags))
		return false;
	if (!cfg.flood) {
		nr_free--;
		slots[slot] = (struct slot){ next_seq, now, bytes };
	}
	next_seq++;
	rt_count(k, sent);
	return true;
}

/* A slot's answer came, or never will; the lock is held. */
static void settle(uint32_t slot)
{
	slots[slot].seq = 0;
	free_slots[nr_free++] = slot;
}

static void find_lost(struct kthread *k, uint64_t now)
{
	uint32_t i;

	if (now < next_check_us)
		return;
	next_check_us = now + 100000;
	for (i = 0; i < cfg.window; i++) {
		if (slots[i].seq == 0 || now - slots[i].sent_us < LOST_US)
			continue;
		rt_count(k, lost);
		nr_lost++;
		settle(i);
	}
}

/* The same numbers in every run. */
static uint64_t up_to(uint64_t max)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return 1 + (state >> 33) % max;
}

/* A packet may be sent now; the lock is held. */
static bool may_send(uint64_t now)
{
	if (!cfg.burst || burst_left > 0)
		return true;
	if (nr_free < cfg.window)
		return false;
	if (burst_at_us == 0)
		burst_at_us = now + cfg.pause_us;
	if (now < burst_at_us)
		return false;
	burst_at_us = 0;
	burst_left = up_to(cfg.burst);
	return true;
}

static bool step(struct kthread *k)
{
	uint64_t now = rt_now_us(), next = now + 100000;
	int n = 0;

	if (atomic_load(&k->rt->draining) || pthread_mutex_trylock(&lock) != 0)
		return false;
	find_lost(k, now);
	while (n < BURST && (cfg.flood || nr_free > 0) && (!cfg.count || next_seq <= cfg.count) &&
	       may_send(now) && send_one(k, now)) {
		burst_left -= burst_left > 0;
		n++;
	}
	if (cfg.count && (cfg.flood ? next_seq > cfg.count : nr_replies + nr_lost >= cfg.count))
		rt_finish(k->rt);
	/* Nobody answers: do not go on for ever. */
	if (nr_lost >= cfg.window)
		rt_finish(k->rt);
	/* The last active kthread must look for lost packets again. */
	if (now < burst_at_us && burst_at_us < next)
		next = burst_at_us;
	atomic_store(&k->rt->deadline_us, next);
	pthread_mutex_unlock(&lock);
	return n > 0;
}

/* The answer to seq in slot; the lock is held. True if it is the one awaited. */
static bool answered(struct kthread *k, uint64_t seq, uint32_t slot, uint32_t bytes)
{
	uint64_t *last;

	if (slot >= cfg.window || seq == 0 || slots[slot].seq != seq ||
	    (!cfg.tcp && slots[slot].bytes != bytes)) {
		rt_count(k, bad_replies);
		return false;
	}
	last = &last_seq[seq % cfg.flows];
	if (seq < *last)
		rt_count(k, reordered);
	else
		*last = seq;
	settle(slot);
	rt_count(k, replies);
	nr_replies++;
	return true;
}

static void on_udp(struct kthread *k, const struct ipv4_view *v, const struct probe *p)
{
	uint32_t i, bytes = v->l4_len - (uint32_t)sizeof(struct udp_hdr);
	bool intact = p->len == bytes && v->dport == FIRST_PORT + p->seq % cfg.flows;

	for (i = sizeof(*p); intact && i < bytes; i++)
		intact = ((const uint8_t *)p)[i] == (uint8_t)(p->seq + i);
	if (!intact)
		rt_count(k, corrupt);
	pthread_mutex_lock(&lock);
	answered(k, p->seq, p->slot, bytes);
	pthread_mutex_unlock(&lock);
}

static void on_tcp(struct kthread *k, const struct ipv4_view *v)
{
	const struct tcp_hdr *tcp = (const struct tcp_hdr *)v->l4;
	uint32_t ack, slot;

	if (v->l4_len < sizeof(*tcp) || (tcp->flags & (TCP_SYN | TCP_ACK)) != (TCP_SYN | TCP_ACK)) {
		rt_count(k, unexpected);
		return;
	}
	ack = ntohl(tcp->ack) - 1;
	slot = ack & ((1u << SLOT_BITS) - 1);
	pthread_mutex_lock(&lock);
	/* The number's upper half went away with the sequence number's size. */
	if (slot < cfg.window && (uint32_t)(slots[slot].seq << SLOT_BITS | slot) == ack)
		answered(k, slots[slot].seq, slot, 0);
	else
		rt_count(k, bad_replies);
	pthread_mutex_unlock(&lock);
}

static bool on_frame(struct kthread *k, const struct rx_frame *f)
{
	struct ipv4_view v;
	const struct probe *p;

	if (cfg.flood)
		return true;
	if (!frame_ipv4(f->data, f->len, &v) || v.src != cfg.ip || v.dst != k->rt->cfg.ip)
		rt_count(k, unexpected);
	else if (cfg.tcp && v.proto == PROTO_TCP)
		on_tcp(k, &v);
	else if (!cfg.tcp && (p = probe_of(&v)))
		on_udp(k, &v, p);
	else
		rt_count(k, unexpected);
	return true;
}

int main(int argc, char **argv)
{
	static const struct rt_program sender = {
		.name = "sender", .counters = counters, .option = option, .start = start,
		.on_frame = on_frame, .step = step,
	};

	return rt_main(&sender, argc, argv);
}
