// SPDX-License-Identifier: GPL-2.0
/*
 * This file holds the program at the egress of ENIs and of pods' host veths. What comes by there without the
 * mark of the fast path was sent, and perhaps translated, by the stack: its flow goes on record, so that the
 * other programs hand the answers back to the stack. The packet itself is never touched.
 */
#include "lib/act.h"

/*
 * the mark of the fast path				SEEN_FAST
 * nothing that has an answer to be told by		SEEN_NOTHING
 *	(no IP, ND, MLD, link scope, later fragments, ICMP errors, headers that make no sense)
 * a flow on record					SEEN_KNOWN
 * else it goes on record				SEEN_NEW
 */
static __always_inline enum reason egress_decide(struct __sk_buff *skb, struct packet *packet)
{
	struct settings *settings = settings_get();
	struct stack_flow note = {};
	struct ethhdr *eth;
	__be16 type;

	if (settings && skb->mark & settings->fast_mark)
		return SEEN_FAST;
	eth = frame_header(skb);
	if (!eth)
		return SEEN_NOTHING;
	type = eth->h_proto;
	if (frame_decide(skb, type) != GO_ON || frame_parse(skb, type, packet) != PACKET_FINE)
		return SEEN_NOTHING;
	if (packet->part == PART_LATER || packet_is_link_talk(packet) ||
	    address_stays_on_link(&packet->flow.destination) ||
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

	decision.reason = egress_decide(skb, &packet);
	return decision_act(skb, HOOK_STACK_EGRESS, &decision, &packet.flow);
}

char _license[] SEC("license") = "GPL";
