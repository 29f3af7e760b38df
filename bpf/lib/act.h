/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds what is done about a decision: MACs and hop limit written, counted, told to whoever traces,
 * and turned into what tc wants to hear. Nothing here decides.
 */
#ifndef TERWAY_LIB_ACT_H
#define TERWAY_LIB_ACT_H

#include <linux/pkt_cls.h>
#include "lib/decision.h"

/* Where BPF_PROG_TEST_RUN, which shows no redirect's target, finds the decision: words of skb->cb. */
enum decision_word {
	WORD_VERDICT = 0,
	WORD_REASON = 1,
	WORD_TARGET = 2,
};

const volatile enum decision_word decision_word_type = WORD_VERDICT;

/* RFC 1624, for a byte that is the upper half of its word: one less there is 0x0100 more here. */
static __always_inline void hop_limit_decrease_v4(struct iphdr *ip)
{
	__u32 sum = ip->check + bpf_htons(0x0100);

	ip->check = sum + (sum >= 0xffff);
	ip->ttl--;
}

/* IPv6 has no checksum of its own, but the card's sum over the packet, if there is one, covers the byte. */
static __always_inline void hop_limit_decrease_v6(struct __sk_buff *skb, struct ipv6hdr *ip)
{
	ip->hop_limit--;
	bpf_csum_update(skb, bpf_htons(0xfffe)); /* -1 in the lower half of its word */
}

static __always_inline void macs_write(struct ethhdr *eth, const struct decision *decision)
{
	if (decision->verdict == VERDICT_NEIGH)
		return;
	macs_copy(eth, &decision->macs);
}

static __always_inline bool rewrite_v4(struct __sk_buff *skb, const struct decision *decision)
{
	struct ethhdr *eth = frame_start(skb);
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > frame_end(skb))
		return false;
	hop_limit_decrease_v4(ip);
	macs_write(eth, decision);
	return true;
}

static __always_inline bool rewrite_v6(struct __sk_buff *skb, const struct decision *decision)
{
	struct ethhdr *eth = frame_start(skb);
	struct ipv6hdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > frame_end(skb))
		return false;
	macs_write(eth, decision);
	hop_limit_decrease_v6(skb, ip);
	return true;
}

/* As the router does that this replaces. False if the packet cannot be written to. */
static __always_inline bool header_rewrite(struct __sk_buff *skb, const struct decision *decision)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return rewrite_v4(skb, decision) ||
		       (!bpf_skb_pull_data(skb, ETH_HLEN + sizeof(struct iphdr)) &&
			rewrite_v4(skb, decision));
	return rewrite_v6(skb, decision) ||
	       (!bpf_skb_pull_data(skb, ETH_HLEN + sizeof(struct ipv6hdr)) &&
		rewrite_v6(skb, decision));
}

static __always_inline void reason_count(enum hook hook, enum reason reason)
{
	__u32 key = hook;
	struct hook_counters *found = bpf_map_lookup_elem(&hook_counts, &key);

	if (found && reason < REASON_ROOM)
		found->count[reason]++;
}

/* Whether the stack has sent what comes by there, or a program of ours: nothing of it goes on to the stack. */
static __always_inline bool hook_is_way_out(enum hook hook)
{
	return hook == HOOK_POD_INGRESS || hook == HOOK_ENI_EGRESS;
}

static __always_inline struct endpoint_counters *slot_counters(__u32 slot)
{
	return slot ? bpf_map_lookup_elem(&endpoint_counts, &slot) : (void *)0;
}

static __always_inline void endpoints_count(const struct decision *decision, __u32 length)
{
	struct endpoint_counters *from = slot_counters(decision->from_slot);
	bool fast = decision->verdict >= VERDICT_PEER && decision->verdict <= VERDICT_NEIGH;
	struct endpoint_counters *to;

	if (from && fast) {
		from->fast_out_packets++;
		from->fast_out_bytes += length;
	} else if (from && decision->verdict == VERDICT_DROP) {
		from->dropped_packets++;
	} else if (from && decision->verdict == VERDICT_STACK) {
		from->stack_packets++;
	}
	if (decision->verdict != VERDICT_PEER)
		return;
	to = slot_counters(decision->to_slot);
	if (to) {
		to->fast_in_packets++;
		to->fast_in_bytes += length;
	}
}

/*
 * nobody asked for an address		told
 * from or to the one asked for		told
 * addresses were not come to		told: whoever reads knows by the device whose it is; but not on
 *					the way out, where that is every packet of the fast path
 * else					not told
 */
