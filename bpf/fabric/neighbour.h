/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds ARP (RFC 826, 5227), neighbour discovery (RFC 4861) and group membership (RFC 3376, 3810): the
 * VPC's gateway answers for every address of every vSwitch with its own MAC, so that all traffic comes to it.
 * *_decide() looks and says what is to be done; lib/neighbour.h turns the question in the skb into the answer.
 */
#ifndef TERWAY_FABRIC_NEIGHBOUR_H
#define TERWAY_FABRIC_NEIGHBOUR_H

#include "fabric/claims.h"
#include "lib/neighbour.h"

#define IGMP_QUERY	   0x11
#define ND_HOP_LIMIT	   255
#define ND_HEADER	   8
#define ND_WITH_TARGET	   24
#define ND_MESSAGE_MAX	   256
#define ND_OPTIONS_MAX	   8
#define ND_FLAG_SOLICITED  0x40000000
#define SOLICITED_NODE_LOW 0xff000000 /* ff02::1:ff00:0/104 */

/* A message of neighbour discovery while it is read; programs of tc do not interrupt each other on a CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[ND_MESSAGE_MAX]);
} messages SEC(".maps");

/* An ENI asks for what its vSwitch holds; the outside and the services sit beside the gateway. */
static __always_inline bool neighbour_is_ours(const struct port *port, const struct address *target)
{
	return port->kind != PORT_ENI || address_on_link(target);
}

/*
 * A question is asked in the name of any address of the instance: Linux asks on a device without addresses by one
 * of another device, upstream's daemon leaves ENIs without, and its pods talk on ECS (inferred from that).
 */
static __always_inline bool asker_is_known(const struct port *port, const struct address *sender)
{
	return port->kind != PORT_ENI || address_is_of_instance(port, sender);
}

/*
 * a reply, or sender == target (gratuitous ARP)	a claim of the sender
 * sender == 0		probe for a duplicate address	a claim of the target
 * sender is not of the instance			a claim of the sender
 * on-link target					answered
 * else							dropped
 *
 * A claim of the own address is control.
 */
static __noinline enum fabric_reason arp_decide(struct __sk_buff *skb, const struct port *port)
{
	struct arp_packet arp;
	struct address sender, target;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)))
		return DROP_MALFORMED;
	if (arp.hardware != bpf_htons(ARPHRD_ETHER) || arp.protocol != bpf_htons(ETH_P_IP) ||
	    arp.hardware_length != ETH_ALEN || arp.protocol_length != 4)
		return DROP_MALFORMED;
	if (!mac_equal(arp.sender_mac, port->mac))
		return DROP_SRC_MAC;
	sender = address_from_v4(arp.sender);
	target = address_from_v4(arp.target);
	if (arp.operation == bpf_htons(ARPOP_REPLY))
		return claim_decide(port, &sender);
	if (arp.operation != bpf_htons(ARPOP_REQUEST))
		return DROP_MALFORMED;
	if (!arp.sender)
		return claim_decide(port, &target);
	if (arp.sender == arp.target || !asker_is_known(port, &sender))
		return claim_decide(port, &sender);
	return neighbour_is_ours(port, &target) ? PASS_ANSWERED_ARP : DROP_NEIGHBOUR;
}

static __always_inline bool nd_is_link_talk(__u8 type)
{
	return (type >= MLD_QUERY && type <= ND_REDIRECT) || type == MLD2_REPORT;
}

static __always_inline bool nd_is_membership(__u8 type)
{
	return type < ND_ROUTER_SOLICIT || type == MLD2_REPORT;
}

static __always_inline bool checksum_is_good(const struct packet *packet, const void *message,
					     __u32 length)
{
	__be32 pseudo[2] = {bpf_htonl(length), bpf_htonl(PROTOCOL_ICMPV6)};
	__u32 sum;

	sum = checksum_add(0, &packet->flow.source, 2 * sizeof(struct address));
	sum = checksum_add(sum, pseudo, sizeof(pseudo));
	sum = checksum_add(sum, message, ND_MESSAGE_MAX);
	return !checksum_fold(sum);
}

/*
 * What the options say of the sender's MAC: `kind` is the option that may stand there, and the MAC in it has to be
 * the port's. ::, of which nobody may know the MAC, must not have one (RFC 4861, 7.1.1).
 */
static __always_inline enum fabric_reason nd_options_decide(const __u8 *message, __u32 length,
							    __u32 at, __u8 kind,
							    const struct port *port, bool nobody)
{
	for (int i = 0; i < ND_OPTIONS_MAX && at < length; i++) {
		__u32 step;

		if (at > ND_MESSAGE_MAX - 8)
			return DROP_ND_INVALID;
		step = message[at + 1] * 8;
		if (!step || at + step > length)
			return DROP_ND_INVALID;
		if (message[at] == kind) {
			if (nobody || step != 8)
				return DROP_ND_INVALID;
			if (port->kind == PORT_ENI && !mac_equal(message + at + 2, port->mac))
				return DROP_SRC_MAC;
		}
		at += step;
	}
	return at < length ? DROP_ND_INVALID : PASS_CONTROL;
}

static __always_inline bool is_solicited_node(const struct address *a)
{
	return a->word[0] == bpf_htonl(0xff020000) && !a->word[1] && a->word[2] == bpf_htonl(1) &&
	       (a->word[3] & bpf_htonl(0xff000000)) == bpf_htonl(SOLICITED_NODE_LOW);
}

