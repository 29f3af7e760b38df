/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds what a program decides about a packet and the stages that two of them share: what a frame
 * is, whether the shape of a packet leaves the choice to us, and whether it answers what the stack sent.
 * A stage returns a reason, or GO_ON.
 */
#ifndef TERWAY_LIB_DECISION_H
#define TERWAY_LIB_DECISION_H

#include "lib/packet.h"
#include "lib/tables.h"

#define GO_ON REASON_COUNT

#define PACKET_TO_HOST 0 /* linux/if_packet.h: PACKET_HOST */

/* `target` and the MACs are filled for the verdicts that use them. Slots: 0 for nobody. */
struct decision {
	enum verdict verdict;
	enum reason reason;
	__u32 target;
	__u32 from_slot;
	__u32 to_slot;
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

/* Read a frame's packet. `packet` is zeroed. Returns an enum packet_fault. */
static __always_inline int frame_parse(struct __sk_buff *skb, __be16 type, struct packet *packet)
{
	bool v4 = type == bpf_htons(ETH_P_IP);

	if (packet_read(skb, v4, packet))
		return PACKET_FINE;
	__builtin_memset(packet, 0, sizeof(*packet));
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
 * its pod is off		STACK_POD_OFF
 * its link is down		DROP_POD_DOWN: bpf_redirect_peer() would lose it without a word, and the stack as well
 */
static __always_inline enum reason endpoint_decide(const struct endpoint *to)
{
	if (!(to->flags & (ENDPOINT_OFF | ENDPOINT_DOWN)))
		return GO_ON;
	return to->flags & ENDPOINT_OFF ? STACK_POD_OFF : DROP_POD_DOWN;
}

static __always_inline bool reason_is_drop(enum reason reason)
{
	return (reason >= DROP_SRC_MAC && reason <= DROP_KERNEL) ||
	       (reason >= DROP_VLAN && reason <= DROP_POD_DOWN);
}

static __always_inline bool flow_is_of_stack(const struct flow *flow)
{
	return bpf_map_lookup_elem(&stack_flows, flow) != (void *)0;
}

/* An ICMP error goes the way of the flow it is about. */
static __noinline enum reason quote_decide(struct __sk_buff *skb, const struct packet *packet)
{
	struct packet quote = {.quoted = 1, .end = packet->end};

	if (packet_parse(skb, packet->transport + 8, packet->v4, &quote) != PACKET_FINE)
		return STACK_QUOTE;
	if (quote.part != PART_WHOLE || flow_is_of_stack(&quote.flow))
		return STACK_QUOTE;
	return GO_ON;
}

/*
 * The stack answers what the stack sent: it may have translated it, and only it can translate the reply.
 *
 * the reverse of a flow on record			STACK_FLOW
 * an ICMP error that quotes one, a fragment or noise	STACK_QUOTE
 */
static __always_inline enum reason flow_decide(struct __sk_buff *skb, const struct packet *packet)
{
	struct flow reverse = {
		.source = packet->flow.destination,
		.destination = packet->flow.source,
		.source_port = packet->flow.destination_port,
		.destination_port = packet->flow.source_port,
		.protocol = packet->flow.protocol,
	};

	if (stack_pair_is_noted(&reverse.source, &reverse.destination) &&
	    flow_is_of_stack(&reverse))
		return STACK_FLOW;
	if (icmp_is_error(packet->flow.protocol, packet->icmp_type))
		return quote_decide(skb, packet);
	return GO_ON;
}

#endif
