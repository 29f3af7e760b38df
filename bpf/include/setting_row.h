/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds what holds for the whole node. */
#ifndef TERWAY_SETTING_ROW_H
#define TERWAY_SETTING_ROW_H

#include "include/address.h"
#include "include/flow_rows.h"

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

#endif
