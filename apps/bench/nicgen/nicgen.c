/*
 * nicgen.c - a NIC and its remote clients, inside the process under test
 *
 * Preloaded into a process that polls DPDK port 0, queue 0. When that process
 * starts the port, the port's burst functions are replaced: receiving makes
 * UDP requests, transmitting takes the replies. So any two dispatchers can be
 * given the same work on a machine with two CPUs, without a NIC.
 *
 *   remote clients ---- rx burst ---> dispatcher ---> runtime (the sink)
 *        ^                                              |
 *        +------------- tx burst <--- dispatcher <------+
 *
 * Terms: a request is *due* at a moment (in open mode a planned one, else
 * now) and carries it; a reply's latency counts from there, so waiting for the
 * dispatcher to poll is part of it. *Own* time is all time of the measurement
 * less what the generator itself took: the dispatcher's work, and its idle
 * polling where there is any.
 *
 * Settings: see settings.h. The result is one line of JSON, see report().
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_thash.h>
#include <rte_udp.h>

#include "histogram.h"
#include "settings.h"
#include "stamp.h"

#define THE_PORT	0
/* Only these take the place of the process's own; the rest is built hidden. */
#define EXPORT		__attribute__((visibility("default")))
/* Flows are 10.0.0.1 and up, with this many source ports each from FIRST_SPORT. */
#define SPORTS_PER_IP	50000
#define FIRST_SPORT	10000
#define FIRST_SIP	RTE_IPV4(10, 0, 0, 1)
/* A request without reply for so long was dropped, and no longer fills the window. */
#define LOST_AFTER_MS	20

struct request {
	struct rte_ether_hdr eth;
	struct rte_ipv4_hdr ip;
	struct rte_udp_hdr udp;
	struct stamp stamp;
} __attribute__((packed, aligned(2)));

enum phase { PHASE_WAITING, PHASE_WARMING, PHASE_MEASURING, PHASE_DONE };

/* What is counted; the measurement is the difference between two of these. */
struct counts {
	uint64_t	tsc;		/* when */
	uint64_t	gen_cycles;	/* taken by the generator */
	uint64_t	sent;		/* requests handed to the dispatcher */
	uint64_t	replies;	/* of them, answered */
	uint64_t	other_tx;	/* frames transmitted that are no replies */
	uint64_t	no_mbuf;	/* requests not made for want of an mbuf */
	uint64_t	polls, empty_polls;
	uint64_t	delivered;	/* packets that the sink has received */
	uint64_t	waited_us;	/* time in which some task of the machine waited for a CPU */
};

static struct settings cfg;
static struct rte_mempool *pool;
static const struct progress *sink;	/* NULL without NICGEN_SINK */
static uint64_t hz;
static enum phase phase;
static uint64_t phase_end;		/* TSC */
static struct counts now_counts, start_counts;
static struct histogram latencies;
static struct request template;
static uint32_t hash_base, hash_of_byte[6][256];
static uint64_t next_due;		/* open mode: when the next request is due */
/*
 * Window mode. Requests before epoch were written off as lost; a late reply to
 * one of them must not open the window, or it would stay too wide for good.
 */
static uint64_t epoch, epoch_replies;
static uint64_t last_reply_at;
static uint64_t rng = 88172645463325252ULL;

