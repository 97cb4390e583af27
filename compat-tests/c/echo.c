/*
 * echo.c - a runtime that answers: ARP, ping, UDP and TCP echo on every port
 *
 *   --work-us N   each frame keeps its kthread for so long, while others run
 *   --work-ns N   the same, without letting others run
 *   --park-every N  a kthread that took about N frames parks at the next lull,
 *                 unless half of them are parked (with --spin 1: only then)
 *   --watch N     watches the flows of probes, up to sequence number N (flows.h)
 *
 * With SINK_PROGRESS in the environment it tells the NIC emulator of apps/bench,
 * in that file, that a core was given, and how many frames were taken.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "flows.h"
#include "frame.h"
#include "librt.h"
#include "tcp.h"

enum {
	arp_replies = RT_OWN_COUNTERS, ping_replies, udp_echoes, fragments, not_for_us,
	TCP_BASE,
};

static const char *const counters[] = {
	"arp_replies", "ping_replies", "udp_echoes", "fragments", "not_for_us",
#define X(name) #name,
	TCP_COUNTERS(X)
#undef X
	NULL,
};

/* A lull: nothing came for so long, so nothing is on its way. */
#define LULL_US		200

/* As in apps/bench/nicgen/stamp.h. */
struct progress {
	_Atomic uint64_t ready;
	uint64_t	pad[7];
	_Atomic uint64_t received;
};

static uint64_t work_us, work_ns, park_every;
static struct progress *progress;

static void map_progress(struct rt *rt)
{
	const char *path = getenv("SINK_PROGRESS");
	int fd;

	(void)rt;
	if (!path)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	/* Beyond the end of a file would be a SIGBUS. */
	if (fd < 0 || lseek(fd, 0, SEEK_END) < (off_t)sizeof(*progress))
		rt_die("SINK_PROGRESS=%s: give a file of at least %zu bytes", path, sizeof(*progress));
	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (progress == MAP_FAILED)
		rt_die("SINK_PROGRESS=%s: %s", path, strerror(errno));
	close(fd);
}

static bool option(const char *name, const char *value)
{
	if (!strcmp(name, "work-us"))
		work_us = (uint64_t)rt_parse_num(name, value);
	else if (!strcmp(name, "work-ns"))
		work_ns = (uint64_t)rt_parse_num(name, value);
	else if (!strcmp(name, "park-every"))
		park_every = (uint64_t)rt_parse_num(name, value);
	else if (!strcmp(name, "watch"))
		flows_start((uint64_t)rt_parse_num(name, value));
	else
		return false;
	return true;
}

static void on_arp(struct kthread *k, const struct rx_frame *f)
{
	const struct arp_hdr *in = (const struct arp_hdr *)(f->data + L2_LEN);
	struct eth_hdr *eth;
	struct arp_hdr *out;
	uint8_t *frame;

	if (f->len < L2_LEN + sizeof(*in) || in->op != htons(1) || ntohl(in->tpa) != k->rt->cfg.ip)
		return;
	frame = rt_tx_frame(k);
	if (!frame)
		return;
	eth = (struct eth_hdr *)frame;
	memcpy(eth->dst, in->sha, 6);
	memcpy(eth->src, k->rt->cfg.mac, 6);
	eth->type = htons(ETH_TYPE_ARP);
	out = (struct arp_hdr *)(eth + 1);
	*out = *in;
	out->op = htons(2);
	memcpy(out->sha, k->rt->cfg.mac, 6);
	out->spa = in->tpa;
	memcpy(out->tha, in->sha, 6);
	out->tpa = in->spa;
	if (rt_tx_send(k, frame, (uint32_t)(L2_LEN + sizeof(*out)), 0))
		rt_count(k, arp_replies);
}