/*
 * What every host has to discard by RFC 4861, 6.1.1 (RS), 7.1.1 (NS) and 7.1.2 (NA), and by RFC 6980 if it is a
 * fragment; that the VPC does so too is inferred. `target` becomes that of NS and NA.
 */
static __noinline enum fabric_reason nd_check(struct __sk_buff *skb, const struct packet *packet,
					      const struct port *port, struct address *target)
{
	bool nobody = address_is_unspecified(&packet->flow.source);
	bool targets = packet->icmp_type != ND_ROUTER_SOLICIT;
	__u32 zero = 0, length = packet->end - packet->transport;
	__u32 header = targets ? ND_WITH_TARGET : ND_HEADER;
	__u8 *message = bpf_map_lookup_elem(&messages, &zero);

	if (!message)
		return DROP_KERNEL;
	if (packet->part == PART_WHOLE && length < header)
		return DROP_MALFORMED;
	if (packet->part != PART_WHOLE || packet->hop_limit != ND_HOP_LIMIT ||
	    length > ND_MESSAGE_MAX)
		return DROP_ND_INVALID;
	__builtin_memset(message, 0, ND_MESSAGE_MAX);
	barrier_var(length);
	if (length < ND_HEADER || length > ND_MESSAGE_MAX ||
	    bpf_skb_load_bytes(skb, packet->transport, message, length))
		return DROP_ND_INVALID;
	if (message[1] || !checksum_is_good(packet, message, length))
		return DROP_ND_INVALID;
	if (targets) {
		__builtin_memcpy(target, message + 8, sizeof(*target));
		if (address_is_multicast(target))
			return DROP_ND_INVALID;
	}
	if (packet->icmp_type == ND_SOLICIT && nobody &&
	    !is_solicited_node(&packet->flow.destination))
		return DROP_ND_INVALID;
	if (packet->icmp_type == ND_ADVERT && address_is_multicast(&packet->flow.destination) &&
	    message[4] & ND_FLAG_SOLICITED >> 24)
		return DROP_ND_INVALID;
	return nd_options_decide(message, length, header,
				 packet->icmp_type == ND_ADVERT ? ND_TARGET_MAC : ND_SOURCE_MAC,
				 port, nobody && packet->icmp_type != ND_ADVERT);
}

/* The kernel's own addresses are made of its MAC before anybody is a member by them, and :: comes before (RFC 3590). */
static __always_inline enum fabric_reason membership_decide(const struct packet *packet,
							    const struct port *port)
{
	const struct address *source = &packet->flow.source;

	if (port->kind != PORT_ENI)
		return PASS_CONTROL;
	if (packet->icmp_type == MLD_QUERY)
		return DROP_CLAIM_ROUTER;
	return address_is_unspecified(source) || address_is_of_mac(source, port->mac) ?
		       PASS_CONTROL :
		       DROP_SRC_ADDR;
}

/*
 * router advertisement, redirect, MLD query		plays the router
 * MLD report						control, from a link-local address of its own or ::
 * not as the RFC has it				dropped
 * router solicitation					control, from an address of its own or ::
 * neighbour advertisement				a claim of the target
 * source ::			duplicate address probe	a claim of the target
 * source is not its own				a claim of the source
 * target fe80::		the gateway's own: answered, another's:	control
 * on-link target					answered
 * else							dropped
 */
static __noinline enum fabric_reason nd_decide(struct __sk_buff *skb, const struct packet *packet,
					       const struct port *port)
{
	const struct address *source = &packet->flow.source;
	struct address target = {};
	enum fabric_reason reason;

	if (nd_is_membership(packet->icmp_type))
		return membership_decide(packet, port);
	if (packet->icmp_type == ND_ROUTER_ADVERT || packet->icmp_type == ND_REDIRECT)
		return port->kind == PORT_ENI ? DROP_CLAIM_ROUTER : PASS_CONTROL;
	reason = nd_check(skb, packet, port, &target);
	if (reason != PASS_CONTROL)
		return reason;
	if (packet->icmp_type == ND_ADVERT ||
	    (address_is_unspecified(source) && packet->icmp_type == ND_SOLICIT))
		reason = claim_decide(port, &target);
	if (reason == PASS_CONTROL && !address_is_unspecified(source))
		reason = claim_decide(port, source);
	if (reason != PASS_CONTROL || packet->icmp_type != ND_SOLICIT ||
	    address_is_unspecified(source))
		return reason;
	if (packet->transport != ND_AT)
		return DROP_MALFORMED;
	if (address_is_link_local_v6(&target))
		return address_is_gateway(&target) ? PASS_ANSWERED_ND : PASS_CONTROL;
	return neighbour_is_ours(port, &target) ? PASS_ANSWERED_ND : DROP_NEIGHBOUR;
}

/* A report comes from an address of the instance (as with ARP), or from 0.0.0.0 (RFC 3376, 4.2.13). */
static __noinline enum fabric_reason igmp_decide(struct __sk_buff *skb, const struct packet *packet,
						 const struct port *port)
{
	const struct address *source = &packet->flow.source;
	__u8 type;

	if (packet->part != PART_WHOLE || !packet_holds(packet, 8) ||
	    bpf_skb_load_bytes(skb, packet->transport, &type, sizeof(type)))
		return DROP_MALFORMED;
	if (port->kind != PORT_ENI)
		return PASS_CONTROL;
	if (type == IGMP_QUERY)
		return DROP_CLAIM_ROUTER;
	return !source->word[3] || address_is_of_instance(port, source) ? PASS_CONTROL :
									  DROP_SRC_ADDR;
}

#endif
