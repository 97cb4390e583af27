/*
 * tcp.h - a TCP that can only echo
 */
#ifndef TCP_H
#define TCP_H

#include "frame.h"

/* Counters of its own, which its user appends to the program's. */
#define TCP_COUNTERS(X)							\
	X(tcp_accepted)							\
	X(tcp_closed)		/* FIN both ways */			\
	X(tcp_resets)							\
	X(tcp_bytes)		/* echoed, each byte once */		\
	X(tcp_again)		/* segments that had been answered */	\
	X(tcp_early)		/* segments ahead of a gap */		\
	X(tcp_no_window)	/* not taken: the peer has no room */

/* One segment for us, from the given Ethernet address. Counters start at base. */
void tcp_echo(struct kthread *k, const uint8_t *peer_mac, const struct ipv4_view *v, int base);

#endif /* TCP_H */
