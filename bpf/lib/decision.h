/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds what a program decides about a packet and the stages that two of them share: what a frame
 * is, whether the shape of a packet leaves the choice to us, and whether it answers what the stack sent.
 * A stage returns a reason, or GO_ON.
 */
#ifndef TERWAY_LIB_DECISION_H
#define TERWAY_LIB_DECISION_H

#include "lib/conntrack.h"
#include "lib/flow_table.h"
#include "lib/packet.h"
#include "lib/reason.h"

#define GO_ON REASON_COUNT

#define PACKET_TO_HOST 0 /* linux/if_packet.h: PACKET_HOST */

/* `target` and the MACs are filled for the verdicts that use them. Slots: 0 for nobody. */
struct decision {
	enum verdict verdict;
	enum reason reason;
	__u32 target;
	__u32 from_slot;
	__u32 to_slot;
	enum device_kind device; /* of VERDICT_PEER: what `target` is */
	struct macs macs;
} __attribute__((aligned(4)));

/* Both are on a boundary of four bytes: the source in a frame, and a MAC in a row. */
static __always_inline bool mac_equal(const __u8 *a, const __u8 *b)
{
	return *(__u32 *)a == *(__u32 *)b && *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

static __always_inline bool mac_is_known(const __u8 *mac)
{
	return mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5];
}

/* Word by word, where the compiler would have to go byte by byte. */
static __always_inline void macs_copy(void *to, const void *from)
{
	__u32 *word = to;
	const __u32 *other = from;

	word[0] = other[0];
	word[1] = other[1];
	word[2] = other[2];
}

/* The Ethernet header; null if the frame is shorter. Ends the life of pointers into the frame. */
static __always_inline struct ethhdr *frame_header(struct __sk_buff *skb)
{
	struct ethhdr *eth = frame_start(skb);

	if ((void *)(eth + 1) <= frame_end(skb))
		return eth;
	if (bpf_skb_pull_data(skb, ETH_HLEN))
		return (void *)0;
	eth = frame_start(skb);
	return (void *)(eth + 1) <= frame_end(skb) ? eth : (void *)0;
}

#define HEADERS_PULLED 512

/*
 * What is not in the linear part of a frame may be memory that its sender still writes to (PACKET_TX_RING): to be
 * looked at it is copied first, as the stack does. False if the kernel has no memory. Ends the life of pointers
 * into the frame.
 */
static __always_inline bool headers_pull(struct __sk_buff *skb)
{
	return !bpf_skb_pull_data(skb, skb->len < HEADERS_PULLED ? skb->len : HEADERS_PULLED);
}

/* Read a frame's packet. `packet` is zeroed. Returns an enum packet_fault. */
static __always_inline int frame_parse(struct __sk_buff *skb, __be16 type, struct packet *packet)
{
	bool v4 = type == bpf_htons(ETH_P_IP);

	if (packet_read(skb, v4, packet))
		return PACKET_FINE;
	__builtin_memset(packet, 0, sizeof(*packet));
	if (!headers_pull(skb))
		return PACKET_MALFORMED;
	return packet_parse(skb, ETH_HLEN, v4, packet);
}