/* xorshift64: the same sequence for every dispatcher. */
static inline uint64_t random64(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

/* A Poisson process's gap, in cycles. */
static uint64_t random_gap(void)
{
	double u = ((double)(random64() >> 11) + 0.5) / 9007199254740992.0;	/* 2^53 */

	return (uint64_t)(-log(u) * (double)hz / cfg.pps);
}

/*
 * The Toeplitz hash is linear, so that of a tuple is the XOR of the hashes of
 * its bytes. A table for each byte that varies between flows (source address
 * and port) is 6 KiB in all and leaves the caches to the dispatcher, as a NIC
 * would; a table of 700,000 flows would not.
 */
static uint32_t toeplitz(uint32_t sip, uint32_t dip, uint16_t sport, uint16_t dport)
{
	/* Microsoft's key, DPDK's default and upstream's. */
	static const uint8_t key[40] = {
		0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
		0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
		0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
	};
	union rte_thash_tuple t;

	t.v4.src_addr = sip;
	t.v4.dst_addr = dip;
	t.v4.sport = sport;
	t.v4.dport = dport;
	return rte_softrss((uint32_t *)&t, RTE_THASH_V4_L4_LEN, key);
}

static void make_hash_tables(void)
{
	unsigned int byte, v;

	hash_base = toeplitz(0, cfg.ip, 0, cfg.port);
	for (v = 0; v < 256; v++) {
		for (byte = 0; byte < 4; byte++)
			hash_of_byte[byte][v] = toeplitz(v << (8 * byte), 0, 0, 0);
		for (byte = 0; byte < 2; byte++)
			hash_of_byte[4 + byte][v] = toeplitz(0, 0, (uint16_t)(v << (8 * byte)), 0);
	}
}

static inline uint32_t flow_hash(uint32_t sip, uint16_t sport)
{
	return hash_base ^ hash_of_byte[0][sip & 255] ^ hash_of_byte[1][sip >> 8 & 255] ^
	       hash_of_byte[2][sip >> 16 & 255] ^ hash_of_byte[3][sip >> 24] ^
	       hash_of_byte[4][sport & 255] ^ hash_of_byte[5][sport >> 8];
}

static void make_template(void)
{
	struct request *r = &template;

	memcpy(r->eth.dst_addr.addr_bytes, cfg.mac, sizeof(cfg.mac));
	memcpy(r->eth.src_addr.addr_bytes, "\x02\xff\x00\x00\x00\x01", 6);
	r->eth.ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	r->ip.version_ihl = 0x45;
	r->ip.time_to_live = 64;
	r->ip.next_proto_id = IPPROTO_UDP;
	r->ip.total_length = rte_cpu_to_be_16(sizeof(r->ip) + sizeof(r->udp) + cfg.payload_len);
	r->ip.dst_addr = rte_cpu_to_be_32(cfg.ip);
	r->udp.dst_port = rte_cpu_to_be_16(cfg.port);
	r->udp.dgram_len = rte_cpu_to_be_16(sizeof(r->udp) + cfg.payload_len);
	r->stamp.magic = STAMP_MAGIC;
}

static inline void make_request(struct rte_mbuf *m, uint64_t due)
{
	struct request *r = rte_pktmbuf_mtod(m, struct request *);
	uint64_t seq = now_counts.sent++;
	uint32_t flow = cfg.in_turn ? (uint32_t)(seq % cfg.flows) :
			(uint32_t)((random64() >> 32) * cfg.flows >> 32);
	uint32_t sip = FIRST_SIP + flow / SPORTS_PER_IP;
	uint16_t sport = (uint16_t)(FIRST_SPORT + flow % SPORTS_PER_IP);

	memcpy(r, &template, sizeof(*r));
	r->ip.src_addr = rte_cpu_to_be_32(sip);
	r->ip.hdr_checksum = rte_ipv4_cksum(&r->ip);
	r->udp.src_port = rte_cpu_to_be_16(sport);
	r->stamp.flow = flow;
	r->stamp.due = due;
	r->stamp.seq = seq;

	/* rte_pktmbuf_alloc_bulk() has reset the rest, and kept RTE_MBUF_F_EXTERNAL. */
	m->data_len = (uint16_t)(sizeof(*r) - sizeof(r->stamp) + cfg.payload_len);
	m->pkt_len = m->data_len;
	m->port = THE_PORT;
	m->packet_type = RTE_PTYPE_L2_ETHER | RTE_PTYPE_L3_IPV4 | RTE_PTYPE_L4_UDP;
	m->ol_flags |= RTE_MBUF_F_RX_RSS_HASH | RTE_MBUF_F_RX_IP_CKSUM_GOOD |
		       RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	m->hash.rss = flow_hash(sip, sport);
}

/* Requests that may be unanswered beyond those that are, in window mode. */
static uint64_t window_room(uint64_t now)
{
	if (now > last_reply_at + hz / 1000 * LOST_AFTER_MS) {
		epoch = now_counts.sent;
		epoch_replies = 0;
		last_reply_at = now;
	}
	return cfg.window - RTE_MIN(cfg.window, now_counts.sent - epoch - epoch_replies);
}

/* How many requests come now, and when each was due. */
static uint16_t due_now(uint64_t now, uint64_t due[NICGEN_MAX_BURST], uint16_t room)
{
	uint16_t n = 0;

	if (cfg.mode == MODE_OPEN) {
		while (n < room && next_due <= now) {
			due[n++] = next_due;
			next_due += random_gap();
		}
		return n;
	}
	if (cfg.mode == MODE_WINDOW)
		room = (uint16_t)RTE_MIN((uint64_t)room, window_room(now));
	while (n < room)
		due[n++] = now;
	return n;
}

/*
 * Pressure on the machine's CPUs (Documentation/accounting/psi.rst): how far
 * the measurement was disturbed. 0 where the kernel does not tell.
 */
static uint64_t waited_us(void)
{
	FILE *f = fopen("/proc/pressure/cpu", "re");
	unsigned long long us = 0;

	if (!f)
		return 0;
	if (fscanf(f, "some %*s %*s %*s total=%llu", &us) != 1)
		us = 0;
	fclose(f);
	return us;
}

static struct counts snapshot(uint64_t now)
{
	struct counts c = now_counts;

	c.tsc = now;
	if (sink)
		c.delivered = __atomic_load_n(&sink->received, __ATOMIC_RELAXED);
	return c;
}

static void print_result(FILE *f, const struct counts *a, const struct counts *b)
{
	double ns = 1e9 / (double)hz;
	double secs = (double)(b->tsc - a->tsc) * ns / 1e9;
	double gen_ns = (double)(b->gen_cycles - a->gen_cycles) * ns;
	double own_ns = secs * 1e9 - gen_ns;
	uint64_t replies = b->replies - a->replies;
	/* Without a sink that counts, what was answered is what is known to have been delivered. */
	uint64_t delivered = sink ? b->delivered - a->delivered : replies;
	double polls = (double)(b->polls - a->polls);

	fprintf(f, "{\"mode\":\"%s\",\"flows\":%u,\"secs\":%.4f,\"sent\":%lu,\"delivered\":%lu,"
		"\"replies\":%lu,\"other_tx\":%lu,\"no_mbuf\":%lu,",
		mode_name(cfg.mode), cfg.flows, secs, b->sent - a->sent, delivered, replies,
		b->other_tx - a->other_tx, b->no_mbuf - a->no_mbuf);
	fprintf(f, "\"delivered_mpps\":%.4f,\"reply_mpps\":%.4f,\"own_ns_per_delivered\":%.2f,"
		"\"own_ns_per_reply\":%.2f,\"generator_share\":%.4f,\"empty_polls\":%.4f,",
		(double)delivered / secs / 1e6, (double)replies / secs / 1e6,
		delivered ? own_ns / (double)delivered : 0.0, replies ? own_ns / (double)replies : 0.0,
		gen_ns / (secs * 1e9), polls > 0 ? (double)(b->empty_polls - a->empty_polls) / polls : 0.0);
	fprintf(f, "\"waited_ms\":%.1f,\"latencies\":%lu,\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%.3f,"
		"\"p999_us\":%.3f,\"max_us\":%.3f}\n",
		(double)(b->waited_us - a->waited_us) / 1000.0,
		latencies.count, histogram_quantile_us(&latencies, 0.5),
		histogram_quantile_us(&latencies, 0.9), histogram_quantile_us(&latencies, 0.99),
		histogram_quantile_us(&latencies, 0.999), (double)latencies.max_ns / 1000.0);
}

/* Writes the result whole or not at all: a reader waits for the file to appear. */
static void report(const struct counts *a, const struct counts *b)
{
	char unfinished[4096];
	FILE *f;

	if (!cfg.out) {
		print_result(stderr, a, b);
		return;
	}
	snprintf(unfinished, sizeof(unfinished), "%s.unfinished", cfg.out);
	f = fopen(unfinished, "w");
	if (!f) {
		perror("nicgen: NICGEN_OUT");
		return;
	}
	print_result(f, a, b);
	if (fclose(f) || rename(unfinished, cfg.out))
		perror("nicgen: NICGEN_OUT");
}

static uint64_t after(uint64_t now, double secs)
{
	return now + (uint64_t)(secs * (double)hz);
}

/* Moves on to the next phase when it is time; true while there is load. */
static bool advance(uint64_t now)
{
	struct counts end;
	uint64_t waited;

	switch (phase) {
	case PHASE_WAITING:
		if (sink && !__atomic_load_n(&sink->ready, __ATOMIC_ACQUIRE))
			phase_end = after(now, cfg.delay_s);
		if (now < phase_end)
			return false;
		phase = PHASE_WARMING;
		phase_end = after(now, cfg.warm_s);
		next_due = last_reply_at = now;
		return true;
	case PHASE_WARMING:
		if (now < phase_end)
			return true;
		phase = PHASE_MEASURING;
		waited = waited_us();
		start_counts = snapshot(rte_rdtsc());
		start_counts.waited_us = waited;
		phase_end = after(start_counts.tsc, cfg.secs);
		/* No request in this call, whose time is that of reading a file. */
		return false;
	case PHASE_MEASURING:
		if (now < phase_end)
			return true;
		phase = PHASE_DONE;
		end = snapshot(now);
		end.waited_us = waited_us();
		report(&start_counts, &end);
		return false;
	default:
		return false;
	}
}

static uint16_t nicgen_rx(void *rxq, struct rte_mbuf **pkts, uint16_t room)
{
	uint64_t now = rte_rdtsc(), due[NICGEN_MAX_BURST];
	uint64_t sent = now_counts.sent;
	uint16_t i, n = 0;

	(void)rxq;
	if (!advance(now))
		return 0;
	n = due_now(now, due, RTE_MIN(room, cfg.burst));
	now_counts.polls++;
	now_counts.empty_polls += n == 0;
	if (n > 0 && rte_pktmbuf_alloc_bulk(pool, pkts, n)) {
		now_counts.no_mbuf += n;
		n = 0;
	}
	for (i = 0; i < n; i++)
		make_request(pkts[i], due[i]);
	now_counts.gen_cycles += rte_rdtsc() - now;
	return (uint16_t)(now_counts.sent - sent);
}

static inline void take_reply(const struct rte_mbuf *m, uint64_t now)
{
	struct request copy;
	/* A frame may come in several segments; then it is copied. */
	const struct request *r = rte_pktmbuf_read(m, 0, sizeof(copy), &copy);

	if (!r || r->stamp.magic != STAMP_MAGIC ||
	    r->eth.ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) ||
	    r->ip.next_proto_id != IPPROTO_UDP) {
		now_counts.other_tx++;
		return;
	}
	now_counts.replies++;
	epoch_replies += r->stamp.seq >= epoch;
	last_reply_at = now;
	if (phase == PHASE_MEASURING && r->stamp.due >= start_counts.tsc)
		histogram_add(&latencies, (uint64_t)((double)(now - r->stamp.due) * 1e9 / (double)hz));
}

