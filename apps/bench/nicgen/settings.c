/*
 * settings.c - reads NICGEN_*, and refuses rather than guesses
 */
#include "settings.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stamp.h"

/* Longest UDP payload of a standard frame: 1514 - 14 (Ethernet) - 20 (IPv4) - 8 (UDP). */
#define MAX_PAYLOAD 1472

static const char *const mode_names[] = { "flood", "window", "open" };

const char *mode_name(enum nicgen_mode mode)
{
	return mode_names[mode];
}

static const char *get(const char *name, const char *otherwise)
{
	const char *v = getenv(name);

	return v && *v ? v : otherwise;
}

static void refuse(const char *name, const char *value, const char *wanted)
{
	fprintf(stderr, "nicgen: %s=%s: give %s\n", name, value, wanted);
	exit(2);
}

/* A number from lo to hi, whole unless fraction. */
static double number(const char *name, const char *otherwise, double lo, double hi, bool fraction)
{
	const char *text = get(name, otherwise);
	char wanted[96], *end;
	double v;

	errno = 0;
	v = strtod(text, &end);
	if (end == text || *end || errno || !(v >= lo && v <= hi) || (!fraction && v != floor(v))) {
		snprintf(wanted, sizeof(wanted), "a %snumber from %.0f to %.0f",
			 fraction ? "" : "whole ", lo, hi);
		refuse(name, text, wanted);
	}
	return v;
}

/* The index of a setting's word in words. */
static unsigned int word(const char *name, const char *const words[], unsigned int count)
{
	const char *text = get(name, words[0]);
	char wanted[96] = "one of";
	unsigned int i;

	for (i = 0; i < count; i++)
		if (!strcmp(text, words[i]))
			return i;
	for (i = 0; i < count; i++) {
		strncat(wanted, " ", sizeof(wanted) - strlen(wanted) - 1);
		strncat(wanted, words[i], sizeof(wanted) - strlen(wanted) - 1);
	}
	refuse(name, text, wanted);
	return 0;
}

static void read_mac(uint8_t mac[6])
{
	const char *text = get("NICGEN_MAC", "02:00:00:00:00:03");
	char rest;

	if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx%c", &mac[0], &mac[1], &mac[2], &mac[3],
		   &mac[4], &mac[5], &rest) != 6)
		refuse("NICGEN_MAC", text, "an Ethernet address such as 02:00:00:00:00:03");
}

static uint32_t read_ip(void)
{
	const char *text = get("NICGEN_IP", "192.168.1.3");
	uint8_t b[4];
	char rest;

	if (sscanf(text, "%hhu.%hhu.%hhu.%hhu%c", &b[0], &b[1], &b[2], &b[3], &rest) != 4)
		refuse("NICGEN_IP", text, "an IPv4 address such as 192.168.1.3");
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

struct settings settings_read(void)
{
	static const char *const orders[] = { "uniform", "seq" };
	struct settings s = {
		.mode = word("NICGEN_MODE", mode_names, 3),
		.window = (uint64_t)number("NICGEN_WINDOW", "256", 1, 1e6, false),
		.pps = number("NICGEN_PPS", "100000", 1, 1e9, true),
		.flows = (uint32_t)number("NICGEN_FLOWS", "1024", 1, 1e8, false),
		.in_turn = word("NICGEN_ORDER", orders, 2) == 1,
		.burst = (uint16_t)number("NICGEN_BURST", "64", 1, NICGEN_MAX_BURST, false),
		.payload_len = (uint16_t)number("NICGEN_LEN", "24", sizeof(struct stamp),
						MAX_PAYLOAD, false),
		.ip = read_ip(),
		.port = (uint16_t)number("NICGEN_PORT", "5000", 1, 65535, false),
		.delay_s = number("NICGEN_DELAY_S", "1", 0, 3600, true),
		.warm_s = number("NICGEN_WARM_S", "1", 0, 3600, true),
		.secs = number("NICGEN_SECS", "3", 0.01, 3600, true),
		.sink = get("NICGEN_SINK", NULL),
		.out = get("NICGEN_OUT", NULL),
	};

	read_mac(s.mac);
	return s;
}
