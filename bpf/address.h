/* Addresses: four words in network order, IPv4 as ::ffff:a.b.c.d. */
#pragma once
#include <bpf/bpf_endian.h>

#define MAPPED bpf_htonl(0x0000ffff)
#define LOOPBACK4 bpf_htonl(0x7f000001)
#define LOOPBACK6_WORD3 bpf_htonl(1)

static __always_inline bool is_mapped(const __u32 a[4])
{
	return a[0] == 0 && a[1] == 0 && a[2] == MAPPED;
}

static __always_inline bool is_loopback4(__u32 a)
{
	return (a & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
}

/* The unspecified address as a destination means this host. The kernel may read it as the address that the
 * socket is bound to, not as loopback: so it is made definite before anything is decided. */
static __always_inline void make_definite(__u32 a[4])
{
	if (is_mapped(a)) {
		if (a[3] == 0)
			a[3] = LOOPBACK4;
	} else if (a[0] == 0 && a[1] == 0 && a[2] == 0 && a[3] == 0) {
		a[3] = LOOPBACK6_WORD3;
	}
}

static __always_inline bool is_loopback(const __u32 a[4])
{
	if (is_mapped(a))
		return is_loopback4(a[3]);
	return a[0] == 0 && a[1] == 0 && a[2] == 0 && a[3] == LOOPBACK6_WORD3;
}

/* Is this where our listeners are: 127.0.0.1, ::ffff:127.0.0.1 or ::1? */
static __always_inline bool is_ours(const __u32 a[4])
{
	return is_mapped(a) ? a[3] == LOOPBACK4 : is_loopback(a);
}
