/*
 * packet.h - messages, and the headers in front of packets
 *
 * A received packet lies in the ingress segment, a transmitted one in the
 * runtime's region; each is preceded by its header.
 */
#ifndef CALISTO_PACKET_H
#define CALISTO_PACKET_H

#include <stdint.h>

/* rxq: I/O kernel -> runtime */
enum {
	RX_NET_RECV = 0,	/* payload: shmptr of a rx_net_hdr, ingress segment */
	RX_NET_COMPLETE = 1,	/* payload: completion_data of a tx_net_hdr, exactly once */
	RX_JOIN = 2,		/* payload: that of a park, adopt what the kthread left */
};

/* txpktq: runtime -> I/O kernel */
enum {
	TXPKT_NET_XMIT = 0,	/* payload: shmptr of a tx_net_hdr, the runtime's region */
};

/* txcmdq: runtime -> I/O kernel */
enum {
	TXCMD_NET_COMPLETE = 0,	/* payload: completion_data of a rx_net_hdr */
	TXCMD_PARKED = 1,	/* payload: 0, or what to send on as RX_JOIN */
	TXCMD_PARKED_LAST = 2,	/* payload: 0, or us until the next timer */
};

/* rx_net_hdr.csum_type */
enum {
	CHECKSUM_TYPE_NEEDED = 0,	/* the runtime verifies the IPv4 header */
	CHECKSUM_TYPE_UNNECESSARY = 1,	/* it was verified */
	CHECKSUM_TYPE_COMPLETE = 2,	/* csum holds the sum */
};

/* The frame follows. */
struct rx_net_hdr {
	uint64_t	completion_data; /* opaque, returned by TXCMD_NET_COMPLETE */
	uint32_t	len;		/* bytes of the frame that follows */
	uint32_t	rss_hash;	/* 5-tuple hash */
	uint32_t	csum_type;
	uint32_t	csum;
};

/* tx_net_hdr.olflags */
#define OLFLAG_IP_CHKSUM	(1u << 0)	/* fill in the IPv4 header checksum */
#define OLFLAG_TCP_CHKSUM	(1u << 1)	/* fill in the TCP checksum */
#define OLFLAG_IPV4		(1u << 2)	/* the frame is IPv4 */
#define OLFLAG_IPV6		(1u << 3)	/* the frame is IPv6 */

/* The frame follows. Packed: 18 bytes, so that its IP header is aligned. */
struct tx_net_hdr {
	uint64_t	completion_data; /* returned once by RX_NET_COMPLETE */
	uint32_t	len;		/* bytes of the frame that follows */
	uint32_t	olflags;
	uint16_t	pad;
} __attribute__((packed));

#endif /* CALISTO_PACKET_H */