static void on_ping(struct kthread *k, const uint8_t *peer_mac, const struct ipv4_view *v)
{
	struct icmp_hdr *out;
	uint8_t *frame;

	if (v->l4_len < sizeof(*out) || ((const struct icmp_hdr *)v->l4)->type != 8)
		return;
	frame = rt_tx_frame(k);
	if (!frame)
		return;
	frame_put_ipv4(frame, k->rt, peer_mac, v->src, PROTO_ICMP, v->l4_len);
	memcpy(frame + L4_AT, v->l4, v->l4_len);
	out = (struct icmp_hdr *)(frame + L4_AT);
	out->type = 0;
	out->csum = 0;
	/* no offload for ICMP: the sum is ours to fill in */
	out->csum = htons((uint16_t)~csum_fold(csum_add(0, out, v->l4_len)));
	if (rt_tx_send(k, frame, (uint32_t)L4_AT + v->l4_len, OLFLAG_IPV4 | OLFLAG_IP_CHKSUM))
		rt_count(k, ping_replies);
}

static void on_udp(struct kthread *k, const uint8_t *peer_mac, const struct ipv4_view *v)
{
	uint32_t len;
	uint8_t *frame;

	if (v->l4_len < sizeof(struct udp_hdr))
		return;
	frame = rt_tx_frame(k);
	if (!frame)
		return;
	len = v->l4_len - (uint32_t)sizeof(struct udp_hdr);
	frame_put_ipv4(frame, k->rt, peer_mac, v->src, PROTO_UDP, v->l4_len);
	frame_put_udp(frame, v->dport, v->sport, len);
	memcpy(frame + L4_AT + sizeof(struct udp_hdr), v->l4 + sizeof(struct udp_hdr), len);
	if (rt_tx_send(k, frame, (uint32_t)L4_AT + v->l4_len, OLFLAG_IPV4 | OLFLAG_IP_CHKSUM))
		rt_count(k, udp_echoes);
}

/*
 * The kthread is busy, its CPU is not: so several kthreads on one CPU are as
 * many cores, as long as they do little else.
 */
static void work_and_yield(void)
{
	uint64_t end = rt_now_us() + work_us;

	while (rt_now_us() < end)
		sched_yield();
}

static void work(void)
{
	uint64_t end = rt_now_ns() + work_ns;

	while (rt_now_ns() < end)
		rt_relax();
}

static bool on_frame(struct kthread *k, const struct rx_frame *f)
{
	const struct eth_hdr *eth = (const struct eth_hdr *)f->data;
	struct ipv4_view v;

	if (progress)
		atomic_fetch_add_explicit(&progress->received, 1, memory_order_relaxed);
	if (work_us)
		work_and_yield();
	if (work_ns)
		work();
	if (eth->type == htons(ETH_TYPE_ARP)) {
		on_arp(k, f);
		return true;
	}
	if (!frame_ipv4(f->data, f->len, &v) || v.dst != k->rt->cfg.ip)
		rt_count(k, not_for_us);
	else if (v.fragment)
		rt_count(k, fragments);
	else if (v.proto == PROTO_ICMP)
		on_ping(k, eth->src, &v);
	else if (v.proto == PROTO_UDP)
		on_udp(k, eth->src, &v);
	else if (v.proto == PROTO_TCP)
		tcp_echo(k, eth->src, &v, TCP_BASE);
	return true;
}

static bool step(struct kthread *k)
{
	static uint64_t park_at[NCPU];
	uint64_t frames = k->counters[RT_rx_frames], *at = &park_at[k->idx];

	/* release: pairs with the acquire of the emulator's advance() */
	if (progress)
		atomic_store_explicit(&progress->ready, 1, memory_order_release);
	if (!park_every)
		return false;
	/* not all at once */
	if (*at == 0)
		*at = park_every * (uint64_t)(k->idx + 1) / (uint64_t)k->rt->cfg.kthreads;
	if (frames < *at || rt_now_us() < k->idle_since_us + LULL_US ||
	    atomic_load(&k->rt->active) <= k->rt->cfg.kthreads / 2)
		return false;
	*at = frames + park_every;
	rt_park_idle(k);
	return true;
}

static void report(struct rt *rt, FILE *out)
{
	(void)rt;
	flows_report(out);
}

int main(int argc, char **argv)
{
	static const struct rt_program echo = {
		.name = "echo", .counters = counters, .option = option, .start = map_progress,
		.on_next = flows_note, .on_frame = on_frame, .step = step, .report = report,
	};

	return rt_main(&echo, argc, argv);
}
