/*
 * stamp.h - what the generator, the sink and the reader of results share
 *
 * Each request carries a stamp at the start of its UDP payload; a runtime that
 * echoes brings it back. The Rust sink has the same two layouts in
 * apps/bench/src/shared.rs.
 */
#ifndef NICGEN_STAMP_H
#define NICGEN_STAMP_H

#include <stdint.h>

#define STAMP_MAGIC 0x6e676531u

/* Little endian, as the machine: it never leaves it. */
struct stamp {
	uint32_t	magic;
	uint32_t	flow;	/* which flow, from 0 */
	uint64_t	due;	/* TSC when the request was due */
	uint64_t	seq;	/* requests made before this one */
} __attribute__((packed));

/* The sink's progress file, mapped by both; each word on a cache line of its own. */
struct progress {
	uint64_t	ready;		/* 1 once the sink has registered */
	uint64_t	pad0[7];
	uint64_t	received;	/* packets taken off rxqs so far */
	uint64_t	pad1[7];
};

#endif /* NICGEN_STAMP_H */
