/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds the class of a reason. It is said of each by name: a number tells nothing, as new reasons of
 * any class go to the end. The compiler refuses a reason that is left out here.
 */
#ifndef TERWAY_LIB_REASON_H
#define TERWAY_LIB_REASON_H

#include <bpf/bpf_helpers.h>
#include "include/datapath.h"

enum reason_class {
	CLASS_FAST = 0,
	CLASS_STACK = 1,
	CLASS_DROP = 2,
	CLASS_SEEN = 3,
	CLASS_NONE = 4, /* of what is no reason */
};

static __always_inline enum reason_class reason_class_of(enum reason reason)
{
	switch (reason) {
	case FAST_LOCAL:
	case FAST_ENI:
	case FAST_NEIGH:
	case FAST_POD:
	case FAST_ANSWER:
		return CLASS_FAST;
	case STACK_OFF:
	case STACK_POD_OFF:
	case STACK_UNKNOWN_POD:
	case STACK_NO_POD:
	case STACK_OTHER_ENI:
	case STACK_NO_ENI:
	case STACK_NOT_IP:
	case STACK_LINK_TALK:
	case STACK_VLAN:
	case STACK_NOT_HOST:
	case STACK_LINK_SCOPE:
	case STACK_SERVICE:
	case STACK_HOST_CIDR:
	case STACK_NODE:
	case STACK_OPTIONS:
	case STACK_FRAGMENT:
	case STACK_HOP_LIMIT:
	case STACK_TRANSPORT:
	case STACK_MTU:
	case STACK_FLOW:
	case STACK_QUOTE:
	case STACK_MALFORMED:
	case STACK_UNRECORDED:
	case STACK_DEVICE:
	case STACK_MEMBER:
		return CLASS_STACK;
	case DROP_SRC_MAC:
	case DROP_SRC_ADDRESS:
	case DROP_MALFORMED:
	case DROP_KERNEL:
	case DROP_VLAN:
	case DROP_NOT_IP:
	case DROP_UNKNOWN_POD:
	case DROP_NEIGHBOUR:
	case DROP_ROUTER_TALK:
	case DROP_TUNNEL:
	case DROP_POD_DOWN:
		return CLASS_DROP;
	case SEEN_NEW:
	case SEEN_KNOWN:
	case SEEN_FAST:
	case SEEN_NOTHING:
	case SEEN_HOME:
	case SEEN_REFUSED:
		return CLASS_SEEN;
	case REASON_COUNT:
		return CLASS_NONE;
	}
	return CLASS_NONE;
}

#endif
