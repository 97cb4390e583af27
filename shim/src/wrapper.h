/*
 * wrapper.h - what is bound: DPDK's headers, its flags as typed constants, and shim.c
 *
 * Offload flags are 64 bits wide and written as shifts or macros in DPDK, which a
 * binding generator types by their value. Here each is a constant of its real type.
 */
#ifndef CALISTO_SHIM_WRAPPER_H
#define CALISTO_SHIM_WRAPPER_H

#include <stdint.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_hash.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_memory.h>
#include <rte_mempool.h>

#define U64(name) static const uint64_t CALISTO_##name = name
#define U32(name) static const uint32_t CALISTO_##name = name
#define U16(name) static const uint16_t CALISTO_##name = name
#define INT(name) static const int CALISTO_##name = name


U64(RTE_MBUF_F_EXTERNAL);
U64(RTE_MBUF_F_RX_RSS_HASH);
U64(RTE_MBUF_F_RX_IP_CKSUM_MASK);
U64(RTE_MBUF_F_RX_IP_CKSUM_GOOD);
U64(RTE_MBUF_F_TX_IP_CKSUM);
U64(RTE_MBUF_F_TX_TCP_CKSUM);
U64(RTE_MBUF_F_TX_IPV4);
U64(RTE_MBUF_F_TX_IPV6);

U64(RTE_ETH_RX_OFFLOAD_IPV4_CKSUM);
U64(RTE_ETH_RX_OFFLOAD_RSS_HASH);
U64(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
U64(RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
U64(RTE_ETH_TX_OFFLOAD_TCP_CKSUM);
U64(RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE);
U64(RTE_ETH_RSS_NONFRAG_IPV4_TCP);
U64(RTE_ETH_RSS_NONFRAG_IPV4_UDP);
U16(RTE_MAX_ETHPORTS);
U32(RTE_ETH_NAME_MAX_LEN);

U32(RTE_PKTMBUF_HEADROOM);
U32(RTE_MBUF_DEFAULT_BUF_SIZE);
U32(RTE_MEMPOOL_CACHE_MAX_SIZE);

INT(SOCKET_ID_ANY);

U32(RTE_HASH_LOOKUP_BULK_MAX);

#undef U64
#undef U32
#undef U16
#undef INT

/* Forwards of inline functions and macros. */
int calisto_errno(void);
uint16_t calisto_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
uint16_t calisto_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
void calisto_mempool_put_bulk(struct rte_mempool *mp, struct rte_mbuf *const *pkts, uint32_t n);
void calisto_pktmbuf_free(struct rte_mbuf *m);
uint64_t calisto_tx_offload(uint64_t l2_len, uint64_t l3_len, uint64_t l4_len);
/* An rte_hash_function. rte_hash calls rte_jhash through a pointer in any case: to this. */
uint32_t calisto_jhash(const void *key, uint32_t len, uint32_t initval);

/*
 * The mempool handler "calisto_done": what is freed waits, in order, until
 * calisto_done_take() fetches it. Objects are never taken by rte_mempool_get(). The lcore
 * that creates such a pool is the one that must call calisto_done_take().
 */
int calisto_done_register(void);
uint32_t calisto_done_take(struct rte_mempool *mp, struct rte_mbuf **pkts, uint32_t n);

#endif /* CALISTO_SHIM_WRAPPER_H */
