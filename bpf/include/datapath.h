/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds what the node's datapath shares with Python: reasons, verdicts, and the rows of its maps.
 * Python reads all of it from BTF. A change of a row or of its meaning takes a new DATAPATH_VERSION: maps are
 * pinned below a directory of that number, so that programs and rows of two versions never meet.
 */
#ifndef TERWAY_DATAPATH_H
#define TERWAY_DATAPATH_H

#include "include/address.h"
#include "include/flow.h"

enum datapath_limit {
	DATAPATH_VERSION = 3,
	/* Room for reasons in a row of `reason_counts`, so that a new one changes no layout. */
	REASON_ROOM = 64,
	ENDPOINTS_MAX = 4096,
	PODS_MAX = 2048,
	UPLINKS_MAX = 1024,
	STACK_PREFIXES_MAX = 65536,
	STACK_FLOWS_MAX = 262144,
	FLOWS_PER_POD = 8192, /* in one epoch of `flows` */
	FLOW_EPOCHS = 4,      /* of which two are in use: see flow_table.h */
	PEERS_NOTED = 2048,   /* a power of two: see peer_of() */
	SLOTS_MAX = 2048,
	TRACE_BYTES = 262144,
};

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

enum endpoint_flag {
	ENDPOINT_OFF = 1,    /* the stack carries what this pod sends and receives */
	ENDPOINT_PREFIX = 2, /* its address is in a stack prefix: spares the others that look-up */
	ENDPOINT_EARLIER = 4, /* it may have sent before anything was noted: all its flows are looked up */
	ENDPOINT_DOWN = 8,   /* its link was down when last heard of, and no frame came by it since */
};

/* The first 12 bytes of a frame. */
struct macs {
	__u8 to[6];
	__u8 from[6];
};

/* What a pod is behind on the node's side. */
enum device_kind {
	DEVICE_VETH = 0,
	DEVICE_NETKIT = 1,
	DEVICE_OTHER = 2, /* such as an ipvlan or vlan link, which demultiplexes by itself */
};

/* Value of `endpoints`, keyed by address: how to reach a pod of this node. */
struct endpoint {
	__u32 host_ifindex;
	__u32 uplink;	  /* key of `uplinks` */
	struct macs macs; /* to the pod, from its host veth */
	__u32 mtu;	  /* of its host veth */
	__u32 flags;
	__u32 slot;	  /* its row of `endpoint_counts` and of `flow_owners` */
	__u32 generation; /* which of the pods that have had the slot */
	__u32 device;	  /* enum device_kind */
};

_Static_assert(sizeof(struct endpoint) == 40, "no hole");

/* Value of `pods`, keyed by host veth: who may send what. An address that it has not got is zero. */
struct pod {
	__u8 mac[6];
	__u8 padding[2];
	__u32 flags;
	__u32 slot;
	__u32 uplink;
	struct address v4;
	struct address v6;
};

_Static_assert(sizeof(struct pod) == 52, "no hole");

/*
 * Value of `uplinks`, keyed by id: a way out of the node, an ENI of its own or a member of a trunk. It is told from
 * others by its own MAC (`from`) and its VLAN, so that a device that is plugged anew keeps its id. Id 0 is
 * nobody's, device 0 none that can be used. A gateway not known yet is zero.
 */
struct uplink {
	struct macs v4; /* to the gateway, from the ENI */
	struct macs v6;
	__u32 ifindex;
	__u32 mtu;
	__u16 vlan; /* 0 for an ENI with a device of its own */
	__u16 padding;
};

_Static_assert(sizeof(struct uplink) == 36, "no hole");

/* Key and value of `stack_prefixes`: destinations that always take the stack, by longest match. */
struct stack_prefix {
	__u32 length;
	struct address network;
};

enum stack_kind {
	/* Not at all: keeps IPv4 out of an IPv6 prefix that spans the mapped addresses. */
	KIND_NONE = 0,
	KIND_SERVICE = 1,
	KIND_HOST_CIDR = 2,
	KIND_NODE = 3,
};

struct stack_prefix_value {
	enum stack_kind kind;
};

