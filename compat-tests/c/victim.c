/*
 * victim.c - a runtime that is busy in every way when it is killed
 *
 * It shouts once, so that everybody holds a frame that others hold too; keeps some of
 * the frames it gets, answers some, returns the rest; sends to itself; and looks
 * congested now and then, so that it is given more than its guarantee and preempted.
 * What it does when is drawn from --seed.
 */
#include <string.h>

#include "frame.h"
#include "librt.h"

/* Frames that it keeps for ever. */
#define MAX_KEPT	256
/* Between two packets to itself. */
#define SEND_US		50
/* For so long at a time it looks congested, or does not. */
#define MOOD_US		500
#define PORT		9

static atomic_ulong draws;
static atomic_int kept;
static atomic_bool shouted;
static _Atomic uint64_t send_at_us, mood_at_us;

static bool option(const char *name, const char *value)
{
	if (strcmp(name, "seed") != 0)
		return false;
	atomic_store(&draws, (unsigned long)rt_parse_num(name, value));
	return true;
}

/* A number below n; the draws of all kthreads are one sequence (splitmix64). */
static uint64_t draw(uint64_t n)
{
	uint64_t z = atomic_fetch_add(&draws, 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (z ^ (z >> 31)) % n;
}

static void send_to(struct kthread *k, const uint8_t *mac, uint32_t ip, uint16_t port)
{
	uint32_t bytes = 18 + (uint32_t)draw(1400), len = (uint32_t)L4_AT;
	uint8_t *frame = rt_tx_frame(k);

	if (!frame)
		return;
	len += (uint32_t)sizeof(struct udp_hdr) + bytes;
	frame_put_ipv4(frame, k->rt, mac, ip, PROTO_UDP, len - (uint32_t)L4_AT);
	frame_put_udp(frame, port, PORT, bytes);
	rt_tx_send(k, frame, len, OLFLAG_IPV4 | OLFLAG_IP_CHKSUM);
}

/* No flow of its own to those who hear it: not IP. */
static void shout(struct kthread *k)
{
	uint8_t *frame = rt_tx_frame(k);

	if (!frame)
		return;
	memset(frame, 0, 60);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, k->rt->cfg.mac, 6);
	/* an EtherType for experiments */
	frame[12] = 0x88;
	frame[13] = 0xb5;
	rt_tx_send(k, frame, 60, 0);
}

static bool on_frame(struct kthread *k, const struct rx_frame *f)
{
	struct ipv4_view v;
	uint64_t what = draw(8);

	if (what == 0 && atomic_fetch_add(&kept, 1) < MAX_KEPT)
		return false;
	if (what < 4 && frame_ipv4(f->data, f->len, &v) && v.src != k->rt->cfg.ip)
		send_to(k, f->data + 6, v.src, PORT);
	return true;
}

static bool due(_Atomic uint64_t *at, uint64_t every)
{
	uint64_t now = rt_now_us(), was = atomic_load(at);

	return now >= was && atomic_compare_exchange_strong(at, &was, now + every);
}

static bool step(struct kthread *k)
{
	if (!atomic_exchange(&shouted, true))
		shout(k);
	if (due(&mood_at_us, MOOD_US))
		rt_set_congested(k, draw(2) != 0);
	if (!due(&send_at_us, SEND_US))
		return false;
	/* a new flow every time */
	send_to(k, k->rt->cfg.mac, k->rt->cfg.ip, (uint16_t)draw(65536));
	/* not work that keeps it from parking */
	return false;
}

int main(int argc, char **argv)
{
	static const struct rt_program victim = {
		.name = "victim", .option = option, .on_frame = on_frame, .step = step,
	};

	return rt_main(&victim, argc, argv);
}
