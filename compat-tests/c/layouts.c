/*
 * layouts.c - the contract as the C compiler sees it, as tables
 *
 * The layout test reads both tables through FFI and compares them, row by
 * row, with the recorded contract and with the Rust types. A row that is
 * missing here fails the test as surely as a wrong one.
 */
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#include <calisto/abi.h>

/* A struct's own row has field NULL, its alignment in offset. */
struct layout_row {
	const char *type, *field;
	uint64_t offset, size;
};

struct constant_row {
	const char *name;
	uint64_t value;
};

#define TYPE(t)		{ #t, NULL, alignof(struct t), sizeof(struct t) }
#define FIELD(t, f)	{ #t, #f, offsetof(struct t, f), sizeof(((struct t *)0)->f) }
#define CONSTANT(c)	{ #c, (uint64_t)(c) }

const struct layout_row calisto_layouts[] = {
	TYPE(control_hdr),
	FIELD(control_hdr, magic),
	FIELD(control_hdr, thread_count),
	FIELD(control_hdr, egress_buf_count),
	FIELD(control_hdr, mac),
	FIELD(control_hdr, pad0),
	FIELD(control_hdr, sched_cfg),
	FIELD(control_hdr, pad1),

	TYPE(sched_spec),
	FIELD(sched_spec, priority),
	FIELD(sched_spec, max_cores),
	FIELD(sched_spec, guaranteed_cores),
	FIELD(sched_spec, congestion_latency_us),
	FIELD(sched_spec, scaleout_latency_us),

	TYPE(thread_spec),
	FIELD(thread_spec, rxq),
	FIELD(thread_spec, txpktq),
	FIELD(thread_spec, txcmdq),
	FIELD(thread_spec, q_ptrs),
	FIELD(thread_spec, tid),
	FIELD(thread_spec, park_efd),

	TYPE(queue_spec),
	FIELD(queue_spec, msg_count),
	FIELD(queue_spec, msg_buf),
	FIELD(queue_spec, wb),

	TYPE(q_ptrs),
	FIELD(q_ptrs, rxq_wb),
	FIELD(q_ptrs, rq_head),
	FIELD(q_ptrs, rq_tail),

	TYPE(lrpc_msg),
	FIELD(lrpc_msg, cmd),
	FIELD(lrpc_msg, payload),

	TYPE(rx_net_hdr),
	FIELD(rx_net_hdr, completion_data),
	FIELD(rx_net_hdr, len),
	FIELD(rx_net_hdr, rss_hash),
	FIELD(rx_net_hdr, csum_type),
	FIELD(rx_net_hdr, csum),

	TYPE(tx_net_hdr),
	FIELD(tx_net_hdr, completion_data),
	FIELD(tx_net_hdr, len),
	FIELD(tx_net_hdr, olflags),
	FIELD(tx_net_hdr, pad),
};
const uint64_t calisto_layouts_len = sizeof(calisto_layouts) / sizeof(calisto_layouts[0]);

const struct constant_row calisto_constants[] = {
	CONSTANT(CONTROL_HDR_MAGIC),
	CONSTANT(CONTROL_SOCK_PATH_LEN),
	CONSTANT(INGRESS_MBUF_SHM_KEY),
	CONSTANT(INGRESS_MBUF_SHM_SIZE),
	CONSTANT(NCPU),
	CONSTANT(IOKERNEL_MAX_PROC),
	CONSTANT(MBUF_DEFAULT_LEN),
	CONSTANT(ETH_FRAME_MAX),
	CONSTANT(ETH_FRAME_MAX_VLAN),
	CONSTANT(SHMPTR_NULL),
	CONSTANT(LRPC_DONE_PARITY),
	CONSTANT(LRPC_CMD_MASK),
	CONSTANT(SCHED_PRIORITY_SYSTEM),
	CONSTANT(SCHED_PRIORITY_NORMAL),
	CONSTANT(SCHED_PRIORITY_BATCH),
	CONSTANT(RX_NET_RECV),
	CONSTANT(RX_NET_COMPLETE),
	CONSTANT(RX_JOIN),
	CONSTANT(TXPKT_NET_XMIT),
	CONSTANT(TXCMD_NET_COMPLETE),
	CONSTANT(TXCMD_PARKED),
	CONSTANT(TXCMD_PARKED_LAST),
	CONSTANT(CHECKSUM_TYPE_NEEDED),
	CONSTANT(CHECKSUM_TYPE_UNNECESSARY),
	CONSTANT(CHECKSUM_TYPE_COMPLETE),
	CONSTANT(OLFLAG_IP_CHKSUM),
	CONSTANT(OLFLAG_TCP_CHKSUM),
	CONSTANT(OLFLAG_IPV4),
	CONSTANT(OLFLAG_IPV6),
};
const uint64_t calisto_constants_len = sizeof(calisto_constants) / sizeof(calisto_constants[0]);
