/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds the question to the stack's own conntrack (Linux 5.19) whether it knows a flow. Without
 * ASK_CONNTRACK, for kernels that cannot be asked, nothing is known here and the records alone answer.
 */
#ifndef TERWAY_LIB_CONNTRACK_H
#define TERWAY_LIB_CONNTRACK_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include "lib/packet.h"

#ifdef ASK_CONNTRACK

/* Never looked into; but libbpf compares kinds of types, and one that is only announced is of another kind. */
struct nf_conn {
	__u32 unused;
};

/* As the kernel had it first; longer ones have a zone more. The default zone is the one that is asked. */
struct bpf_ct_opts___first {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
					 __u32 tuple_size, struct bpf_ct_opts___first *opts,
					 __u32 opts_size) __ksym;
extern void bpf_ct_release(struct nf_conn *conn) __ksym;

static __always_inline bool conntrack_is_asked(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

static __always_inline void conntrack_tuple(const struct flow *flow, bool reverse,
					    struct bpf_sock_tuple *tuple)
{
	const struct address *source = reverse ? &flow->destination : &flow->source;
	const struct address *destination = reverse ? &flow->source : &flow->destination;
	__be16 source_port = reverse ? flow->destination_port : flow->source_port;
	__be16 destination_port = reverse ? flow->source_port : flow->destination_port;

	if (address_is_v4(source)) {
		tuple->ipv4.saddr = source->word[3];
		tuple->ipv4.daddr = destination->word[3];
		tuple->ipv4.sport = source_port;
		tuple->ipv4.dport = destination_port;
	} else {
		__builtin_memcpy(tuple->ipv6.saddr, source, sizeof(*source));
		__builtin_memcpy(tuple->ipv6.daddr, destination, sizeof(*destination));
		tuple->ipv6.sport = source_port;
		tuple->ipv6.dport = destination_port;
	}
}

static __always_inline bool conntrack_has(struct __sk_buff *skb, const struct flow *flow,
					  bool reverse)
{
	struct bpf_ct_opts___first opts = {.netns_id = -1, .l4proto = flow->protocol};
	struct bpf_sock_tuple tuple = {};
	struct nf_conn *found;

	conntrack_tuple(flow, reverse, &tuple);
	if (address_is_v4(&flow->source))
		found = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	else
		found = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv6), &opts, sizeof(opts));
	if (!found)
		return false;
	bpf_ct_release(found);
	return true;
}

/*
 * A translated flow is found by what its answers carry, one that would be taken for it by the reverse: were the
 * first packet of a direct connection fast, its answer would be translated, and conntrack would know it in one
 * direction only.
 */
static __noinline int conntrack_knows(struct __sk_buff *skb, const struct flow *flow)
{
	if (!flow)
		return false;
	return conntrack_has(skb, flow, false) || conntrack_has(skb, flow, true);
}

#else

static __always_inline bool conntrack_is_asked(__u8 protocol)
{
	return false && protocol;
}

static __always_inline bool conntrack_knows(struct __sk_buff *skb, const struct flow *flow)
{
	return false && skb && flow;
}

#endif

#endif
