/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds the one address type of every program: IPv6, or IPv4 mapped into it (RFC 4291, 2.5.5.2). */
#ifndef TERWAY_ADDRESS_H
#define TERWAY_ADDRESS_H

#include <linux/types.h>

struct address {
	__be32 word[4];
};

_Static_assert(sizeof(struct address) == 16, "an address is 16 bytes");

#endif
