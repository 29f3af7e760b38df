/* SPDX-License-Identifier: GPL-2.0 */
/* This file holds what the VPC's prefixes say about an address. */
#ifndef TERWAY_FABRIC_PREFIXES_H
#define TERWAY_FABRIC_PREFIXES_H

#include "fabric/maps.h"
#include "lib/address.h"

static __always_inline struct prefix_value *prefix_find(const struct address *address)
{
	struct prefix key = {.length = 128, .network = *address};
	struct prefix_value *found = bpf_map_lookup_elem(&prefixes, &key);

	return found && found->kind != PREFIX_ELSEWHERE ? found : (void *)0;
}

/*
 * The id of the port that has `address`: by itself, in a prefix of its own, or as the next hop of a route entry. 0 is
 * nobody. What stays on a link is nobody's here.
 */
static __always_inline __u32 address_home(const struct address *address)
{
	struct home *home = bpf_map_lookup_elem(&assigned, address);
	struct prefix_value *prefix;

	if (home)
		return home->port_id;
	if (address_stays_on_link(address))
		return 0;
	prefix = prefix_find(address);
	return prefix ? prefix->home.port_id : 0;
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
