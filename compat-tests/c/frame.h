/*
 * frame.h - just enough Ethernet, ARP, IPv4, ICMP, UDP and TCP
 *
 * Addresses in structs are in network order; those in views and arguments are
 * in host order.
 */
#ifndef FRAME_H
#define FRAME_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "librt.h"

#define ETH_TYPE_IPV4	0x0800
#define ETH_TYPE_ARP	0x0806
#define ETH_TYPE_VLAN	0x8100

#define PROTO_ICMP	1
#define PROTO_TCP	6
#define PROTO_UDP	17

struct eth_hdr {
	uint8_t		dst[6], src[6];
	uint16_t	type;
} __attribute__((packed));

struct arp_hdr {
	uint16_t	htype, ptype;
	uint8_t		hlen, plen;
	uint16_t	op;		/* 1 request, 2 reply */
	uint8_t		sha[6];
	uint32_t	spa;
	uint8_t		tha[6];
	uint32_t	tpa;
} __attribute__((packed));

struct ipv4_hdr {
	uint8_t		version_ihl, tos;
	uint16_t	total_len, id, frag;
	uint8_t		ttl, proto;
	uint16_t	csum;
	uint32_t	src, dst;
} __attribute__((packed));

struct udp_hdr {
	uint16_t	sport, dport, len, csum;
} __attribute__((packed));

struct icmp_hdr {
	uint8_t		type, code;	/* 8 echo request, 0 echo reply */
	uint16_t	csum, id, seq;
} __attribute__((packed));

#define TCP_FIN	0x01
#define TCP_SYN	0x02
#define TCP_RST	0x04
#define TCP_PSH	0x08
#define TCP_ACK	0x10

struct tcp_hdr {
	uint16_t	sport, dport;
	uint32_t	seq, ack;
	uint8_t		offset;		/* header length in words, << 4 */
	uint8_t		flags;
	uint16_t	window, csum, urgent;
} __attribute__((packed));

#define L2_LEN	sizeof(struct eth_hdr)
#define L3_LEN	sizeof(struct ipv4_hdr)
/* Where the transport header begins in the frames that we make. */
#define L4_AT	(L2_LEN + L3_LEN)

/* A received IPv4 packet whose lengths were checked. Host byte order. */
struct ipv4_view {
	uint32_t	src, dst;
	uint8_t		proto;
	bool		fragment;
	const uint8_t	*l4;
	uint32_t	l4_len;
	uint16_t	sport, dport;	/* of TCP and UDP */
};

/* False if the frame is no IPv4 packet that fits into it. */
bool frame_ipv4(const uint8_t *data, uint32_t len, struct ipv4_view *v);
/* The sum over an IPv4 header is right. The packet passed frame_ipv4. */
bool frame_ip_csum_ok(const uint8_t *data);
/* The TCP or UDP checksum is right, or absent where that is allowed. */
bool frame_l4_csum_ok(const struct ipv4_view *v);

/* Sums 16-bit words in network order; fold and invert to get a checksum. */
uint32_t csum_add(uint32_t sum, const void *data, uint32_t len);
uint16_t csum_fold(uint32_t sum);
/* Addresses, protocol and length, as TCP and UDP sum them. */
uint32_t csum_pseudo(uint32_t src, uint32_t dst, uint8_t proto, uint32_t len);

/* The RSS hash of an IPv4 5-tuple with the key that devices use by default. */
uint32_t toeplitz_ipv4(uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport);

/* Writes the Ethernet and IPv4 headers of a packet; checksum left to the I/O kernel. */
void frame_put_ipv4(uint8_t *f, const struct rt *rt, const uint8_t *dst_mac, uint32_t dst_ip,
		    uint8_t proto, uint32_t l4_len);
/* Writes a UDP header without checksum behind them. */
void frame_put_udp(uint8_t *f, uint16_t sport, uint16_t dport, uint32_t payload_len);
/* Leaves the TCP checksum as offloads want it: the pseudo-header's sum. */
void frame_put_tcp_csum(uint8_t *f, uint32_t l4_len);

#endif /* FRAME_H */
