/*
 * librt.h - what our test runtimes share: the runtime's side of the contract
 *
 * A runtime is one process with a region of its own and some kthreads, each a
 * pthread. A kthread blocks in a read of its eventfd until the I/O kernel
 * gives it a core; then it runs the program's step function in a loop, takes
 * messages off its rxq, and parks when it has had nothing to do for a while
 * or when SIGUSR1 preempted it. Preemption is cooperative: the handler sets a
 * flag that the loop looks at. A kthread without work of its own takes the
 * messages of parked ones (*steals*), as upstream's runtime does: a kthread
 * that loses its core may leave some behind. (--steal 0: each takes its own.)
 *
 *   main thread     set-up, registration, then waits: time is up, SIGTERM, the
 *                   program is done, or the control socket hung up
 *   kthread 0..n-1  rt_loop()
 *
 * Everything that the I/O kernel does to a runtime is checked on the way, and
 * what is wrong is counted: a report is one line of JSON at the end.
 */
#ifndef LIBRT_H
#define LIBRT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <calisto/abi.h>

/*
 * Counters that every runtime keeps. Those marked ! are faults of the I/O
 * kernel: a good run leaves them at 0.
 */
#define RT_COUNTERS(X)							\
	X(wakes)		/* given a core */			\
	X(bad_first_wake)	/* ! first wake was not kthread 0's */	\
	X(bad_core)		/* ! core number out of range */	\
	X(bad_affinity)		/* ! on several CPUs, or the wrong one */ \
	X(double_core)		/* ! core that another kthread holds */	\
	X(parks)		/* parked, of its own will */		\
	X(parks_last)		/* the same, by the last active kthread */ \
	X(preempts)		/* parked because of SIGUSR1 */		\
	X(late_preempts)	/* SIGUSR1 while parked already */	\
	X(timer_wakes)		/* woken at the deadline of a park */	\
	X(early_wakes)		/* ! woken before it, for nothing */	\
	X(joins)		/* RX_JOIN for a park of ours */	\
	X(joins_on_self)	/* of those, to the kthread that parked */ \
	X(joins_repeated)	/* ! the same one once more */		\
	X(joins_alien)		/* ! with a payload never sent */	\
	X(rx_frames)							\
	X(rx_bytes)							\
	X(rx_broadcast)							\
	X(rx_bad_place)		/* ! outside the ingress region */	\
	X(rx_bad_len)		/* ! longer than a frame may be */	\
	X(rx_alien_mac)		/* ! for another runtime */		\
	X(rx_bad_csum_type)	/* ! unknown, or verified and wrong */	\
	X(rx_bad_ip_csum)	/* wrong, and not claimed verified */	\
	X(rx_bad_l4_csum)	/* TCP or UDP checksum is wrong */	\
	X(rx_hash_checked)						\
	X(rx_bad_hash)		/* ! not the 5-tuple's Toeplitz hash */	\
	X(rx_alien_cmd)		/* ! unknown command on rxq */		\
	X(tx_frames)							\
	X(tx_full)		/* txpktq had no room */		\
	X(tx_no_buf)		/* every egress buffer is under way */	\
	X(completions)							\
	X(bad_completions)	/* ! never sent, or completed before */

enum rt_counter {
#define X(name) RT_##name,
	RT_COUNTERS(X)
#undef X
	RT_OWN_COUNTERS,	/* the program's own start here */
	RT_MAX_COUNTERS = RT_OWN_COUNTERS + 24,
};

/* A park with a payload: its address is the payload. */
struct park_record {
	struct kthread	*kthread;
	atomic_uint	joins;		/* RX_JOINs received for it */
	atomic_bool	stands;		/* the park cannot have been refused */
};

struct kthread {
	struct rt	*rt;
	int		idx;
	pthread_t	pthread;
	int		efd;
	struct lrpc_consumer rxq;
	struct lrpc_producer txpktq, txcmdq;
	struct q_ptrs	*q_ptrs;
	int		core;		/* -1 while parked */
	atomic_bool	running;
	pthread_mutex_t	rx_lock;	/* of rxq's consumer: the owner's, or a thief's */
	atomic_bool	stolen_from;	/* since the last park */
	uint64_t	idle_since_us;
	uint64_t	counters[RT_MAX_COUNTERS];
} __attribute__((aligned(64)));

/* A received frame, still in the ingress region. */
struct rx_frame {
	const uint8_t	*data;
	uint32_t	len;
	uint32_t	rss_hash;
	uint32_t	csum_type;
	uint64_t	completion_data;
};

/* What makes one program of the others. All but name and on_frame may be NULL. */
struct rt_program {
	const char	*name;
	const char	*const *counters;	/* names, NULL-terminated */
	/* An option that librt does not know; false if neither does the program. */
	bool	(*option)(const char *name, const char *value);
	void	(*start)(struct rt *rt);
	/* The next frame that k will take; the I/O kernel has it for untaken. */
	void	(*on_next)(struct kthread *k, const struct rx_frame *f);
	/* One received frame. False: the program completes it itself, later. */
	bool	(*on_frame)(struct kthread *k, const struct rx_frame *f);
	/* What to do between messages; true if it did something. */
	bool	(*step)(struct kthread *k);
	/* Fields of its own for the report, each with a comma in front. */
	void	(*report)(struct rt *rt, FILE *out);
};

