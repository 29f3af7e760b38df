/* SPDX-License-Identifier: GPL-2.0 */
/*
 * This file holds what security groups say about a new flow. Python merges the rules of all groups of an ENI
 * into one list per direction, in the order in which they decide (priority, then Drop before Accept, then the
 * defaults), so here the first match is the answer.
 */
#ifndef TERWAY_FABRIC_GROUPS_H
#define TERWAY_FABRIC_GROUPS_H

#include "fabric/maps.h"
#include "fabric/prefixes.h"
#include "lib/packet.h"

/* Nobody reads it: it makes BTF carry the enum to Python. */
const volatile enum fabric_limit fabric_limit_type = RULES_PER_RANGE;

/* The packet's side of a rule. */
struct rule_query {
	struct address address; /* of the far end */
	__u64 groups[GROUP_WORDS];
	__u32 is_v4;
	__u16 port;
	__u16 port_mask; /* 0 for protocols without ports */
	__u8 protocol;
};

/*
 * Where a query lies while range_accepts() reads it. A global function is verified once and not for each
 * way that leads to it, which makes the difference between a tenth of a second and seconds; but before
 * Linux 5.12 it takes nothing but numbers. Programs of tc do not interrupt each other on a CPU.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rule_query);
} queries SEC(".maps");

/* Written with as few branches as can be: each costs the verifier one per row (see RULES_PER_RANGE). */
static __always_inline bool rule_matches(const struct rule *rule, const struct rule_query *query)
{
	const struct address *a = &query->address;
	__u32 differs;

	if (rule->peer == PEER_GROUP)
		differs = !(query->groups[(rule->group >> 6) % GROUP_WORDS] >> (rule->group & 63) &
			    1);
	else
		differs = ((a->word[0] & rule->mask.word[0]) ^ rule->network.word[0]) |
			  ((a->word[1] & rule->mask.word[1]) ^ rule->network.word[1]) |
			  ((a->word[2] & rule->mask.word[2]) ^ rule->network.word[2]) |
			  ((a->word[3] & rule->mask.word[3]) ^ rule->network.word[3]) |
			  (rule->only_v6 & query->is_v4);
	differs |= rule->protocol_mask & (rule->protocol ^ query->protocol);
	return !differs &&
	       ((__u16)(query->port - rule->port_first) & query->port_mask) <= rule->port_span;
}

/* Whether the first of `count` rules that matches the query accepts. */
__noinline int range_accepts(__u32 first, __u32 count)
{
	__u32 zero = 0;
	struct rule_query *query = bpf_map_lookup_elem(&queries, &zero);

	if (!query)
		return 0;
	for (__u32 i = 0; i < RULES_PER_RANGE; i++) {
		__u32 row = first + i;
		struct rule *rule;

		if (i >= count)
			break;
		rule = bpf_map_lookup_elem(&rules, &row);
		if (!rule)
			break;
		if (rule_matches(rule, query))
			return rule->accept;
	}
	return 0;
}

/*
 * A group as a rule's peer means the addresses of its members, prefixes included. What an ENI only forwards is in
 * none: neither foreign sources, nor what a route entry leads to.
 */
static __always_inline bool address_is_members(const struct address *address,
					       const struct port *port)
{
	struct home *home = bpf_map_lookup_elem(&assigned, address);
	struct prefix_value *prefix;

	if (home)
		return home->port_id == port->id;
	prefix = prefix_find(address);
	return prefix && prefix->kind == PREFIX_ON_LINK && prefix->home.port_id == port->id;
}

/* Whether one side's rules accept `flow`, whose far end is `address` on `peer`. */
static __noinline bool side_accepts(const struct rule_range *range, const struct port *peer,
				    const struct address *address, const struct flow *flow)
{
	__u32 zero = 0;
	struct rule_query *query = bpf_map_lookup_elem(&queries, &zero);

	if (!query)
		return false;
	query->address = *address;
	if (address_is_members(address, peer))
		__builtin_memcpy(query->groups, peer->groups, sizeof(query->groups));
	else
		__builtin_memset(query->groups, 0, sizeof(query->groups));
	query->is_v4 = address_is_v4(address);
	query->port = bpf_ntohs(flow->destination_port);
	query->port_mask = protocol_has_ports(flow->protocol) ? 0xffff : 0;
	query->protocol = flow->protocol;
	return range_accepts(range->first, range->count);
}

#endif