static __always_inline bool trace_wants(const struct settings *settings, enum hook hook,
					const struct flow *flow)
{
	const struct address *only = &settings->trace_address;

	if (address_is_unspecified(only) || address_equal(only, &flow->source) ||
	    address_equal(only, &flow->destination))
		return true;
	return !hook_is_way_out(hook) && address_is_unspecified(&flow->source) &&
	       address_is_unspecified(&flow->destination);
}

static __noinline int trace_tell(struct __sk_buff *skb, enum hook hook,
				 const struct decision *decision, const struct flow *flow)
{
	struct settings *settings = settings_get();
	struct trace_event *event;

	if (!settings || !trace_wants(settings, hook, flow))
		return 0;
	event = bpf_ringbuf_reserve(&trace, sizeof(*event), 0);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->time = bpf_ktime_get_ns();
	event->flow = *flow;
	event->ifindex = skb->ifindex;
	event->target = decision->target;
	event->length = skb->len;
	event->hook = hook;
	event->verdict = decision->verdict;
	event->reason = decision->reason;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

static __always_inline void decision_report(struct __sk_buff *skb, enum hook hook,
					    const struct decision *decision,
					    const struct flow *flow)
{
	struct settings *settings = settings_get();

	skb->cb[WORD_VERDICT] = decision->verdict;
	skb->cb[WORD_REASON] = decision->reason;
	skb->cb[WORD_TARGET] = decision->target;
	reason_count(hook, decision->reason);
	endpoints_count(decision, skb->len);
	if (settings && settings->flags & SETTING_TRACE)
		trace_tell(skb, hook, decision, flow);
}

/*
 * What leaves by an ENI passes eni_egress, which is to know it: by a bit of skb->mark and by skb->tc_index
 * together. A process of the node sets the mark (SO_MARK), and so does nftables, but neither sets tc_index. A pod
 * that may load programs sets tc_index on its own side, but on its way here the mark is taken off, as of all that
 * changes namespaces; and tc_index is taken off by us of what goes on to the stack. The device that the packet
 * came by is part of it, so that it means nothing on another node.
 */
#define FAST_MARK  0x20 /* not kube-proxy's 0x4000 and 0x8000, Felix' 0xffff0000, Cilium's 0x0f00 */
#define FAST_INDEX 0xfa57

static __always_inline void stamp_fast(struct __sk_buff *skb)
{
	skb->mark |= FAST_MARK;
	skb->tc_index = (FAST_INDEX ^ skb->ifindex) & 0xffff;
}

static __always_inline bool is_stamped_fast(const struct __sk_buff *skb)
{
	return skb->mark & FAST_MARK &&
	       skb->tc_index == ((FAST_INDEX ^ skb->ingress_ifindex) & 0xffff);
}

/* The one place that knows how a packet gets behind a link: other kinds have not come here. */
static __always_inline int peer_enter(const struct decision *decision)
{
	switch (decision->device) {
	case DEVICE_VETH:
	case DEVICE_NETKIT:
		return bpf_redirect_peer(decision->target, 0);
	default:
		return TC_ACT_UNSPEC;
	}
}

/*
 * verdict	header			answer to tc
 * STACK	as it came, no stamp	the next program, or the stack
 * DROP		as it came		drop
 * PEER		rewritten		into the pod, at once and on this CPU
 * ENI		rewritten, stamped	out of the ENI
 * NEIGH	hop limit, stamped	out of the ENI by the kernel's neighbour table
 */
static __always_inline int decision_act(struct __sk_buff *skb, enum hook hook,
					struct decision *decision, const struct flow *flow)
{
	if (decision->verdict >= VERDICT_PEER && !header_rewrite(skb, decision)) {
		decision->verdict = VERDICT_DROP;
		decision->reason = DROP_KERNEL;
	}
	decision_report(skb, hook, decision, flow);
	switch (decision->verdict) {
	case VERDICT_DROP:
		return TC_ACT_SHOT;
	case VERDICT_PEER:
		return peer_enter(decision);
	case VERDICT_ENI:
		stamp_fast(skb);
		return bpf_redirect(decision->target, 0);
	case VERDICT_NEIGH:
		stamp_fast(skb);
		return bpf_redirect_neigh(decision->target, (void *)0, 0, 0);
	default:
		if (!hook_is_way_out(hook))
			skb->tc_index = 0;
		return TC_ACT_UNSPEC;
	}
}

#endif
