/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds destinations that the stack is wanted for. */
#ifndef TERWAY_PREFIX_ROWS_H
#define TERWAY_PREFIX_ROWS_H

#include "include/address.h"

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

#endif
