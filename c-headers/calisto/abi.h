/*
 * abi.h - the whole contract between the I/O kernel and its runtimes
 */
#ifndef CALISTO_ABI_H
#define CALISTO_ABI_H

#include "control.h"
#include "limits.h"
#include "lrpc.h"
#include "packet.h"

#include <assert.h>
#include <stddef.h>

static_assert(sizeof(struct lrpc_msg) == 16, "lrpc_msg");
static_assert(sizeof(struct queue_spec) == 24, "queue_spec");
static_assert(sizeof(struct q_ptrs) == 12, "q_ptrs");
static_assert(sizeof(struct thread_spec) == 88, "thread_spec");
static_assert(sizeof(struct sched_spec) == 20, "sched_spec");
static_assert(sizeof(struct control_hdr) == 48, "control_hdr");
static_assert(sizeof(struct rx_net_hdr) == 24, "rx_net_hdr");
static_assert(sizeof(struct tx_net_hdr) == 18, "tx_net_hdr");

#endif /* CALISTO_ABI_H */
