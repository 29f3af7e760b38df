// SPDX-License-Identifier: GPL-2.0
/*
 * This file holds the lab's VPC: one tc program at the ingress of the fabric's side of every port. It decides
 * what a frame's fate is, acts on it, and counts the reason; nothing of a frame reaches the host's stack.
 *
 * A VPC is an overlay, not a chain of routers: it exchanges the MACs and leaves everything from the IP header
 * on as it is, hop limit included.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "include/fabric.h"
#include "fabric/claims.h"
#include "fabric/dhcp.h"
#include "fabric/flows.h"
#include "fabric/maps.h"
#include "fabric/neighbour.h"
#include "fabric/prefixes.h"
#include "lib/packet.h"

#define VLAN_ID 0xfff /* of a tag; the rest is the priority, which the VPC does not carry */

/* Whether a frame leaves, by the reason's name: the compiler refuses one that is left out. */
static __always_inline bool reason_sends(enum fabric_reason reason)
{
	switch (reason) {
	case PASS_FORWARDED:
	case PASS_ANSWERED_ARP:
	case PASS_ANSWERED_ND:
	case PASS_ANSWERED_DHCP:
		return true;
	case PASS_CONTROL:
	case DROP_NO_PORT:
	case DROP_MALFORMED:
	case DROP_SRC_MAC:
	case DROP_DST_MAC:
	case DROP_VLAN:
	case DROP_ETHERTYPE:
	case DROP_MULTICAST:
	case DROP_NEIGHBOUR:
	case DROP_EXTENSION:
	case DROP_MTU:
	case DROP_SRC_ADDR:
	case DROP_DST_ADDR:
	case DROP_NO_ROUTE:
	case DROP_GROUP:
	case DROP_FRAGMENT:
	case DROP_KERNEL:
	case DROP_CLAIM_GATEWAY:
	case DROP_CLAIM_ADDRESS:
	case DROP_CLAIM_ROUTER:
	case DROP_CLAIM_DHCP:
	case DROP_ND_INVALID:
	case DROP_LAND:
	case DROP_ICMP_ERROR:
	case DROP_SESSIONS:
	case DROP_PEER_SESSIONS:
	case REASON_COUNT:
		return false;
	}
	return false;
}

/* Where a frame goes, filled for every reason that sends one. */
struct route {
	__u32 ifindex;
	__u32 vlan;    /* 0: without a tag */
	__u32 counted; /* id of the port where it came in */
	__u8 mac[6];
	__u8 padding[2];
};

/*
 * assigned to the port				passed
 * stays on a link				dropped
 * an ENI whose SourceDestCheck is off		passed
 * in the ENI's prefix, or where a route entry leads to it	passed
 * nobody's and not the VPC's			passed from outside
 */
static __always_inline bool source_may_send(const struct port *port, const struct address *source)
{
	if (address_home(source) == port->id)
		return true;
	if (address_stays_on_link(source))
		return false;
	if (port->forwards)
		return true;
	return port->kind == PORT_OUTSIDE && !bpf_map_lookup_elem(&assigned, source) &&
	       !prefix_is_inside(prefix_find(source));
}

/* `home` is the destination's, unless neither end is an ENI. */
static __always_inline enum fabric_reason home_reach(const struct port *source,
						     const struct home *home, __u32 *port_id)
{
	struct port *port = port_find(home->port_id);

	if (!port || (source->kind != PORT_ENI && port->kind != PORT_ENI))
		return DROP_DST_ADDR;
	*port_id = home->port_id;
	return PASS_FORWARDED;
}

/*
 * assigned					its port
 * stays on a link				dropped
 * in an ENI's prefix, or a route entry		that ENI, the next hop; dropped if it is away
 * in the VPC					dropped
 * anything else				the outside, if there is one
 *
 * The next hop of the entry for everything else is this VPC's way out: what it sends there leaves.
 */
static __always_inline enum fabric_reason
destination_find(const struct port *source, const struct address *address, __u32 outside,
		 __u32 *port_id)
{
	struct home *home = bpf_map_lookup_elem(&assigned, address);
	struct prefix_value *prefix;

	if (home)
		return home_reach(source, home, port_id);
	if (address_stays_on_link(address))
		return DROP_DST_ADDR;
	prefix = prefix_find(address);
	if (prefix_is_inside(prefix) ||
	    (prefix && prefix->home.port_id != source->id && source->kind == PORT_ENI))
		return home_reach(source, &prefix->home, port_id);
	if (source->kind != PORT_ENI)
		return DROP_DST_ADDR;
	*port_id = outside;
	return outside ? PASS_FORWARDED : DROP_NO_ROUTE;
}

