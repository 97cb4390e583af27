/*
 * frame.c - reading, checking and writing frames
 */
#include "frame.h"

uint32_t csum_add(uint32_t sum, const void *data, uint32_t len)
{
	const uint8_t *p = data;

	for (; len > 1; p += 2, len -= 2)
		sum += (uint32_t)p[0] << 8 | p[1];
	if (len)
		sum += (uint32_t)p[0] << 8;
	return sum;
}

uint16_t csum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

uint32_t csum_pseudo(uint32_t src, uint32_t dst, uint8_t proto, uint32_t len)
{
	return (src >> 16) + (src & 0xffff) + (dst >> 16) + (dst & 0xffff) + proto + len;
}

bool frame_ipv4(const uint8_t *data, uint32_t len, struct ipv4_view *v)
{
	const struct eth_hdr *eth = (const struct eth_hdr *)data;
	const struct ipv4_hdr *ip = (const struct ipv4_hdr *)(eth + 1);
	uint32_t ihl, total;

	if (len < L4_AT || eth->type != htons(ETH_TYPE_IPV4) || ip->version_ihl >> 4 != 4)
		return false;
	ihl = (ip->version_ihl & 15u) * 4;
	total = ntohs(ip->total_len);
	if (ihl < L3_LEN || total < ihl || L2_LEN + total > len)
		return false;
	*v = (struct ipv4_view){
		.src = ntohl(ip->src), .dst = ntohl(ip->dst), .proto = ip->proto,
		.fragment = (ntohs(ip->frag) & 0x3fff) != 0,	/* more, or an offset */
		.l4 = data + L2_LEN + ihl, .l4_len = total - ihl,
	};
	if ((v->proto == PROTO_TCP || v->proto == PROTO_UDP) && v->l4_len >= 4 && !v->fragment) {
		v->sport = (uint16_t)(v->l4[0] << 8 | v->l4[1]);
		v->dport = (uint16_t)(v->l4[2] << 8 | v->l4[3]);
	}
	return true;
}

bool frame_ip_csum_ok(const uint8_t *data)
{
	const uint8_t *ip = data + L2_LEN;

	return csum_fold(csum_add(0, ip, (ip[0] & 15u) * 4)) == 0xffff;
}

bool frame_l4_csum_ok(const struct ipv4_view *v)
{
	uint32_t min = v->proto == PROTO_TCP ? sizeof(struct tcp_hdr) : sizeof(struct udp_hdr);

	if (v->fragment || (v->proto != PROTO_TCP && v->proto != PROTO_UDP))
		return true;
	if (v->l4_len < min)
		return false;
	if (v->proto == PROTO_UDP && v->l4[6] == 0 && v->l4[7] == 0)
		return true;
	return csum_fold(csum_add(csum_pseudo(v->src, v->dst, v->proto, v->l4_len),
				  v->l4, v->l4_len)) == 0xffff;
}

/*
 * The key from Microsoft's definition of RSS, which DPDK and most devices
 * have as their default. Input: source and destination address, source and
 * destination port, in network order.
 */
static const uint8_t rss_key[] = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
	0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
	0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
	0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

uint32_t toeplitz_ipv4(uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport)
{
	const uint32_t words[3] = { src, dst, (uint32_t)sport << 16 | dport };
	/* Bits i to i+31 of the key, for the i-th bit of the input. */
	uint32_t window = (uint32_t)rss_key[0] << 24 | (uint32_t)rss_key[1] << 16 |
			  (uint32_t)rss_key[2] << 8 | rss_key[3];
	uint32_t hash = 0;
	unsigned int i;

	for (i = 0; i < 96; i++) {
		if (words[i / 32] >> (31 - i % 32) & 1)
			hash ^= window;
		window = window << 1 | (rss_key[4 + i / 8] >> (7 - i % 8) & 1);
	}
	return hash;
}

void frame_put_ipv4(uint8_t *f, const struct rt *rt, const uint8_t *dst_mac, uint32_t dst_ip,
		    uint8_t proto, uint32_t l4_len)
{
	struct eth_hdr *eth = (struct eth_hdr *)f;
	struct ipv4_hdr *ip = (struct ipv4_hdr *)(eth + 1);

	memcpy(eth->dst, dst_mac, 6);
	memcpy(eth->src, rt->cfg.mac, 6);
	eth->type = htons(ETH_TYPE_IPV4);
	*ip = (struct ipv4_hdr){
		.version_ihl = 0x45, .total_len = htons((uint16_t)(L3_LEN + l4_len)),
		.frag = htons(0x4000), .ttl = 64, .proto = proto,
		.src = htonl(rt->cfg.ip), .dst = htonl(dst_ip),
	};
}

void frame_put_udp(uint8_t *f, uint16_t sport, uint16_t dport, uint32_t payload_len)
{
	struct udp_hdr *udp = (struct udp_hdr *)(f + L4_AT);

	*udp = (struct udp_hdr){
		.sport = htons(sport), .dport = htons(dport),
		.len = htons((uint16_t)(sizeof(*udp) + payload_len)),
	};
}

void frame_put_tcp_csum(uint8_t *f, uint32_t l4_len)
{
	const struct ipv4_hdr *ip = (const struct ipv4_hdr *)(f + L2_LEN);
	struct tcp_hdr *tcp = (struct tcp_hdr *)(f + L4_AT);

	tcp->csum = htons(csum_fold(csum_pseudo(ntohl(ip->src), ntohl(ip->dst), PROTO_TCP, l4_len)));
}
