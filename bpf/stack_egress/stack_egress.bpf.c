// SPDX-License-Identifier: GPL-2.0
/*
 * This file holds the program at the egress of ENIs and of pods' host veths. What comes by there without the
 * mark of the fast path was sent, and perhaps translated, by the stack: its flow goes on record, so that the
 * other programs hand the answers back to the stack. No packet is changed, and only what the VPC would refuse
 * goes another way.
 */
#include "lib/act.h"

/*
 * Routed by a pod's rule and then given the node's address: a node port's answer, a masqueraded packet.
 */
static __always_inline bool is_astray(struct __sk_buff *skb, const struct settings *settings,
				      const struct packet *packet)
{
	__u32 ifindex = skb->ifindex;

	if (!settings || !settings->home_ifindex || settings->home_ifindex == ifindex)
		return false;
	return bpf_map_lookup_elem(&enis, &ifindex) &&
	       stack_kind_of(&packet->flow.source) == KIND_NODE;
}

/*
 * the mark of the fast path				SEEN_FAST
 * no IP, ND, MLD, link scope, no sense in its header	SEEN_NOTHING
 * at an ENI, with the address of the node		SEEN_HOME
 * nothing that has an answer to be told by		SEEN_NOTHING
 *	(later fragments, ICMP errors, extension headers, ports cut)
 * a flow on record					SEEN_KNOWN
 * else it goes on record				SEEN_NEW
 */
static __always_inline enum reason egress_decide(struct __sk_buff *skb, struct packet *packet,
						 struct decision *decision)
{
	struct settings *settings = settings_get();
	struct stack_flow note = {};
	struct ethhdr *eth;
	__be16 type;
	int fault;

	if (settings && skb->mark & settings->fast_mark)
		return SEEN_FAST;
	eth = frame_header(skb);
	if (!eth)
		return SEEN_NOTHING;
	type = eth->h_proto;
	if (frame_decide(skb, type) != GO_ON)
		return SEEN_NOTHING;
	fault = frame_parse(skb, type, packet);
	if (fault == PACKET_MALFORMED || packet_is_link_talk(packet) ||
	    address_stays_on_link(&packet->flow.destination))
		return SEEN_NOTHING;
	if (is_astray(skb, settings, packet)) {
		decision->verdict = VERDICT_NEIGH;
		decision->target = settings->home_ifindex;
		return SEEN_HOME;
	}
	if (fault || packet->part == PART_LATER ||
	    icmp_is_error(packet->flow.protocol, packet->icmp_type))
		return SEEN_NOTHING;
	if (bpf_map_lookup_elem(&stack_flows, &packet->flow))
		return SEEN_KNOWN;
	/* The pair first: whoever finds it clear is not to miss the flow. */
	stack_pair_note(&packet->flow.source, &packet->flow.destination);
	note.noted = bpf_ktime_get_ns();
	bpf_map_update_elem(&stack_flows, &packet->flow, &note, BPF_ANY);
	return SEEN_NEW;
}

SEC("tc")
int stack_egress(struct __sk_buff *skb)
{
	struct decision decision = {};
	struct packet packet = {};

	decision.reason = egress_decide(skb, &packet, &decision);
	if (decision.reason == SEEN_HOME) {
		decision_report(skb, HOOK_STACK_EGRESS, &decision, &packet.flow);
		return bpf_redirect_neigh(decision.target, (void *)0, 0, 0);
	}
	return decision_act(skb, HOOK_STACK_EGRESS, &decision, &packet.flow);
}

char _license[] SEC("license") = "GPL";