/* How long a flow may be idle before the kernel's conntrack forgets it; each has a row of `settings`. */
enum flow_kind {
	FLOW_TCP_BRIEF = 0,   /* opening, or reset */
	FLOW_TCP_OPEN = 1,    /* established */
	FLOW_TCP_CLOSING = 2, /* one side has said FIN */
	FLOW_UDP = 3,
	FLOW_SCTP = 4,
	FLOW_OTHER = 5,
	FLOW_KINDS,
};

/* A pod as the owner of a flow's end. All zero: no pod of this node. */
struct owner {
	__u32 slot;
	__u32 generation;
};

/* Key of `flows`: the same for both directions, as `low` is the lesser end whoever sends. */
struct flow_key {
	struct address low;
	struct address high;
	__be16 low_port;
	__be16 high_port;
	__u8 protocol;
	__u8 epoch; /* of those in which rows are kept: see flow_table.h */
	__u8 padding[2];
};

_Static_assert(sizeof(struct flow_key) == 40, "keys are compared by byte");

/* Value of `flows`: a flow that the stack carries. It is void once an end has another owner. */
struct stack_flow {
	__u64 seen; /* nanoseconds since boot */
	struct owner low;
	struct owner high;
	__u32 flow_kind; /* enum flow_kind */
	__u32 charged;	 /* slot of the pod whose share it is of */
};

_Static_assert(sizeof(struct stack_flow) == 32, "no hole");

/*
 * Value of `flow_owners`, keyed by slot: what is known of a pod's flows by the stack. `noted` is 1 where the
 * stack has sent something between the pod and a peer of that hash, which spares all others the look-up of their
 * flow; a pod of this node is a peer as itself, anybody else by the address. What is 1 stays so until the slot has another pod: that costs a look-up, a wrong 0 a
 * connection.
 */
struct flow_owner {
	__u64 blind_until;    /* until then flows without a record may exist; nanoseconds since boot */
	__u32 generation;     /* of the pod that has the slot */
	__u32 refused_share;  /* packets whose flow was not recorded: the pod had its share */
	__u32 refused_full;   /* the same, as the table had no room */
	__u32 padding;
	__u8 noted[PEERS_NOTED];
};

_Static_assert(sizeof(struct flow_owner) == 24 + PEERS_NOTED, "no hole");

/* Value of `flow_counts`, keyed by slot * FLOW_EPOCHS + epoch: how much of its share a pod has. */
struct flow_count {
	__u32 added; /* by programs */
};

/* Value of `flow_kept`, keyed alike: what the agent carried over from the epoch before. */
struct flow_kept {
	__u32 kept;
};

enum setting_flag {
	SETTING_FAST = 1,
	SETTING_TRACE = 2,
	SETTING_CONNTRACK = 4, /* TCP and UDP are asked of conntrack and need no records */
	SETTING_ASK = 8,       /* not all is noted yet: each flow is looked up, and what is not asked is the stack's */
};

/* The one row of `settings`. */
struct settings {
	__u32 flags;
	struct address trace_address;	 /* only packets from or to it are told; zero: all */
	__u32 home_ifindex;		 /* the node's own ENI; zero: not known */
	__u32 flow_epoch;		 /* in which flows are recorded now */
	__u32 flow_timeouts[FLOW_KINDS]; /* seconds, by enum flow_kind; zero: never */
};

_Static_assert(sizeof(struct settings) == 28 + 4 * FLOW_KINDS, "no hole");

/* Value of `hook_counts`, keyed by hook. */
struct hook_counters {
	__u64 count[REASON_ROOM];
};

/* Value of `endpoint_counts`, keyed by slot. Slot 0 is nobody's. */
struct endpoint_counters {
	__u64 fast_out_packets;
	__u64 fast_out_bytes;
	__u64 fast_in_packets;
	__u64 fast_in_bytes;
	__u64 stack_packets; /* that the pod sent, and the stack carries on */
	__u64 dropped_packets;
};

/* One record of the ring buffer `trace`. */
struct trace_event {
	__u64 time; /* nanoseconds since boot */
	struct flow flow;
	__u32 ifindex;
	__u32 target;
	__u32 length;
	__u8 hook;
	__u8 verdict;
	__u8 reason;
	__u8 padding[1];
};

_Static_assert(sizeof(struct trace_event) == 64, "no hole");

#endif
