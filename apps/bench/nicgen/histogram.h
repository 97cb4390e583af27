/*
 * histogram.h - latencies in log-linear buckets
 *
 * Each power of two of nanoseconds is split into HIST_SUB buckets, so a value
 * read back is off by at most 1/HIST_SUB of itself (1.6 %). Adding one takes a
 * shift and an increment: no allocation, no division.
 */
#ifndef NICGEN_HISTOGRAM_H
#define NICGEN_HISTOGRAM_H

#include <stdint.h>

#define HIST_SUB_BITS	6
#define HIST_SUB	(1u << HIST_SUB_BITS)
#define HIST_BUCKETS	((64 - HIST_SUB_BITS + 1) * HIST_SUB)

struct histogram {
	uint64_t count;
	uint64_t max_ns;
	uint64_t bucket[HIST_BUCKETS];
};

/*
 * Values below HIST_SUB have a bucket each. Above, the top bit names the
 * power of two and the HIST_SUB_BITS bits after it the bucket within.
 */
static inline unsigned int histogram_bucket(uint64_t ns)
{
	unsigned int shift;

	if (ns < HIST_SUB)
		return (unsigned int)ns;
	shift = 63 - HIST_SUB_BITS - (unsigned int)__builtin_clzll(ns);
	return (shift + 1) * HIST_SUB + (unsigned int)((ns >> shift) - HIST_SUB);
}

/* The middle of a bucket's range. */
static inline double histogram_value(unsigned int bucket)
{
	unsigned int shift;

	if (bucket < HIST_SUB)
		return bucket;
	shift = bucket / HIST_SUB - 1;
	return ((double)(HIST_SUB + bucket % HIST_SUB) + 0.5) * (double)(1ULL << shift);
}

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
	h->bucket[histogram_bucket(ns)]++;
	h->count++;
	if (ns > h->max_ns)
		h->max_ns = ns;
}

/* The latency that a share q of all values does not pass, in us; 0 when there are none. */
static inline double histogram_quantile_us(const struct histogram *h, double q)
{
	uint64_t wanted = (uint64_t)(q * (double)h->count + 0.5), seen = 0;
	unsigned int i;

	for (i = 0; i < HIST_BUCKETS && h->count > 0; i++) {
		seen += h->bucket[i];
		if (seen >= wanted && seen > 0) {
			double ns = histogram_value(i), max = (double)h->max_ns;

			/* The middle of the last bucket may lie beyond the greatest value. */
			return (ns < max ? ns : max) / 1000.0;
		}
	}
	return 0.0;
}

#endif /* NICGEN_HISTOGRAM_H */
