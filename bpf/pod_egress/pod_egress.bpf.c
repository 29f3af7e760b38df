// SPDX-License-Identifier: GPL-2.0
/*
 * This file holds the program at the tc ingress of pods' host veths: what a pod sends. It is attached once,
 * to a block that the veths share; what differs from pod to pod is in the tables.
 */
#include "lib/act.h"
#include "pod_egress/talk.h"
#include "pod_egress/unfinished.h"

#define PROTOCOL_IPV6_IN_MPLS 137
#define PROTOCOL_ETHERIP      97

/*
 * tagged				DROP_VLAN
 * ARP					see arp_decide()
 * neither IPv4 nor IPv6		DROP_NOT_IP
 */
static __always_inline enum reason ethertype_decide(struct __sk_buff *skb, __be16 type,
						    const struct pod *pod,
						    struct decision *decision)
{
	if (skb->vlan_present || ethertype_is_tag(type))
		return DROP_VLAN;
	if (type == bpf_htons(ETH_P_IP) || type == bpf_htons(ETH_P_IPV6))
		return GO_ON;
	return type == bpf_htons(ETH_P_ARP) ? arp_decide(skb, pod, decision) : DROP_NOT_IP;
}

/*
 * ND and MLD				see talk_decide()
 * the pod's own address		GO_ON
 * any other				DROP_SRC_ADDRESS
 */
static __always_inline enum reason source_decide(struct __sk_buff *skb, const struct packet *packet,
						 const struct pod *pod, struct decision *decision)
{
	const struct address *source = &packet->flow.source;

	if (packet_is_link_talk(packet))
		return talk_decide(skb, packet, pod, decision);
	/* Of a pod without IPv6 the row says ::, which nobody has. */
	if (packet->v4 ? address_equal(source, &pod->v4) :
			 address_equal(source, &pod->v6) && !address_is_unspecified(source))
		return GO_ON;
	return DROP_SRC_ADDRESS;
}

/* IPv4, IPv6, MPLS, Ethernet in IP, and GRE: what a tunnel's end unpacks without asking for a key. */
static __always_inline bool protocol_is_tunnel(__u8 protocol)
{
	return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6 || protocol == IPPROTO_GRE ||
	       protocol == PROTOCOL_ETHERIP || protocol == PROTOCOL_IPV6_IN_MPLS;
}

/*
 * ICMP redirects and router advertisements	DROP_ROUTER_TALK
 * a tunnel that ends at the node		DROP_TUNNEL
 * any other					GO_ON
 */
static __noinline enum reason content_decide(const struct packet *packet)
{
	const struct address *destination = &packet->flow.destination;
	enum stack_kind kind;

	if (packet->v4 && packet->flow.protocol == IPPROTO_ICMP && packet->part != PART_LATER &&
	    (packet->icmp_type == ICMP_REDIRECT || packet->icmp_type == ICMP_ROUTER_ADVERT))
		return DROP_ROUTER_TALK;
	if (!protocol_is_tunnel(packet->flow.protocol))
		return GO_ON;
	if (address_stays_on_link(destination))
		return DROP_TUNNEL;
	kind = stack_kind_of(destination);
	/* A service's address is the node's, too, where IPVS serves it. */
	return kind == KIND_NODE || kind == KIND_SERVICE ? DROP_TUNNEL : GO_ON;
}

/*
 * off the node or off the pod	STACK_OFF, STACK_POD_OFF
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
 * its pod is off, or down, or of another kind	see endpoint_decide()
 * longer than its MTU				STACK_MTU
 * else						FAST_LOCAL
 */
static __always_inline enum reason local_decide(struct __sk_buff *skb, const struct packet *packet,
						const struct endpoint *to,
						struct decision *decision)
{
	enum reason reason = endpoint_decide(to);

	if (reason != GO_ON)
		return reason;
	if (!packet_fits(skb, packet, to->mtu, to->host_ifindex))
		return STACK_MTU;
	decide_peer(decision, to);
	return FAST_LOCAL;
}

/*
 * the uplink is not known	STACK_NO_ENI
 * it is a member of a trunk	STACK_MEMBER
 * longer than its MTU		STACK_MTU
 * its gateway's MAC is known	FAST_ENI
 * else				FAST_NEIGH
 */
static __always_inline enum reason away_decide(struct __sk_buff *skb, const struct packet *packet,
					       __u32 id, struct decision *decision)
{
	struct uplink *uplink = uplink_get(id);
	const struct macs *macs;

	if (!uplink)
		return STACK_NO_ENI;
	if (uplink->vlan)
		return STACK_MEMBER;
	if (!packet_fits(skb, packet, uplink->mtu, uplink->ifindex))
		return STACK_MTU;
	decision->target = uplink->ifindex;
	macs = packet->v4 ? &uplink->v4 : &uplink->v6;
	if (!mac_is_known(macs->to)) {
		decision->verdict = VERDICT_NEIGH;
		return FAST_NEIGH;
	}
	decision->verdict = VERDICT_ENI;
	macs_copy(&decision->macs, macs);
	return FAST_ENI;
}