/*
 * An ICMP error comes in for its quote's sake alone, whatever the groups say: it quotes a packet of a session, and
 * comes from where that packet went, be it another ENI of the same instance, or a router outside. A service has no
 * sessions here, so of what it hears only the way counts: else a node could speak of its neighbours' packets. That
 * ECS has as strict an eye on them is inferred from its groups being stateful.
 */
static __noinline enum fabric_reason error_decide(struct __sk_buff *skb,
						  const struct packet *packet,
						  const struct port *source,
						  const struct port *destination, __u32 outside)
{
	const struct port *keeper = destination->kind == PORT_OUTSIDE ? source : destination;
	struct address quoted = {};
	__u32 port_id = 0;
	struct port *way;

	if (source->kind == PORT_SERVICE)
		return PASS_FORWARDED;
	if (!quote_is_of_session(skb, packet, keeper->kind == PORT_ENI ? keeper->id : 0, &quoted) ||
	    destination_find(destination, &quoted, outside, &port_id) != PASS_FORWARDED)
		return DROP_ICMP_ERROR;
	way = port_find(port_id);
	if (!way || (way->id != source->id &&
		     (!way->instance || way->instance != source->instance)))
		return DROP_ICMP_ERROR;
	if (packet->part == PART_FIRST)
		datagram_remember(packet, source->id, true);
	return PASS_FORWARDED;
}

static __always_inline enum fabric_reason unicast_decide(struct __sk_buff *skb,
							 const struct packet *packet,
							 const struct port *port,
							 struct route *route)
{
	struct settings *settings = settings_get();
	enum fabric_reason reason;
	struct port *destination;
	__u32 port_id = 0;

	if (!settings)
		return DROP_KERNEL;
	if (packet_wire_length(skb, packet) > settings->mtu)
		return DROP_MTU;
	if (!source_may_send(port, &packet->flow.source))
		return DROP_SRC_ADDR;
	if (address_equal(&packet->flow.source, &packet->flow.destination))
		return DROP_LAND;
	reason = destination_find(port, &packet->flow.destination, settings->outside_port,
				  &port_id);
	if (reason != PASS_FORWARDED)
		return reason;
	destination = port_find(port_id);
	if (!destination)
		return DROP_DST_ADDR;
	route->ifindex = destination->ifindex;
	route->vlan = destination->vlan;
	__builtin_memcpy(route->mac, destination->mac, ETH_ALEN);
	if (packet->part != PART_LATER &&
	    icmp_is_error(packet->flow.protocol, packet->icmp_type))
		return error_decide(skb, packet, port, destination, settings->outside_port);
	return flow_decide(skb, packet, port, destination, settings->epoch);
}

/* A question to the link comes by broadcast, by multicast, or straight to the gateway. */
static __always_inline bool mac_hears_questions(const __u8 *mac)
{
	struct settings *settings = settings_get();

	return mac[0] & 1 || (settings && mac_equal(mac, settings->gateway_mac));
}

/* What was said to the link is heard by nobody if it went to the MAC of one; a fault of its own comes first. */
static __always_inline enum fabric_reason heard(enum fabric_reason reason, const __u8 *mac)
{
	bool faultless = reason_sends(reason) || reason == PASS_CONTROL;

	return faultless && !mac_hears_questions(mac) ? DROP_DST_MAC : reason;
}

/* Of IPv4, what only a router says: redirect and router advertisement (RFC 792, RFC 1256). */
static __always_inline bool icmp_is_routers(const struct packet *packet)
{
	return packet->flow.protocol == IPPROTO_ICMP && packet->v4 &&
	       packet->part != PART_LATER &&
	       (packet->icmp_type == ICMP_REDIRECT || packet->icmp_type == ICMP_ROUTER_ADVERT);
}

static __always_inline enum fabric_reason ip_decide(struct __sk_buff *skb,
						    const struct ethhdr *eth,
						    const struct port *port, struct route *route)
{
	struct settings *settings = settings_get();
	struct packet packet = {};
	int fault;

	if (!settings)
		return DROP_KERNEL;
	fault = packet_parse(skb, ETH_HLEN, eth->h_proto == bpf_htons(ETH_P_IP), &packet);
	if (fault)
		return fault == PACKET_EXTENSION ? DROP_EXTENSION : DROP_MALFORMED;
	if (packet.flow.protocol == PROTOCOL_ICMPV6 && !packet.v4 &&
	    nd_is_link_talk(packet.icmp_type))
		return heard(nd_decide(skb, &packet, port), eth->h_dest);
	if (packet.flow.protocol == IPPROTO_IGMP && packet.v4)
		return heard(igmp_decide(skb, &packet, port), eth->h_dest);
	if (port->kind == PORT_ENI && icmp_is_routers(&packet))
		return DROP_CLAIM_ROUTER;
	if (port->kind == PORT_ENI && packet.v4 &&
	    packet_is_dhcp(skb, &packet, DHCP_CLIENT, DHCP_SERVER))
		return heard(dhcp_decide(skb, &packet, port), eth->h_dest);
	if (port->kind == PORT_ENI && !packet.v4 &&
	    packet_is_dhcp(skb, &packet, DHCP6_CLIENT, DHCP6_SERVER))
		return heard(dhcp6_decide(&packet, port), eth->h_dest);
	if (!mac_equal(eth->h_dest, settings->gateway_mac))
		return address_is_multicast(&packet.flow.destination) ? DROP_MULTICAST :
									DROP_DST_MAC;
	return unicast_decide(skb, &packet, port, route);
}

