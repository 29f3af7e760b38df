/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds the question where the checksum of a frame will be written that its sender left to a card. The
 * last device of its way writes it, long after the frame was looked at, and the sender says where: by
 * PACKET_VNET_HDR, or by a device of its own, over its own address, or over the one that it sends to.
 * No helper tells; the kernel's own struct does, whose layout BTF knows. Without ASK_CONNTRACK, for kernels that may
 * have none, nobody is asked.
 */
#ifndef TERWAY_POD_EGRESS_UNFINISHED_H
#define TERWAY_POD_EGRESS_UNFINISHED_H

#include "lib/packet.h"

#ifdef ASK_CONNTRACK

#include <bpf/bpf_core_read.h>

#define CHECKSUM_PARTIAL 3 /* linux/skbuff.h: to be written at csum_offset from csum_start */

struct sk_buff___unfinished {
	__u8 ip_summed : 2;
	__u16 csum_start, mac_header; /* from the start of the buffer */
} __attribute__((preserve_access_index));

/* It is written no earlier than where it starts, and honest ones start at a transport header. */
static __noinline bool checksum_starts_before(struct __sk_buff *skb, __u32 transport)
{
	struct sk_buff___unfinished *asked = (void *)skb;

	if (BPF_CORE_READ_BITFIELD_PROBED(asked, ip_summed) != CHECKSUM_PARTIAL)
		return false;
	return (__s32)(BPF_CORE_READ(asked, csum_start) - BPF_CORE_READ(asked, mac_header)) <
	       (__s32)transport;
}

#else

static __always_inline bool checksum_starts_before(struct __sk_buff *skb, __u32 transport)
{
	return false && skb && transport;
}

#endif

#endif
