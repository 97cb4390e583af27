/*
 * settings.h - what the generator is asked to do, from the environment
 *
 *   NICGEN_MODE      flood: as many requests as the process takes
 *                    window: at most NICGEN_WINDOW requests unanswered
 *                    open: Poisson arrivals, NICGEN_PPS a second on average
 *   NICGEN_FLOWS     distinct flows, chosen uniformly at random (1024)
 *   NICGEN_ORDER     uniform, or seq: the flows in turn
 *   NICGEN_BURST     most packets of one receive call (64)
 *   NICGEN_LEN       bytes of UDP payload (24, the least)
 *   NICGEN_MAC, NICGEN_IP, NICGEN_PORT
 *                    where requests go: the runtime (02:00:00:00:00:03,
 *                    192.168.1.3, 5000)
 *   NICGEN_DELAY_S   seconds before the first packet (1), counted from the
 *                    sink's registration where NICGEN_SINK is set, else from
 *                    the port's start. A dispatcher may take in registrations
 *                    only while no packets come, so it needs some quiet.
 *   NICGEN_WARM_S    seconds of load before the measurement (1)
 *   NICGEN_SECS      seconds of the measurement (3)
 *   NICGEN_SINK      the sink's progress file, see stamp.h
 *   NICGEN_OUT       file that the result goes to (standard error)
 */
#ifndef NICGEN_SETTINGS_H
#define NICGEN_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#define NICGEN_MAX_BURST 64

enum nicgen_mode { MODE_FLOOD, MODE_WINDOW, MODE_OPEN };

struct settings {
	enum nicgen_mode mode;
	uint64_t	window;
	double		pps;
	uint32_t	flows;
	bool		in_turn;
	uint16_t	burst;
	uint16_t	payload_len;
	uint8_t		mac[6];
	uint32_t	ip;		/* host byte order */
	uint16_t	port;
	double		delay_s, warm_s, secs;
	const char	*sink;		/* NULL when not given */
	const char	*out;		/* NULL when not given */
};

/* Reads NICGEN_*. A setting that makes no sense ends the process, in one line. */
struct settings settings_read(void);

/* The word for a mode, as in NICGEN_MODE. */
const char *mode_name(enum nicgen_mode mode);

#endif /* NICGEN_SETTINGS_H */
