/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds what a pod may say to its neighbours. The node has one neighbour table for all of its pods,
 * and an address that somebody names in ARP or neighbour discovery takes an entry of it; so a pod names its own
 * addresses and its own MAC. Of link-local addresses that is the one made of the MAC (RFC 4291, appendix A),
 * hence one entry per pod beside the agent's own. A guest with another link-local address loses nothing: the only
 * neighbour it can want is the pod's gateway, and that question is answered here, whoever asks.
 */
#ifndef TERWAY_POD_EGRESS_TALK_H
#define TERWAY_POD_EGRESS_TALK_H

#include "lib/decision.h"
#include "lib/neighbour.h"

#define GATEWAY_V4     0xa9fe0101 /* 169.254.1.1, which nobody has: datapath/modes/policy_route/layout.py */
#define ND_OPTIONS_MAX 6	  /* as many as SEND (RFC 3971) puts into one message, and one more */
#define ND_TARGET_SIZE 24	  /* bytes of a solicitation or an advertisement before its options */
#define RS_SIZE	       8	  /* the same of a router solicitation */

static __always_inline bool mac_is(const __u8 *a, const __u8 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3] && a[4] == b[4] &&
	       a[5] == b[5];
}

static __always_inline bool address_is_of_mac(const struct address *a, const __u8 *mac)
{
	return a->word[0] == bpf_htonl(0xfe800000) && !a->word[1] &&
	       a->word[2] == bpf_htonl((__u32)(mac[0] ^ 2) << 24 | mac[1] << 16 | mac[2] << 8 |
				       0xff) &&
	       a->word[3] == bpf_htonl(0xfe000000 | mac[3] << 16 | mac[4] << 8 | mac[5]);
}

static __always_inline bool address_is_gateway_v6(const struct address *a)
{
	return a->word[0] == bpf_htonl(0xfe800000) && !a->word[1] && !a->word[2] &&
	       a->word[3] == bpf_htonl(1);
}

/* Where a pod asks, when it wants to know whether anybody has the address (RFC 4291, 2.7.1). */
static __always_inline bool address_is_solicited_node(const struct address *a)
{
	return a->word[0] == bpf_htonl(0xff020000) && !a->word[1] && a->word[2] == bpf_htonl(1) &&
	       (a->word[3] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

static __always_inline bool pod_has(const struct pod *pod, const struct address *a)
{
	return !address_is_unspecified(a) &&
	       (address_equal(a, &pod->v4) || address_equal(a, &pod->v6));
}

/* Fill in the MACs of an answer. False if the row that has the host veth's is not there. */
static __always_inline bool answer_prepare(struct __sk_buff *skb, const struct address *own,
					   struct decision *decision)
{
	struct endpoint *self = bpf_map_lookup_elem(&endpoints, own);

	if (!self || self->host_ifindex != skb->ifindex)
		return false;
	macs_copy(&decision->macs, &self->macs);
	decision->verdict = VERDICT_ANSWER;
	decision->target = skb->ifindex;
	return true;
}

/*
 * cut, not Ethernet and IPv4, neither request nor reply	DROP_NEIGHBOUR
 * the sender's MAC is not the pod's			DROP_NEIGHBOUR
 * the sender's address is
 *	the pod's, and it asks for the gateway		FAST_ANSWER
 *	the pod's					STACK_LINK_TALK
 *	0.0.0.0, in a request: is the address free?	STACK_LINK_TALK
 *	any other					DROP_NEIGHBOUR
 */
static __noinline enum reason arp_decide(struct __sk_buff *skb, const struct pod *pod,
					 struct decision *decision)
{
	struct arp_packet arp;
	struct address sender;

	if (!headers_pull(skb) || bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)))
		return DROP_NEIGHBOUR;
	if (arp.hardware != bpf_htons(ARPHRD_ETHER) || arp.protocol != bpf_htons(ETH_P_IP) ||
	    arp.hardware_length != ETH_ALEN || arp.protocol_length != 4)
		return DROP_NEIGHBOUR;
	if (arp.operation != bpf_htons(ARPOP_REQUEST) && arp.operation != bpf_htons(ARPOP_REPLY))
		return DROP_NEIGHBOUR;
	if (!mac_is(arp.sender_mac, pod->mac))
		return DROP_NEIGHBOUR;
	if (!arp.sender)
		return arp.operation == bpf_htons(ARPOP_REQUEST) ? STACK_LINK_TALK : DROP_NEIGHBOUR;
	sender = address_from_v4(arp.sender);
	if (!address_equal(&sender, &pod->v4))
		return DROP_NEIGHBOUR;
	if (arp.operation == bpf_htons(ARPOP_REQUEST) && arp.target == bpf_htonl(GATEWAY_V4) &&
	    answer_prepare(skb, &pod->v4, decision))
		return FAST_ANSWER;
	return STACK_LINK_TALK;
}

/*
 * Whether the options of a message make sense: none too long or too short, every link-layer address the
 * pod's, and none of the source's where there is no source.
 */
