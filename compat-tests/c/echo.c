/*
 * echo.c - a runtime that answers: ARP, ping, UDP and TCP echo on every port
 */
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

static bool on_frame(struct kthread *k, const struct rx_frame *f)
{
	const struct eth_hdr *eth = (const struct eth_hdr *)f->data;
	struct ipv4_view v;

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

int main(int argc, char **argv)
{
	static const struct rt_program echo = {
		.name = "echo", .counters = counters, .on_frame = on_frame,
	};

	return rt_main(&echo, argc, argv);
}