static uint16_t nicgen_tx(void *txq, struct rte_mbuf **pkts, uint16_t n)
{
	uint64_t now = rte_rdtsc();
	uint16_t i;

	(void)txq;
	for (i = 0; i < n; i++)
		take_reply(pkts[i], now);
	now_counts.gen_cycles += rte_rdtsc() - now;
	/*
	 * Freeing is any driver's work, and what it sets off (completions to the
	 * runtime) the dispatcher's: it counts as own time.
	 */
	for (i = 0; i < n; i++)
		rte_pktmbuf_free(pkts[i]);
	return n;
}

static void map_sink(void)
{
	int fd = open(cfg.sink, O_RDONLY | O_CLOEXEC);
	/* A file that is too short would be a SIGBUS in the polling loop. */
	void *p = fd >= 0 && lseek(fd, 0, SEEK_END) >= (off_t)sizeof(*sink) ?
		  mmap(NULL, sizeof(*sink), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (p == MAP_FAILED) {
		fprintf(stderr, "nicgen: NICGEN_SINK=%s: give a readable file of at least %zu bytes\n",
			cfg.sink, sizeof(*sink));
		exit(2);
	}
	close(fd);
	sink = p;
}

static void start(void)
{
	cfg = settings_read();
	if (!pool || rte_pktmbuf_data_room_size(pool) <
		     RTE_PKTMBUF_HEADROOM + sizeof(struct request) + cfg.payload_len) {
		fprintf(stderr, "nicgen: no pool with buffers for %u bytes of payload was set for port %d, queue 0\n",
			cfg.payload_len, THE_PORT);
		exit(2);
	}
	hz = rte_get_tsc_hz();
	make_hash_tables();
	make_template();
	if (cfg.sink)
		map_sink();
	phase_end = after(rte_rdtsc(), cfg.delay_s);
	phase = PHASE_WAITING;
	fprintf(stderr, "nicgen: port %d, mode %s, %u flows\n", THE_PORT, mode_name(cfg.mode), cfg.flows);
}

/* The function of this name that the process would have called without us. */
static void *real(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	if (!f) {
		fprintf(stderr, "nicgen: %s not found: preload into a process that is linked with libdpdk dynamically\n",
			name);
		exit(2);
	}
	return f;
}

EXPORT int rte_eth_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t descs, unsigned int socket,
				  const struct rte_eth_rxconf *conf, struct rte_mempool *mp)
{
	int (*setup)(uint16_t, uint16_t, uint16_t, unsigned int, const struct rte_eth_rxconf *,
		     struct rte_mempool *) = real("rte_eth_rx_queue_setup");

	if (port == THE_PORT && queue == 0)
		pool = mp;
	return setup(port, queue, descs, socket, conf, mp);
}

EXPORT int rte_eth_dev_start(uint16_t port)
{
	static bool started;
	int (*dev_start)(uint16_t) = real("rte_eth_dev_start");
	int ret = dev_start(port);

	if (ret || port != THE_PORT)
		return ret;
	if (!started)
		start();
	started = true;
	rte_eth_fp_ops[port].rx_pkt_burst = nicgen_rx;
	rte_eth_fp_ops[port].tx_pkt_burst = nicgen_tx;
	return 0;
}
