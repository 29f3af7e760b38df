/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds what one asks of an address. */
#ifndef TERWAY_LIB_ADDRESS_H
#define TERWAY_LIB_ADDRESS_H

#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include "include/address.h"

static __always_inline struct address address_from_v4(__be32 v4)
{
	struct address mapped = {{0, 0, bpf_htonl(0xffff), v4}};
	return mapped;
}

static __always_inline bool address_is_v4(const struct address *a)
{
	return !a->word[0] && !a->word[1] && a->word[2] == bpf_htonl(0xffff);
}

static __always_inline bool address_equal(const struct address *a, const struct address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

static __always_inline bool address_is_link_local_v6(const struct address *a)
{
	return (a->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool address_is_multicast(const struct address *a)
{
	if (address_is_v4(a)) /* 224.0.0.0/4, and 240.0.0.0/4 with the broadcast address */
		return bpf_ntohl(a->word[3]) >= 0xe0000000;
	return (a->word[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* Addresses that never travel beyond a link: unspecified, loopback, link-local, multicast. */
static __always_inline bool address_stays_on_link(const struct address *a)
{
	__u32 v4 = bpf_ntohl(a->word[3]);

	if (address_is_multicast(a))
		return true;
	if (address_is_v4(a))
		return v4 >> 24 == 0 || v4 >> 24 == 127 || v4 >> 16 == 0xa9fe;
	if (!a->word[0] && !a->word[1] && !a->word[2])
		return v4 <= 1;
	return address_is_link_local_v6(a);
}

static __always_inline bool address_is_unspecified(const struct address *a)
{
	return !(a->word[0] | a->word[1] | a->word[2] | a->word[3]);
}

#endif
