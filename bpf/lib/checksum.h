/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds the Internet checksum (RFC 1071) of what a program writes itself. */
#ifndef TERWAY_LIB_CHECKSUM_H
#define TERWAY_LIB_CHECKSUM_H

#include <bpf/bpf_helpers.h>

/* Add `size` bytes, a multiple of four, to a sum that starts as 0. */
static __always_inline __u32 checksum_add(__u32 sum, const void *data, __u32 size)
{
	return bpf_csum_diff((void *)0, 0, (void *)data, size, sum);
}

static __always_inline __u16 checksum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#endif
