// SPDX-License-Identifier: GPL-2.0
/*
 * This file holds the program at the tc ingress of pods' host veths: what a pod sends. It is attached once,
 * to a block that the veths share; what differs from pod to pod is in the tables.
 */
#include "lib/act.h"

/*
 * the pod's own address		GO_ON
 * :: and fe80::/10, ND and MLD		STACK_LINK_TALK
 * any other				DROP_SRC_ADDRESS
 */
static __always_inline enum reason source_decide(const struct packet *packet, const struct pod *pod)
{
	const struct address *source = &packet->flow.source;

	/* Of a pod without IPv6 the row says ::, which nobody has. */
	if (packet->v4 ? address_equal(source, &pod->v4) :
			 address_equal(source, &pod->v6) && !address_is_unspecified(source))
		return GO_ON;
	if ((address_is_unspecified(source) || address_is_link_local_v6(source)) &&
	    packet_is_link_talk(packet))
		return STACK_LINK_TALK;
	return DROP_SRC_ADDRESS;
}

/*
 * off the node or off the pod	STACK_OFF, STACK_POD_OFF
 * ND and MLD			STACK_LINK_TALK
 * not to the veth's MAC	STACK_NOT_HOST
 * to nowhere beyond a link	STACK_LINK_SCOPE
 * of a kind for the stack	see shape_decide()
 */
static __always_inline enum reason stack_decide(struct __sk_buff *skb, const struct packet *packet,
						int fault, const struct pod *pod)
{
	struct settings *settings = settings_get();

	if (!settings || !(settings->flags & SETTING_FAST))
		return STACK_OFF;
	if (pod->flags & ENDPOINT_OFF)
		return STACK_POD_OFF;
	if (packet_is_link_talk(packet))
		return STACK_LINK_TALK;
	if (skb->pkt_type != PACKET_TO_HOST)
		return STACK_NOT_HOST;
	if (address_stays_on_link(&packet->flow.destination))
		return STACK_LINK_SCOPE;
	return shape_decide(packet, fault);
}

/*
 * to a service			STACK_SERVICE
 * to a CIDR of the operator's	STACK_HOST_CIDR
 * to the node			STACK_NODE
 *
 * Pods of this node know whether they are in one, which saves a fifth of the whole program.
 */
static __always_inline enum reason prefix_decide(const struct address *destination,
						 const struct endpoint *to)
{
	if (to && !(to->flags & ENDPOINT_PREFIX))
		return GO_ON;
	switch (stack_kind_of(destination)) {
	case KIND_SERVICE:
		return STACK_SERVICE;
	case KIND_HOST_CIDR:
		return STACK_HOST_CIDR;
	case KIND_NODE:
		return STACK_NODE;
	default:
		return GO_ON;
	}
}

/* Whether the stack may have sent something between the pod and whom it sends to. */
static __always_inline bool is_noted(const struct packet *packet, const struct pod *pod,
				     const struct endpoint *to)
{
	struct owner owner = endpoint_owner(to);

	return (to && to->flags & ENDPOINT_EARLIER) ||
	       peer_is_noted(pod->slot, peer_of(&packet->flow.destination, &owner));
}

/*
 * its pod is off		STACK_POD_OFF
 * longer than its MTU		STACK_MTU
 * else				FAST_LOCAL
 */
static __always_inline enum reason local_decide(const struct endpoint *to, __u32 length,
						struct decision *decision)
{
	if (to->flags & ENDPOINT_OFF)
		return STACK_POD_OFF;
	if (length > to->mtu)
		return STACK_MTU;
	decision->verdict = VERDICT_PEER;
	decision->target = to->host_ifindex;
	decision->to_slot = to->slot;
	macs_copy(&decision->macs, &to->macs);
	return FAST_LOCAL;
}

/*
 * the ENI is not known		STACK_NO_ENI
 * longer than its MTU		STACK_MTU
 * its gateway's MAC is known	FAST_ENI
 * else				FAST_NEIGH
 */
static __always_inline enum reason away_decide(const struct packet *packet, __u32 ifindex,
					       __u32 length, struct decision *decision)
{
	struct eni *eni = bpf_map_lookup_elem(&enis, &ifindex);
	const struct macs *macs;

	if (!eni)
		return STACK_NO_ENI;
	if (length > eni->mtu)
		return STACK_MTU;
	decision->target = ifindex;
	macs = packet->v4 ? &eni->v4 : &eni->v6;
	if (!mac_is_known(macs->to)) {
		decision->verdict = VERDICT_NEIGH;
		return FAST_NEIGH;
	}
	decision->verdict = VERDICT_ENI;
	macs_copy(&decision->macs, macs);
	return FAST_ENI;
}

/*
 * a veth that is no pod's		STACK_UNKNOWN_POD
 * another MAC than the pod's		DROP_SRC_MAC
 * no IP				see frame_decide()
 * an IP header that makes no sense	DROP_MALFORMED
 * another address than the pod's	see source_decide()
 * for the stack			see stack_decide()
 * to where the stack is wanted		see prefix_decide()
 * of a flow of the stack's	see flow_decide()
 * to a pod of this node		see local_decide()
 * else					see away_decide()
 */
static __always_inline enum reason pod_decide(struct __sk_buff *skb, struct packet *packet,
					      struct decision *decision)
{
	__u32 ifindex = skb->ifindex, length;
	struct pod *pod = bpf_map_lookup_elem(&pods, &ifindex);
	struct endpoint *to;
	struct ethhdr *eth;
	enum reason reason;
	__be16 type;
	int fault;

	if (!pod)
		return STACK_UNKNOWN_POD;
	decision->from_slot = pod->slot;
	eth = frame_header(skb);
	if (!eth)
		return DROP_MALFORMED;
	if (!mac_equal(eth->h_source, pod->mac))
		return DROP_SRC_MAC;
	type = eth->h_proto;
	reason = frame_decide(skb, type);
	if (reason != GO_ON)
		return reason;
	fault = frame_parse(skb, type, packet);
	if (fault == PACKET_MALFORMED)
		return DROP_MALFORMED;
	reason = source_decide(packet, pod);
	if (reason != GO_ON)
		return reason;
	reason = stack_decide(skb, packet, fault, pod);
	if (reason != GO_ON)
		return reason;
	to = bpf_map_lookup_elem(&endpoints, &packet->flow.destination);
	reason = prefix_decide(&packet->flow.destination, to);
	if (reason != GO_ON)
		return reason;
	reason = flow_decide(skb, packet, is_noted(packet, pod, to));
	if (reason != GO_ON)
		return reason;
	length = packet_wire_length(skb, packet);
	if (to)
		return local_decide(to, length, decision);
	return away_decide(packet, pod->eni_ifindex, length, decision);
}

SEC("tc")
int pod_egress(struct __sk_buff *skb)
{
	struct decision decision = {};
	struct packet packet = {};

	decision.reason = pod_decide(skb, &packet, &decision);
	if (reason_class_of(decision.reason) == CLASS_DROP)
		decision.verdict = VERDICT_DROP;
	return decision_act(skb, HOOK_POD_EGRESS, &decision, &packet.flow);
}

char _license[] SEC("license") = "GPL";
