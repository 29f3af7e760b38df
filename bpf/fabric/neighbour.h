/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds ARP (RFC 826, 5227) and neighbour discovery (RFC 4861): the VPC's gateway answers for every
 * address of every vSwitch with its own MAC, so that all traffic comes to it. *_decide() looks and says what
 * is to be done; lib/neighbour.h turns the question in the skb into the answer.
 */
#ifndef TERWAY_FABRIC_NEIGHBOUR_H
#define TERWAY_FABRIC_NEIGHBOUR_H

#include "fabric/prefixes.h"
#include "lib/neighbour.h"

static __always_inline bool mac_equal(const __u8 *a, const __u8 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3] && a[4] == b[4] &&
	       a[5] == b[5];
}

/* An ENI asks for what its vSwitch holds; the outside and the services sit beside the gateway. */
static __always_inline bool neighbour_is_ours(const struct port *port, const struct address *target)
{
	return port->kind != PORT_ENI || address_on_link(target);
}

/*
 * sender == 0		probe for a duplicate address		control
 * sender == target	announcement (gratuitous ARP)		control
 * a reply		nobody asked				control
 * on-link target						answered
 * else								dropped
 */
static __noinline enum fabric_reason arp_decide(struct __sk_buff *skb, const struct port *port)
{
	struct arp_packet arp;
	struct address target;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)))
		return DROP_MALFORMED;
	if (arp.hardware != bpf_htons(ARPHRD_ETHER) || arp.protocol != bpf_htons(ETH_P_IP) ||
	    arp.hardware_length != ETH_ALEN || arp.protocol_length != 4)
		return DROP_MALFORMED;
	if (!mac_equal(arp.sender_mac, port->mac))
		return DROP_SRC_MAC;
	if (arp.operation == bpf_htons(ARPOP_REPLY))
		return PASS_CONTROL;
	if (arp.operation != bpf_htons(ARPOP_REQUEST))
		return DROP_MALFORMED;
	if (!arp.sender || arp.sender == arp.target)
		return PASS_CONTROL;
	target = address_from_v4(arp.target);
	return neighbour_is_ours(port, &target) ? PASS_ANSWERED_ARP : DROP_NEIGHBOUR;
}

/* The gateway's own link-local address: fe80::/64 and its MAC in modified EUI-64 (RFC 4291, appendix A). */
static __always_inline struct address gateway_link_local(const __u8 *mac)
{
	struct address address = {
		{bpf_htonl(0xfe800000), 0,
		 bpf_htonl((__u32)(mac[0] ^ 2) << 24 | mac[1] << 16 | mac[2] << 8 | 0xff),
		 bpf_htonl(0xfe000000 | mac[3] << 16 | mac[4] << 8 | mac[5])}};

	return address;
}

static __always_inline bool nd_is_link_talk(__u8 type)
{
	return (type >= MLD_QUERY && type <= ND_REDIRECT) || type == MLD2_REPORT;
}

/*
 * not a solicitation		MLD, RS, RA, NA, redirect		control
 * source ::			probe for a duplicate address		control
 * target fe80::		the gateway's own: answered, another's:	control
 * on-link target							answered
 * else									dropped
 */
static __noinline enum fabric_reason nd_decide(struct __sk_buff *skb, const struct packet *packet,
					       const struct port *port, const __u8 *gateway_mac)
{
	const struct address *source = &packet->flow.source;
	struct nd_message message;
	struct address gateway;

	if (packet->icmp_type != ND_SOLICIT)
		return PASS_CONTROL;
	if (packet->transport != ND_AT || !packet_holds(packet, sizeof(message) - 8) ||
	    bpf_skb_load_bytes(skb, ND_AT, &message, sizeof(message) - 8))
		return DROP_MALFORMED;
	if (!source->word[0] && !source->word[1] && !source->word[2] && !source->word[3])
		return PASS_CONTROL;
	if (address_is_multicast(&message.target))
		return DROP_MALFORMED;
	if (address_is_link_local_v6(&message.target)) {
		gateway = gateway_link_local(gateway_mac);
		return address_equal(&message.target, &gateway) ? PASS_ANSWERED_ND : PASS_CONTROL;
	}
	return neighbour_is_ours(port, &message.target) ? PASS_ANSWERED_ND : DROP_NEIGHBOUR;
}

#endif
