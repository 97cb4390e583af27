/*
 * limits.h - keys, sizes and limits on which the I/O kernel and its runtimes agree
 *
 * Values that both sides must share before the first byte is exchanged: where
 * they meet, and how large things may be. x86-64, little endian.
 */
#ifndef CALISTO_LIMITS_H
#define CALISTO_LIMITS_H

#include <stdint.h>

/* Most cores of a machine, and most kthreads of one runtime. */
#define NCPU				256

/* Most runtimes attached to one I/O kernel. */
#define IOKERNEL_MAX_PROC		1024

/* The segment that received packets lie in: SysV key and bytes. */
#define INGRESS_MBUF_SHM_KEY		0x696d736b
#define INGRESS_MBUF_SHM_SIZE		0x20000000UL

/*
 * The control socket's name: an abstract AF_UNIX address whose 108 path bytes
 * are all zero (address length 110), because its path constant begins with a NUL.
 */
#define CONTROL_SOCK_PATH_LEN		108

/* Bytes from the start of a received packet's header that a runtime may touch. */
#define MBUF_DEFAULT_LEN		2048

/* Longest Ethernet frame to pass on, without and with a VLAN tag (no FCS). */
#define ETH_FRAME_MAX			1514
#define ETH_FRAME_MAX_VLAN		1518

/* An offset into a shared region; the null pointer is all ones. */
typedef uint64_t shmptr_t;
#define SHMPTR_NULL			0xffffffffffffffffULL

#endif /* CALISTO_LIMITS_H */