struct rt_config {
	uint8_t		mac[6];
	uint32_t	ip;		/* host byte order */
	int		kthreads, guaranteed;
	double		seconds;	/* 0: until told */
	double		drain;		/* at the end, longest wait for what is under way, s */
	bool		huge;		/* the region is of 2 MiB pages */
	uint32_t	ring;		/* slots of each ring */
	uint32_t	egress_bufs;
	bool		spin;		/* park only when preempted */
	bool		steal;		/* take messages of parked kthreads */
	uint64_t	park_after_us;
	uint64_t	look_ns;	/* park after so long instead, and do not yield before */
	bool		keep_name;	/* of the region, when attached */
	bool		check_hash;
	bool		check_cpu;	/* a core's number is its CPU's: no virtual cores */
	const char	*core_map;	/* file shared by runtimes, see core_map_open */
};

struct egress;

struct rt {
	const struct rt_program *prog;
	struct rt_config cfg;
	char		*region;
	size_t		region_len;
	uint32_t	key;
	int		shmid;
	char		*ingress;
	int		sock;
	struct egress	*egress;
	struct kthread	*kthreads;
	atomic_int	active;		/* kthreads that hold a core */
	atomic_bool	attached;	/* woken for the first time */
	atomic_bool	draining;	/* send nothing new */
	atomic_bool	finished;	/* the program has done its work */
	_Atomic uint64_t deadline_us;	/* the next timer, 0: none */
	struct park_record *parks;
	atomic_uint	nr_parks;
	_Atomic uint32_t *core_map;
	atomic_bool	left_core_map;
	_Atomic uint64_t early_us;	/* the earliest of the early_wakes, by so much */
	atomic_bool	hung_up;	/* the I/O kernel closed the socket */
	atomic_bool	cores_seen[NCPU];
};

/* ---- main.c: options, life, report ---- */

int rt_main(const struct rt_program *prog, int argc, char **argv);
void rt_finish(struct rt *rt);
_Noreturn void rt_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
uint64_t rt_now_us(void);
uint64_t rt_now_ns(void);
void rt_parse_mac(const char *text, uint8_t *mac);
uint32_t rt_parse_ip(const char *text);
long rt_parse_num(const char *name, const char *text);

static inline void rt_add(struct kthread *k, int counter, uint64_t n)
{
	/* only this kthread writes it; the report reads it from another */
	__atomic_store_n(&k->counters[counter], k->counters[counter] + n, __ATOMIC_RELAXED);
}

static inline void rt_count(struct kthread *k, int counter)
{
	rt_add(k, counter, 1);
}

/* ---- region.c: memory and registration ---- */

void rt_region_setup(struct rt *rt);
void rt_region_forget(struct rt *rt);
void rt_register(struct rt *rt);
static inline shmptr_t rt_shmptr(const struct rt *rt, const void *p)
{
	return (shmptr_t)((const char *)p - rt->region);
}

/* ---- kthread.c: wake, park, preempt, join ---- */

void rt_kthreads_start(struct rt *rt);
void rt_core_map_open(struct rt *rt);
/* Gives back what the process holds there: the I/O kernel sees its end later. */
void rt_core_map_leave(struct rt *rt);
/* SIGUSR1 came since the last park. */
bool rt_preempted(void);
/* Parks with the given command and payload, until given a core again. */
void rt_park(struct kthread *k, uint64_t cmd, uint64_t payload);
/* Parks with a record of the park as payload, to be joined. */
void rt_park_joinable(struct kthread *k);
/* Parks for want of work; the last active kthread leaves the next deadline. */
void rt_park_idle(struct kthread *k);
/* The answer to SIGUSR1. */
void rt_park_preempted(struct kthread *k);
/* An RX_JOIN arrived. */
void rt_joined(struct kthread *k, uint64_t payload);
/* Looks congested to the I/O kernel, or no longer. */
void rt_set_congested(struct kthread *k, bool on);
/* k has a core, or one was given to it and it has not run yet. */
bool rt_has_core(struct kthread *k);
/* Joins that must come and have not. */
unsigned int rt_joins_missing(struct rt *rt);
/* Parked kthreads with messages in their rxq. */
unsigned int rt_stranded(struct rt *rt);

/* ---- packets.c: messages, egress buffers ---- */

void rt_egress_setup(struct rt *rt, char *bufs);
/* Messages in the rxq of k that it has not taken. */
bool rt_rxq_empty(const struct kthread *k);
/* Takes up to max messages off its own rxq; returns how many. */
int rt_poll(struct kthread *k, int max);
/* Takes up to max messages off the rxqs of parked kthreads; returns how many. */
int rt_steal(struct kthread *k, int max);
/* Returns a received frame's buffer. */
void rt_complete(struct kthread *k, uint64_t completion_data);
/* Room for a frame of up to ETH_FRAME_MAX_VLAN bytes, or NULL. */
uint8_t *rt_tx_frame(struct kthread *k);
/* Sends what rt_tx_frame gave; true if it was queued. The frame is gone either way. */
bool rt_tx_send(struct kthread *k, uint8_t *frame, uint32_t len, uint32_t olflags);
/* Frames sent and not completed. */
uint32_t rt_tx_pending(struct rt *rt);

static inline void rt_relax(void)
{
	__builtin_ia32_pause();
}

#endif /* LIBRT_H */