/*
 * The port of a tagged frame. The kernel moves the outer tag out of the frame before a program of tc sees it, whether
 * it came so or a device put it there (__netif_receive_skb_core(), since Linux 3.17), so what stands in the frame is a
 * second one.
 */
static __always_inline struct port *member_at(struct __sk_buff *skb, const struct ethhdr *eth)
{
	__u32 vlan = skb->vlan_tci & VLAN_ID;

	if (!skb->vlan_present || skb->vlan_proto != bpf_htons(ETH_P_8021Q) || !vlan)
		return (void *)0;
	if (eth->h_proto == bpf_htons(ETH_P_8021Q) || eth->h_proto == bpf_htons(ETH_P_8021AD))
		return (void *)0;
	return port_at(skb->ifindex, vlan);
}

static __noinline enum fabric_reason fabric_decide(struct __sk_buff *skb, struct route *route)
{
	struct port *port = port_at(skb->ifindex, 0);
	struct ethhdr eth;

	if (!port)
		return DROP_NO_PORT;
	route->counted = port->id;
	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return DROP_MALFORMED;
	if (skb->vlan_present || eth.h_proto == bpf_htons(ETH_P_8021Q) ||
	    eth.h_proto == bpf_htons(ETH_P_8021AD)) {
		port = member_at(skb, &eth);
		if (!port)
			return DROP_VLAN;
		route->counted = port->id;
	}
	if (!mac_equal(eth.h_source, port->mac))
		return DROP_SRC_MAC;
	route->ifindex = port->ifindex;
	route->vlan = port->vlan;
	__builtin_memcpy(route->mac, port->mac, ETH_ALEN);
	if (eth.h_proto == bpf_htons(ETH_P_ARP))
		return heard(arp_decide(skb, port), eth.h_dest);
	if (eth.h_proto == bpf_htons(ETH_P_IP) || eth.h_proto == bpf_htons(ETH_P_IPV6))
		return ip_decide(skb, &eth, port, route);
	return DROP_ETHERTYPE;
}

/* Write what `reason` asks for into the frame. Returns the reason, or DROP_KERNEL if that failed. */
static __noinline enum fabric_reason fabric_act(struct __sk_buff *skb, enum fabric_reason reason,
						const struct route *route)
{
	struct settings *settings = settings_get();
	__u8 macs[2 * ETH_ALEN];

	if (!reason_sends(reason))
		return reason;
	if (!settings)
		return DROP_KERNEL;
	if (reason == PASS_ANSWERED_ARP && arp_answer(skb, settings->gateway_mac))
		return DROP_KERNEL;
	if (reason == PASS_ANSWERED_ND && nd_answer(skb, settings->gateway_mac))
		return DROP_KERNEL;
	if (reason == PASS_ANSWERED_DHCP && dhcp_answer(skb, route->counted))
		return DROP_KERNEL;
	__builtin_memcpy(macs, route->mac, ETH_ALEN);
	__builtin_memcpy(macs + ETH_ALEN, settings->gateway_mac, ETH_ALEN);
	if (bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0))
		return DROP_KERNEL;
	if (skb->vlan_present && bpf_skb_vlan_pop(skb))
		return DROP_KERNEL;
	if (route->vlan && bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), route->vlan))
		return DROP_KERNEL;
	return reason;
}

static __always_inline void fabric_count(__u32 port_id, enum fabric_reason reason)
{
	struct port_counters *found = bpf_map_lookup_elem(&counters, &port_id);

	if (found && reason < REASON_COUNT)
		found->count[reason]++;
}

SEC("tc")
int fabric_ingress(struct __sk_buff *skb)
{
	struct route route = {};
	enum fabric_reason reason;

	reason = fabric_decide(skb, &route);
	reason = fabric_act(skb, reason, &route);
	fabric_count(route.counted, reason);
	return reason_sends(reason) ? bpf_redirect(route.ifindex, 0) : TC_ACT_SHOT;
}

char _license[] SEC("license") = "GPL";
