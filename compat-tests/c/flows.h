/*
 * flows.h - which cores the packets of each flow were taken on
 *
 * For the packets of one sender with one kthread: its probes are queued in the
 * order of their sequence numbers, so what became of each packet compares with
 * what became of the one queued before it, whatever order they were taken in.
 */
#ifndef FLOWS_H
#define FLOWS_H

#include "librt.h"

/* Watches probes with sequence numbers up to `last`. */
void flows_start(uint64_t last);
/*
 * The next frame that k will take. It must be called before the I/O kernel
 * can know that k took it: whoever is told that a packet is taken then finds
 * that it had its turn.
 */
void flows_note(struct kthread *k, const struct rx_frame *f);
/* Fields of the report. */
void flows_report(FILE *out);

#endif /* FLOWS_H */
