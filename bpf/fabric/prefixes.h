/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds what the VPC's prefixes say about an address. */
#ifndef TERWAY_FABRIC_PREFIXES_H
#define TERWAY_FABRIC_PREFIXES_H

#include "fabric/maps.h"
#include "lib/address.h"

static __always_inline struct prefix_value *prefix_find(const struct address *address)
{
	struct prefix key = {.length = 128, .network = *address};

	return bpf_map_lookup_elem(&prefixes, &key);
}

/* What a route entry leads to is the VPC's as well, but for an entry that says where everything else goes. */
static __always_inline bool prefix_is_inside(const struct prefix_value *found)
{
	return found && found->kind != PREFIX_DEFAULT;
}

static __always_inline bool address_on_link(const struct address *address)
{
	struct prefix_value *found = prefix_find(address);

	return found && found->kind == PREFIX_ON_LINK;
}

#endif