static __noinline bool nd_options_are_good(struct __sk_buff *skb, const struct packet *packet,
					   __u32 at, const struct pod *pod)
{
	struct {
		__u8 type, length, mac[6];
	} option;

	for (int i = 0; i < ND_OPTIONS_MAX; i++) {
		if (at == packet->end)
			return true;
		if (at + sizeof(option) > packet->end ||
		    bpf_skb_load_bytes(skb, at, &option, sizeof(option)) || !option.length)
			return false;
		if (option.type == ND_SOURCE_MAC && address_is_unspecified(&packet->flow.source))
			return false;
		if ((option.type == ND_SOURCE_MAC || option.type == ND_TARGET_MAC) &&
		    (option.length != 1 || !mac_is(option.mac, pod->mac)))
			return false;
		at += 8 * option.length;
	}
	return at == packet->end;
}

/*
 * a solicitation
 *	from ::, to a solicited-node group: is the address free?	STACK_LINK_TALK
 *	from the pod's or a link-local address, for the gateway		FAST_ANSWER
 *	from the pod's addresses, also the one made of its MAC		STACK_LINK_TALK
 * an advertisement
 *	of the pod's addresses, from one of them			STACK_LINK_TALK
 * a router solicitation
 *	from ::, or from the pod's addresses				STACK_LINK_TALK
 * any other								DROP_NEIGHBOUR
 */
static __always_inline enum reason nd_source_decide(struct __sk_buff *skb,
						    const struct packet *packet,
						    const struct address *target,
						    const struct pod *pod,
						    struct decision *decision)
{
	const struct address *source = &packet->flow.source;
	bool nobody = address_is_unspecified(source);
	bool own = pod_has(pod, source) || address_is_of_mac(source, pod->mac);

	switch (packet->icmp_type) {
	case ND_SOLICIT:
		if (nobody)
			return address_is_solicited_node(&packet->flow.destination) ?
				       STACK_LINK_TALK :
				       DROP_NEIGHBOUR;
		if (address_is_gateway_v6(target) && !address_is_gateway_v6(source) &&
		    answer_prepare(skb, address_is_unspecified(&pod->v6) ? &pod->v4 : &pod->v6,
				   decision))
			return FAST_ANSWER;
		return own ? STACK_LINK_TALK : DROP_NEIGHBOUR;
	case ND_ADVERT:
		return own && (pod_has(pod, target) || address_is_of_mac(target, pod->mac)) ?
			       STACK_LINK_TALK :
			       DROP_NEIGHBOUR;
	default:
		return own || nobody ? STACK_LINK_TALK : DROP_NEIGHBOUR;
	}
}

/*
 * Neighbour discovery that no receiver accepts (RFC 4861, 7.1; RFC 6980): behind extension headers, in
 * fragments, from another link, cut, for a multicast address	DROP_NEIGHBOUR
 * options that are no good, see nd_options_are_good()		DROP_NEIGHBOUR
 * else								see nd_source_decide()
 */
static __noinline enum reason nd_decide(struct __sk_buff *skb, const struct packet *packet,
					const struct pod *pod, struct decision *decision)
{
	__u32 size = packet->icmp_type == ND_ROUTER_SOLICIT ? RS_SIZE : ND_TARGET_SIZE;
	struct address target = {};

	if (packet->transport != ND_AT || packet->part != PART_WHOLE || packet->hop_limit != 255)
		return DROP_NEIGHBOUR;
	if (!packet_holds(packet, size))
		return DROP_NEIGHBOUR;
	if (size == ND_TARGET_SIZE &&
	    bpf_skb_load_bytes(skb, ND_AT + offsetof(struct nd_message, target), &target,
			       sizeof(target)))
		return DROP_NEIGHBOUR;
	if (address_is_multicast(&target))
		return DROP_NEIGHBOUR;
	if (!nd_options_are_good(skb, packet, ND_AT + size, pod))
		return DROP_NEIGHBOUR;
	return nd_source_decide(skb, packet, &target, pod, decision);
}

/*
 * router advertisements, redirects, MLD queries		DROP_ROUTER_TALK
 * from no address, a link-local one, or the pod's
 *	MLD reports to a group					STACK_LINK_TALK
 *	neighbour discovery					see nd_decide()
 * any other							DROP_SRC_ADDRESS, DROP_NEIGHBOUR
 */
static __always_inline enum reason talk_decide(struct __sk_buff *skb, const struct packet *packet,
					       const struct pod *pod, struct decision *decision)
{
	const struct address *source = &packet->flow.source;
	__u8 type = packet->icmp_type;

	if (type == ND_ROUTER_ADVERT || type == ND_REDIRECT || type == MLD_QUERY)
		return DROP_ROUTER_TALK;
	if (!address_is_unspecified(source) && !address_is_link_local_v6(source) &&
	    !pod_has(pod, source))
		return DROP_SRC_ADDRESS;
	if (type == MLD_REPORT || type == MLD_DONE || type == MLD2_REPORT)
		return address_is_multicast(&packet->flow.destination) ? STACK_LINK_TALK :
									 DROP_NEIGHBOUR;
	return nd_decide(skb, packet, pod, decision);
}

#endif