static __always_inline bool ethertype_is_tag(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/*
 * tagged			STACK_VLAN
 * ARP				STACK_LINK_TALK
 * neither IPv4 nor IPv6	STACK_NOT_IP
 *
 * What a pod sends is judged harder: see pod_egress.
 */
static __always_inline enum reason frame_decide(struct __sk_buff *skb, __be16 type)
{
	if (skb->vlan_present || ethertype_is_tag(type))
		return STACK_VLAN;
	if (type == bpf_htons(ETH_P_ARP))
		return STACK_LINK_TALK;
	if (type != bpf_htons(ETH_P_IP) && type != bpf_htons(ETH_P_IPV6))
		return STACK_NOT_IP;
	return GO_ON;
}

/* What neighbours say to each other about themselves and their groups (RFC 4861, 2710, 3810). */
static __always_inline bool packet_is_link_talk(const struct packet *packet)
{
	__u8 type = packet->icmp_type;

	return packet->flow.protocol == PROTOCOL_ICMPV6 && !packet->v4 &&
	       ((type >= MLD_QUERY && type <= ND_REDIRECT) || type == MLD2_REPORT);
}

/*
 * What only a whole stack does right, in this order. `fault` is packet_parse()'s.
 *
 * IPv4 options, IPv6 extension headers		STACK_OPTIONS
 * a fragment, even the first			STACK_FRAGMENT
 * ports or ICMP header cut			STACK_TRANSPORT
 * hop limit 1 or 0				STACK_HOP_LIMIT
 */
static __always_inline enum reason shape_decide(const struct packet *packet, int fault)
{
	if (packet->options || fault == PACKET_EXTENSION)
		return STACK_OPTIONS;
	if (packet->part != PART_WHOLE)
		return STACK_FRAGMENT;
	if (fault)
		return STACK_TRANSPORT;
	if (packet->hop_limit <= 1)
		return STACK_HOP_LIMIT;
	return GO_ON;
}

/*
 * its pod is off				STACK_POD_OFF
 * its link is down				DROP_POD_DOWN: bpf_redirect_peer() would lose it without a word,
 *						and the stack as well
 * neither veth nor netkit			STACK_DEVICE
 */
static __always_inline enum reason endpoint_decide(const struct endpoint *to)
{
	if (to->flags & ENDPOINT_OFF)
		return STACK_POD_OFF;
	if (to->flags & ENDPOINT_DOWN)
		return DROP_POD_DOWN;
	return to->device > DEVICE_NETKIT ? STACK_DEVICE : GO_ON;
}

/* Into the pod that the row says how to reach. */
static __always_inline void decide_peer(struct decision *decision, const struct endpoint *to)
{
	decision->verdict = VERDICT_PEER;
	decision->target = to->host_ifindex;
	decision->to_slot = to->slot;
	decision->device = to->device;
	macs_copy(&decision->macs, &to->macs);
}

/*
 * Of a pod and a peer that the stack has sent something between: is it this flow?
 *
 * conntrack is asked and knows it			STACK_FLOW
 * it is on record					STACK_FLOW
 * it may be one without a record			STACK_UNRECORDED
 */
static __noinline enum reason carrier_decide(struct __sk_buff *skb, const struct flow *flow)
{
	struct settings *settings = settings_get();
	struct flow_entry entry = {};
	__u64 now = bpf_ktime_get_ns();

	if (!flow || !settings)
		return STACK_FLOW;
	if (conntrack_is_asked(flow->protocol))
		return conntrack_knows(skb, flow) ? STACK_FLOW : GO_ON;
	flow_entry_of(flow, &entry);
	if (flow_is_kept(&entry, settings, now))
		return STACK_FLOW;
	if (settings->flags & SETTING_ASK || flow_may_be_unrecorded(&entry, now))
		return STACK_UNRECORDED;
	return GO_ON;
}

/* An ICMP error goes the way of the flow it is about. */
static __noinline enum reason quote_decide(struct __sk_buff *skb, const struct packet *packet)
{
	struct packet quote = {.quoted = 1, .end = packet->end};

	if (packet_parse(skb, packet->transport + 8, packet->v4, &quote) != PACKET_FINE)
		return STACK_QUOTE;
	if (quote.part != PART_WHOLE || carrier_decide(skb, &quote.flow) != GO_ON)
		return STACK_QUOTE;
	return GO_ON;
}

/*
 * What the stack carries it carries in both directions: it may have translated it, and conntrack takes half a
 * flow for an invalid one. `ask` unless it is sure that the stack has sent nothing between the two ends.
 *
 * a flow of the stack's				see carrier_decide()
 * an ICMP error that quotes one, a fragment or noise	STACK_QUOTE
 */
static __always_inline enum reason flow_decide(struct __sk_buff *skb, const struct packet *packet,
					       bool ask)
{
	struct settings *settings = settings_get();
	enum reason reason;

	if (ask || (settings && settings->flags & SETTING_ASK)) {
		reason = carrier_decide(skb, &packet->flow);
		if (reason != GO_ON)
			return reason;
	}
	if (icmp_is_error(packet->flow.protocol, packet->icmp_type))
		return quote_decide(skb, packet);
	return GO_ON;
}

#endif
