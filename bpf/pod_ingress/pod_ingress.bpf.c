// SPDX-License-Identifier: GPL-2.0
/*
 * This file holds the program at the tc egress of pods' host veths: what the stack sends to a pod. It is noted, and
 * never changed. What the fast path brings enters the pod without coming by here.
 */
#include "lib/stack_notes.h"

/*
 * the stamp of the fast path				SEEN_FAST
 * no IP, ND, MLD, link scope, no sense in its header	SEEN_NOTHING
 * else							see out_decide()
 */
static __always_inline enum reason pod_in_decide(struct __sk_buff *skb, struct packet *packet)
{
	int fault = 0;
	enum reason reason = out_parse(skb, packet, &fault);

	return reason == GO_ON ? out_decide(skb, packet, fault) : reason;
}

SEC("tc")
int pod_ingress(struct __sk_buff *skb)
{
	struct decision decision = {};
	struct packet packet = {};

	decision.reason = pod_in_decide(skb, &packet);
	return decision_act(skb, HOOK_POD_INGRESS, &decision, &packet.flow);
}

char _license[] SEC("license") = "GPL";
