// SPDX-License-Identifier: GPL-2.0
/*
 * This file holds the program at the ingress of ENIs: what the VPC sends. It takes what is for a pod and
 * needs nothing of the stack; all else, the node's own traffic too, goes on as if it were not there.
 */
#include "lib/act.h"

/* Whether the packet came by it: its device, and its tag where members share one. */
static __always_inline bool uplink_is_here(struct __sk_buff *skb, __u32 id)
{
	struct uplink *uplink = uplink_get(id);
	__u32 tag = skb->vlan_present ? skb->vlan_tci & 0x0fff : 0;

	return uplink && uplink->ifindex == skb->ifindex && uplink->vlan == tag;
}

/*
 * no IP, tagged		see frame_decide()
 * the fast path is off		STACK_OFF
 * not to the ENI's MAC		STACK_NOT_HOST
 * no sense in the IP header	STACK_MALFORMED
 * ND and MLD			STACK_LINK_TALK
 * to no pod of this node	STACK_NO_POD
 * to one of another uplink	STACK_OTHER_ENI
 * its pod is off, or down	see endpoint_decide()
 * of a kind for the stack	see shape_decide()
 * of a flow of the stack's	see flow_decide()
 * longer than the pod's MTU	STACK_MTU
 * else				FAST_POD
 */
static __always_inline enum reason eni_decide(struct __sk_buff *skb, struct packet *packet,
					      struct decision *decision)
{
	struct settings *settings = settings_get();
	struct ethhdr *eth = frame_header(skb);
	const struct owner beyond = {};
	struct endpoint *to;
	enum reason reason;
	__be16 type;
	int fault;

	if (!eth)
		return STACK_MALFORMED;
	type = eth->h_proto;
	reason = frame_decide(skb, type);
	if (reason != GO_ON)
		return reason;
	if (!settings || !(settings->flags & SETTING_FAST))
		return STACK_OFF;
	if (skb->pkt_type != PACKET_TO_HOST)
		return STACK_NOT_HOST;
	fault = frame_parse(skb, type, packet);
	if (fault == PACKET_MALFORMED)
		return STACK_MALFORMED;
	if (packet_is_link_talk(packet))
		return STACK_LINK_TALK;
	to = bpf_map_lookup_elem(&endpoints, &packet->flow.destination);
	if (!to)
		return STACK_NO_POD;
	if (!uplink_is_here(skb, to->uplink))
		return STACK_OTHER_ENI;
	reason = endpoint_decide(to);
	if (reason != GO_ON)
		return reason;
	reason = shape_decide(packet, fault);
	if (reason != GO_ON)
		return reason;
	reason = flow_decide(skb, packet,
			     peer_is_noted(to->slot, peer_of(&packet->flow.source, &beyond)));
	if (reason != GO_ON)
		return reason;
	if (!packet_fits(skb, packet, to->mtu, to->host_ifindex))
		return STACK_MTU;
	decide_peer(decision, to);
	return FAST_POD;
}

SEC("tc")
int eni_ingress(struct __sk_buff *skb)
{
	struct decision decision = {};
	struct packet packet = {};

	decision.reason = eni_decide(skb, &packet, &decision);
	if (reason_class_of(decision.reason) == CLASS_DROP)
		decision.verdict = VERDICT_DROP;
	return decision_act(skb, HOOK_ENI_INGRESS, &decision, &packet.flow);
}

char _license[] SEC("license") = "GPL";
