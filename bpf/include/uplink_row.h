/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds the ways out of the node. */
#ifndef TERWAY_UPLINK_ROW_H
#define TERWAY_UPLINK_ROW_H

#include "include/macs.h"

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

#endif
