/*
 * control.h - what a runtime lays out at the start of its region
 *
 *   offset 0   struct control_hdr
 *         48   struct thread_spec [thread_count]
 *
 * Registration, on the control socket: the region's SysV key (4 bytes), its
 * length (8 bytes), then one byte with SCM_RIGHTS carrying thread_count
 * eventfds in kthread order. No reply is sent.
 */
#ifndef CALISTO_CONTROL_H
#define CALISTO_CONTROL_H

#include <stdint.h>

#include "limits.h"

#define CONTROL_HDR_MAGIC		0x696f6b3a

/* A ring of messages, see lrpc.h. */
struct queue_spec {
	uint64_t	msg_count;	/* slots, a power of two */
	shmptr_t	msg_buf;	/* struct lrpc_msg [msg_count] */
	shmptr_t	wb;		/* uint32_t, the consumer's counter */
};

/*
 * How far a kthread has come, written by the runtime alone. rxq_wb is the
 * write-back word of the kthread's rxq: thread_spec.rxq.wb names it too.
 */
struct q_ptrs {
	uint32_t	rxq_wb;
	uint32_t	rq_head;	/* uthreads ever queued to run */
	uint32_t	rq_tail;	/* uthreads ever taken off the queue */
};

struct thread_spec {
	struct queue_spec rxq;		/* I/O kernel -> runtime */
	struct queue_spec txpktq;	/* runtime -> I/O kernel, packets */
	struct queue_spec txcmdq;	/* runtime -> I/O kernel, commands */
	shmptr_t	q_ptrs;		/* struct q_ptrs */
	int32_t		tid;		/* the kthread's Linux thread id */
	int32_t		park_efd;	/* the runtime's own number for its eventfd */
};

enum {
	SCHED_PRIORITY_SYSTEM = 0,
	SCHED_PRIORITY_NORMAL = 1,
	SCHED_PRIORITY_BATCH  = 2,
};

struct sched_spec {
	uint32_t	priority;
	uint32_t	max_cores;
	uint32_t	guaranteed_cores;
	uint32_t	congestion_latency_us;	/* 0 today */
	uint32_t	scaleout_latency_us;	/* 0 today */
};

/* struct thread_spec [thread_count] follows. */
struct control_hdr {
	uint32_t	magic;
	uint32_t	thread_count;
	uint64_t	egress_buf_count;
	uint8_t		mac[6];
	uint8_t		pad0[2];
	struct sched_spec sched_cfg;
	uint8_t		pad1[4];
};

#endif /* CALISTO_CONTROL_H */
