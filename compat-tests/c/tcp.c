/*
 * tcp.c - a TCP that can only echo
 *
 * Byte i of what comes in is byte i of what goes out, so the two sequence
 * numbers of a connection differ by a constant (`delta`): a segment that is
 * retransmitted to us is answered with the same segment again, and nothing
 * sent needs to be kept. The initial sequence number is a hash of the
 * 5-tuple, so a SYN leaves no state either. Data is taken (and acknowledged)
 * only when the peer has room for its echo.
 */
#include <stddef.h>

#include "tcp.h"

#define MAX_CONNS	256
#define MSS		1460
#define WINDOW		0xffff

enum {
#define X(name) C_##name,
	TCP_COUNTERS(X)
#undef X
};

struct conn {
	bool		used;
	uint32_t	peer_ip;
	uint16_t	peer_port, port;
	uint32_t	delta;		/* our sequence number - the peer's */
	uint32_t	rcv_nxt;	/* next byte wanted */
	uint32_t	una;		/* oldest byte of ours not acknowledged */
	bool		fin_sent;
};

/* A flow's packets may come to any kthread. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct conn conns[MAX_CONNS];

/* One segment being handled. */
struct segment {
	struct kthread	*k;
	const uint8_t	*peer_mac;
	const struct ipv4_view *v;
	int		base;		/* of the counters */
	uint32_t	seq, ack, window;
	uint8_t		flags;
	const uint8_t	*data;
	uint32_t	len;
};

static void reply(const struct segment *s, uint32_t seq, uint32_t ack, uint8_t flags,
		  const uint8_t *data, uint32_t len)
{
	/* kind 2, length 4: maximum segment size */
	static const uint8_t mss[4] = { 2, 4, MSS >> 8, MSS & 0xff };
	uint32_t options = flags & TCP_SYN ? sizeof(mss) : 0;
	uint32_t header = sizeof(struct tcp_hdr) + options;
	uint8_t *f = rt_tx_frame(s->k);
	struct tcp_hdr *tcp = (struct tcp_hdr *)(f + L4_AT);

	if (!f)
		return;
	frame_put_ipv4(f, s->k->rt, s->peer_mac, s->v->src, PROTO_TCP, header + len);
	*tcp = (struct tcp_hdr){
		.sport = htons(s->v->dport), .dport = htons(s->v->sport),
		.seq = htonl(seq), .ack = htonl(ack), .offset = (uint8_t)(header / 4 << 4),
		.flags = flags, .window = htons(WINDOW),
	};
	memcpy(tcp + 1, mss, options);
	if (len)
		memcpy(f + L4_AT + header, data, len);
	frame_put_tcp_csum(f, header + len);
	rt_tx_send(s->k, f, (uint32_t)L4_AT + header + len,
		   OLFLAG_IPV4 | OLFLAG_IP_CHKSUM | OLFLAG_TCP_CHKSUM);
}

static uint32_t initial_seq(const struct ipv4_view *v)
{
	return toeplitz_ipv4(v->src, v->dst, v->sport, v->dport);
}

static struct conn *find(const struct ipv4_view *v)
{
	int i;

	for (i = 0; i < MAX_CONNS; i++)
		if (conns[i].used && conns[i].peer_ip == v->src &&
		    conns[i].peer_port == v->sport && conns[i].port == v->dport)
			return &conns[i];
	return NULL;
}

/* The third segment of a handshake makes the connection. */
static struct conn *accepted(const struct segment *s)
{
	int i;

	if (s->ack != initial_seq(s->v) + 1)
		return NULL;
	for (i = 0; i < MAX_CONNS; i++) {
		if (conns[i].used)
			continue;
		conns[i] = (struct conn){
			.used = true, .peer_ip = s->v->src,
			.peer_port = s->v->sport, .port = s->v->dport,
			.delta = s->ack - s->seq, .rcv_nxt = s->seq, .una = s->ack,
		};
		rt_count(s->k, s->base + C_tcp_accepted);
		return &conns[i];
	}
	return NULL;
}

/* Data or a FIN that is next in order. */
static void take(struct conn *c, const struct segment *s)
{
	uint32_t at = s->seq + c->delta, fin = s->flags & TCP_FIN ? 1 : 0;

	if (at + s->len - c->una > s->window) {
		rt_count(s->k, s->base + C_tcp_no_window);
		return;
	}
	c->rcv_nxt = s->seq + s->len + fin;
	c->fin_sent |= fin;
	rt_add(s->k, s->base + C_tcp_bytes, s->len);
	reply(s, at, c->rcv_nxt, (uint8_t)(TCP_ACK | (s->len ? TCP_PSH : 0) | (fin ? TCP_FIN : 0)),
	      s->data, s->len);
}

static void on_segment(struct conn *c, const struct segment *s)
{
	uint32_t fin = s->flags & TCP_FIN ? 1 : 0;
	uint32_t nxt = c->rcv_nxt + c->delta;

	if ((int32_t)(s->ack - c->una) > 0 && (int32_t)(s->ack - nxt) <= 0)
		c->una = s->ack;
	if (c->fin_sent && c->una == nxt) {
		c->used = false;
		rt_count(s->k, s->base + C_tcp_closed);
		return;
	}
	if (s->len == 0 && !fin)
		return;
	if (s->seq == c->rcv_nxt) {
		take(c, s);
	} else if ((int32_t)(s->seq - c->rcv_nxt) > 0) {
		rt_count(s->k, s->base + C_tcp_early);
		reply(s, nxt, c->rcv_nxt, TCP_ACK, NULL, 0);
	} else {
		/* All of it was answered before: say the same again. */
		rt_count(s->k, s->base + C_tcp_again);
		reply(s, s->seq + c->delta, c->rcv_nxt,
		      (uint8_t)(TCP_ACK | (fin ? TCP_FIN : 0)), s->data, s->len);
	}
}

static bool parse(struct segment *s)
{
	const struct tcp_hdr *tcp = (const struct tcp_hdr *)s->v->l4;
	uint32_t header;

	if (s->v->l4_len < sizeof(*tcp))
		return false;
	header = (uint32_t)(tcp->offset >> 4) * 4;
	if (header < sizeof(*tcp) || header > s->v->l4_len)
		return false;
	s->seq = ntohl(tcp->seq);
	s->ack = ntohl(tcp->ack);
	s->window = ntohs(tcp->window);
	s->flags = tcp->flags;
	s->data = s->v->l4 + header;
	s->len = s->v->l4_len - header;
	return true;
}

void tcp_echo(struct kthread *k, const uint8_t *peer_mac, const struct ipv4_view *v, int base)
{
	struct segment s = { .k = k, .peer_mac = peer_mac, .v = v, .base = base };
	struct conn *c;

	if (!parse(&s))
		return;
	pthread_mutex_lock(&lock);
	c = find(v);
	if (s.flags & TCP_RST) {
		if (c)
			c->used = false;
		rt_count(k, base + C_tcp_resets);
	} else if (s.flags & TCP_SYN) {
		if (c)
			c->used = false;
		reply(&s, initial_seq(v), s.seq + 1, TCP_SYN | TCP_ACK, NULL, 0);
	} else if (s.flags & TCP_ACK) {
		if (!c)
			c = accepted(&s);
		if (c)
			on_segment(c, &s);
		else if (s.len || s.flags & TCP_FIN)
			reply(&s, s.ack, 0, TCP_RST, NULL, 0);
	}
	pthread_mutex_unlock(&lock);
}
