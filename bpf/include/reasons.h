/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds where a packet is seen, what becomes of it, and why. */
#ifndef TERWAY_REASONS_H
#define TERWAY_REASONS_H

#include "include/limits.h"

enum hook {
	HOOK_POD_EGRESS = 0,   /* tc ingress of the pods' host veths */
	HOOK_ENI_INGRESS = 1,  /* tc ingress of ENIs */
	HOOK_POD_INGRESS = 2,  /* tc egress of the pods' host veths */
	HOOK_ENI_EGRESS = 3,   /* tc egress of ENIs */
	HOOK_COUNT,
};

enum verdict {
	VERDICT_STACK = 0, /* on to whatever comes after the program */
	VERDICT_DROP = 1,
	VERDICT_PEER = 2,   /* into the pod behind the link `target`, as its kind of device wants */
	VERDICT_ENI = 3,    /* out of the ENI `target`, MACs written */
	VERDICT_NEIGH = 4,  /* out of the ENI `target`, MACs by the kernel's neighbour table */
	VERDICT_ANSWER = 5, /* back to the pod that asked, as the answer */
};

/*
 * Why. Each packet adds one to one of these, at the hook that saw it. The prefix is the class: FAST_ did not
 * visit the stack, STACK_ goes on to it, DROP_ ends here, SEEN_ is what pod_ingress and eni_egress say of what the
 * stack sent. Numbers are never reused; new ones go before REASON_COUNT, which stays within REASON_ROOM.
 */
enum reason {
	/* From a pod into another pod of this node. */
	FAST_LOCAL = 0,
	/* From a pod out of its own ENI, to the gateway's known MAC. */
	FAST_ENI = 1,
	/* The same, with the neighbour's MAC to be found by the kernel. */
	FAST_NEIGH = 2,
	/* From the VPC into a pod. */
	FAST_POD = 3,

	/* The fast path is switched off on this node. */
	STACK_OFF = 4,
	/* The fast path is switched off for the pod that sends or receives. */
	STACK_POD_OFF = 5,
	/* Not given any more, see drop_unknown_pod: the veth is no pod's that we know of. */
	STACK_UNKNOWN_POD = 6,
	/* The destination is no pod of this node. */
	STACK_NO_POD = 7,
	/* The destination is a pod of another uplink than the one the packet came in by. */
	STACK_OTHER_ENI = 8,
	/* The pod's uplink is not known, or its device is down. */
	STACK_NO_ENI = 9,
	/* Neither ARP nor IPv4 nor IPv6, and it did not come from a pod. */
	STACK_NOT_IP = 10,
	/* ARP, neighbour discovery, MLD. */
	STACK_LINK_TALK = 11,
	/* The frame carries a VLAN tag, and it did not come from a pod. */
	STACK_VLAN = 12,
	/* The frame is for another MAC than the device's: broadcast, multicast, a stranger's. */
	STACK_NOT_HOST = 13,
	/* The destination address never leaves a link: link-local, multicast, loopback, unspecified. */
	STACK_LINK_SCOPE = 14,
	/* The destination is a Service's: in a ClusterIP range, an external IP, a load balancer's. */
	STACK_SERVICE = 15,
	/* The destination is in host_stack_cidrs. */
	STACK_HOST_CIDR = 16,
	/* The destination is an address of the node itself. */
	STACK_NODE = 17,
	/* IPv4 options, or IPv6 extension headers. */
	STACK_OPTIONS = 18,
	/* A fragment: the later ones do not say which flow they belong to. */
	STACK_FRAGMENT = 19,
	/* The hop limit ends here; the stack tells the sender. */
	STACK_HOP_LIMIT = 20,
	/* The transport header is cut or contradicts the IP header, and it did not come from a pod. */
	STACK_TRANSPORT = 21,
	/* Too long for the next link; the stack tells the sender, or fragments. */
	STACK_MTU = 22,
	/* Of a flow that the stack carries: one direction goes the way of the other. */
	STACK_FLOW = 23,
	/* An ICMP error about what the stack sent, or about what cannot be read. */
	STACK_QUOTE = 24,
	/* The IP header is cut or contradicts itself, and it did not come from a pod. */
	STACK_MALFORMED = 25,

	/* The frame's source is not the pod's MAC. */
	DROP_SRC_MAC = 26,
	/* The source address is not the pod's. */
	DROP_SRC_ADDRESS = 27,
	/* From a pod, and the IP or the transport header is cut or contradicts itself. */
	DROP_MALFORMED = 28,
	/* The kernel would not let the packet be changed (out of memory). */
	DROP_KERNEL = 29,

	/* The stack sent the first packet of a flow on record, or, where conntrack is asked, of a pod and a peer. */
	SEEN_NEW = 30,
	/* The stack sent another packet of what was noted before. */
	SEEN_KNOWN = 31,
	/* A packet of the fast path on its way out. */
	SEEN_FAST = 32,
	/* Of no pod of this node, or nothing to tell a reply by: ARP, ND, multicast, later fragments, ICMP errors. */
	SEEN_NOTHING = 33,
	/* It has an address of the node's, which the VPC takes from the node's own ENI only: sent on by that. */
	SEEN_HOME = 34,
	/* From a pod, and the frame carries a VLAN tag, of whatever VID: the stack would look beneath it. */
	DROP_VLAN = 35,
	/* From a pod, and neither ARP nor IPv4 nor IPv6. */
	DROP_NOT_IP = 36,
	/* The veth is no pod's that we know of, so nobody can say what it may send. */
	DROP_UNKNOWN_POD = 37,
	/* ARP or neighbour discovery from a pod that names an address or a MAC that is not the pod's, or is no
	 * good. */
	DROP_NEIGHBOUR = 38,
	/* From a pod, what only a router says: router advertisements, redirects, MLD queries. */
	DROP_ROUTER_TALK = 39,
	/* From a pod to the node, with another packet inside, whose source nobody has looked at. */
	DROP_TUNNEL = 40,
	/* To a pod of this node whose link is down. */
	DROP_POD_DOWN = 41,
	/* A pod asked for its gateway's MAC by ARP or neighbour discovery, and was answered. */
	FAST_ANSWER = 42,

	/* The stack sent it, and its flow has no record: the pod's share is used up, or the table is full. */
	SEEN_REFUSED = 43,

	/* A flow of this pod and this peer could not be recorded, so the stack carries all that they have. */
	STACK_UNRECORDED = 44,
	/* The pod's device is of a kind that the stack alone delivers to. */
	STACK_DEVICE = 45,
	/* The pod's uplink is a member of a trunk, whose tag the stack writes. */
	STACK_MEMBER = 46,

	REASON_COUNT,
};

_Static_assert(REASON_COUNT <= REASON_ROOM, "counters have room for every reason");

#endif