/* The veth's carrier is back: a frame came by it. The agent may not have heard of it, or not be there. */
static __noinline int pod_is_up(struct pod *pod, __u32 ifindex)
{
	struct endpoint *v4 = bpf_map_lookup_elem(&endpoints, &pod->v4);
	struct endpoint *v6 = bpf_map_lookup_elem(&endpoints, &pod->v6);

	pod->flags &= ~ENDPOINT_DOWN;
	if (v4 && v4->host_ifindex == ifindex)
		v4->flags &= ~ENDPOINT_DOWN;
	if (v6 && v6->host_ifindex == ifindex)
		v6->flags &= ~ENDPOINT_DOWN;
	return 0;
}

/*
 * No packet goes on to the stack before its source is proven: there nobody looks at it again for certain.
 *
 * a veth that is no pod's		DROP_UNKNOWN_POD
 * another MAC than the pod's		DROP_SRC_MAC
 * tagged, ARP, no IP			see ethertype_decide()
 * headers that make no sense:		DROP_MALFORMED
 *	no IP of the frame's type, overlong, cut, more than six extension headers, IPv4 as mapped IPv6,
 *	and, of a packet that is no fragment, a transport header that its lengths contradict
 * headers that are to change later	DROP_MALFORMED, see checksum_starts_before()
 * ND and MLD				see talk_decide()
 * another address than the pod's	see source_decide()
 *	0.0.0.0 (DHCP), IGMP without address, link-local and unspecified sources, fragments and extension
 *	headers among them: all carry their source in the IP header
 * what a router or a tunnel says	see content_decide()
 *
 * From here on the source is the pod's.
 *
 * for the stack			see stack_decide()
 *	broadcast, multicast (IGMP), IPv4 options (source routes, which Linux refuses unless told otherwise on
 *	the veth and on `all`), extension headers, fragments
 * to where the stack is wanted		see prefix_decide()
 * of a flow of the stack's	see flow_decide()
 * to a pod of this node		see local_decide()
 * else					see away_decide()
 */
static __always_inline enum reason pod_decide(struct __sk_buff *skb, struct packet *packet,
					      struct decision *decision)
{
	__u32 ifindex = skb->ifindex;
	struct pod *pod = bpf_map_lookup_elem(&pods, &ifindex);
	struct endpoint *to;
	struct ethhdr *eth;
	enum reason reason;
	__be16 type;
	int fault;

	if (!pod)
		return DROP_UNKNOWN_POD;
	decision->from_slot = pod->slot;
	if (pod->flags & ENDPOINT_DOWN)
		pod_is_up(pod, ifindex);
	eth = frame_header(skb);
	if (!eth)
		return DROP_MALFORMED;
	if (!mac_equal(eth->h_source, pod->mac))
		return DROP_SRC_MAC;
	type = eth->h_proto;
	reason = ethertype_decide(skb, type, pod, decision);
	if (reason != GO_ON)
		return reason;
	fault = frame_parse(skb, type, packet);
	if (fault && (fault != PACKET_TRANSPORT || packet->part == PART_WHOLE))
		return DROP_MALFORMED;
	if (checksum_starts_before(skb, packet->transport))
		return DROP_MALFORMED;
	reason = source_decide(skb, packet, pod, decision);
	if (reason != GO_ON)
		return reason;
	if (!packet->transport_length) {
		reason = content_decide(packet);
		if (reason != GO_ON)
			return reason;
	}
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
	if (to)
		return local_decide(skb, packet, to, decision);
	return away_decide(skb, packet, pod->uplink, decision);
}

/* Back by the veth that the question came by, as the answer. */
static __noinline int answer_send(struct __sk_buff *skb, struct decision *decision,
				  const struct flow *flow)
{
	const __u8 *mac = decision->macs.from;
	int fault = skb->protocol == bpf_htons(ETH_P_ARP) ? arp_answer(skb, mac) :
							    nd_answer(skb, mac);

	if (fault || bpf_skb_store_bytes(skb, 0, &decision->macs, sizeof(decision->macs), 0)) {
		decision->verdict = VERDICT_DROP;
		decision->reason = DROP_KERNEL;
	}
	decision_report(skb, HOOK_POD_EGRESS, decision, flow);
	return decision->verdict == VERDICT_DROP ? TC_ACT_SHOT : bpf_redirect(decision->target, 0);
}

SEC("tc")
int pod_egress(struct __sk_buff *skb)
{
	struct decision decision = {};
	struct packet packet = {};

	decision.reason = pod_decide(skb, &packet, &decision);
	if (reason_class_of(decision.reason) == CLASS_DROP)
		decision.verdict = VERDICT_DROP;
	if (decision.verdict == VERDICT_ANSWER)
		return answer_send(skb, &decision, &packet.flow);
	return decision_act(skb, HOOK_POD_EGRESS, &decision, &packet.flow);
}

char _license[] SEC("license") = "GPL";
