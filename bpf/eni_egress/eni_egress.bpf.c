// SPDX-License-Identifier: GPL-2.0
/*
 * This file holds the program at the egress of ENIs: what leaves for the VPC. What comes by there without the stamp of
 * the fast path was sent by the stack, and is noted. No packet is changed, and only what the VPC would refuse goes
 * another way.
 */
#include "lib/stack_notes.h"

/*
 * Routed by a pod's rule and then given the node's address: a node port's answer, a masqueraded packet.
 */
static __always_inline bool is_astray(struct __sk_buff *skb, const struct settings *settings,
				      const struct packet *packet)
{
	if (!settings || !settings->home_ifindex || settings->home_ifindex == skb->ifindex)
		return false;
	return stack_kind_of(&packet->flow.source) == KIND_NODE;
}

/*
 * the stamp of the fast path				SEEN_FAST
 * no IP, ND, MLD, link scope, no sense in its header	SEEN_NOTHING
 * with the address of the node				SEEN_HOME
 * else							see out_decide()
 */
static __always_inline enum reason eni_out_decide(struct __sk_buff *skb, struct packet *packet,
						  struct decision *decision)
{
	struct settings *settings = settings_get();
	int fault = 0;
	enum reason reason = out_parse(skb, packet, &fault);

	if (reason != GO_ON)
		return reason;
	if (is_astray(skb, settings, packet)) {
		decision->verdict = VERDICT_NEIGH;
		decision->target = settings->home_ifindex;
		return SEEN_HOME;
	}
	return out_decide(skb, packet, fault);
}

SEC("tc")
int eni_egress(struct __sk_buff *skb)
{
	struct decision decision = {};
	struct packet packet = {};

	decision.reason = eni_out_decide(skb, &packet, &decision);
	if (decision.reason == SEEN_HOME) {
		decision_report(skb, HOOK_ENI_EGRESS, &decision, &packet.flow);
		return bpf_redirect_neigh(decision.target, (void *)0, 0, 0);
	}
	return decision_act(skb, HOOK_ENI_EGRESS, &decision, &packet.flow);
}

char _license[] SEC("license") = "GPL";
