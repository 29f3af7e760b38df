/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds what is known of a pod: who may send what, and how an address of this node is reached. */
#ifndef TERWAY_POD_ROWS_H
#define TERWAY_POD_ROWS_H

#include "include/address.h"
#include "include/macs.h"

enum endpoint_flag {
	ENDPOINT_OFF = 1,    /* the stack carries what this pod sends and receives */
	ENDPOINT_PREFIX = 2, /* its address is in a stack prefix: spares the others that look-up */
	ENDPOINT_EARLIER = 4, /* it may have sent before anything was noted: all its flows are looked up */
	ENDPOINT_DOWN = 8,   /* its link was down when last heard of, and no frame came by it since */
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

#endif
